"""The threads that read beside the event loop. What nobody waits for is interrupted, and ends before its cursor is closed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import duckdb

from upshot.errors import Unavailable

AGAIN = 0.05  # seconds; an interruption between two queries of one reader has no effect

Answer = TypeVar("Answer")


class Readers:
    """A few threads, and what executes on them. A cursor that executes can neither be closed nor close with its file."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="upshot-events-read")
        self._running: dict[asyncio.Future[Any], duckdb.DuckDBPyConnection] = {}

    async def run(self, cursor: duckdb.DuckDBPyConnection, work: Callable[..., Answer], *arguments: Any) -> Answer:
        """The answer of `work`, which executes on the cursor; interrupted when nobody waits for it.

        Raises:
            Unavailable: it failed, or was interrupted because the store is being closed.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        self._running[future] = cursor
        future.add_done_callback(self._ended)
        try:
            return await asyncio.shield(future)
        except duckdb.Error as error:
            raise Unavailable("The event store cannot answer now.", retry_after=1) from error
        finally:
            if not future.done():
                cursor.interrupt()

    def release(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Close a cursor, at once or when what executes on it has ended."""
        for future, used in self._running.items():
            if used is cursor:
                future.add_done_callback(lambda _: cursor.close())
                return
        cursor.close()

    async def close(self) -> None:
        """Interrupt whatever runs, and wait until it has ended."""
        while self._running:
            for cursor in self._running.values():
                cursor.interrupt()
            await asyncio.wait(self._running, timeout=AGAIN)
        self._threads.shutdown()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        del self._running[future]
        future.exception()  # nobody may be left to ask for it
