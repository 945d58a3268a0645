"""What is the embedded store's own: it is closed while others read, and nothing that was acknowledged is lost."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from tests.contract.test_eventstore import END, SPENT, START

from upshot import eventstore
from upshot.aggregation import AggregationPlan
from upshot.errors import Unavailable
from upshot.events import Event, Exposure
from upshot.eventstore import EventStore
from upshot.eventstore.embedded import duck
from upshot.eventstore.embedded import store as embedded
from upshot.eventstore.embedded.reading import Readers

FOR_HOURS = """SELECT count(*)::TEXT, '' FROM (SELECT 1 AS one WHERE begins(1)) o, range(1000000) a, range(1000000) b
WHERE hash(a.range, b.range, one) % 7 = 3"""
PROMPTLY = 20.0  # seconds, of what takes hours, or 30 s until it is given up, if it is not interrupted
PLAN = AggregationPlan(1, (SPENT,), None, END)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where the file is."""
    return f"duckdb:///{tmp_path}/events.db"


@pytest.fixture
def executing() -> threading.Semaphore:
    """Let go of by the engine, once for each statement of hours that it executes."""
    return threading.Semaphore(0)


@pytest.fixture
async def store(url: str, executing: threading.Semaphore, monkeypatch: pytest.MonkeyPatch) -> EventStore:
    """A store of a hundred events whose segment values, and marks to be rolled up, take hours to read."""
    opened: Any = await eventstore.connect(url)
    await opened.expose([Exposure("one", 1, f"u{n}", 0, 1, START, "{}") for n in range(100)])
    await opened.append("one", [event(n) for n in range(100)])

    def begins(_number: int) -> bool:
        executing.release()
        return True

    opened._written.connection.create_function("begins", begins, ["BIGINT"], "BOOLEAN", side_effects=True)
    monkeypatch.setattr(duck, "SEGMENT_VALUES", FOR_HOURS + " AND $1 + $2 IS NOT NULL")
    monkeypatch.setattr(embedded, "outstanding", lambda cursor: cursor.execute(FOR_HOURS).fetchall())
    return cast("EventStore", opened)


def event(number: int) -> Event:
    """One of many."""
    return Event(f"e{number}", f"u{number}", "buy", START, START, 1.0, "{}", None, 0, number)


async def begun(work: Coroutine[Any, Any, Any], executing: threading.Semaphore) -> "asyncio.Task[Any]":
    """A task that has come to where the engine executes."""
    task = asyncio.create_task(work)
    assert await asyncio.to_thread(executing.acquire, timeout=60)
    return task


async def events_in(url: str) -> int:
    """How many there are when the file is opened again."""
    again = await eventstore.connect(url)
    try:
        return sum(found.events for found in await again.event_types("one"))
    finally:
        await again.close()


@pytest.mark.parametrize("what", ["refresh", "read", "two reads and one that waits"])
async def test_a_store_is_closed_while_others_read(
    store: EventStore, url: str, executing: threading.Semaphore, what: str
) -> None:
    """They are interrupted and told to come back; an append that was waiting is stored first."""
    reads = {"refresh": 0, "read": 1, "two reads and one that waits": 2}[what]
    work: list[Coroutine[Any, Any, Any]] = [store.segment_values("one", 1, 1) for _ in range(reads)] or [
        store.refresh()
    ]
    tasks = [await begun(each, executing) for each in work]
    if reads == 2:  # as many as there are threads
        tasks.append(asyncio.create_task(store.segment_values("one", 1, 1)))
    appending = asyncio.ensure_future(store.append("one", [event(n) for n in range(100, 200)]))
    await asyncio.sleep(0)

    await asyncio.wait_for(store.close(), PROMPTLY)

    assert len(await appending) == 100
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert await events_in(url) == 200


async def test_a_store_is_closed_after_a_reader_went_away(
    store: EventStore, url: str, executing: threading.Semaphore
) -> None:
    """A cancelled caller's cursor still executes for a moment."""
    task = await begun(store.segment_values("one", 1, 1), executing)
    task.cancel()

    await asyncio.wait_for(store.close(), PROMPTLY)

    assert await events_in(url) == 100
    assert task.cancelled()


async def test_a_store_is_closed_during_an_export(store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two batches; the next one is refused, and the export ends."""
    monkeypatch.setattr(embedded, "EXPORT_BATCH", 10)
    batches = store.rows("one", PLAN)
    first = await anext(batches)

    await asyncio.wait_for(store.close(), PROMPTLY)

    assert len(first) == 10
    with pytest.raises(Unavailable):
        await anext(batches)
    assert await events_in(url) == 100


async def test_an_export_whose_reader_went_away_leaves_the_store_as_it_was(store: EventStore) -> None:
    """Its cursor is closed when the engine has let go of it, not while it executes."""

    async def exported() -> None:
        async for _ in store.rows("one", PLAN):
            await asyncio.sleep(0)

    for patience in (0.0, 0.001, 0.005, 0.01):
        task = asyncio.ensure_future(exported())
        await asyncio.sleep(patience)
        task.cancel()
        assert set(map(type, await asyncio.gather(task, return_exceptions=True))) <= {
            asyncio.CancelledError,
            type(None),
        }

    assert sum(found.events for found in await store.event_types("one")) == 100
    await asyncio.wait_for(store.close(), PROMPTLY)


async def test_a_closed_store_takes_and_answers_nothing(store: EventStore, url: str) -> None:
    """And opens its file no more, though a writer opens one again that failed."""
    await store.close()

    for work in (store.append("one", [event(300)]), store.event_types("one"), store.aggregate("one", PLAN)):
        with pytest.raises(Unavailable):
            await work
    assert await events_in(url) == 100


async def test_closing_without_an_interruption_is_caught(
    store: EventStore, executing: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine refuses to close what executes, as these tests would see."""
    task = await begun(store.segment_values("one", 1, 1), executing)
    closing = Readers.close

    async def nothing(_readers: Readers) -> None:
        """The broken variant."""

    with monkeypatch.context() as broken:
        broken.setattr(Readers, "close", nothing)
        with pytest.raises(duckdb.Error):
            await asyncio.wait_for(store.close(), PROMPTLY)

    assert Readers.close is closing
    await store.close()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], Unavailable)
