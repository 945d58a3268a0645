"""Limits while their Redis is away: nobody waits, each process counts for itself, and what must be counted is refused."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.backends import redis
from tests.faults.lateness import losing
from tests.faults.reporting import percentile, say
from tests.punctual import Late, punctual

from upshot import redisserver
from upshot.errors import Unavailable
from upshot.ratelimits import Quota, Verdict, connect
from upshot.ratelimits.redisbuckets import RedisLimiter
from upshot.redisserver import RedisServer

OPEN = Quota("open", 0.01, 1_000_000)
LOGIN = Quota("login_account", 0.001, 5, closed=True)
FIRST_SECONDS = 0.1  # more than any take may last in the first second of an outage: 50 ms, and what a busy machine adds
LATER_SECONDS = 0.005  # and after it, but for those who try whether the server is back
PROBES = 3  # such tries in 4.5 seconds, of which each two have one
BACK_SECONDS = 5.0

pytestmark = pytest.mark.slow


class Watched(RedisLimiter):
    """Counts how often the server is asked."""

    tries = 0

    async def _ask(self, key: str, quota: Quota, weight: int) -> Verdict:
        self.tries += 1
        return await super()._ask(key, quota, weight)


class AllAtOnce(RedisServer):
    """The negative control of the one probe: everybody tries whether the server is back."""

    @property
    def _probing(self) -> bool:
        return False

    @_probing.setter
    def _probing(self, value: bool) -> None:
        """Nobody remembers."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[redis.Redis]:
    """A server that the test may stop and kill."""
    with redis.running(tmp_path) as started:
        yield started


Opening: TypeAlias = Callable[[], Awaitable[Watched]]


@pytest.fixture
async def opened(server: redis.Redis) -> AsyncIterator[Opening]:
    """Opens limiters that have connections and have loaded their script, and closes them."""
    made: list[Watched] = []

    async def opened() -> Watched:
        plain = connect(server.url)
        assert isinstance(plain, RedisLimiter)
        limiter = Watched(plain._server)
        made.append(limiter)
        for _ in range(3):
            await asyncio.gather(*(limiter.take(key(), OPEN) for _ in range(20)))
        await settled(limiter)
        return limiter

    yield opened
    for limiter in made:
        await limiter.close()


def key() -> str:
    """One that nobody has used."""
    return f"5.first.{uuid.uuid4().hex}"


async def settled(limiter: RedisLimiter) -> None:
    """Wait until the server is asked again and answers."""
    began = time.monotonic()
    while time.monotonic() < began + BACK_SECONDS:
        with suppress(Unavailable):
            await limiter.take(key(), LOGIN)
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the server was not asked again within {BACK_SECONDS} s")


async def asked(limiter: RedisLimiter, quota: Quota, seconds: float, at_once: int) -> list[float]:
    """How long each take lasted, of callers that ask all the time, less what the event loop lost meanwhile."""
    took: list[float] = []
    over = time.monotonic() + seconds

    async def ask(lost: Callable[[], float]) -> None:
        while time.monotonic() < over:
            began, before = time.monotonic(), lost()
            with suppress(Unavailable):
                assert (await limiter.take(key(), quota)).allowed
            took.append(time.monotonic() - began - (lost() - before))
            await asyncio.sleep(0.02)

    async with losing() as lost:
        await asyncio.gather(*(ask(lost) for _ in range(at_once)))
    return took


async def check_latency(limiter: Watched) -> None:
    """A second of an outage, and the four after it, in which the breaker lets a caller through now and then."""
    first = await asked(limiter, OPEN, 1, 20)
    limiter.tries = 0
    later = await asked(limiter, OPEN, 4.5, 20)
    say(f"first second p99 {percentile(first, 0.99):.4f} s, max {max(first):.4f} s of {len(first)}")
    say(f"later p99 {percentile(later, 0.99):.4f} s, max {max(later):.4f} s of {len(later)}; {limiter.tries} tries")

    assert percentile(first, 0.99) <= FIRST_SECONDS
    assert percentile(later, 0.99) <= LATER_SECONDS
    assert limiter.tries <= PROBES


@contextmanager
def counted_in_time() -> Iterator[None]:
    """Takes that the server counts, in the 50 ms that nobody waits longer than.

    Raises:
        Late: it was not the server that made them wait.
    """
    try:
        yield
    except Unavailable as away:
        raise Late("a take was not answered in time") from away


@pytest.mark.parametrize("how", ["pause", "kill"])
@punctual
async def test_an_outage_delays_nobody_and_ends_by_itself(
    server: redis.Redis, opened: Opening, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Takes last 50 ms at most at first, and nothing once it is noticed; closed quotas refuse; all is as before within 5 s."""
    limiter, other = await opened(), await opened()
    shared = key()
    with counted_in_time():
        await limiter.take(shared, LOGIN, 3)
    caplog.clear()
    with caplog.at_level(logging.WARNING, redisserver.__name__):
        getattr(server, how)()
        await check_latency(limiter)
        with pytest.raises(Unavailable) as refused:
            await limiter.take(shared, LOGIN)
        {"pause": server.resume, "kill": server.restart}[how]()
        began = time.monotonic()
        await settled(limiter)
    back = time.monotonic() - began
    say(f"counted together again {back:.2f} s after the server was back")
    with counted_in_time():
        verdicts = [await limiter.take(key(), LOGIN, weight) for weight in (1, 2, 3, 4, 5)]
        kept = await limiter.take(shared, LOGIN), await other.take(shared, LOGIN)

    assert refused.value.retry_after == redisserver.OPEN_SECONDS
    assert back <= BACK_SECONDS
    assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0]  # every answer belongs to its question
    assert [verdict.remaining for verdict in kept] == [1, 0]  # the server has an append-only file
    assert len([record for record in caplog.records if record.name == redisserver.__name__]) == 2


async def test_each_process_counts_for_itself_meanwhile(server: redis.Redis, opened: Opening) -> None:
    """With the whole quota: there is no flood, and no outage either."""
    quota = Quota("management", 0.01, 5)
    limiter, other = await opened(), await opened()
    server.kill()
    shared = key()

    for process in (limiter, other):
        verdicts = [await process.take(shared, quota) for _ in range(6)]

        assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]


@pytest.mark.parametrize(
    "breaking",
    [
        lambda monkeypatch: monkeypatch.setattr(redisserver, "SECONDS", 0.5),
        lambda monkeypatch: monkeypatch.setattr(redisserver, "FAILURES", 10**9),
    ],
    ids=["waits", "never gives up"],
)
async def test_a_limiter_that_waits_is_caught(
    server: redis.Redis,
    opened: Opening,
    monkeypatch: pytest.MonkeyPatch,
    breaking: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """The negative controls: without the 50 ms, or without the breaker, the same check fails."""
    breaking(monkeypatch)
    limiter = await opened()
    server.pause()

    with pytest.raises(AssertionError):
        await check_latency(limiter)


async def test_a_limiter_that_lets_everybody_probe_is_caught(
    server: redis.Redis, opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the one probe: each time the breaker lets go, all callers wait for it."""
    monkeypatch.setattr(redisserver, "RedisServer", AllAtOnce)
    limiter = await opened()
    server.pause()

    with pytest.raises(AssertionError):
        await check_latency(limiter)
