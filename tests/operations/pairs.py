"""Two servers on one database whose transactions linger over what they read: what is not locked, the other one changes then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from upshot import cache, control, eventstore
from upshot.clock import SystemClock
from upshot.operations import Stores

LINGER = 0.01
"""Seconds for which a transaction does nothing after it has read."""
MOST = 500
"""Rounds in which a mutant shows itself at the latest; on most machines it takes a few."""
LOCKING = ("postgresql", "mariadb")
"""SQLite has one writer at a time, whatever is locked."""


@asynccontextmanager
async def pair(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *readings: tuple[type, str]
) -> AsyncIterator[list[Stores]]:
    """The stores of both; the readings, each a class and the name of a method, linger."""
    opened = []
    for number in range(2):
        events = await eventstore.connect(f"duckdb:///{folder / f'events-{number}.db'}")
        opened.append(Stores(await control.connect(url), events, cache.connect("memory://"), SystemClock()))
    for kind, name in readings:
        monkeypatch.setattr(kind, name, _lingering(getattr(kind, name)))
    try:
        yield opened
    finally:
        for stores in opened:
            await stores.close()


def _lingering(honest: Any) -> Any:
    async def read(*asked: Any) -> Any:
        found = await honest(*asked)
        await asyncio.sleep(LINGER)
        return found

    return read
