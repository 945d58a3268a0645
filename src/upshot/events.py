"""Events: what a client may send, and what becomes of it: an accepted event or a rejection with a code.

Rules, each cited by tests:

1. `user_id` and the event type are identifiers (identifiers.py); `event_id` is the client's idempotency key, 1 to 100
   characters. Without one the event gets an id of ours, and a retry cannot be told from a second event.
2. `timestamp` is ISO 8601 with an offset, from the year 2000 on; absent, it is the moment of receipt. Up to 23 hours ahead
   is a client's clock; beyond that the event is dated to its receipt and flagged.
3. `sent_at` of the envelope corrects clocks that are off by more than 150 seconds: what counts is
   received − (sent − original).
4. `properties` is an object of at most 200 keys in all, 10 levels, strings of 8 KiB, arrays of 1,000, finite numbers, integers
   that every language can hold (|n| ≤ 2^53 − 1), 32 KiB as JSON.
5. The value of an event is the first number among `price`, `amount`, `revenue` and `value` of its properties.
6. `session_id` (like `event_id`) and `sequence` (1 to 2^31 − 1) number the events of a session of the user, of all types, as the
   sender counts them: 1, 2, 3 and so on. An event has both or neither. A number that is missing was lost on the way.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from upshot import identifiers, properties
from upshot.errors import Fault
from upshot.properties import Encode

SECOND = 1_000_000
HOUR = 3_600 * SECOND
AHEAD = 23 * HOUR
DEAD_BAND = 150 * SECOND
EARLIEST = 946_684_800 * SECOND  # 2000-01-01
LATENESS = 7 * 24 * HOUR
SEQUENCES = 2**31  # a sequence number is less; an ordinal is this many times the session's key, and the sequence number

CLAMPED = 1  # flag: dated to its receipt, because it came from the future
CORRECTED = 2  # flag: the client's clock was corrected by `sent_at`
UNIDENTIFIED = 4  # flag: came without an event id
IMPORTED = 8  # flag: a past event, imported with its own time
LATE = 16  # flag: came more than a week after it happened; the highest flag, so that `flags >= LATE` finds it


class RawEvent(Protocol):
    """An event as a client sent it, decoded and typed, not yet checked."""

    user_id: str
    event_type: str | None
    type: str | None
    timestamp: str | None
    properties: dict[str, Any] | None
    experiment_id: str | None
    event_id: str | None
    session_id: str | None
    sequence: int | None


class Event(NamedTuple):
    """An accepted event. Times are microseconds since 1970 UTC; `properties` is JSON.

    `ordinal` is the place of a numbered event in its session, in 63 bits: 32 of a hash of the session's id, 31 of the sequence
    number. Two of one user's n sessions share a hash with probability n²/2^33.
    """

    event_id: str
    user_id: str
    event_type: str
    occurred_at: int
    received_at: int
    value: float | None
    properties: str
    experiment_id: str | None
    flags: int
    fingerprint: int
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """A user was given a variant: what analysis starts from. `variant` is the position in the experiment."""

    client: str
    experiment: int
    user_id: str
    variant: int
    phase: int
    exposed_at: int
    context: str


class Withdrawal(NamedTuple):
    """The exposure of a user in an experiment (by number) counts no longer, for good; `reason` is one of the words below."""

    experiment: int
    user_id: str
    reason: str


IDENTITY_CONFLICT = "identity_conflict"  # two ids of one user had different variants
OVERRIDE = "override"  # the variant was chosen by hand
CROSSOVER = "crossover"  # the user was given another variant elsewhere


class Rejection(NamedTuple):
    """Why an event was not taken: the field (JSON pointer within the event), a stable code, and words."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of the request that brought an event: times in microseconds since 1970 UTC."""

    received_at: int
    skew: int = 0  # received − sent, where that is outside the dead band
    imported: bool = False


