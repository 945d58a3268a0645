"""Callers that ask a cache all the time, how long they wait, and how long it takes until it is well again."""

import asyncio
import time
import uuid
from collections.abc import Callable

from tests.cache import things
from tests.faults.lateness import losing
from tests.faults.reporting import percentile, say

from upshot.assignment import Assignment
from upshot.cache.tiers import TwoTierCache
from upshot.operations.copies import ASSIGNMENT

FIRST_SECONDS = 0.06  # more than any answer may last in the first second of an outage
LATER_SECONDS = 0.005  # and after it
SLOW_SECONDS = 0.04  # an answer that waited for the server
MOST_SLOW = 5  # nobody waits for a probe; a busy machine may do the same to a few
BACK_SECONDS = 5.0
CALLERS = 20


async def asked(cache: TwoTierCache, seconds: float, at_once: int = CALLERS) -> list[float]:
    """How long each answer took, of callers that ask for new users and put them, all at one moment, again and again.

    So whoever is let through to a server that is away takes all of them along. Who gets no answer waits to the end. What the
    event loop lost meanwhile to other work on the machine is taken off: no answer can come while it stands still.
    """
    took: list[float] = []
    over = time.monotonic() + seconds

    async def ask(lost: Callable[[], float]) -> None:
        user, began, before = uuid.uuid4().hex, time.monotonic(), lost()
        try:
            async with asyncio.timeout(over + 1 - began):
                assert await cache.get("client", ASSIGNMENT, (user, "e")) is None
        except TimeoutError:
            took.append(time.monotonic() - began)
            return
        cache.put("client", ASSIGNMENT, (user, "e"), things.assignment(user))
        took.append(time.monotonic() - began - (lost() - before))

    async with losing() as lost:
        while time.monotonic() < over:
            await asyncio.gather(*(ask(lost) for _ in range(at_once)))
            await asyncio.sleep(0.02)
        say(f"of {seconds} s the event loop lost {lost():.3f} s")
    return took


async def check_latency(cache: TwoTierCache) -> None:
    """A second of an outage, and the four after it, in which the server is probed now and then."""
    first = await asked(cache, 1)
    later = await asked(cache, 4)
    say(f"first second p99 {percentile(first, 0.99):.4f} s, max {max(first):.4f} s of {len(first)}")
    say(f"later p99 {percentile(later, 0.99):.4f} s, max {max(later):.4f} s of {len(later)}")

    assert percentile(first, 0.99) <= FIRST_SECONDS
    assert percentile(later, 0.99) <= LATER_SECONDS
    assert sum(each > SLOW_SECONDS for each in later) <= MOST_SLOW


async def answering(cache: TwoTierCache) -> None:
    """Wait until the server answers a question in the 50 ms that nobody waits longer than."""
    began = time.monotonic()
    while await cache.ping() != "ok":
        assert time.monotonic() < began + BACK_SECONDS, "the server does not answer"
        await asyncio.sleep(0.02)


async def found_there(cache: TwoTierCache, user: str) -> Assignment | None:
    """The copy of a user's assignment that the server has; asked again where it was not answered in time."""
    began = time.monotonic()
    while (found := await cache.get("client", ASSIGNMENT, (user, "e"))) is None:
        if time.monotonic() > began + BACK_SECONDS:
            break
        await asyncio.sleep(0.02)
    return found


async def settled(cache: TwoTierCache) -> float:
    """Wait until what is put there is found there; how long that took."""
    began = time.monotonic()
    while time.monotonic() < began + BACK_SECONDS:
        user = uuid.uuid4().hex
        cache.put("client", ASSIGNMENT, (user, "e"), things.assignment(user))
        await asyncio.sleep(0.02)
        cache._own.forget("client", ASSIGNMENT, (user, "e"))
        if await cache.get("client", ASSIGNMENT, (user, "e")) is not None:
            return time.monotonic() - began
    raise AssertionError(f"the server was not asked again within {BACK_SECONDS} s")
