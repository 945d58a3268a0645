"""Single flight: callers that want the same thing at the same moment share one attempt, and none waits longer than it can."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from upshot.errors import Unavailable


class SingleFlight:
    """Attempts under way, by what they are for."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def share(self, key: Hashable, work: Callable[[], Awaitable[Any]], patience: float | None) -> Any:
        """The answer of `work`, or of the attempt for the same key that is under way; that goes on when a caller leaves.

        Raises:
            Unavailable: it took longer than `patience` seconds; without one, it takes as long as the work does.
        """
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(_awaited(work))
            task.add_done_callback(lambda done: self._over(key, done))
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            raise Unavailable("The store did not answer in time.", retry_after=1)
        return task.result()

    def _over(self, key: Hashable, task: "asyncio.Task[Any]") -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # it is the callers' to raise; when all have left, nobody's


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()
