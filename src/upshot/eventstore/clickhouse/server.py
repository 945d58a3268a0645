"""ClickHouse over HTTP: `clickhouse://user:password@host:8123/database`.

With `?cluster=name` the tables lie on a cluster; `clickhouses:` or `?secure=1` encrypts.

The server need not be there yet: it is connected to when it is used, and again when it was away.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
from clickhouse_connect import get_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient

from upshot.errors import ConfigurationError, Unavailable
from upshot.eventstore.clickhouse.blocks import Block
from upshot.eventstore.clickhouse.connection import CLUSTERED, EXPORTING, INSERTING, Rows, translated
from upshot.eventstore.clickhouse.dialect import READ_SECONDS, READING
from upshot.eventstore.clickhouse.once import Once
from upshot.eventstore.clickhouse.store import ClickHouseStore

CONNECT_SECONDS = 2
GREETING_SECONDS = 5

_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)

log = logging.getLogger(__name__)


class Server:
    """A server, reached through a pool of connections."""

    def __init__(self, options: dict[str, Any], settings: dict[str, Any]) -> None:
        self._options = options
        self._inserting = INSERTING | settings
        self._client = Once(self._connect)

    async def query(self, statement: str, settings: dict[str, Any] = READING) -> Rows:
        """All rows of an answer."""
        with translated(aiohttp.ClientError):
            result = await (await self._client()).query(statement, settings=settings)
            return result.result_rows

    async def stream(self, statement: str, settings: dict[str, Any] = READING) -> AsyncIterator[Rows]:
        """The rows of an answer, while the server sends them."""
        with translated(aiohttp.ClientError):
            client = await self._client()
            async with await client.query_row_block_stream(statement, settings=settings | EXPORTING) as batches:
                async for batch in batches:
                    yield batch

    async def insert(self, block: Block) -> None:
        """Insert a block; acknowledged on return."""
        with translated(aiohttp.ClientError):
            await (await self._client()).insert(
                block.table.name,
                block.columns,
                column_names=list(block.table.columns),
                column_type_names=list(block.table.columns.values()),
                column_oriented=True,
                settings=self._inserting | {"insert_deduplication_token": block.token},
            )

    async def command(self, statement: str) -> None:
        """Run a statement without an answer."""
        with translated(aiohttp.ClientError):
            await (await self._client()).command(statement)

    async def close(self) -> None:
        """Close the pool."""
        if client := await self._client.result():
            await client.close()

    async def _connect(self) -> AsyncClient:
        async with asyncio.timeout(GREETING_SECONDS):
            return await get_async_client(**self._options)


async def open_store(url: str) -> ClickHouseStore:
    """The store on a server, which may be away at the moment.

    Raises:
        ConfigurationError: the URL cannot be used, or the server refuses the user, the password or the database.
    """
    options, cluster = _read(url)
    server = Server(options, CLUSTERED if cluster else {})
    store = ClickHouseStore(server, options["database"], cluster)
    try:
        await store.prepare()
    except ConfigurationError:
        await server.close()
        raise
    except Unavailable:
        log.warning("the event store is not reachable yet; it is connected to when it is used")
    return store


def _read(url: str) -> tuple[dict[str, Any], str | None]:
    """The driver's options, and the cluster's name."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    cluster, secure = query.pop("cluster", None), query.pop("secure", "0")
    database = parts.path.removeprefix("/") or "default"
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError("EVENTS_URL: the port is not a number") from error
    if not parts.hostname:
        raise ConfigurationError("EVENTS_URL: a host is missing")
    if query:
        raise ConfigurationError(f"EVENTS_URL: unknown options: {', '.join(sorted(query))}; there is: cluster, secure")
    if not all(_NAME.fullmatch(name) for name in (database, cluster) if name is not None):
        raise ConfigurationError("EVENTS_URL: the database and the cluster must have plain names")
    encrypted = parts.scheme == "clickhouses" or secure in {"1", "true"}
    options = {
        "host": parts.hostname,
        "port": port or (8443 if encrypted else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": database,
        "interface": "https" if encrypted else "http",
        "connect_timeout": CONNECT_SECONDS,
        "send_receive_timeout": READ_SECONDS + CONNECT_SECONDS,
        "client_name": "upshot",
    }
    return options, cluster