def receipt(received_at: datetime, sent_at: datetime | None = None, *, imported: bool = False) -> Receipt:
    """The receipt of a request that arrived at `received_at` and says it was sent at `sent_at` (rule 3)."""
    received = micros(received_at)
    skew = received - micros(sent_at) if sent_at else 0
    return Receipt(received, skew if abs(skew) > DEAD_BAND else 0, imported)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware moment."""
    return round(moment.timestamp() * SECOND)


def moment_of(text: str) -> datetime | None:
    """The moment that an ISO 8601 text with an offset names, or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def normalise(
    raw: RawEvent,
    receipt: Receipt,
    event_id: str,
    experiments: Mapping[str, str | None],
    encode: Encode,
) -> Event | Rejection:
    """The event that counts, or why it does not.

    Args:
        raw: the event as sent.
        receipt: when it came, and how far off the sender's clock is.
        event_id: the id to use when the event brings none.
        experiments: what each `experiment_id` mentioned stands for: the experiment's id, or None when there is no such one.
        encode: JSON encoder for the properties.
    """
    event_type = raw.event_type if raw.event_type is not None else raw.type
    if fault := _fault_of_names(raw, event_type):
        return fault
    experiment_id = None
    if raw.experiment_id is not None:
        experiment_id = experiments.get(raw.experiment_id)
        if experiment_id is None:
            return Rejection("/experiment_id", "unknown_experiment", "names no experiment")
    when = _occurred_at(raw.timestamp, receipt)
    if isinstance(when, Rejection):
        return when
    content = properties.content(raw.properties, encode) if raw.properties else (b"{}", None)
    if isinstance(content, Fault):
        return Rejection(content.pointer, content.code, content.message)
    ordinal = None if raw.session_id is None and raw.sequence is None else _ordinal(raw.session_id, raw.sequence)
    if isinstance(ordinal, Rejection):
        return ordinal
    occurred_at, flags = when
    text, value = content
    if receipt.imported:
        flags |= IMPORTED
    if raw.event_id is None:
        flags |= UNIDENTIFIED
    mark = zlib.crc32(text, zlib.crc32(f"{raw.user_id}\0{event_type}\0{raw.timestamp}".encode()))
    return Event(
        raw.event_id or event_id, raw.user_id, event_type or "", occurred_at, receipt.received_at, value, text.decode(),
        experiment_id, flags, mark, ordinal,
    )  # fmt: skip


def _fault_of_names(raw: RawEvent, event_type: str | None) -> Rejection | None:
    """What is wrong with the event's identifiers (rule 1)."""
    if found := identifiers.fault_of_user_id(raw.user_id):
        return Rejection("/user_id", *found)
    if event_type is None:
        return Rejection("/event_type", "missing", "is required")
    if raw.type is not None and raw.type != event_type:
        return Rejection("/type", "ambiguous", "differs from event_type, of which it is another name")
    if found := identifiers.fault_of_text(event_type, identifiers.EVENT_TYPE_LENGTH):
        return Rejection("/event_type", *found)
    if raw.event_id is not None and (found := identifiers.fault_of_text(raw.event_id, identifiers.EVENT_ID_LENGTH)):
        return Rejection("/event_id", *found)
    return None


def _ordinal(session_id: str | None, sequence: int | None) -> int | Rejection:
    """The place of an event in its session (rule 6)."""
    if session_id is None:
        return Rejection("/session_id", "missing", "is required with sequence")
    if sequence is None:
        return Rejection("/sequence", "missing", "is required with session_id")
    if found := identifiers.fault_of_text(session_id, identifiers.EVENT_ID_LENGTH):
        return Rejection("/session_id", *found)
    if not 1 <= sequence < SEQUENCES:
        return Rejection("/sequence", "out_of_range", "must lie between 1 and 2^31 − 1")
    return zlib.crc32(session_id.encode()) * SEQUENCES + sequence


def _occurred_at(timestamp: str | None, receipt: Receipt) -> tuple[int, int] | Rejection:
    """When it happened, in microseconds, and the flags of how that was found (rules 2 and 3)."""
    if timestamp is None:
        return receipt.received_at, 0
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return Rejection("/timestamp", "bad_timestamp", "must be ISO 8601, such as 2026-01-31T12:00:00Z")
    if moment.tzinfo is None:
        return Rejection("/timestamp", "offset_required", "must say its offset from UTC, such as Z or +02:00")
    when, flags = round(moment.timestamp() * SECOND), 0
    if receipt.skew:
        when, flags = when + receipt.skew, CORRECTED
    if when < EARLIEST:
        return Rejection("/timestamp", "too_early", "must not lie before the year 2000")
    if when > receipt.received_at + AHEAD:
        return receipt.received_at, flags | CLAMPED
    if receipt.received_at - when > LATENESS and not receipt.imported:
        flags |= LATE
    return when, flags
