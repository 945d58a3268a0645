"""A caller is broken off, by a deadline or because its client went away: what it held of the database is free at once."""

import asyncio
import gc
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.database import Database, sqlitefile
from upshot.errors import Unavailable

ROUNDS = 60


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """One with a table."""
    opened = Database(f"sqlite:///{tmp_path / 'control.db'}", "DATABASE_URL")
    async with opened.begin() as connection:
        await connection.execute(text("CREATE TABLE kept (number INTEGER)"))
    yield opened
    await opened.close()


async def insert(database: Database) -> None:
    """Store a row, and read what was stored."""
    async with database.begin() as connection:
        await connection.execute(text("INSERT INTO kept VALUES (1) RETURNING number"))


async def turned_away(database: Database) -> int:
    """How many could not write, of some who came right after others were broken off and whose errors are kept; at most one."""
    moments = random.Random(1)
    for _ in range(ROUNDS):
        writers = [asyncio.create_task(insert(database)) for _ in range(3)]
        await asyncio.sleep(moments.random() * 0.004)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        try:
            await insert(database)
        except Unavailable:
            return 1
    return 0


async def test_a_writer_who_is_broken_off_leaves_no_lock(database: Database) -> None:
    """Wherever it was."""
    assert await turned_away(database) == 0


async def turned_away_by_a_reader(database: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many could not, of one who came after another was broken off whose row was written and not read yet."""
    reading = asyncio.Event()
    with monkeypatch.context() as patched:

        async def slowly(_cursor: aiosqlite.Cursor) -> None:
            reading.set()
            await asyncio.Event().wait()

        patched.setattr(aiosqlite.Cursor, "fetchall", slowly)
        writer = asyncio.create_task(insert(database))
        await reading.wait()
        writer.cancel()
        # Its error, with the rows in the frames of its traceback, lives as long as it does.
        await asyncio.wait([writer])
    try:
        await insert(database)
    except Unavailable:
        return 1
    return 0


async def test_a_writer_who_is_broken_off_with_a_row_to_read_leaves_no_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst of those moments, every time."""
    assert await turned_away_by_a_reader(database, monkeypatch) == 0


async def test_closing_alone_is_caught(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: SQLite keeps the lock of a closed connection as long as somebody might read its rows."""
    database._writer.sync_engine.pool.dispatch.invalidate.clear()

    assert await turned_away_by_a_reader(database, monkeypatch) == 1
    gc.collect()  # before the store is closed, which would wait, too


async def never_closed(path: Path, use: Callable[[Database], Awaitable[None]]) -> int:
    """How many connections are never closed when a store is closed after, or while, it was used so."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gc.collect()
        seen.clear()  # what earlier tests left
        database = Database(f"sqlite:///{path / 'control.db'}", "DATABASE_URL")
        await use(database)
        await database.close()
        del database
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        gc.collect()
        await asyncio.sleep(0.1)  # what is collected is closed by a thread of its own, which tells this loop
    return sum(issubclass(each.category, ResourceWarning) for each in seen)


async def left_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many are not when a caller is broken off while it lets go of one."""
    closing, close = asyncio.Event(), AsyncConnection.close

    async def slowly(connection: AsyncConnection) -> None:
        closing.set()
        await asyncio.sleep(0.05)
        await close(connection)

    async def broken_off(database: Database) -> None:
        writer = asyncio.create_task(insert(database))
        await closing.wait()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    monkeypatch.setattr(AsyncConnection, "close", slowly)
    return await never_closed(path, broken_off)


async def test_a_store_is_closed_after_those_who_were_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they held comes back first, and is closed with the rest."""
    assert await left_open(tmp_path, monkeypatch) == 0


async def test_not_waiting_for_them_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: it comes back to a pool that is gone, and stays open until somebody collects the garbage."""

    def forget(_database: Database, work: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        return work

    monkeypatch.setattr(Database, "_keep", forget)

    assert await left_open(tmp_path, monkeypatch) == 1


async def left_at_work(path: Path) -> int:
    """How many are not when somebody is at work on one whom nobody waits for any longer, as of a shared attempt."""
    at_work: list[asyncio.Task[None]] = []

    async def shared(database: Database) -> None:
        reading = asyncio.Event()

        async def read() -> None:
            async with database.read() as connection:
                reading.set()
                await asyncio.sleep(0.05)
                await connection.execute(text("SELECT 1"))

        at_work.append(asyncio.create_task(read()))
        await reading.wait()

    left = await never_closed(path, shared)
    assert all(task.done() for task in at_work)
    return left


async def test_a_store_is_closed_after_those_who_are_at_work(tmp_path: Path) -> None:
    """What they hold comes back first."""
    assert await left_at_work(tmp_path) == 0


async def test_closing_beside_those_at_work_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant."""
    monkeypatch.setattr(Database, "_under_way", lambda _database: nullcontext())

    assert await left_at_work(tmp_path) == 1


async def test_who_comes_after_a_store_was_closed_is_turned_away(database: Database) -> None:
    """It would open what nobody closes."""
    await database.close()

    with pytest.raises(Unavailable, match="closed"):
        await insert(database)


async def test_who_is_broken_off_while_connecting_leaves_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that was being opened goes to the next one."""
    connecting = asyncio.Event()

    async def slowly(_driver: object) -> None:
        connecting.set()
        await asyncio.sleep(0.05)

    monkeypatch.setattr(sqlitefile, "_with_functions", slowly)
    await database._writer.dispose()
    writer = asyncio.create_task(insert(database))
    await connecting.wait()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)

    await insert(database)
    assert database._writer.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
