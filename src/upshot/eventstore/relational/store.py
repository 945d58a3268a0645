"""Events and exposures in PostgreSQL, MySQL, MariaDB or SQLite: the plain choice of one database for everything.

Several processes may append to one database. Identities are claimed in the transaction that appends, so that of two who bring
the same event at the same moment one waits for the other and finds a duplicate.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.database import Database, insert_new, parsed
from upshot.diagnosis import Joined
from upshot.errors import TimedOut, Unavailable
from upshot.events import Withdrawal, micros
from upshot.eventstore import (
    EventTypeSummary,
    Place,
    StoredEvent,
    Verdict,
    Volume,
    arrivals,
    columns,
    linking,
    rollups,
    sql,
)
from upshot.eventstore.aggregates import prepared, read_aggregates
from upshot.eventstore.appends import Append, Appends, EventType, Group, new
from upshot.eventstore.keys import Keys
from upshot.eventstore.relational import appending, schema, segments, tables
from upshot.eventstore.relational.dictionary import Dictionary
from upshot.eventstore.relational.forms import FORMS
from upshot.eventstore.rollups import Mark, Marker

GROUP_ROWS = 10_000
PATIENCE = 5.5
READ_SECONDS = 30.0
REFRESH_SECONDS = 300.0
EXPORT_SECONDS = 3_600.0
EXPORT_BATCH = 10_000

# A replica that has replayed all that it received, and receives, is complete but for what is on the way.
_LAGGING = text(
    "SELECT CAST(extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000 AS bigint) WHERE pg_is_in_recovery()"
    " AND (pg_last_wal_receive_lsn() <> pg_last_wal_replay_lsn() OR NOT EXISTS (SELECT FROM pg_stat_wal_receiver))"
)

Answer = TypeVar("Answer")


class RelationalStore(Appends):
    """The event store on one SQL database. It may come up after the program: until then all raise Unavailable."""

    def __init__(self, database: Database, owner: str | None = None) -> None:
        self._database = database
        self._owner = parsed(owner, "MIGRATION_DATABASE_URL") if owner else database.url
        self._dictionary = Dictionary(database)
        self._keys: dict[str, Keys] = {}
        self._marker = Marker()
        self._made = False
        self._making = asyncio.Lock()
        super().__init__(self._commit, GROUP_ROWS, PATIENCE)

    # Writing

    async def _commit(self, appends: Sequence[Append]) -> Sequence[list[Verdict]]:
        await self.make()
        group = Group(appends, self._keys_of)
        types = await self._dictionary.type_keys(group.types)
        clients = await self._dictionary.client_keys(group.clients)

        async def stored() -> tuple[list[Verdict], list[Mark]]:
            async with self._database.begin() as connection:
                return await self._store(connection, group, types, clients)

        verdicts, left = await self._database.retried(stored)
        self._marker.committed(left)
        return group.answers(verdicts)

    async def _store(
        self, connection: AsyncConnection, group: Group, types: dict[EventType, int], clients: dict[str, int]
    ) -> tuple[list[Verdict], list[Mark]]:
        """Claim identities, add what is new, count what came again, and mark what was touched."""
        verdicts = group.judge(await appending.claim(connection, group))
        for_events, for_exposures = group.parted(verdicts)
        events, exposures = new(group.events, for_events), new(group.exposures, for_exposures)
        keys = [types[client, event.event_type] for client, event in events]
        owners = [clients[exposure.client] for exposure in exposures]
        if events:
            found = columns.of_events(events, new(group.event_ids, for_events), keys, self._keys_of)
            await appending.add_rows(connection, tables.events, found)
        if exposures:
            found = columns.of_exposures(exposures, new(group.exposure_ids, for_exposures), owners, self._keys_of)
            await appending.add_rows(connection, tables.exposures, found)
        if repeats := group.repeats(verdicts):
            rows = [{"type_key": types[k], "duplicates": n[0], "conflicts": n[1]} for k, n in repeats.items()]
            await connection.execute(insert(tables.repeats), rows)
        left = self._marker.marks(
            [(clients[c], key, event.occurred_at) for (c, event), key in zip(events, keys, strict=True)],
            [(owner, e.experiment, e.exposed_at) for owner, e in zip(owners, exposures, strict=True)],
        )
        return verdicts, await self._insert_marks(connection, left)

    async def link(self, client: str, links: Sequence[tuple[str, str]]) -> None:
        """Let ids be one user."""
        owner = await self._client_key(client)
        await self._add(owner, tables.aliases, linking.of_links(owner, links, self._keys_of(client)))

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments."""
        owner = await self._client_key(client)
        await self._add(owner, tables.withdrawals, linking.of_withdrawals(owner, withdrawals, self._keys_of(client)))

    async def _client_key(self, client: str) -> int:
        await self.make()
        return (await self._dictionary.client_keys([client]))[client]

    async def _add(self, owner: int, table: Table, rows: list[linking.Row]) -> None:
        """Add the rows that are new, then mark what is rolled up of their users."""

        async def added() -> None:
            async with self._database.begin() as connection:
                for place in range(0, len(rows), linking.AT_ONCE):
                    await insert_new(connection, table, rows[place : place + linking.AT_ONCE])

        async def marked() -> list[Mark]:
            async with self._database.begin() as connection:
                touched = await connection.run_sync(lambda sync: linking.touched(owner, users, forms, _fetching(sync)))
                return await self._insert_marks(connection, self._marker.marks(touched, []))

        users, forms = [row["user_key"] for row in rows], FORMS[self._database.dialect]
        await self._database.retried(added)
        self._marker.committed(await self._database.retried(marked))

    async def _insert_marks(self, connection: AsyncConnection, left: list[Mark]) -> list[Mark]:
        if left:
            await connection.execute(insert(tables.marks), [mark._asdict() for mark in left])
        return left

    async def refresh(self) -> int:
        """Roll up what is over, in one transaction; while another process does that, nothing."""
        await self.make()
        forms = FORMS[self._database.dialect]

        def rolled(connection: Connection) -> int:
            fetch = _fetching(connection)
            taken = rollups.due(fetch(select(tables.marks)))
            recounted = list(rollups.recount(taken, forms, fetch))
            appending.replace(connection, recounted, [mark["mark"] for mark in taken])
            return sum(len(part.starts) for part in recounted)

        async with self._database.begin(REFRESH_SECONDS) as connection:
            return await connection.run_sync(rolled) if await appending.alone(connection) else 0

    async def maintain(self, now: datetime, keep_from: datetime | None) -> list[str]:
        """Make the partitions of the coming months; drop what is older than the operator keeps it."""
        await self.make()
        moment = None if keep_from is None else micros(keep_from)
        return await asyncio.to_thread(schema.maintain, self._owner, now, moment)

    # Reading

    async def aggregate(self, client: str, plan: AggregationPlan) -> Aggregates:
        """What the plan asks for, read from one snapshot, of the replica where there is one."""
        question = await self._question(client, plan)

        def answer(connection: Connection) -> Aggregates:
            found = read_aggregates(question, _fetching(connection))
            return replace(found, as_of=self._lagging(connection))

        return await self._read(answer)

    def _lagging(self, connection: Connection) -> int | None:
        """The last moment that a replica has seen, when it has not seen everything."""
        if not (self._database.replicated and self._database.dialect == "postgresql"):
            return None
        found: int | None = connection.scalar(_LAGGING)
        return found

    async def segment_values(self, client: str, experiment: int, most: int) -> dict[str, list[str]]:
        """For each context attribute of the exposed users, its `most` commonest values."""
        asked = await self._question(client, AggregationPlan(experiment, (), None, 0))
        return await self._read(
            lambda connection: segments.values(connection, sql.identified(asked, _fetching(connection)), most)
        )

    async def event_types(self, client: str) -> list[EventTypeSummary]:
        """The event types seen, commonest first."""
        await self.make()
        events, types = tables.events.c, tables.event_types.c
        number = func.count().label("number")
        query = (
            select(types.name, number, func.min(events.occurred_at), func.max(events.occurred_at))
            .join_from(tables.events, tables.event_types, events.type_key == types.type_key)
            .where(types.client_key == await self._dictionary.known_client(client))
            .group_by(types.name)
            .order_by(number.desc(), types.name)
        )
        return await self._read(lambda connection: [EventTypeSummary(*row) for row in connection.execute(query)])

    async def volumes(self, client: str, start: int, end: int, width: int) -> list[Volume]:
        """How many events of each type happened in each period."""
        return await self._of_types(client, arrivals.read_volumes, start, end, width)

    async def recent(self, client: str, limit: int, after: Place | None = None) -> list[StoredEvent]:
        """The newest events, or those that follow a place."""
        return await self._of_types(client, arrivals.read_recent, limit, after)

    async def _of_types(self, client: str, read: Callable[..., Answer], *asked: object) -> Answer:
        """What is read of a client's events of every type."""
        await self.make()
        types, forms = await self._dictionary.known_types(client, None), FORMS[self._database.dialect]
        return await self._read(lambda connection: read(forms, types, _fetching(connection), *asked))

    async def diagnose(self, client: str, experiment: int, event_types: Sequence[str], start: int, end: int) -> Joined:
        """How exposures and events come together, read from one snapshot, of the replica where there is one."""
        question = await self._question(client, arrivals.plan_of(experiment, event_types, start, end))

        def diagnosed(forms: Any, types: dict[str, int], fetch: rollups.Fetch) -> Joined:
            return arrivals.read_joined(question, arrivals.read_arrivals(forms, types, fetch), fetch)

        return await self._of_types(client, diagnosed)

    async def rows(self, client: str, plan: AggregationPlan) -> AsyncIterator[list[tuple[Any, ...]]]:
        """One row per exposed user, in batches, read while they are sent."""
        asked = await self._question(client, plan)
        question = await self._read(lambda connection: prepared(asked, _fetching(connection)))
        query: Select[Any] = sql.rows(question)
        streamed = query.execution_options(yield_per=EXPORT_BATCH)
        async with (
            self._database.read(EXPORT_SECONDS, replica=True) as connection,
            connection.stream(streamed) as found,
        ):
            async for batch in found.partitions():
                yield [tuple(row) for row in batch]

    async def ping(self) -> str:
        """Reads one row; raises when the store does not answer."""
        await self.make()
        async with self._database.read() as connection:
            await connection.execute(select(tables.schema.c.version))
        return "ok"

    async def back_up(self, path: Path) -> None:
        """Copy a SQLite database into a new file; other ones have their own tools."""
        await self._database.back_up(path)

    async def close(self) -> None:
        """Finish the waiting groups, then close the connections."""
        await self._group.drain()
        await self._database.close()

    async def make(self) -> None:
        """Make the tables, once; a database that was away when the program started gets them later."""
        async with self._making:
            if not self._made:
                await asyncio.to_thread(schema.make, self._owner)
                self._made = True

    async def _read(self, work: Callable[[Connection], Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with self._database.read(READ_SECONDS, replica=True) as connection:
                return await connection.run_sync(work)
        except Unavailable:
            if loop.time() - begun < READ_SECONDS:
                raise
            raise TimedOut(f"The result took longer than {READ_SECONDS:.0f} seconds.") from None

    async def _question(self, client: str, plan: AggregationPlan) -> sql.Question:
        await self.make()
        known = await self._dictionary.known_types(client, plan.event_types)
        owner = await self._dictionary.known_client(client)
        return sql.Question(plan, owner, known, FORMS[self._database.dialect])

    def _keys_of(self, client: str) -> Keys:
        if client not in self._keys:
            self._keys[client] = Keys(client)
        return self._keys[client]


def _fetching(connection: Connection) -> rollups.Fetch:
    return lambda query: [dict(row) for row in connection.execute(query).mappings()]


async def open_store(url: str, replica: str | None = None, owner: str | None = None) -> RelationalStore:
    """The store at a URL; at once where a server is not up yet."""
    store = RelationalStore(Database(url, "EVENTS_URL", replica=replica), owner)
    with suppress(Unavailable):
        await store.make()
    return store
