"""Every limiter keeps the contract of `upshot.ratelimits`; buckets that several processes share are those of a real Redis."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest
from redis.asyncio import Redis
from tests.backends import redis
from tests.punctual import in_time, punctual

from upshot import redisserver
from upshot.ratelimits import Limiter, Quota, Verdict, connect
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.ratelimits.quotas import NANOSECONDS

SLOW = Quota("slow", 4, 5)  # a token each quarter of a second: what a test takes at once finds none new
AT_ONCE = 0.1  # seconds that takes at once may last on the clock of a server, which does not stand still
QUICK = Quota("quick", 40, 50)
TAKERS = 8


class Ticks:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 12_345 * NANOSECONDS

    def __call__(self) -> int:
        return self.now


class Bench:
    """A limiter, time that passes when it is told to, and what other processes would have on the same buckets."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ticks = Ticks()
        self.limiter: Limiter = InProcessLimiter(self._ticks) if url == "memory://" else connect(url)
        self.begin()

    def begin(self) -> None:
        """Take from a new bucket from here on."""
        self.key = f"5.first.{uuid.uuid4().hex}"
        self._began, self._waited = time.monotonic(), 0.0

    def at_once(self) -> None:
        """That no time has passed since the beginning but what was waited. Raises Late."""
        if self._url != "memory://":
            in_time(time.monotonic() - self._began - self._waited, AT_ONCE, -1)

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._waited += seconds
        if self._url == "memory://":
            self._ticks.now += round(seconds * NANOSECONDS)
        else:
            await asyncio.sleep(seconds)

    def others(self) -> list[Limiter]:
        """As many takers as there are; in one process they have one limiter, on the machine's clock."""
        if self._url == "memory://":
            return [connect(self._url)] * TAKERS
        return [connect(self._url) for _ in range(TAKERS)]

    async def drain(self) -> None:
        """Take everything."""
        for _ in range(SLOW.burst):
            assert (await self.limiter.take(self.key, SLOW)).allowed


