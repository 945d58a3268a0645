"""Our own rule for bounds on time: it forgives a busy machine, and nothing else."""

import asyncio
import time

import pytest
from tests.punctual import Late, in_time, punctual


async def test_who_is_late_twice_may_be_in_time() -> None:
    """The machine did something else."""
    took = iter((3.0, 2.0, 0.5))

    @punctual
    async def twice() -> None:
        in_time(next(took), 1)

    await twice()


def test_who_is_always_late_is_seen_to() -> None:
    """Three tries hide nobody."""

    @punctual
    def slow() -> None:
        began = time.monotonic()
        time.sleep(0.02)
        in_time(time.monotonic() - began, 0.01)

    with pytest.raises(Late):
        slow()


def test_who_is_wrong_once_is_seen_to() -> None:
    """What is too soon, or says something else, is not tried again."""
    said = iter((False, True))

    @punctual
    def wrong() -> None:
        assert next(said)

    with pytest.raises(AssertionError):
        wrong()
    with pytest.raises(AssertionError) as early:
        in_time(0.1, 1, 0.25)
    assert not isinstance(early.value, Late)


def test_a_coroutine_stays_one() -> None:
    """As does what its test is called."""

    @punctual
    async def named() -> None:
        """What it says."""

    assert asyncio.iscoroutinefunction(named)
    assert (named.__name__, named.__doc__) == ("named", "What it says.")
