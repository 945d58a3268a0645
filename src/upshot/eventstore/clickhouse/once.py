"""Work that is done once for everybody, and tried again when it failed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Once(Generic[Result]):
    """Everyone who asks while the work is under way shares its outcome: where a server is away, nobody waits in a queue."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._work = work
        self._task: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """The result of the work."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._forget_failure)
        return await asyncio.shield(self._task)

    async def result(self) -> Result | None:
        """What was done by now, if it was; what is under way is given up."""
        if self._task is None:
            return None
        self._task.cancel()
        await asyncio.wait([self._task])
        return None if _failed(self._task) else self._task.result()

    def _forget_failure(self, task: asyncio.Task[Result]) -> None:
        if _failed(task):
            self._task = None


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