@pytest.fixture(scope="module", name="redis_server")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Each limiter in turn; its patience is the subject of other tests, and a busy machine must not end it here."""
    monkeypatch.setattr(redisserver, "SECONDS", 60)
    made = Bench("memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url)
    await made.limiter.take("another", SLOW)  # connects
    yield made
    await made.limiter.close()


@punctual
async def test_a_full_bucket_gives_its_burst_and_then_refuses(bench: Bench) -> None:
    """What is left is counted down; a refusal says when to come again, and when the bucket will be full."""
    bench.begin()
    verdicts = [await bench.limiter.take(bench.key, SLOW) for _ in range(6)]
    bench.at_once()

    refused = verdicts[-1]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0]
    assert [verdict.retry_after for verdict in verdicts[:-1]] == [0] * 5
    assert 0 < refused.retry_after <= 0.25
    assert 1 < refused.reset <= 1.25


@punctual
async def test_tokens_come_back_with_time_and_never_more_than_the_burst(bench: Bench) -> None:
    """Two in 0.6 s at four per second; five, however long nobody asks."""
    bench.begin()
    await bench.drain()
    await bench.wait(0.6)
    soon = [await bench.limiter.take(bench.key, SLOW) for _ in range(3)]
    await bench.wait(2)
    later = [await bench.limiter.take(bench.key, SLOW) for _ in range(6)]
    bench.at_once()

    assert [verdict.allowed for verdict in soon] == [True, True, False]
    assert [verdict.allowed for verdict in later] == [True] * 5 + [False]


@punctual
async def test_who_comes_again_when_told_is_let_through(bench: Bench) -> None:
    """`retry_after` is enough, and half of it is not."""
    bench.begin()
    await bench.drain()
    told = await bench.limiter.take(bench.key, SLOW, 2)
    await bench.wait(told.retry_after / 2)
    early = await bench.limiter.take(bench.key, SLOW, 2)
    await bench.wait(early.retry_after + 0.001)
    right = await bench.limiter.take(bench.key, SLOW, 2)
    bench.at_once()

    assert (told.allowed, early.allowed, right.allowed) == (False, False, True)


@punctual
async def test_a_weight_is_taken_whole_or_not_at_all(bench: Bench) -> None:
    """A refusal costs nothing: what was too little for three is still there for two."""
    bench.begin()
    verdicts = [await bench.limiter.take(bench.key, SLOW, weight) for weight in (3, 3, 2, 1)]
    bench.at_once()

    assert [verdict.allowed for verdict in verdicts] == [True, False, True, False]
    assert [verdict.remaining for verdict in verdicts] == [2, 2, 0, 0]


@punctual
async def test_more_than_a_bucket_holds_is_let_through_by_a_full_one_which_then_owes(bench: Bench) -> None:
    """Eight of five: three are owed, so that the next one waits for four tokens, a second."""
    bench.begin()
    large = await bench.limiter.take(bench.key, SLOW, 8)
    next_one = await bench.limiter.take(bench.key, SLOW)
    another = await bench.limiter.take(bench.key, SLOW, 8)
    await bench.wait(0.85)
    owing = await bench.limiter.take(bench.key, SLOW)
    await bench.wait(0.2)
    paid = await bench.limiter.take(bench.key, SLOW)
    bench.at_once()

    assert (large.allowed, large.remaining) == (True, 0)
    assert 1.9 < large.reset <= 2
    assert (next_one.allowed, next_one.remaining) == (False, 0)
    assert 0.9 < next_one.retry_after <= 1
    assert not another.allowed
    assert 1.9 < another.retry_after <= 2
    assert (owing.allowed, paid.allowed) == (False, True)


@punctual
async def test_more_than_a_bucket_holds_is_refused_by_one_that_is_not_full(bench: Bench) -> None:
    """It comes through when nothing is taken any more; what is left is told truly, and stays."""
    bench.begin()
    await bench.limiter.take(bench.key, SLOW)
    refused = await bench.limiter.take(bench.key, SLOW, 8)
    small = await bench.limiter.take(bench.key, SLOW, 4)
    await bench.wait(1.3)
    full = await bench.limiter.take(bench.key, SLOW, 8)
    bench.at_once()

    assert (refused.allowed, refused.remaining) == (False, 4)
    assert 0 < refused.retry_after <= 0.25
    assert small.allowed
    assert full.allowed


async def test_buckets_do_not_know_each_other(bench: Bench) -> None:
    """Who has used up one does not touch another, not even of a key that begins alike."""
    await bench.drain()

    others = [
        await bench.limiter.take(key, SLOW) for key in (f"{bench.key}.a", bench.key[:-1], "6.second." + bench.key)
    ]

    assert [verdict.remaining for verdict in others] == [4, 4, 4]


async def check_bound(takers: Sequence[Limiter], key: str, weight: int = 1) -> None:
    """Takers that ask as fast as they can get what there is: never more, and not much less.

    They empty the bucket, and go on for a second and until there is nothing left once more; so what a bucket gives that was full
    after a stall of the machine is taken, too.
    """
    began, empty = time.monotonic(), list[float]()

    async def ask(limiter: Limiter) -> int:
        got = 0
        while time.monotonic() < began + 30:
            allowed = (await limiter.take(key, QUICK, weight)).allowed
            got += allowed
            if not allowed:
                empty.append(time.monotonic())
                if empty[-1] > empty[0] + 1:
                    break
            await asyncio.sleep(0)
        return got

    taken = weight * sum(await asyncio.gather(*map(ask, takers)))
    allowed = QUICK.burst + QUICK.rate * (time.monotonic() - began)

    assert taken <= allowed, f"{taken} taken where {allowed:.1f} were allowed"
    assert taken >= 0.8 * (QUICK.burst + QUICK.rate) - weight, f"only {taken} taken where {allowed:.1f} were allowed"


@pytest.mark.parametrize("weight", [1, 7])
@pytest.mark.slow
async def test_eight_takers_at_once_never_get_more_than_there_is(bench: Bench, weight: int) -> None:
    """burst + rate × time, over all of them; in Redis each has connections of its own, as processes have."""
    takers = bench.others()

    await check_bound(takers, bench.key, weight)

    for limiter in set(takers):
        await limiter.close()


class ReadsThenWrites:
    """The negative control: a bucket that is read, and written after a moment in which others read it too."""

    def __init__(
        self, read: Callable[[str], Awaitable[float]], write: Callable[[str, float], Awaitable[object]]
    ) -> None:
        self._read, self._write = read, write

    async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
        """Right for one caller at a time."""
        full_at, now = await self._read(key), time.monotonic()
        after = max(full_at, now) + weight / quota.rate
        allowed = after - now <= quota.burst / quota.rate
        if allowed:
            await self._write(key, after)
        return Verdict(allowed, 0, 0, 0)

    def take_at_once(self, _key: str, _quota: Quota, _weight: int = 1) -> None:
        """Not without waiting."""

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.slow
async def test_a_bucket_that_is_read_and_then_written_is_caught(bench: Bench, request: pytest.FixtureRequest) -> None:
    """The same eight takers get more from it than there is."""
    values: dict[str, float] = {}
    if isinstance(bench.limiter, InProcessLimiter):

        async def read(key: str) -> float:
            found = values.get(key, 0)
            await asyncio.sleep(0)
            return found

        async def write(key: str, value: float) -> None:
            values[key] = value

        with pytest.raises(AssertionError, match="were allowed"):
            await check_bound([ReadsThenWrites(read, write)] * TAKERS, bench.key)
        return
    async with Redis.from_url(request.getfixturevalue("redis_server").url) as client:

        async def get(key: str) -> float:
            found = float(await client.get(key) or 0)
            await asyncio.sleep(0.005)  # so that the others read it, too, however slow the machine is
            return found

        with pytest.raises(AssertionError, match="were allowed"):
            await check_bound([ReadsThenWrites(get, client.set)] * TAKERS, bench.key)


@pytest.mark.parametrize("server", ["redis"])
async def test_a_bucket_is_a_key_that_goes_away_when_it_is_full(
    redis_server: redis.Redis, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of limits does not fill up with callers of long ago; who is not full after nine seconds is kept so long."""
    monkeypatch.setattr(redisserver, "SECONDS", 60)
    limiter = connect(redis_server.url)
    short, long = f"5.first.{uuid.uuid4().hex}", f"5.first.{uuid.uuid4().hex}"
    await limiter.take(long, Quota("slower", 1 / 9, 5))
    await limiter.take(short, SLOW)
    async with Redis.from_url(redis_server.url) as client:
        left = await client.pttl(f"upshot:limits:{long}")
        async with asyncio.timeout(10):
            while await client.exists(f"upshot:limits:{short}"):  # noqa: ASYNC110 - of what has no event
                await asyncio.sleep(0.05)
    await limiter.close()

    assert 0 < left <= 9_000
