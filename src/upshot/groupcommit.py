"""Group commit: callers that wait at the same moment share one durable commit, and each is answered after it.

One task per committer takes everything that waits (up to a bound), hands it to `commit` as one list, and gives every
caller its own result. While one group is being made durable the next one gathers, so that throughput grows with load and
a single caller pays no waiting time. What waits is bounded: past the bound a caller is told to come back later.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from upshot.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Groups calls of `submit` into calls of `commit`.

    Args:
        commit: makes the items durable, all or none, and returns one result per item in order.
        group_weight: how much one group may hold, by `weigh`.
        waiting_weight: how much may wait before callers are turned away.
        weigh: the weight of an item; 1 by default.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        group_weight: int,
        waiting_weight: int,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._commit = commit
        self._group_weight = group_weight
        self._waiting_weight = waiting_weight
        self._weigh = weigh
        self._waiting: deque[tuple[Item, int, asyncio.Future[Result]]] = deque()
        self._weight = 0
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item, patience: float | None = None) -> Result:
        """The result of `item` once the group that holds it is durable.

        Raises:
            Unavailable: too much is waiting already and nothing was stored; or it took longer than `patience` seconds, and
                the item may still be stored.
        """
        weight = self._weigh(item)
        if self._waiting and self._weight + weight > self._waiting_weight:
            raise Unavailable("Too many writes are waiting.", retry_after=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, weight, future))
        self._weight += weight
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        timer = None if patience is None else loop.call_later(patience, _give_up, future)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    async def drain(self) -> None:
        """Wait until everything that was submitted is durable."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._commit_group(self._take())
        finally:
            self._task = None

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        group: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._group_weight
        while self._waiting and (not group or self._waiting[0][1] <= room):
            item, weight, future = self._waiting.popleft()
            self._weight -= weight
            room -= weight
            group.append((item, future))
        return group

    async def _commit_group(self, group: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        # A caller that went away (a cancelled request) still has its item committed: it may have been sent for good.
        try:
            results = await self._commit([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - every caller of the group must learn why, whatever it was
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)


def _give_up(future: "asyncio.Future[Result]") -> None:
    if not future.done():
        future.set_exception(Unavailable("The store did not answer in time.", retry_after=1))
