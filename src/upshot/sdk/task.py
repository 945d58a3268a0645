"""The task of a client: it carries out what the protocol wants next. A second one listens to the stream, where that is wanted."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import ModuleType

from upshot.clock import Clock, jitter
from upshot.sdk.exchange import Request
from upshot.sdk.protocol import Outcome, Protocol
from upshot.sdk.settings import Settings, Store
from upshot.sdk.stream import Stream

log = logging.getLogger("upshot.sdk")

_REST = 1.0


class Task:
    """Belongs to the loop in which it is made, begins once and ends once.

    Args:
        take_in: gets what answers change.
    """

    def __init__(
        self,
        protocol: Protocol,
        settings: "Settings[Store]",
        transport: ModuleType,
        clock: Clock,
        take_in: Callable[[Outcome], None],
    ) -> None:
        self._protocol = protocol
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._take_in = take_in
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._progress = asyncio.Condition()
        self._hurries = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the loop that runs; also when none runs, since nothing else could be begun then."""
        try:
            return self._loop is asyncio.get_running_loop()
        except RuntimeError:
            return True

    @property
    def is_running(self) -> bool:
        """Whether its loop runs."""
        return self._loop.is_running()

    def start(self) -> None:
        """Begin."""
        works = [self._work, self._follow] if self._settings.stream else [self._work]
        self._tasks = [self._loop.create_task(self._guarded(work), name="upshot") for work in works]

    def wake(self) -> None:
        """There may be something to do; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    async def hurry(self, done: Callable[[], bool], timeout: float) -> None:  # noqa: ASYNC109 - the caller's patience
        """Wait at most so many seconds until it is done, while what waits is sent at once."""
        self._hurries += 1
        self._woken.set()
        try:
            await self.wait(done, timeout)
        finally:
            self._hurries -= 1
            self._woken.set()

    async def wait(self, reached: Callable[[], bool], timeout: float) -> None:  # noqa: ASYNC109
        """Wait at most so many seconds until something is reached."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(reached)

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        if self._loop is asyncio.get_running_loop():
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def flush_from_outside(self, flush: Callable[[float], Awaitable[bool]], patience: float) -> None:
        """Flush while the loop runs in another thread."""

        async def flushed() -> bool:
            return await flush(patience)

        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(flushed(), self._loop).result(patience)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("the client's task goes on after a fault of its own")
                await asyncio.sleep(_REST)

    async def _work(self) -> None:
        async with self._transport.open_async_client(self._settings, self._settings.timeout) as http:
            while True:
                self._woken.clear()
                now = time.monotonic()
                step = self._protocol.next(now, self._clock.now(), hurry=bool(self._hurries))
                if isinstance(step, Request):
                    answer = await self._transport.exchange_async(http, step)
                    self._take_in(self._protocol.answered(step, answer, time.monotonic(), self._clock.now()))
                    async with self._progress:
                        self._progress.notify_all()
                else:
                    await self._sleep(step - now)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, 3_600.0)):
                await self._woken.wait()

    async def _follow(self) -> None:
        stream = Stream(self._protocol.polling, jitter)

        def opened() -> None:
            stream.opened()
            self._woken.set()

        def fed(chunk: bytes) -> None:
            if stream.fed(chunk, self._clock.now()):
                self._woken.set()

        async with self._transport.open_async_client(self._settings, self._settings.timeout) as http:
            while True:
                await self._transport.follow_async(http, opened, fed)
                wait = stream.ended()
                self._woken.set()
                await asyncio.sleep(wait)
