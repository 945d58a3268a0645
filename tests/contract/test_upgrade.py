"""An event store from before events were numbered and ids linked is brought up to date in place, wherever a run was killed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import create_engine, text
from tests.contract import test_delivery as numbered
from tests.contract.test_eventstore import PLANS, START, Fresh, World, fresh, same
from tests.reference import aggregate

from upshot import eventstore
from upshot.database import parsed
from upshot.database.urls import blocking
from upshot.errors import ConfigurationError, Unavailable
from upshot.events import OVERRIDE, Withdrawal
from upshot.eventstore import EventStore
from upshot.eventstore.clickhouse.store import ClickHouseStore

__all__ = ["fresh"]

NOW = datetime.fromtimestamp(START / 1_000_000, UTC)
WHOLE = PLANS["several metrics"]
COLUMN = "ALTER TABLE events DROP COLUMN ordinal"
INDEX = {
    "sqlite": "DROP INDEX ix_events_numbered",
    "postgresql": "DROP INDEX ix_events_numbered, ix_events_received",
    "mysql": "ALTER TABLE events DROP INDEX ix_events_ordinal, DROP INDEX ix_events_received",
}
VERSION = "UPDATE eventstore_schema SET version = {}"
TABLES = ["DROP TABLE aliases", "DROP TABLE withdrawals"]
KILLED = {"never begun": 5, "after the column": 2, "after the index": 1}


def is_relational(url: str) -> bool:
    """Whether the store is a database that knows its version."""
    return url.partition(":")[0] in INDEX


def run(url: str, statements: Sequence[str]) -> list[Any]:
    """Run statements in a relational database beside the program; the first column of the last one's rows, if it has any."""
    engine = create_engine(blocking(parsed(url, "EVENTS_URL")))
    with engine.begin() as connection:
        *_, last = [connection.execute(text(statement)) for statement in statements]
        found = [row[0] for row in last] if last.returns_rows else []
    engine.dispose()
    return found


async def older(url: str, steps: int = 5) -> None:
    """Take back the last so many steps of making the tables of a closed store."""
    scheme = url.partition(":")[0]
    if is_relational(url):
        run(url, [VERSION.format(1), INDEX[scheme], COLUMN, *TABLES][:steps])
    elif scheme == "duckdb":
        with duckdb.connect(str(Path(url.removeprefix("duckdb:///")))) as connection:
            for statement in (COLUMN, *TABLES):
                connection.execute(statement)
    else:
        opened: Any = await eventstore.connect(url)
        for statement in (COLUMN, "ALTER TABLE events DROP INDEX arrived", *(f"{drop} SYNC" for drop in TABLES)):
            await opened._connection.command(statement)
        await opened.close()


async def filled(url: str, world: World) -> None:
    """Make a store and put everything into it."""
    opened = await eventstore.connect(url)
    await opened.maintain(NOW, None)
    await world.fill(opened, order=1)
    await opened.close()


async def is_right(store: EventStore, world: World) -> bool:
    """Whether it answers what it should for the events that were there, which it knows when they come again."""
    await world.fill(store, order=2)
    expected = aggregate("one", WHOLE, world.exposures, world.events, world.contexts)
    return same(await store.aggregate("one", WHOLE), expected)


async def knows_new_events(store: Any) -> bool:
    """Whether ClickHouse has the index by which it leaves out old ones."""
    if not isinstance(store, ClickHouseStore):
        return True
    there = "SELECT count() FROM system.data_skipping_indices WHERE database = currentDatabase() AND name = 'arrived'"
    return list(await store._connection.query(there)) == [(1,)]


@pytest.mark.parametrize("killed", KILLED)
async def test_a_store_of_the_version_before_is_brought_up_to_date(fresh: Fresh, killed: str) -> None:
    """What was there is there, and what comes now can be numbered; opening it once more changes nothing."""
    url, world, more = fresh(), World(6, events=200), numbered.World(5)
    if not is_relational(url) and killed != "never begun":
        return  # there it is one step
    await filled(url, world)
    await older(url, KILLED[killed])

    store = await eventstore.connect(url)
    assert await is_right(store, world)
    assert await knows_new_events(store)
    assert (await store.aggregate("one", numbered.PLAN)).delivery == {}
    more.exposures = world.exposures
    await more.fill(store, order=1)
    await store.maintain(NOW, None)
    await store.close()
    again = await eventstore.connect(url)
    found = (await again.aggregate("one", numbered.PLAN)).delivery
    await again.withdraw("one", [Withdrawal(1, "u1", OVERRIDE)])
    await again.link("one", [("u1", "u2")])
    left_out = (await again.aggregate("one", WHOLE)).withdrawn
    await again.close()

    assert left_out == {OVERRIDE: 1}
    assert numbered.same(found, more.expected())
    assert not is_relational(url) or run(url, ["SELECT version FROM eventstore_schema"]) == [4]


async def test_a_store_that_is_not_brought_up_to_date_is_noticed(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see an upgrade that is left out."""
    url, world = fresh(), World(6, events=20)
    if url.partition(":")[0] != "sqlite":
        return
    await filled(url, world)
    await older(url, 3)
    monkeypatch.setattr("upshot.eventstore.relational.schema.VERSION", 1)

    store = await eventstore.connect(url)
    with pytest.raises(Unavailable) as caught:
        await store.aggregate("one", numbered.PLAN)
    await store.close()

    assert "no such column: events.ordinal" in str(caught.value.__cause__)


async def test_a_store_of_a_newer_version_is_refused(fresh: Fresh) -> None:
    """An older program does not touch it."""
    url = fresh()
    if not is_relational(url):
        return
    await (await eventstore.connect(url)).close()
    run(url, [VERSION.format(5)])

    with pytest.raises(ConfigurationError, match="schema 5, this version knows 4"):
        await eventstore.connect(url)
