"""What the buckets of one process promise besides: no wall clock, and a bound on their number."""

import time
from collections import OrderedDict

import pytest
from tests.ratelimits.test_limiters import Ticks

from upshot.ratelimits import Quota, connect
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.ratelimits.quotas import NANOSECONDS

FIVE = Quota("five", 5 / 60, 5)
HOUR = 3_600 * NANOSECONDS


async def takes(limiter: InProcessLimiter, key: str, number: int) -> list[bool]:
    """Whether each of so many takes was allowed."""
    return [(await limiter.take(key, FIVE)).allowed for _ in range(number)]


async def check_wall_clock(limiter: InProcessLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that is set forward gives nothing away, and one that is set back locks nobody out."""
    step = [0]
    honest, honest_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: honest() + step[0] / NANOSECONDS)
    monkeypatch.setattr(time, "time_ns", lambda: honest_ns() + step[0])
    used = await takes(limiter, "a", 6)
    step[0] = HOUR
    forward = await takes(limiter, "a", 1)
    assert await takes(limiter, "b", 3) == [True] * 3
    step[0] = -HOUR
    back = await takes(limiter, "b", 2)

    assert used == [True] * 5 + [False]
    assert forward == [False]
    assert back == [True] * 2


async def test_the_wall_clock_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limiter of memory:// measures with the monotonic clock."""
    limiter = connect("memory://")
    assert isinstance(limiter, InProcessLimiter)

    await check_wall_clock(limiter, monkeypatch)


async def test_a_limiter_on_the_wall_clock_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""

    def wall() -> int:
        return time.time_ns()  # looked up anew each time, as it is replaced meanwhile

    with pytest.raises(AssertionError):
        await check_wall_clock(InProcessLimiter(wall), monkeypatch)


async def test_time_in_which_the_machine_slept_fills_a_bucket_once() -> None:
    """A jump ahead by days is five tokens, not thousands."""
    ticks = Ticks()
    limiter = InProcessLimiter(ticks)
    await takes(limiter, "a", 5)
    ticks.now += 100 * 24 * HOUR

    assert await takes(limiter, "a", 6) == [True] * 5 + [False]


async def test_nothing_is_lost_by_rounding() -> None:
    """After years of uptime and a million takes of a third of a second each, not one token is missing or too many."""
    ticks = Ticks()
    ticks.now = 10**17
    limiter, thirds = InProcessLimiter(ticks), Quota("thirds", 3, 3)
    for _ in range(3):
        await limiter.take("a", thirds)
    refused = 0
    for _ in range(100_000):
        ticks.now += thirds.interval
        refused += not (await limiter.take("a", thirds)).allowed

    assert refused == 0
    assert not (await limiter.take("a", thirds)).allowed


async def check_bounded(limiter: InProcessLimiter, buckets: int) -> None:
    """However many keys come by, few are kept, and among them the one that is asked all the time."""
    await takes(limiter, "busy", 5)
    asked = []
    for number in range(50 * buckets):
        await limiter.take(f"passing {number}", FIVE)
        asked += await takes(limiter, "busy", 1)

    assert len(limiter._full_at) <= buckets
    assert not any(asked)


async def test_buckets_are_bounded_and_the_busy_one_is_remembered() -> None:
    """A crowd of strangers neither fills the memory nor makes room for who is being refused."""
    await check_bounded(InProcessLimiter(Ticks(), buckets=20), 20)


class FirstInFirstOut(OrderedDict[str, int]):
    """Forgets by age, not by use."""

    def move_to_end(self, key: str, last: bool = True) -> None:  # noqa: FBT001, FBT002 - the signature is OrderedDict's
        """Not at all."""


async def test_forgetting_by_age_is_caught() -> None:
    """The negative control: whoever is refused is forgotten, and may begin anew."""
    limiter = InProcessLimiter(Ticks(), buckets=20)
    limiter._full_at = FirstInFirstOut()

    with pytest.raises(AssertionError):
        await check_bounded(limiter, 20)
