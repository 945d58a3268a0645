"""Events over HTTP: one, a list, or an envelope; decoded by msgspec, judged by the core, stored before the answer."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import Header, Request, Response

from upshot import events as rules
from upshot.access import Caller
from upshot.errors import Fault, Invalid, Malformed, TooLarge
from upshot.events import SECOND, RawEvent, Rejection
from upshot.http import body
from upshot.http.access import Browser, Recorder, charge
from upshot.http.intake import EventIn, EventsIn
from upshot.http.openapi import json_body, problems
from upshot.http.outcomes import EventTypeOut, EventTypesOut, IngestedOut
from upshot.http.problems import problem
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, events
from upshot.operations.elsewhere import Exposed
from upshot.operations.events import Ingested
from upshot.telemetry import EVENTS

router = Router(prefix="/events", tags=["events"])

BATCH = 10_000

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern="^[A-Za-z0-9_-]{1,255}$",
        description="Events without an event_id get one from this and their place.",
    ),
]


class DecodedEvent(msgspec.Struct, forbid_unknown_fields=True):
    """An event of a request's body, typed; events.RawEvent says what it means."""

    user_id: str
    event_type: str | None = None
    type: str | None = None
    timestamp: str | None = None
    properties: dict[str, Any] | None = None
    experiment_id: str | None = None
    event_id: str | None = None
    session_id: str | None = None
    sequence: int | None = None


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Several events, with the client's clock."""

    events: list[DecodedEvent]
    sent_at: str | None = None


class UnreadEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """The same, before its events are decoded: one bad event must not refuse the others."""

    events: list[msgspec.Raw]
    sent_at: str | None = None


_one = msgspec.json.Decoder(DecodedEvent)
_many = msgspec.json.Decoder(list[DecodedEvent])
_unread = msgspec.json.Decoder(list[msgspec.Raw])
_envelope = msgspec.json.Decoder(Envelope)
_unread_envelope = msgspec.json.Decoder(UnreadEnvelope)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SHAPE = (msgspec.ValidationError, RecursionError, UnicodeDecodeError, Invalid)
_NESTED = frozenset([dict, list])
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": IngestedOut, "description": "Nothing was new."},
    202: {"model": IngestedOut, "description": "Durable in the queue or the spool; what was known is not known yet."},
}


