"""The embedded event store: DuckDB in this process, one thread that writes, a few that read beside the event loop.

Concurrent appends share one commit. Exact deduplication asks `Identities` before the insert; the table itself has no index.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
from sqlalchemy import Table
from sqlalchemy.schema import CreateTable

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.errors import ConfigurationError, TimedOut, Unavailable
from upshot.events import Event, Exposure
from upshot.eventstore import EventTypeSummary, Verdict, columns, duck, sql, tables
from upshot.eventstore.aggregates import read_aggregates
from upshot.eventstore.dictionary import Dictionary, last_sequence
from upshot.eventstore.identities import Identities
from upshot.eventstore.keys import Keys
from upshot.groupcommit import GroupCommit

GROUP_ROWS = 20_000
WAITING_ROWS = 100_000
READ_SECONDS = 30.0
EXPORT_BATCH = 10_000


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Append:
    """One caller's events, or exposures."""

    client: str
    events: Sequence[Event] = ()
    exposures: Sequence[Exposure] = ()

    def __len__(self) -> int:
        return len(self.events) + len(self.exposures)


class EmbeddedStore:
    """Events and exposures in one DuckDB file with an index of identities beside it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, identities: Identities) -> None:
        self._connection = connection
        self._identities = identities
        self._keys: dict[str, Keys] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="upshot-events-write")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="upshot-events-read")
        self._group: GroupCommit[_Append, list[Verdict]] = GroupCommit(
            self._commit, group_weight=GROUP_ROWS, waiting_weight=WAITING_ROWS, weigh=len
        )
        self._next = 0
        self._load()

    # Writing

    async def append(self, client: str, events: Sequence[Event]) -> list[Verdict]:
        """Store the events that are new, in one commit with whoever else waits."""
        return await self._group.submit(_Append(client, events=events)) if events else []

    async def expose(self, exposures: Sequence[Exposure]) -> int:
        """Store the exposures that are new."""
        if not exposures:
            return 0
        verdicts = await self._group.submit(_Append("", exposures=exposures))
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)

    async def _commit(self, group: Sequence[_Append]) -> Sequence[list[Verdict]]:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, group)

    def _write(self, group: Sequence[_Append]) -> list[list[Verdict]]:
        """Make a group durable: look up, insert what is new, commit, then tell the index."""
        if self._identities.complete < self._next - 1:
            self._identities.catch_up(self._connection, self._next - 1)
        events = [(item.client, event) for item in group for event in item.events]
        exposures = [exposure for item in group for exposure in item.exposures]
        event_ids = [self._keys_of(client).event(event.event_id) for client, event in events]
        exposure_ids = [self._keys_of(e.client).exposure(e.experiment, e.user_id) for e in exposures]
        marks = [event.fingerprint for _, event in events]
        judged = self._judge(event_ids + exposure_ids, marks + [0] * len(exposures))
        for_events, for_exposures = judged[: len(events)], judged[len(events) :]
        new_events = [i for i, verdict in enumerate(for_events) if verdict is Verdict.ACCEPTED]
        new_exposures = [i for i, verdict in enumerate(for_exposures) if verdict is Verdict.ACCEPTED]
        try:
            self._connection.execute("BEGIN")
            self._insert_events([events[i] for i in new_events], [event_ids[i] for i in new_events])
            self._insert_exposures([exposures[i] for i in new_exposures], [exposure_ids[i] for i in new_exposures])
            self._count_repeats(events, for_events)
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if isinstance(error, duckdb.Error):
                raise Unavailable("The event store cannot write now.", retry_after=1) from error
            raise
        fresh = [(event_ids[i], marks[i]) for i in new_events] + [(exposure_ids[i], 0) for i in new_exposures]
        if fresh:
            self._identities.follow(iter(fresh), self._next - 1)
        of_events, of_exposures = iter(for_events), iter(for_exposures)
        return [[next(of_events) for _ in item.events] + [next(of_exposures) for _ in item.exposures] for item in group]

    def _judge(self, keys: Sequence[bytes], marks: Sequence[int]) -> list[Verdict]:
        """Which are new, which were seen in the store or earlier in the same group."""
        verdicts: list[Verdict] = []
        seen: dict[bytes, int] = {}
        for key, mark, known in zip(keys, marks, self._identities.fingerprints(keys), strict=True):
            first = known if known is not None else seen.get(key)
            if first is None:
                seen[key] = mark
                verdicts.append(Verdict.ACCEPTED)
            else:
                verdicts.append(Verdict.DUPLICATE if first == mark else Verdict.CONFLICT)
        return verdicts

    def _count_repeats(self, events: Sequence[tuple[str, Event]], verdicts: Sequence[Verdict]) -> None:
        repeated: dict[int, list[int]] = {}
        for (client, event), verdict in zip(events, verdicts, strict=True):
            if verdict is not Verdict.ACCEPTED:
                counts = repeated.setdefault(self._dictionary.type_key(client, event.event_type), [0, 0])
                counts[0] += 1
                counts[1] += verdict is Verdict.CONFLICT
        for key, counts in repeated.items():
            self._connection.execute("INSERT INTO repeats VALUES ($1, $2, $3)", [key, *counts])

    def _insert_events(self, owned: Sequence[tuple[str, Event]], ids: Sequence[bytes]) -> None:
        if owned:
            type_keys = [self._dictionary.type_key(client, event.event_type) for client, event in owned]
            self._insert(tables.events, columns.of_events(owned, ids, type_keys, self._keys_of))

    def _insert_exposures(self, exposures: Sequence[Exposure], ids: Sequence[bytes]) -> None:
        if exposures:
            clients = [self._dictionary.client_key(exposure.client) for exposure in exposures]
            self._insert(tables.exposures, columns.of_exposures(exposures, ids, clients, self._keys_of))

    def _insert(self, table: Table, values: columns.Columns) -> None:
        values = {"seq": self._take(len(values["id_low"])), **values}
        self._connection.register("fresh", values)
        names = ", ".join(values)
        try:
            self._connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM fresh")  # noqa: S608 - our own names
        finally:
            self._connection.unregister("fresh")

    def _roll_back(self) -> None:
        with suppress(duckdb.Error):  # the failure itself may have rolled it back
            self._connection.execute("ROLLBACK")
        self._load()

    # Reading

    async def aggregate(self, client: str, plan: AggregationPlan) -> Aggregates:
        """What the plan asks for, read from one snapshot."""
        question = self._question(client, plan)
        return await self._read(lambda cursor: read_aggregates(question, lambda query: duck.fetch(cursor, query)))

    async def segment_values(self, client: str, experiment: int, most: int) -> dict[str, list[str]]:
        """For each context attribute of the exposed users, its `most` commonest values."""
        parameters = [self._dictionary.known_client(client), experiment, most]
        found: dict[str, list[str]] = {}
        for name, value in await self._read(lambda cursor: cursor.execute(duck.SEGMENT_VALUES, parameters).fetchall()):
            found.setdefault(name, []).append(value)
        return found

    async def event_types(self, client: str) -> list[EventTypeSummary]:
        """The event types seen, commonest first."""
        query = """
            SELECT name, count(*) AS n, min(occurred_at), max(occurred_at)
            FROM events JOIN event_types USING (type_key) WHERE client_key = $1
            GROUP BY name ORDER BY n DESC, name"""
        parameters = [self._dictionary.known_client(client)]
        rows = await self._read(lambda cursor: cursor.execute(query, parameters).fetchall())
        return [EventTypeSummary(*row) for row in rows]

    async def rows(self, client: str, plan: AggregationPlan) -> AsyncIterator[list[tuple[Any, ...]]]:
        """One row per exposed user, in batches, read while they are sent."""
        statement, parameters = duck.compiled(sql.rows(self._question(client, plan)))
        loop, cursor = asyncio.get_running_loop(), duck.quiet(self._connection.cursor())
        try:
            await loop.run_in_executor(self._readers, cursor.execute, statement, parameters)
            while batch := await loop.run_in_executor(self._readers, cursor.fetchmany, EXPORT_BATCH):
                yield batch
        finally:
            cursor.close()

    async def ping(self) -> str:
        """Reads one row; raises when the store does not answer."""
        await self._read(lambda cursor: cursor.execute("SELECT 1").fetchall())
        return "ok"

    async def close(self) -> None:
        """Finish the waiting groups, then close the file."""
        await self._group.drain()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._connection.close)
        self._identities.close()
        self._writer.shutdown()
        self._readers.shutdown()

    async def _read(self, work: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        """Run `work` on a cursor of its own in a reading thread; interrupted when it takes too long or nobody waits."""
        cursor = duck.quiet(self._connection.cursor())
        started = threading.Event()

        def run() -> Answer:
            started.set()
            return work(cursor)

        future = asyncio.get_running_loop().run_in_executor(self._readers, run)
        try:
            return await asyncio.wait_for(asyncio.shield(future), READ_SECONDS)
        except TimeoutError:
            raise TimedOut(f"The result took longer than {READ_SECONDS:.0f} seconds.") from None
        except duckdb.Error as error:
            raise Unavailable("The event store cannot answer now.", retry_after=1) from error
        finally:
            if not future.done():
                cursor.interrupt()
                future.add_done_callback(lambda _: cursor.close())
            else:
                cursor.close()

    # Keys

    def _question(self, client: str, plan: AggregationPlan) -> sql.Question:
        known = self._dictionary.known_types(client, plan.event_types)
        return sql.Question(plan, self._dictionary.known_client(client), known, duck.DuckForms())

    def _keys_of(self, client: str) -> Keys:
        if client not in self._keys:
            self._keys[client] = Keys(client)
        return self._keys[client]

    def _take(self, count: int) -> Any:
        first, self._next = self._next, self._next + count
        return np.arange(first, self._next, dtype=np.int64)

    def _load(self) -> None:
        """What the tables say: the keys, and the next sequence number."""
        self._dictionary = Dictionary(self._connection)
        self._next = last_sequence(self._connection) + 1


async def open_store(url: str) -> EmbeddedStore:
    """The store at `duckdb:///path`, its index of identities caught up."""
    return await asyncio.to_thread(_open, Path(url.removeprefix("duckdb:///")))


def _open(path: Path) -> EmbeddedStore:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(
            path, config={"autoinstall_known_extensions": False, "preserve_insertion_order": False}
        )
    except (OSError, duckdb.Error) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"EVENTS_URL: the event store at {path} cannot be opened: {reason}") from error
    for table in tables.metadata.sorted_tables:
        statement = str(CreateTable(table, if_not_exists=True).compile(dialect=duck.DIALECT))
        connection.execute(statement.replace("context TEXT", "context JSON"))
    index = Identities(path.with_suffix(".identities"))
    index.catch_up(connection, last_sequence(connection))
    return EmbeddedStore(connection, index)
