"""The event store: events and exposures, kept for ever, each counted once; answers sufficient statistics, never rows.

This page is the contract. A store is picked by the URL's scheme and loaded when it is used:

    store = await connect("duckdb:///upshot-data/events.db")

An event is identified by (client, event id), an exposure by (client, experiment, user). Appending what is there already
changes nothing, however often and however late it comes. Every read takes the client first.

Ids that were linked are one user, whatever came before and whatever comes after: of several exposures in one experiment the
first one counts, and where they name different variants, none does. A user who was withdrawn from an experiment is not in it.
"""

import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.diagnosis import Joined
from upshot.errors import ConfigurationError
from upshot.events import Event, Exposure, Withdrawal

_BACKENDS = {
    "duckdb": "upshot.eventstore.embedded",
    "clickhouse": "upshot.eventstore.clickhouse.server",
    "clickhouses": "upshot.eventstore.clickhouse.server",
    "chdb": "upshot.eventstore.clickhouse.inprocess",
    **dict.fromkeys(("sqlite", "postgresql", "postgres", "mysql", "mariadb"), "upshot.eventstore.relational"),
}
EXTRAS = {"clickhouse": "clickhouse", "clickhouses": "clickhouse", "chdb": "chdb"}


class Verdict(IntEnum):
    """What became of an appended event."""

    ACCEPTED = 0
    DUPLICATE = 1
    CONFLICT = 2  # a duplicate by its id, with another content; the first one counts


class EventTypeSummary(NamedTuple):
    """An event type that was seen: how often, when first and when last (µs since 1970 UTC)."""

    event_type: str
    events: int
    first_at: int
    last_at: int


Place = tuple[int, int, int]
"""Where an event stands in the order in which a store took events; its own to each store."""


class Volume(NamedTuple):
    """How many events of a type happened in a period that begins at `starts` (µs since 1970 UTC)."""

    event_type: str
    starts: int
    events: int


class StoredEvent(NamedTuple):
    """An event as it is stored, and its place. Times are µs since 1970 UTC; `properties` is JSON."""

    place: Place
    event_id: str
    user_id: str
    event_type: str
    occurred_at: int
    received_at: int
    experiment_id: str | None
    properties: str


class EventStore(Protocol):
    """One event store."""

    async def append(self, client: str, events: Sequence[Event]) -> list[Verdict]:
        """Store the events that are new; durable on return.

        Raises:
            Unavailable: too much is waiting, or the store cannot write now; nothing was stored.
        """
        ...

    async def expose(self, exposures: Sequence[Exposure]) -> int:
        """Store the exposures that are new; durable on return. Returns how many were new."""
        ...

    async def link(self, client: str, links: Sequence[tuple[str, str]]) -> None:
        """Let each (alias, user) be one user; durable on return. An alias is one user's for good, and no user is an alias."""
        ...

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments, exposed or not yet; durable on return. The first reason of each stays."""
        ...

    async def aggregate(self, client: str, plan: AggregationPlan) -> Aggregates:
        """What the plan asks for, over the events that count (results.py says which)."""
        ...

    async def segment_values(self, client: str, experiment: int, most: int) -> dict[str, list[str]]:
        """For each context attribute of the exposed users, its `most` commonest values."""
        ...

    async def event_types(self, client: str) -> list[EventTypeSummary]:
        """The event types seen, commonest first."""
        ...

    async def volumes(self, client: str, start: int, end: int, width: int) -> list[Volume]:
        """How many events of each type happened in [start, end), in periods of `width` from `start` on, all in µs; by type and
        period, none where nothing happened."""
        ...

    async def recent(self, client: str, limit: int, after: Place | None = None) -> list[StoredEvent]:
        """The newest events, the newest one last; or the first ones after a place, so that who asks again and again with the
        place of the last event that was seen gets each event once.

        The embedded store and SQLite number events as they store them: none is missed. ClickHouse goes by the server's clock when
        an event is stored, PostgreSQL and MySQL by when it was received: what is stored by one process after another one stored
        what came later, as with a queue, is not seen by who has asked in between.
        """
        ...

    async def diagnose(self, client: str, experiment: int, event_types: Sequence[str], start: int, end: int) -> Joined:
        """How the exposures of an experiment and events of these types (none: of every type) come together, of events from
        `start` on and before `end` (µs); and how late the client's newest events came."""
        ...

    def rows(self, client: str, plan: AggregationPlan) -> AsyncIterator[list[tuple[Any, ...]]]:
        """One row per exposed user, in batches: user id, variant, phase, exposed at (µs), context, then each metric's value."""
        ...

    async def refresh(self) -> int:
        """Roll up the hours and days that are over and that something was appended to since; how many. Safe to run twice."""
        ...

    async def maintain(self, now: datetime, keep_from: datetime | None) -> list[str]:
        """Make partitions ahead of time; drop events from before `keep_from`, in whole partitions. What was done, in words."""
        ...

    async def ping(self) -> str:
        """The state of the store in a word or two; raises when it does not answer."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the store."""
        ...


async def connect(url: str, replica: str | None = None, owner: str | None = None) -> EventStore:
    """The event store at a URL. Of a relational one `replica` is a copy, some moments old, that results are read from, and
    `owner` the URL of the role that changes the schema, where that is not the application's own.

    Raises:
        ConfigurationError: no backend serves the URL's scheme, its driver is not installed, or the store cannot be opened.
    """
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme not in _BACKENDS:
        raise ConfigurationError(f"EVENTS_URL: no event store for {scheme}://; there is: {', '.join(_BACKENDS)}")
    try:
        open_store: Callable[..., Any] = importlib.import_module(_BACKENDS[scheme]).open_store
    except ModuleNotFoundError as error:
        if scheme not in EXTRAS:
            raise
        raise ConfigurationError(f"EVENTS_URL: {scheme}:// needs: pip install 'upshot[{EXTRAS[scheme]}]'") from error
    others = {name: other for name, other in {"replica": replica, "owner": owner}.items() if other}
    store: EventStore = await open_store(url, **others)
    return store