@router.post(
    "",
    status_code=201,
    response_model=IngestedOut,
    responses=problems(403, 413, 415) | _ANSWERS,
    openapi_extra=json_body(EventIn, EventsIn, many=EventIn),
)
async def record(
    caller: Recorder, stores: StoresOf, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Record one event, a list of events, or `{"events": […]}`. 201 means durably stored, 202 durable on the way there."""
    return await _record(caller, stores, request, idempotency_key)


@router.post(
    "/batch",
    status_code=201,
    response_model=IngestedOut,
    responses=problems(403, 413, 415) | _ANSWERS,
    openapi_extra=json_body(EventsIn, many=EventIn),
)
async def record_batch(
    caller: Recorder, stores: StoresOf, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Record up to 10,000 events; good ones are stored, each bad one is answered with its index and a code."""
    return await _record(caller, stores, request, idempotency_key)


@router.get("/types", responses=problems(403))
async def types_seen(caller: Browser, stores: StoresOf) -> EventTypesOut:
    """The event types seen, with counts, first and last time."""
    return EventTypesOut(
        event_types=[
            EventTypeOut(
                event_type=found.event_type,
                count=found.events,
                first_at=datetime.fromtimestamp(found.first_at / SECOND, UTC),
                last_at=datetime.fromtimestamp(found.last_at / SECOND, UTC),
            )
            for found in await events.types_seen(stores, caller.client)
        ]
    )


async def _record(caller: Caller, stores: Stores, request: Request, key: str | None) -> Response:
    raw = await body.read(request, body.EVENT_BYTES)
    items, sent_at = decode(raw)
    await charge(request, "events", caller, len(items))
    found = await events.ingest(stores, caller.client, items, sent_at=sent_at, key=key)
    for verdict in ("accepted", "duplicates"):
        EVENTS.labels(verdict).inc(getattr(found, verdict))
    EVENTS.labels("rejected").inc(len(found.rejected))
    return answer(found)


def decode(raw: bytes) -> tuple[Sequence[RawEvent | Rejection], datetime | None]:
    """The events of a body: of a single one, a list, or an envelope with the client's clock.

    Raises:
        Malformed: the body is not JSON.
        Invalid: it is none of the three shapes, or says a key twice.
        TooLarge: it holds more than 10,000 events.
    """
    if raw.lstrip()[:1] == b"[":
        try:
            return _whole(raw, _many.decode(raw)), None
        except _SHAPE:
            return _each(body.decoded(raw, _unread)), None
        except msgspec.DecodeError:
            raise Malformed("The body is not valid JSON.") from None
    parts = body.decoded(raw, _object)
    if "events" not in parts:
        return [decode_item(raw)], None
    try:
        envelope = _envelope.decode(raw)
        items = _whole(raw, envelope.events, 1 + (envelope.sent_at is not None))
        return items, sent_at_of(envelope.sent_at)
    except _SHAPE:
        unread = body.decoded(raw, _unread_envelope)
        body.refuse_duplicate_keys(raw, len(parts) + sum(map(body.keys_written, map(bytes, unread.events))))
        return _each(unread.events), sent_at_of(unread.sent_at)


def decode_item(raw: bytes) -> DecodedEvent | Rejection:
    """One event on its own; a rejection where its shape is wrong or it says a key twice."""
    return body.item(raw, _one, lambda item: _keys([item]))


def answer(found: Ingested) -> Response:
    """201 when something was stored, 202 when it is on its way, 200 when all was known already, 422 when all was refused."""
    if not found.accepted and not found.duplicates and found.rejected:
        return all_refused(found.rejected, "No event could be taken.")
    status = 202 if found.queued else 201 if found.accepted else 200
    return Response(msgspec.json.encode(content_of(found)), status, media_type="application/json")


def all_refused(rejected: Sequence[tuple[int, Rejection]], detail: str, within: str = "") -> Response:
    """The answer where nothing of a request was taken; `within` is the pointer of the list that held it."""
    faults = [Fault(f"{within}/{index}{part.pointer}", part.code, part.message) for index, part in rejected[:100]]
    return problem(422, "invalid", "The request is not valid", detail, faults)


def content_of(found: Ingested | Exposed) -> dict[str, Any]:
    """The wire form of what became of events or exposures."""
    return {
        "accepted": found.accepted,
        "duplicates": found.duplicates,
        "conflicts": found.conflicts,
        "rejected": [rejection(index, refused) for index, refused in found.rejected],
    }


def rejection(index: int, refused: Rejection) -> dict[str, Any]:
    """The wire form of a refused item."""
    return {"index": index, "code": refused.code, "pointer": refused.pointer, "message": refused.message}


def _whole(raw: bytes, items: Sequence[DecodedEvent], keys_around: int = 0) -> Sequence[RawEvent | Rejection]:
    """Items that were decoded in one go, after the checks that concern the whole body."""
    _check_count(items)
    body.refuse_duplicate_keys(raw, keys_around + _keys(items))
    return items


def _each(parts: list[msgspec.Raw]) -> Sequence[RawEvent | Rejection]:
    """Items decoded one by one, because at least one of them is wrong."""
    _check_count(parts)
    return [decode_item(bytes(part)) for part in parts]


def sent_at_of(text: str | None) -> datetime | None:
    """The moment that an envelope says it was sent at.

    Raises:
        Invalid: it is none.
    """
    if text is None:
        return None
    moment = rules.moment_of(text)
    if moment is None:
        raise Invalid.of(Fault("/sent_at", "bad_timestamp", "must be ISO 8601 with an offset"))
    return moment


def _check_count(items: Sequence[object]) -> None:
    if not items:
        raise Invalid.of(Fault("", "empty", "must hold at least one event"))
    if len(items) > BATCH:
        raise TooLarge(f"A request may hold {BATCH} events.")


def _keys(items: Iterable[DecodedEvent]) -> int:
    """How many keys the items' JSON must have had, if nothing was said twice and nothing was null."""
    keys = 0
    for item in items:
        keys += 1 + (item.event_type is not None) + (item.type is not None) + (item.timestamp is not None)
        keys += (item.experiment_id is not None) + (item.event_id is not None)
        keys += (item.session_id is not None) + (item.sequence is not None)
        properties = item.properties
        if properties is not None:
            flat = _NESTED.isdisjoint(map(type, properties.values()))
            keys += 1 + (len(properties) if flat else _keys_within(properties))
    return keys


def _keys_within(holder: Mapping[str, Any]) -> int:
    keys = 0
    waiting: list[Any] = [holder]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            keys += len(part)
            part = part.values()
        waiting += [inner for inner in part if isinstance(inner, dict | list)]
    return keys
