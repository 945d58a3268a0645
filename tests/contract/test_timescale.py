"""Where TimescaleDB is present the events are a hypertable, with the same answers.

No package brings TimescaleDB to every machine: give a superuser's URL of a PostgreSQL that has it in TIMESCALEDB_URL.
docs/operations.md says with which version this was seen green.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from tests.contract.test_eventstore import START, World
from tests.contract.test_rollups import DAY, wrong

from upshot import eventstore
from upshot.eventstore import EventStore

_URL = os.environ.get("TIMESCALEDB_URL", "")


@pytest.fixture
async def store() -> AsyncIterator[EventStore]:
    """A store in a fresh database with the extension."""
    if not _URL:
        pytest.skip("TimescaleDB: not installed, so not run; to have it: TIMESCALEDB_URL")
    with psycopg.connect(_URL, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS upshot_timescale WITH (FORCE)")
        connection.execute("CREATE DATABASE upshot_timescale")
    fresh = _URL.rpartition("/")[0] + "/upshot_timescale"
    with psycopg.connect(fresh, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
    opened = await eventstore.connect(fresh)
    yield opened
    await opened.close()


async def test_a_hypertable_answers_like_every_store(store: EventStore) -> None:
    """Counted and rolled up; old chunks are dropped whole."""
    world = World(21, events=600)
    await world.fill(store, order=1)
    assert await wrong(store, world) == []
    await store.refresh()
    assert await wrong(store, world) == []

    with psycopg.connect(_URL.rpartition("/")[0] + "/upshot_timescale") as connection:
        row = connection.execute("SELECT count(*) FROM timescaledb_information.hypertables").fetchone()
        assert row == (1,)
    later = datetime.fromtimestamp((START + 200 * DAY) / 1_000_000, UTC)
    assert any("dropped" in done for done in await store.maintain(later, later))
    assert await store.event_types("one") == []
