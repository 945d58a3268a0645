"""DuckDB in this process: one thread that writes, a few that read beside the event loop. Concurrent appends share one commit."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
from sqlalchemy.schema import CreateTable

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.diagnosis import Joined
from upshot.errors import ConfigurationError, TimedOut, Unavailable
from upshot.events import Withdrawal, micros
from upshot.eventstore import (
    EventTypeSummary,
    Place,
    StoredEvent,
    Verdict,
    Volume,
    arrivals,
    linking,
    rollups,
    sql,
    tables,
)
from upshot.eventstore.aggregates import prepared, read_aggregates
from upshot.eventstore.appends import Append, Appends
from upshot.eventstore.embedded import duck
from upshot.eventstore.embedded.dictionary import last_sequence
from upshot.eventstore.embedded.identities import Identities
from upshot.eventstore.embedded.reading import Readers
from upshot.eventstore.embedded.writing import Writer, outstanding

GROUP_ROWS = 20_000
READ_SECONDS = 30.0
REFRESH_SECONDS = 600.0
BACKUP_SECONDS = 3_600.0
EXPORT_BATCH = 10_000


Answer = TypeVar("Answer")


class EmbeddedStore(Appends):
    """Events and exposures in one DuckDB file with an index of identities beside it."""

    def __init__(self, writer: Writer, identities: Identities) -> None:
        self._written = writer
        self._identities = identities
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="upshot-events-write")
        self._readers = Readers(2)
        self._closed = False
        self._refreshing = asyncio.Lock()
        super().__init__(self._commit, GROUP_ROWS)

    # Writing

    async def _commit(self, group: Sequence[Append]) -> Sequence[list[Verdict]]:
        return await self._write(self._written.append, group)

    async def link(self, client: str, links: Sequence[tuple[str, str]]) -> None:
        """Let ids be one user."""
        await self._mark(*await self._write(self._written.link, client, links))

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments."""
        await self._mark(*await self._write(self._written.withdraw, client, withdrawals))

    async def _mark(self, client_key: int, users: Sequence[int]) -> None:
        """Mark what is rolled up of these users. Their events are looked for on a reading thread."""
        found = await self._read(
            lambda cursor: linking.touched(client_key, users, duck.DuckForms(), partial(duck.fetch, cursor))
        )
        if found:
            await self._write(self._written.mark, found)

    async def refresh(self) -> int:
        """Roll up what is over. It is counted on a reading thread; only the replacement waits for the writing one."""

        def counted(cursor: duckdb.DuckDBPyConnection) -> tuple[list[rollups.Recounted], list[int]]:
            taken = rollups.due(outstanding(cursor))
            fetch = partial(duck.fetch, cursor)
            return list(rollups.recount(taken, duck.DuckForms(), fetch)), [mark["mark"] for mark in taken]

        async with self._refreshing:
            recounted, taken = await self._read(counted, REFRESH_SECONDS)
            if taken:
                await self._write(self._written.replace, recounted, taken)
        return sum(len(part.starts) for part in recounted)

    async def maintain(self, now: datetime, keep_from: datetime | None) -> list[str]:  # noqa: ARG002 - nothing is made ahead
        """Drop events that are older than the operator keeps them."""
        if keep_from is None:
            return []
        dropped = await self._write(self._written.drop_before, micros(keep_from))
        return [f"{dropped} events dropped"] if dropped else []

    async def _write(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        self._refuse_when_closed()
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    # Reading

    async def aggregate(self, client: str, plan: AggregationPlan) -> Aggregates:
        """What the plan asks for, read from one snapshot."""
        question = self._question(client, plan)
        return await self._read(lambda cursor: read_aggregates(question, partial(duck.fetch, cursor.begin())))

    async def segment_values(self, client: str, experiment: int, most: int) -> dict[str, list[str]]:
        """For each context attribute of the exposed users, its `most` commonest values."""
        asked = self._question(client, AggregationPlan(experiment, (), None, 0))

        def values(cursor: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
            question = sql.identified(asked, partial(duck.fetch, cursor.begin()))
            contexts, parameters = duck.compiled(sql.contexts(question))
            return cursor.execute(duck.SEGMENT_VALUES.format(contexts=contexts, most=most), parameters).fetchall()

        found: dict[str, list[str]] = {}
        for name, value in await self._read(values):
            found.setdefault(name, []).append(value)
        return found

    async def event_types(self, client: str) -> list[EventTypeSummary]:
        """The event types seen, commonest first."""
        query = """
            SELECT name, count(*) AS n, min(occurred_at), max(occurred_at)
            FROM events JOIN event_types USING (type_key) WHERE client_key = $1
            GROUP BY name ORDER BY n DESC, name"""
        parameters = [self._written.dictionary.known_client(client)]
        rows = await self._read(lambda cursor: cursor.execute(query, parameters).fetchall())
        return [EventTypeSummary(*row) for row in rows]

    async def volumes(self, client: str, start: int, end: int, width: int) -> list[Volume]:
        """How many events of each type happened in each period."""
        types, window = self._written.dictionary.known_types(client, None), (start, end, width)
        return await self._read(
            lambda cursor: arrivals.read_volumes(duck.DuckForms(), types, partial(duck.fetch, cursor), *window)
        )

    async def recent(self, client: str, limit: int, after: Place | None = None) -> list[StoredEvent]:
        """The newest events, or those that follow a place."""
        types = self._written.dictionary.known_types(client, None)
        return await self._read(
            lambda cursor: arrivals.read_recent(duck.DuckForms(), types, partial(duck.fetch, cursor), limit, after)
        )

    async def diagnose(self, client: str, experiment: int, event_types: Sequence[str], start: int, end: int) -> Joined:
        """How exposures and events come together, read from one snapshot."""
        question = self._question(client, arrivals.plan_of(experiment, event_types, start, end))
        types = self._written.dictionary.known_types(client, None)

        def diagnosed(cursor: duckdb.DuckDBPyConnection) -> Joined:
            fetch = partial(duck.fetch, cursor.begin())
            return arrivals.read_joined(question, arrivals.read_arrivals(question.forms, types, fetch), fetch)

        return await self._read(diagnosed)

    async def rows(self, client: str, plan: AggregationPlan) -> AsyncIterator[list[tuple[Any, ...]]]:
        """One row per exposed user, in batches, read while they are sent."""
        asked = self._question(client, plan)
        question = await self._read(lambda cursor: prepared(asked, partial(duck.fetch, cursor)))
        statement, parameters = duck.compiled(sql.rows(question))
        cursor = await self._cursor()
        try:
            await self._run(cursor, cursor.execute, statement, parameters)
            while batch := await self._run(cursor, cursor.fetchmany, EXPORT_BATCH):
                yield batch
        finally:
            self._readers.release(cursor)

    async def back_up(self, path: Path) -> None:
        """Copy everything into a new file, as it is at one moment; appends go on meanwhile. The index can be made from it."""
        await self._read(lambda cursor: duck.copy(cursor, path), BACKUP_SECONDS)

    async def ping(self) -> str:
        """Reads one row; raises when the store does not answer."""
        await self._read(lambda cursor: cursor.execute("SELECT 1").fetchall())
        return "ok"

    async def close(self) -> None:
        """Finish the waiting groups and what is being written, interrupt whoever reads, then close the file."""
        await self._group.drain()
        self._closed = True
        await self._readers.close()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._written.connection.close)
        self._identities.close()
        self._writer.shutdown()

    def _refuse_when_closed(self) -> None:
        """A writer that finds its file closed would open it again."""
        if self._closed:
            raise Unavailable("The event store is closed.", retry_after=1)

    async def _read(self, work: Callable[[duckdb.DuckDBPyConnection], Answer], seconds: float = READ_SECONDS) -> Answer:
        """Run `work` on a cursor of its own in a reading thread; interrupted when it takes too long or nobody waits."""
        cursor = await self._cursor()
        try:
            async with asyncio.timeout(seconds):  # `asyncio.wait_for` of Python 3.11 may swallow a cancellation
                return await self._run(cursor, work, cursor)
        except TimeoutError:
            raise TimedOut(f"The result took longer than {seconds:.0f} seconds.") from None
        finally:
            self._readers.release(cursor)

    async def _run(self, cursor: duckdb.DuckDBPyConnection, work: Callable[..., Answer], *arguments: Any) -> Answer:
        self._refuse_when_closed()
        return await self._readers.run(cursor, work, *arguments)

    async def _cursor(self) -> duckdb.DuckDBPyConnection:
        try:
            return duck.quiet(self._written.connection.cursor())
        except duckdb.Error as error:
            await self._write(self._written.failed)
            raise Unavailable("The event store cannot answer now.", retry_after=1) from error

    def _question(self, client: str, plan: AggregationPlan) -> sql.Question:
        known = self._written.dictionary.known_types(client, plan.event_types)
        return sql.Question(plan, self._written.dictionary.known_client(client), known, duck.DuckForms())


async def open_store(url: str) -> EmbeddedStore:
    """The store at `duckdb:///path`, its index of identities caught up."""
    return await asyncio.to_thread(_open, Path(url.removeprefix("duckdb:///")))


def _open(path: Path) -> EmbeddedStore:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = duck.connect(path)
    except (OSError, duckdb.Error) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"EVENTS_URL: the event store at {path} cannot be opened: {reason}") from error
    known = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    for table in tables.metadata.sorted_tables:
        statement = str(CreateTable(table, if_not_exists=True).compile(dialect=duck.DIALECT))
        connection.execute(statement.replace("context TEXT", "context JSON"))
    connection.execute(
        "ALTER TABLE events ADD COLUMN IF NOT EXISTS ordinal BIGINT"
    )  # of a file from before there were any
    index = Identities(path.with_suffix(".identities"))
    index.catch_up(connection, last_sequence(connection))
    writer = Writer(path, connection, index)
    if tables.marks.name not in known:
        writer.mark_everything()
    return EmbeddedStore(writer, index)
