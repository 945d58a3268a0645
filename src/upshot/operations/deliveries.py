"""Store what a queue delivers: many messages in one append, each acknowledged after its events are durable.

What cannot be read, or what the event store refuses when it is tried alone, goes to the dead letters with the reason. A store
that is away refuses nothing: the caller tries again, and the messages stay where they are.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from upshot.errors import ConfigurationError, TimedOut, Unavailable
from upshot.eventqueue import Delivery, EventQueue
from upshot.eventqueue.messages import Poison, decode
from upshot.events import SECOND, Event
from upshot.eventstore import Verdict
from upshot.operations import Stores

_NO_REFUSAL = (Unavailable, TimedOut, ConfigurationError)  # they say nothing of the message
_Readable = tuple[Delivery, str, list[Event]]  # with its client and its events

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of some deliveries: events that were new, events that were known, messages that were buried."""

    accepted: int = 0
    duplicates: int = 0
    buried: int = 0

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(self.accepted + other.accepted, self.duplicates + other.duplicates, self.buried + other.buried)


def oldest(deliveries: Sequence[Delivery]) -> datetime | None:
    """When the oldest event of these deliveries was received; None when none can be read."""
    received = []
    for delivery in deliveries:
        with suppress(Poison):
            received += [event.received_at for event in decode(delivery.body)[1]]
    return datetime.fromtimestamp(min(received) / SECOND, UTC) if received else None


async def store(stores: Stores, queue: EventQueue, deliveries: Sequence[Delivery]) -> Stored:
    """Append the events of deliveries, then acknowledge them and bury what cannot be stored.

    Raises:
        Unavailable, TimedOut, ConfigurationError: the event store is away, or refuses us; the broker was told nothing, and the
            same deliveries can be given again.
    """
    readable: list[_Readable] = []
    hopeless: list[tuple[Delivery, str]] = []
    for delivery in deliveries:
        try:
            readable.append((delivery, *decode(delivery.body)))
        except Poison as poison:
            hopeless.append((delivery, str(poison)))
    try:
        found = await _append(stores, readable)
    except _NO_REFUSAL:
        raise
    except Exception:
        log.exception("a batch of events was refused; its messages are tried one by one")
        found, readable, refused = await _one_by_one(stores, readable)
        hopeless += refused
    if readable:
        await _acknowledge(queue, [delivery for delivery, _, _ in readable])
    return found + Stored(buried=sum([await _bury(queue, *each) for each in hopeless]))


async def _acknowledge(queue: EventQueue, deliveries: Sequence[Delivery]) -> None:
    """Tell the broker; where that fails it will deliver them again, and their events are duplicates then."""
    try:
        await queue.acknowledge(deliveries)
    except Unavailable as error:
        log.warning("%d messages are stored and not acknowledged; they will come again: %s", len(deliveries), error)


async def _bury(queue: EventQueue, delivery: Delivery, reason: str) -> int:
    """Put a message to the dead letters; returns how many came there: none while the broker is away, it comes again then."""
    try:
        await queue.bury(delivery, reason)
    except Unavailable as error:
        log.warning("a message could not be buried (%s); it will come again: %s", reason, error)
        return 0
    return 1


async def _append(stores: Stores, readable: Sequence[_Readable]) -> Stored:
    owned: dict[str, list[Event]] = {}
    for _, client, events in readable:
        owned.setdefault(client, []).extend(events)
    found = Stored()
    for client, events in owned.items():
        verdicts = await stores.events.append(client, events)
        accepted = verdicts.count(Verdict.ACCEPTED)
        found += Stored(accepted, len(verdicts) - accepted)
    return found


async def _one_by_one(
    stores: Stores, readable: Sequence[_Readable]
) -> tuple[Stored, list[_Readable], list[tuple[Delivery, str]]]:
    """What was stored in all, of which messages, and which were refused, with the reason."""
    found, stored, refused = Stored(), [], []
    for item in readable:
        try:
            found += await _append(stores, [item])
        except _NO_REFUSAL:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, it would be the same again
            refused.append((item[0], f"refused by the event store: {type(error).__name__}"))
        else:
            stored.append(item)
    return found, stored, refused
