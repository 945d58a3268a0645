"""What the store asks of a connection to ClickHouse, and what becomes of the driver's errors."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from clickhouse_connect.driver.exceptions import ClickHouseError
from sqlalchemy import CompoundSelect, Select
from sqlalchemy.util import await_only

from upshot.errors import ConfigurationError, TimedOut, Unavailable
from upshot.eventstore.clickhouse.blocks import Block
from upshot.eventstore.clickhouse.dialect import READ_SECONDS, READING, compiled
from upshot.eventstore.rollups import Fetch

Rows = Sequence[Sequence[Any]]

EXPORT_BATCH = 10_000
EXPORTING = {"max_execution_time": 0, "max_block_size": EXPORT_BATCH}  # an export takes as long as its reader does
INSERTING = {
    "async_insert": 0,  # appends were grouped here already; an insert is acknowledged when its part is written
    "max_partitions_per_insert_block": 0,  # imported events may lie in any month
    "max_execution_time": 60,  # upkeep.py relies on it; whoever appends has given up long before
    # A repeated block may be one whose first insert ended before its marks were made.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}
CLUSTERED = {  # acknowledged by a majority of every shard
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_timeout": 60_000,
}

_TIMEOUT_EXCEEDED = 159
_REFUSED = {81, 192, 193, 194, 497, 516}  # no such database; user or password wrong; access denied


class Connection(Protocol):
    """One server, or the engine in this process. Every call raises Unavailable or TimedOut when it fails."""

    async def query(self, statement: str, settings: dict[str, Any] = READING) -> Rows:
        """All rows of an answer."""
        ...

    def stream(self, statement: str, settings: dict[str, Any] = READING) -> AsyncIterator[Rows]:
        """The rows of an answer, in batches."""
        ...

    async def insert(self, block: Block) -> None:
        """Insert a block; acknowledged on return."""
        ...

    async def command(self, statement: str) -> None:
        """Run a statement without an answer."""
        ...

    async def close(self) -> None:
        """Let go of the engine."""
        ...


def fetching(connection: Connection, settings: dict[str, Any] = READING) -> Fetch:
    """How common code that knows of no event loop fetches rows; it runs in `greenlet_spawn`."""

    async def fetch(query: Select[Any] | CompoundSelect[Any]) -> list[dict[str, Any]]:
        names = query.selected_columns.keys()
        rows = await connection.query(compiled(query), settings)
        return [dict(zip(names, row, strict=True)) for row in rows]

    return lambda query: await_only(fetch(query))


@contextmanager
def translated(*transport: type[Exception]) -> Iterator[None]:
    """The driver's errors, and those of its transport, as the product's."""
    failures: tuple[type[Exception], ...] = (ClickHouseError, OSError, *transport)
    try:
        yield
    except failures as error:
        code = getattr(error, "code", None)
        if code == _TIMEOUT_EXCEEDED:
            raise TimedOut(f"The result took longer than {READ_SECONDS} seconds.") from error
        if code in _REFUSED:
            reason = str(error).partition("\n")[0]
            raise ConfigurationError(f"EVENTS_URL: the event store refuses this connection: {reason}") from error
        raise Unavailable("The event store cannot answer now.", retry_after=1) from error
