"""A caller is broken off, by a deadline or because its client went away: what it held of the database is free at once."""

import asyncio
import gc
import random
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
    await opened.dispose()


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


async def test_closing_alone_is_caught(database: Database) -> None:
    """A mutant: SQLite keeps the lock of a closed connection as long as somebody might read its rows."""
    database._writer.sync_engine.pool.dispatch.invalidate.clear()

    assert await turned_away(database) == 1
    gc.collect()  # before the store is closed, which would wait, too


async def left_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many connections are never closed when a caller is broken off while it lets go of one, and the store is closed."""
    closing, close = asyncio.Event(), AsyncConnection.close

    async def slowly(connection: AsyncConnection) -> None:
        closing.set()
        await asyncio.sleep(0.05)
        await close(connection)

    monkeypatch.setattr(AsyncConnection, "close", slowly)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        database = Database(f"sqlite:///{path / 'control.db'}", "DATABASE_URL")
        writer = asyncio.create_task(insert(database))
        await closing.wait()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await database.dispose()
        del writer, database
        await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0.1)  # what is collected is closed by a thread of its own, which tells this loop
    return sum(issubclass(each.category, ResourceWarning) for each in seen)


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


async def test_who_is_broken_off_while_connecting_leaves_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that was being opened goes to the next one."""
    connecting = asyncio.Event()

    async def slowly(_driver: object) -> None:
        connecting.set()
        await asyncio.sleep(0.05)

    monkeypatch.setattr(sqlitefile, "_with_functions", slowly)
    await database.dispose()
    writer = asyncio.create_task(insert(database))
    await connecting.wait()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)

    await insert(database)
    assert database._writer.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
