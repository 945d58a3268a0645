"""ClickHouse's engine in this process: `chdb:///path`, for tests and laptops. It answers one question at a time.

One process may have one folder open.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import chdb  # noqa: F401 - so that what is missing without the extra is missed here
import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from upshot.errors import ConfigurationError
from upshot.eventstore.clickhouse.blocks import Block
from upshot.eventstore.clickhouse.connection import EXPORTING, INSERTING, Rows, translated
from upshot.eventstore.clickhouse.dialect import READING
from upshot.eventstore.clickhouse.store import ClickHouseStore

DATABASE = "default"

Answer = TypeVar("Answer")


class Engine:
    """The engine over one folder, used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upshot-clickhouse")
        self._client: Client

    async def open(self) -> None:
        """Start the engine."""
        self._client = await self._run(self._connected)

    async def query(self, statement: str, settings: dict[str, Any] = READING) -> Rows:
        """All rows of an answer."""
        with translated():
            return await self._run(lambda: self._client.query(statement, settings=settings).result_rows)

    async def stream(self, statement: str, settings: dict[str, Any] = READING) -> AsyncIterator[Rows]:
        """The rows of an answer; over a handle of its own, because one that streams answers nothing else."""
        with translated():
            client = await self._run(self._connected)
            try:
                exporting = settings | EXPORTING
                stream = await self._run(lambda: client.query_row_block_stream(statement, settings=exporting))
                with stream:
                    while (batch := await self._run(lambda: next(stream, None))) is not None:
                        yield batch
            finally:
                await self._run(client.close)

    async def insert(self, block: Block) -> None:
        """Insert a block; acknowledged on return."""
        with translated():
            await self._run(
                lambda: self._client.insert(
                    block.table.name,
                    block.columns,
                    column_names=list(block.table.columns),
                    column_type_names=list(block.table.columns.values()),
                    column_oriented=True,
                    settings=INSERTING | {"insert_deduplication_token": block.token},
                )
            )

    async def command(self, statement: str) -> None:
        """Run a statement without an answer."""
        with translated():
            await self._run(lambda: self._client.command(statement))

    async def close(self) -> None:
        """Stop the engine."""
        await self._run(self._client.close)
        self._thread.shutdown()

    def _connected(self) -> Client:
        return clickhouse_connect.get_client(dsn=f"chdb:///{self._path}")

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def open_store(url: str) -> ClickHouseStore:
    """The store at `chdb:///path`.

    Raises:
        ConfigurationError: the folder cannot be opened, or this process has another one open.
    """
    path = Path(url.removeprefix("chdb:///"))
    engine = Engine(path)
    try:
        await asyncio.to_thread(path.mkdir, parents=True, exist_ok=True)
        await engine.open()
    except (OSError, ClickHouseError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"EVENTS_URL: the event store at {path} cannot be opened: {reason}") from error
    store = ClickHouseStore(engine, DATABASE)
    await store.prepare()
    return store
