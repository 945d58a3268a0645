"""The thread of a client: it carries out what the protocol wants next. A second one listens to the stream, where wanted."""

import logging
import threading
import time
from collections.abc import Callable
from types import ModuleType

from upshot.clock import Clock, jitter
from upshot.sdk.exchange import Request
from upshot.sdk.protocol import Outcome, Protocol
from upshot.sdk.settings import Settings, Store
from upshot.sdk.stream import Stream

log = logging.getLogger("upshot.sdk")

_REST = 1.0
_GLANCE = 0.05
"""Seconds after which somebody who waits looks again, whether or not woken."""


class Worker:
    """Begins once, ends once; a forked child makes its own.

    Args:
        take_in: gets what answers change, in the thread.
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
        self._threads: list[threading.Thread] = []
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._progress = threading.Condition()
        self._hurries = 0
        self._end_stream: Callable[[], None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its thread has begun."""
        return bool(self._threads)

    def start(self) -> None:
        """Begin."""
        self._threads = [threading.Thread(target=self._guarded, args=(self._work,), name="upshot", daemon=True)]
        if self._settings.stream:
            listening = threading.Thread(target=self._guarded, args=(self._follow,), name="upshot-stream", daemon=True)
            self._threads.append(listening)
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def hurry(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait at most so many seconds until it is done, while what waits is sent at once; whether it is."""
        with self._progress:
            self._hurries += 1
        self._woken.set()
        try:
            return self.wait(done, timeout)
        finally:
            with self._progress:
                self._hurries -= 1
            self._woken.set()

    def wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Wait at most so many seconds until something is reached; whether it is."""
        deadline = time.monotonic() + timeout
        with self._progress:
            while not reached():
                left = deadline - time.monotonic()
                if left <= 0 or self._stopped.is_set():
                    return reached()
                self._progress.wait(min(left, _GLANCE))
        return True

    def stop(self, patience: float) -> None:
        """End, and wait for that at most so many seconds; a request under way ends by its own timeout."""
        self._stopped.set()
        self._woken.set()
        if self._end_stream is not None:
            self._end_stream()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _guarded(self, work: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                work()
            except Exception:
                log.exception("the client's thread goes on after a fault of its own")
                self._stopped.wait(_REST)

    def _work(self) -> None:
        with self._transport.open_client(self._settings, self._settings.timeout) as http:
            while True:
                self._woken.clear()  # before looking, so that nothing is overlooked
                if self._stopped.is_set():
                    return
                now = time.monotonic()
                step = self._protocol.next(now, self._clock.now(), hurry=bool(self._hurries))
                if isinstance(step, Request):
                    answer = self._transport.exchange(http, step)
                    self._take_in(self._protocol.answered(step, answer, time.monotonic(), self._clock.now()))
                    with self._progress:
                        self._progress.notify_all()
                else:
                    self._woken.wait(min(step - now, threading.TIMEOUT_MAX))

    def _follow(self) -> None:
        stream = Stream(self._protocol.polling, jitter)

        def opened(end: Callable[[], None]) -> None:
            self._end_stream = end
            stream.opened()
            self._woken.set()

        def fed(chunk: bytes) -> None:
            if stream.fed(chunk, self._clock.now()):
                self._woken.set()

        with self._transport.open_client(self._settings, self._settings.timeout) as http:
            while not self._stopped.is_set():
                self._transport.follow(http, opened, fed)
                self._end_stream = None
                wait = stream.ended()
                self._woken.set()
                self._stopped.wait(wait)
