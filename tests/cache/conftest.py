"""Caches of every kind, on real servers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis.crc import key_slot
from tests.backends import redis

from upshot import redisserver
from upshot.cache import Cache, Key, connect
from upshot.operations.copies import ASSIGNMENT

STARTING: dict[str, Any] = {"single": redis.running, "sentinel": redis.sentinels, "cluster": redis.cluster}
SHARED = [pytest.param(kind, marks=pytest.mark.slow) for kind in STARTING]


class Bench:
    """Where caches are opened that stand for processes, and a way around them to the server."""

    def __init__(self, url: str, server: Any) -> None:
        self.url = url
        self._server = server
        self._opened: list[Cache] = []

    @property
    def shared(self) -> bool:
        """Whether what one process remembers others find."""
        return self._server is not None

    def process(self) -> Cache:
        """What another process would have; without a server, all have the same."""
        if not self._opened or self.shared:
            self._opened.append(connect(self.url))
        return self._opened[-1]

    async def settled(self) -> None:
        """Wait until everything that was written is on its server."""
        for cache in self._opened:
            async with asyncio.timeout(60):
                while getattr(cache, "_writer", None) is not None:  # noqa: ASYNC110 - what it waits for wakes nobody
                    await asyncio.sleep(0.001)

    def ask(self, command: str, key: str, *more: Any) -> Any:
        """What the server that has a key answers."""
        if isinstance(self._server, redis.Cluster):
            slot = key_slot(key.encode())
            node = next(n for n in range(3) if slot < (n + 1) * redis.SLOTS // 3)
            return self._server.nodes[node].ask(command, key, *more)
        server = self._server.primary if isinstance(self._server, redis.Sentinels) else self._server
        return server.ask(command, key, *more)

    async def close(self) -> None:
        """Close the caches."""
        for cache in self._opened:
            await cache.close()


class Servers:
    """Servers by kind, each started when it is first wanted."""

    def __init__(self, folders: pytest.TempPathFactory, exits: ExitStack) -> None:
        self._folders, self._exits = folders, exits
        self._started: dict[str, Any] = {}

    def of(self, kind: str) -> Any:
        """The server of a kind."""
        if kind not in self._started:
            self._started[kind] = self._exits.enter_context(STARTING[kind](self._folders.mktemp(kind)))
        return self._started[kind]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of a module."""
    with ExitStack() as exits:
        yield Servers(tmp_path_factory, exits)


@pytest.fixture(params=["memory", *SHARED])
async def bench(
    request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """Each cache in turn; its patience is the subject of other tests, and a busy machine must not end it here."""
    monkeypatch.setattr(redisserver, "SECONDS", 60)
    server = None if request.param == "memory" else servers.of(request.param)
    made = Bench("memory://" if server is None else server.url, server)
    yield made
    await made.close()


@pytest.fixture(params=SHARED)
async def shared(
    request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """Those that have a server."""
    monkeypatch.setattr(redisserver, "SECONDS", 60)
    server = servers.of(request.param)
    made = Bench(server.url, server)
    yield made
    await made.close()


async def user_in(cache: Cache, client: str, key: Key) -> str | None:
    """Whose assignment a cache has there."""
    found = await cache.get(client, ASSIGNMENT, key)
    return None if found is None else found.user_id
