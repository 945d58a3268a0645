"""The event store over a connection to ClickHouse."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.util import greenlet_spawn

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.diagnosis import Joined
from upshot.errors import Unavailable
from upshot.events import Withdrawal
from upshot.eventstore import EventTypeSummary, Place, StoredEvent, Verdict, Volume, aggregates, arrivals, linking, sql
from upshot.eventstore.appends import Append, Appends, Group
from upshot.eventstore.clickhouse import blocks, dialect, schema, tail
from upshot.eventstore.clickhouse.appending import blocks_of
from upshot.eventstore.clickhouse.connection import Connection, fetching
from upshot.eventstore.clickhouse.dictionary import Dictionary, client_key
from upshot.eventstore.clickhouse.once import Once
from upshot.eventstore.clickhouse.upkeep import Upkeep
from upshot.eventstore.keys import Keys, identities, integers

GROUP_ROWS = 20_000
APPEND_SECONDS = 5
PING_SECONDS = 5


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Give up what the server does not acknowledge."""
    try:
        async with asyncio.timeout(APPEND_SECONDS):
            yield
    except TimeoutError as error:
        raise Unavailable("The event store did not acknowledge in time.", retry_after=1) from error


class ClickHouseStore(Appends):
    """Events and exposures in one database of ClickHouse."""

    def __init__(self, connection: Connection, database: str, cluster: str | None = None) -> None:
        self._connection = connection
        self._database, self._cluster = database, cluster
        self._dictionary = Dictionary(connection)
        self._upkeep = Upkeep(connection, database, cluster)
        self._keys: dict[str, Keys] = {}
        self.prepare = Once(self._make_tables)
        super().__init__(self._commit, GROUP_ROWS)

    async def _make_tables(self) -> None:
        """Make what is missing; who may not make tables has them made beforehand (`ddl`)."""
        query = f"""
            SELECT (SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase()),
              (SELECT count() FROM system.columns
               WHERE database = currentDatabase() AND table = '{schema.EVENTS.name}' AND name = 'ordinal')
              AND (SELECT count() FROM system.data_skipping_indices
               WHERE database = currentDatabase() AND name = '{schema.ARRIVED}')"""  # noqa: S608 - our own
        [[there, complete]] = await self._connection.query(query)
        if not set(schema.NAMES).issubset(there):
            statements = schema.ddl(self._database, self._cluster)
        elif not complete or not {table.name for table in schema.LATER}.issubset(there):
            statements = schema.added(self._database, self._cluster)
        else:
            statements = []
        for statement in statements:
            await self._connection.command(statement)

    # Writing

    async def _commit(self, appends: Sequence[Append]) -> Sequence[list[Verdict]]:
        async with _in_time():
            await self.prepare()
            return await self._write(appends)

    async def _write(self, appends: Sequence[Append]) -> list[list[Verdict]]:
        """Look up what is known, then insert what is not; the work on many rows is done beside the event loop."""
        group = await asyncio.to_thread(Group, appends, self._keys_of)
        verdicts = await asyncio.to_thread(group.judge, await self._fingerprints(group.ids))
        await self._dictionary.register(group.clients, group.types)
        for block in await asyncio.to_thread(blocks_of, group, verdicts, self._keys_of):
            await self._connection.insert(block)
        return group.answers(verdicts)

    async def _fingerprints(self, ids: Sequence[bytes]) -> dict[bytes, int]:
        """The fingerprints of what is stored under these identities; half an identity is enough to find it by."""
        statement = dialect.IDENTITIES.format(high=integers(ids)[:, 0].tolist())
        found = np.array(await self._connection.query(statement, dialect.LOOKING_UP), np.int64).reshape(-1, 3)
        return dict(zip(identities(found[:, 0], found[:, 1]), found[:, 2].tolist(), strict=True))

    async def link(self, client: str, links: Sequence[tuple[str, str]]) -> None:
        """Let ids be one user."""
        rows = linking.of_links(client_key(client), links, self._keys_of(client))
        await self._add(client, schema.ALIASES, rows)

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments."""
        rows = linking.of_withdrawals(client_key(client), withdrawals, self._keys_of(client))
        await self._add(client, schema.WITHDRAWALS, rows)

    async def _add(self, client: str, table: schema.ClickHouseTable, rows: list[linking.Row]) -> None:
        """Add rows, of which the first of each key counts, then mark what is rolled up of their users."""
        if rows:
            async with _in_time():
                await self.prepare()
                await self._dictionary.register({client}, ())
                await self._connection.insert(blocks.of_rows(table, [tuple(row.values()) for row in rows]))
            await self._upkeep.mark_users(client_key(client), {row["user_key"] for row in rows})

    async def refresh(self) -> int:
        """Roll up what is over; several processes may do so at once."""
        await self.prepare()
        return await self._upkeep.refresh()

    async def maintain(self, now: datetime, keep_from: datetime | None) -> list[str]:  # noqa: ARG002 - nothing is made ahead
        """Drop the months that are older than the operator keeps them."""
        await self.prepare()
        return [] if keep_from is None else await self._upkeep.drop_before(keep_from)

    # Reading

    async def aggregate(self, client: str, plan: AggregationPlan) -> Aggregates:
        """What the plan asks for."""
        question, settings = await self._question(client, plan)
        return await greenlet_spawn(aggregates.read_aggregates, question, fetching(self._connection, settings))

    async def segment_values(self, client: str, experiment: int, most: int) -> dict[str, list[str]]:
        """For each context attribute of the exposed users, its `most` commonest values."""
        question, settings = await self._question(client, AggregationPlan(experiment, (), None, 0))
        query = dialect.SEGMENT_VALUES.format(contexts=dialect.compiled(sql.contexts(question)), most=most)
        found: dict[str, list[str]] = {}
        for name, value in await self._connection.query(query, settings):
            found.setdefault(name, []).append(value)
        return found

    async def event_types(self, client: str) -> list[EventTypeSummary]:
        """The event types seen, commonest first."""
        await self.prepare()
        names = {key: name for name, key in (await self._dictionary.types_of(client)).items()}
        if not names:
            return []
        query = f"""
            SELECT type_key, count(), min(occurred_at), max(occurred_at)
            FROM events WHERE type_key IN ({", ".join(map(str, names))}) GROUP BY type_key"""  # noqa: S608 - numbers
        found = [EventTypeSummary(names[key], *rest) for key, *rest in await self._connection.query(query)]
        return sorted(found, key=lambda summary: (-summary.events, summary.event_type))

    async def volumes(self, client: str, start: int, end: int, width: int) -> list[Volume]:
        """How many events of each type happened in each period."""
        await self.prepare()
        types, fetch = await self._dictionary.types_of(client), fetching(self._connection)
        return await greenlet_spawn(arrivals.read_volumes, dialect.ClickHouseForms(), types, fetch, start, end, width)

    async def recent(self, client: str, limit: int, after: Place | None = None) -> list[StoredEvent]:
        """The newest events, or those that follow a place."""
        await self.prepare()
        return await tail.recent(self._connection, await self._dictionary.types_of(client), limit, after)

    async def diagnose(self, client: str, experiment: int, event_types: Sequence[str], start: int, end: int) -> Joined:
        """How exposures and events come together."""
        question, settings = await self._question(client, arrivals.plan_of(experiment, event_types, start, end))
        newest = await tail.arrivals(self._connection, await self._dictionary.types_of(client))
        return await greenlet_spawn(arrivals.read_joined, question, newest, fetching(self._connection, settings))

    async def rows(self, client: str, plan: AggregationPlan) -> AsyncIterator[list[tuple[Any, ...]]]:
        """One row per exposed user, in batches, read while they are sent."""
        asked, settings = await self._question(client, plan)
        question = await greenlet_spawn(aggregates.prepared, asked, fetching(self._connection, settings))
        statement = dialect.compiled(sql.rows(question))
        async for batch in self._connection.stream(statement, settings):
            yield [tuple(row) for row in batch]

    async def ping(self) -> str:
        """Reads one row; raises when the server does not answer."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._connection.query("SELECT 1")
        except TimeoutError as error:
            raise Unavailable("The event store does not answer.", retry_after=1) from error
        return "ok"

    async def close(self) -> None:
        """Finish the waiting groups, then let go of the server."""
        await self._group.drain()
        await self._connection.close()

    async def _question(self, client: str, plan: AggregationPlan) -> tuple[sql.Question, dict[str, Any]]:
        """A plan as it is asked, and the settings to ask it with."""
        await self.prepare()
        wanted = plan.event_types
        types = await self._dictionary.types_of(client)
        known = {name: key for name, key in types.items() if wanted is None or name in wanted}
        key = client_key(client)
        asked = sql.Question(plan, key, known, dialect.ClickHouseForms(key))
        question = await greenlet_spawn(sql.identified, asked, fetching(self._connection))
        told = question.linked or question.withdrawn
        return question, dialect.SENT_AROUND if told else dialect.READING

    def _keys_of(self, client: str) -> Keys:
        if client not in self._keys:
            self._keys[client] = Keys(client)
        return self._keys[client]
