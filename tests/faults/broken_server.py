"""Negative controls: `upshot serve` with a durability bug put in on purpose, named by the environment's BREAK.

`early`: GroupCommit.submit answers at once and lets the group be committed a quarter of a second later.
`unsynced`: SQLite does not wait for the disk (synchronous=NORMAL).
`stock`: the shared cache is asked by redis-py as it comes, without a limit of ours and without a breaker.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from upshot import redisserver
from upshot.cli import main
from upshot.database import sqlitefile
from upshot.errors import Unavailable
from upshot.eventstore import Verdict
from upshot.groupcommit import GroupCommit
from upshot.redisserver import RedisServer

DELAY = 0.25

_durably = GroupCommit.submit
_engines = sqlitefile.engines
_under_way: set[asyncio.Task[Any]] = set()


async def _later(group: GroupCommit[Any, Any], item: Any) -> None:
    await asyncio.sleep(DELAY)
    with suppress(Unavailable):  # closed meanwhile: so much for the promise
        await _durably(group, item)


async def _early(group: GroupCommit[Any, Any], item: Any, _patience: float | None = None) -> Any:
    task = asyncio.create_task(_later(group, item))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    if isinstance(item, tuple):  # (client, assignments)
        return [(assignment, True) for assignment in item[1]]
    return [Verdict.ACCEPTED] * len(item)


def _not_waiting(path: Path, **_: Any) -> Any:
    return _engines(path, synchronous="NORMAL")


class Unbounded(RedisServer):
    """Waits as long as the client does, and passes on what that raises."""

    well, resting = True, False

    async def answer(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What the client answers in the end."""
        return await ask()


def stock(url: str, setting: str, purpose: str, meanwhile: str) -> RedisServer:
    """A server asked by a client with its own settings."""
    return Unbounded(Redis.from_url(url), purpose, meanwhile)


if __name__ == "__main__":
    if os.environ["BREAK"] == "early":
        GroupCommit.submit = _early  # type: ignore[method-assign,assignment]
    elif os.environ["BREAK"] == "stock":
        redisserver.connect, redisserver.SECONDS = stock, 60.0
    else:
        sqlitefile.engines = _not_waiting
    main()
