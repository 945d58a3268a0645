"""A cache while its Redis is away: nobody waits, nothing is an error, and all is as before within five seconds."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from redis.exceptions import RedisError
from tests.backends import redis
from tests.cache import things
from tests.cache.asking import FIRST_SECONDS, answering, asked, check_latency, found_there, settled
from tests.faults.broken_server import stock
from tests.faults.reporting import percentile, say
from tests.punctual import Late, in_time, punctual

from upshot import redisserver
from upshot.cache import connect, tiers
from upshot.cache.tiers import TwoTierCache
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT

pytestmark = pytest.mark.slow

Opening: TypeAlias = Callable[[], Awaitable[TwoTierCache]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[redis.Redis]:
    """A server that the test may stop and kill."""
    with redis.running(tmp_path) as started:
        yield started


@pytest.fixture
async def opened(server: redis.Redis) -> AsyncIterator[Opening]:
    """Opens caches that have been answered, and closes them."""
    made: list[TwoTierCache] = []

    async def opened() -> TwoTierCache:
        cache = connect(server.url)
        assert isinstance(cache, TwoTierCache)
        made.append(cache)
        await answering(cache)
        return cache

    yield opened
    for cache in made:
        await cache.close()


@pytest.mark.parametrize("how", ["pause", "kill", "lose"])
async def test_an_outage_delays_nobody_and_ends_by_itself(
    server: redis.Redis, opened: Opening, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Paused, killed, or back empty: 50 ms at first, then nothing, and as before within 5 s; the log says it twice."""
    cache, user = await opened(), uuid.uuid4().hex
    cache.put("client", ASSIGNMENT, (user, "e"), things.assignment(user))
    await settled(cache)
    with caplog.at_level(logging.WARNING, redisserver.__name__):
        getattr(server, how)()
        await check_latency(cache)
        remembered = await cache.get("client", ASSIGNMENT, (user, "e"))
        state = await cache.ping()
        if how == "pause":
            server.resume()
        else:
            server.restart()
        back = await settled(cache)
    say(f"asked again {back:.2f} s after the server was back")
    other = await opened()
    kept = await other.get("client", ASSIGNMENT, (user, "e"))
    if how != "lose":
        kept = await found_there(other, user)

    assert (remembered, state) == (things.assignment(user), "away")
    assert kept == (None if how == "lose" else things.assignment(user))
    await answering(cache)
    assert len([record for record in caplog.records if record.name == redisserver.__name__]) == 2


async def test_who_listens_and_says_nothing_delays_nobody() -> None:
    """A black hole that takes connections."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as listening:
        cache = connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0")
        assert isinstance(cache, TwoTierCache)

        await check_latency(cache)

        await cache.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        b"+OK\r\n+OK\r\n",
        b"$5\r\nab",
        b"HTTP/1.1 400\r\n\r\n",
        b"",
    ],
)
async def test_nonsense_is_a_copy_that_is_missing(answer: bytes) -> None:
    """Whatever a server says: no error, and nobody waits."""

    async def rave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536) and answer:
                writer.write(answer * 3)
        writer.close()

    async with await asyncio.start_server(rave, "127.0.0.1", 0) as listening:
        cache = connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0")
        assert isinstance(cache, TwoTierCache)

        took = await asked(cache, 0.5)

        await cache.close()
    assert percentile(took, 0.99) <= FIRST_SECONDS


@punctual
async def test_what_waits_to_be_written_is_bounded_and_delays_nobody(server: redis.Redis, opened: Opening) -> None:
    """A server that takes nothing costs the room of a thousand keys, and no time."""
    cache = await opened()
    server.pause()
    began = time.monotonic()

    for number in range(5 * tiers.WAITING):
        cache.put("client", ASSIGNMENT, (f"u{number}", "e"), things.assignment())
    took = time.monotonic() - began
    waiting = len(cache._waiting)
    server.resume()

    assert waiting == tiers.WAITING
    in_time(took, 1)


@punctual
async def test_a_stop_waits_for_what_is_written_and_not_for_a_server_that_is_away(
    server: redis.Redis, opened: Opening
) -> None:
    """What was put last is there; closing ends within a second, whatever the server does."""
    writing, stuck, user = await opened(), await opened(), uuid.uuid4().hex
    writing.put("client", ASSIGNMENT, (user, "e"), things.assignment(user))
    await writing.close()
    found = await found_there(await opened(), user)
    server.pause()
    for number in range(tiers.WAITING):
        stuck.put("client", ASSIGNMENT, (f"u{number}", "e"), things.assignment())
    began = time.monotonic()
    await stuck.close()
    took = time.monotonic() - began
    server.resume()

    if found is None:
        raise Late("what was put last was not written in time")
    assert found == things.assignment(user)
    in_time(took, 1)


async def test_what_a_paused_server_writes_on_waking_is_gone_a_second_later(
    server: redis.Redis, opened: Opening
) -> None:
    """It is as old as the pause was long; so a change is seen within two seconds of the waking, and not only of the change.

    The second is counted from the first answer: until then the server may not have written it.
    """
    cache, other = await opened(), await opened()
    server.pause()
    cache.put("client", EXPERIMENT, ("e",), things.experiment())
    await asyncio.sleep(1.5)
    server.resume()
    await answering(other)
    await asyncio.sleep(1)

    assert await other.get("client", EXPERIMENT, ("e",)) is None


class Trying(TwoTierCache):
    """The negative control of the probe beside: who asks after a rest finds out whether the server is back."""

    def _usable(self) -> bool:
        return not self._server.resting


@pytest.mark.parametrize(
    "breaking",
    [
        lambda monkeypatch: monkeypatch.setattr(redisserver, "SECONDS", 0.5),
        lambda monkeypatch: monkeypatch.setattr(redisserver, "FAILURES", 10**9),
        lambda monkeypatch: monkeypatch.setattr(tiers, "TwoTierCache", Trying),
    ],
    ids=["waits", "never gives up", "tries itself"],
)
async def test_a_cache_that_waits_is_caught(
    server: redis.Redis,
    opened: Opening,
    monkeypatch: pytest.MonkeyPatch,
    breaking: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """The negative controls: without the 50 ms, the breaker, or the probe beside, the same check fails."""
    breaking(monkeypatch)
    cache = await opened()
    server.pause()

    with pytest.raises(AssertionError):
        await check_latency(cache)


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_a_client_as_it_comes_is_caught(
    server: redis.Redis, opened: Opening, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The negative control: redis-py with its own limits and retries hangs, or raises."""
    monkeypatch.setattr(redisserver, "connect", stock)
    monkeypatch.setattr(redisserver, "SECONDS", 60.0)
    cache = await opened()
    getattr(server, how)()

    with pytest.raises((AssertionError, OSError, RedisError)):
        await check_latency(cache)

    if how == "pause":
        server.resume()  # else it could not be closed
