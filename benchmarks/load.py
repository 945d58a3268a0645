"""A light load generator: a process of its own, HTTP/1.1 keep-alive on raw sockets, requests built beforehand.

Every connection asks, waits for the whole answer, and asks again (a closed loop). Nothing is parsed but the status and the
length, so that the generator costs a small part of what it measures.
"""

import asyncio
import gc
import itertools
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

import uvloop
from tests.servers import TOKEN

from benchmarks.measure import Sample, cpu_seconds

_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator saw."""

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int


class Serving(Protocol):
    """A server that runs: its address, and the process whose CPU time counts."""

    @property
    def url(self) -> str: ...

    @property
    def process(self) -> "subprocess.Popen[Any]": ...


class Generator:
    """The generator's process, for the time of a block."""

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def run(self, server: Serving, connections: int, requests: Sequence[bytes], seconds: float | None = None) -> Sample:
        """Send every request once, or go round them for so many seconds; the CPU time is the server's.

        Raises:
            AssertionError: an answer was not 2xx.
        """
        cpu = cpu_seconds(server.process.pid)
        outcome = self._pool.submit(_generate, server.url, connections, requests, seconds).result()
        assert not outcome.refused, f"{outcome.refused} of {outcome.requests} requests were refused"
        used = cpu_seconds(server.process.pid) - cpu
        return Sample(outcome.requests, outcome.seconds, used, outcome.p50, outcome.p99)


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """A POST request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], until: float, taken: list[float]) -> None:
        self._requests, self._until, self._taken = requests, until, taken
        self._buffer = b""
        self.refused = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def ask(self) -> None:
        """Send the next request, if there is one and there is time."""
        request = next(self._requests, None)
        self._asked = time.perf_counter()
        if request is None or self._asked >= self._until:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = buffer.find(_LENGTH, 0, head)
        at = (buffer[:head].lower().find(_LENGTH) if at < 0 else at) + len(_LENGTH)  # others write it in capitals
        if len(buffer) < head + 4 + int(buffer[at : buffer.find(b"\r", at)]):
            return
        self._taken.append(time.perf_counter() - self._asked)
        self.refused += buffer[9:10] != b"2"
        self._buffer = b""
        self.ask()


def _generate(url: str, connections: int, requests: Sequence[bytes], seconds: float | None) -> Outcome:
    gc.disable()
    return uvloop.run(_ask_all(url, connections, requests, seconds))


async def _ask_all(url: str, connections: int, requests: Sequence[bytes], seconds: float | None) -> Outcome:
    loop, taken = asyncio.get_running_loop(), list[float]()
    host, port = urlsplit(url).netloc.split(":")
    queue = iter(requests) if seconds is None else itertools.cycle(requests)
    until = float("inf") if seconds is None else time.perf_counter() + seconds
    opened = [
        await loop.create_connection(lambda: _Connection(queue, until, taken), host, int(port))
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for _, connection in opened:
        connection.ask()
    await asyncio.gather(*(connection.done for _, connection in opened))
    took = time.perf_counter() - started
    taken.sort()
    refused = sum(connection.refused for _, connection in opened)
    return Outcome(len(taken), took, taken[len(taken) // 2], taken[len(taken) * 99 // 100], refused)
