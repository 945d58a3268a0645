"""The relay loop ends when it is told to, also in the very moment when there is something to relay."""

import asyncio

import pytest

from upshot import worker
from upshot.operations import Stores


@pytest.mark.parametrize("steps", range(5))
async def test_the_loop_ends_when_it_is_cancelled_just_after_a_wake(stores: Stores, steps: int) -> None:
    """Wherever between the wake and its answer the cancellation falls, it is not swallowed."""
    loop = asyncio.create_task(worker.relay_exposures(stores))
    await asyncio.sleep(0)
    stores.relay.wake()
    for _ in range(steps):
        await asyncio.sleep(0)

    loop.cancel()
    done, _ = await asyncio.wait([loop], timeout=5)

    assert done == {loop}
    assert loop.cancelled()
