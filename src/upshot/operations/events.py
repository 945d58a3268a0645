"""Take in events: each is normalised by the core, the good ones are stored durably, the others are answered with a code."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from upshot import events
from upshot.errors import NotFound, Unavailable
from upshot.events import Event, RawEvent, Rejection, micros
from upshot.eventstore import EventTypeSummary, Place, StoredEvent, Verdict, Volume
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations

KEY_LENGTH = 64

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch: counts, and the items that were refused by index."""

    accepted: int
    duplicates: int
    conflicts: int
    rejected: list[tuple[int, Rejection]]
    queued: bool = False  # they are durable elsewhere and on their way: which are duplicates is not known yet


async def ingest(
    stores: Stores,
    client: str,
    items: Sequence[RawEvent | Rejection],
    *,
    sent_at: datetime | None = None,
    key: str | None = None,
    imported: bool = False,
    first: int = 0,
) -> Ingested:
    """Store the events of a batch that are valid and new, or hand them to the queue. Durable on return.

    Args:
        stores: where to.
        client: whose events they are.
        items: the events as decoded, or why one could not be decoded.
        sent_at: the client's clock when it sent the batch, to correct the events' times by.
        key: an idempotency key of the whole batch; events without an id get one from it and their place.
        imported: these are past events: coming late is not held against them.
        first: the place of the first item, where a batch is a part of a longer one.
    """
    receipt = events.receipt(stores.clock.now(), sent_at, imported=imported)
    mentioned = {item.experiment_id for item in items if not isinstance(item, Rejection) and item.experiment_id}
    experiments = {reference: await _experiment_id(stores, client, reference) for reference in mentioned}
    batch = _short(key) if key else stores.clock.new_id()
    good: list[Event] = []
    rejected: list[tuple[int, Rejection]] = []
    for place, item in enumerate(items, first):
        found = (
            item
            if isinstance(item, Rejection)
            else events.normalise(item, receipt, f"{batch}:{place}", experiments, _encode)
        )
        if isinstance(found, Event):
            good.append(found)
        else:
            rejected.append((place, found))
    verdicts = await _take(stores, client, good, direct=imported)
    if verdicts is None:
        return Ingested(len(good), 0, 0, rejected, queued=True)
    accepted = verdicts.count(Verdict.ACCEPTED)
    return Ingested(accepted, len(verdicts) - accepted, verdicts.count(Verdict.CONFLICT), rejected)


def _short(key: str) -> str:
    """A key, or its digest, so that it has room in an event id with the place of an event behind it."""
    return key if len(key) <= KEY_LENGTH else sha256(key.encode()).hexdigest()


async def drain(stores: Stores) -> int:
    """Hand what waits in the spool to where events go; returns how many events that were.

    Raises:
        Unavailable: it is still away; what was not handed on waits.
    """
    if stores.spool is None or not stores.spool.waiting:
        return 0

    async def publish(client: str, taken: list[Event]) -> None:
        await (stores.queue.publish(client, taken) if stores.queue else stores.events.append(client, taken))

    return await stores.spool.drain(publish)


async def _take(stores: Stores, client: str, good: list[Event], *, direct: bool) -> list[Verdict] | None:
    """Make events durable: in the store, which says what was new; else in the queue or the spool. Past events need no queue."""
    try:
        if stores.queue is None or direct or not good:
            return await stores.events.append(client, good)
        await stores.queue.publish(client, good)
    except Unavailable:
        if stores.spool is None or direct:
            raise
        await stores.spool.append(client, good)
    return None


async def recent(stores: Stores, client: str, limit: int, after: Place | None = None) -> list[StoredEvent]:
    """The newest events that are stored, the newest one last; or the first ones after the place of one that was seen."""
    return await stores.events.recent(client, limit, after)


async def volumes(stores: Stores, client: str, days: int) -> list[Volume]:
    """How many events of each type happened on each of the last days (UTC), today's included."""
    today = stores.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = today - timedelta(days=days - 1), today + timedelta(days=1)
    return await stores.events.volumes(client, micros(start), micros(end), micros(end) - micros(today))


async def types_seen(stores: Stores, client: str) -> list[EventTypeSummary]:
    """The event types seen, commonest first."""
    return await stores.events.event_types(client)


async def _experiment_id(stores: Stores, client: str, reference: str) -> str | None:
    try:
        return (await experiment_operations.known(stores, client, reference)).id
    except NotFound:
        return None
