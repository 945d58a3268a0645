"""Rolling up and dropping what is old, without transactions: what may be read of rolled-up periods is safe by order alone.

Marks are made by materialized views on the tables that hold events and exposures (schema.py). The engine commits a block to its
own table before it hands it to the views, so that whoever sees a mark sees what left it. Each mark has a number of its own.
Only those of one key that were made before their period was over share one, and those are taken no sooner than
`rollups.MARGIN` after it, when no such insert runs any more (`INSERTING` ends it). A refresh

    1  reads the marks of periods that are over
    2  takes a version from the server's clock
    3  counts the periods
    4  writes them under the version, of which the highest is read
    5  removes the marks that it read, by their numbers

It may stop anywhere: marks that remain are taken again. Marks that come after 1 are not removed.

Any number of processes may refresh at once. Take a mark that one of them removed. What left the mark was stored before 1, so
before the version V was taken, and the rows written under V count it. Rows that are read instead of those have a higher
version, which was taken later, and were counted later still: they count it as well. So a period without marks counts everything
that was acknowledged. The clock may be set back: a version is above all that were written. Clocks of the servers of a cluster
may differ by CLOCKS: that long passes between 2 and 3, in which all replicas fetch what the marks speak of.

Rows are replaced one by one. A cell that was counted does not vanish when it is counted again, because events only come; what
retention drops is not counted again, and stays as it was. Only where ids were linked or users withdrawn may all users have left a
cell: a row without users takes its place.

Events of an append that failed between a block and its marks are marked by the append's repetition. Until then, and if nobody
repeats it, they count in some periods and not in others; nobody was told that they are stored.
"""

import asyncio
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.util import await_only, greenlet_spawn

from upshot.events import micros
from upshot.eventstore import linking, rollups, tables
from upshot.eventstore.clickhouse import blocks, dialect, schema
from upshot.eventstore.clickhouse.connection import Connection, fetching

CLOCKS = 2.0  # seconds
REMOVED_AT_ONCE = 5_000  # a server reads statements of 256 KiB

_KEY = "client_key, type_key, experiment, grain, starts"
_MARKS = f"SELECT {_KEY}, groupArray(mark) FROM marks GROUP BY {_KEY}"  # noqa: S608 - our own names
_OWNERS = "SELECT type_key, client_key FROM event_types"
_VERSION = "SELECT greatest(toUnixTimestamp64Nano(now64(9)), max(version) + 1) FROM rollups"


class Upkeep:
    """What is done to one database beside appending and reading."""

    def __init__(self, connection: Connection, database: str, cluster: str | None) -> None:
        self._connection = connection
        self._database, self._cluster = database, cluster

    async def refresh(self) -> int:
        """Roll up what is over; how many periods."""
        taken = rollups.due(await self._standing())
        if not taken:
            return 0
        [[version]] = await self._connection.query(_VERSION, dialect.LOOKING_UP)
        if self._cluster:
            await asyncio.gather(self._fetched_everywhere(self._cluster), asyncio.sleep(CLOCKS))
        rolled = await greenlet_spawn(self._recount, taken, version)
        await self._remove([number for mark in taken for number in mark["marks"]])
        return rolled

    async def mark_users(self, client_key: int, users: Collection[int]) -> None:
        """Mark the periods in which users have events, each mark with a number of its own."""
        fetch = fetching(self._connection, dialect.RECOUNTING)
        found = await greenlet_spawn(linking.touched, client_key, users, dialect.ClickHouseForms(), fetch)
        marks = {(key, grain, start - start % grain) for _, key, start in found for grain in rollups.GRAINS}
        if marks:
            rows = [(secrets.randbits(63), 0, key, 0, grain, start) for key, grain, start in sorted(marks)]
            await self._connection.insert(blocks.of_rows(schema.MARKS, rows))

    async def drop_before(self, moment: datetime) -> list[str]:
        """Drop the events of the months that ended before a moment, and the marks that these events left."""
        month = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        old = [partition for partition in await self._months() if partition < f"{month:%Y%m}"]
        for partition in old:
            # The server refuses to drop more than 50 GB unless it is told to.
            await self._connection.command(
                f"ALTER TABLE {self._place(schema.EVENTS)} DROP PARTITION ID '{partition}'"
                " SETTINGS max_partition_size_to_drop = 0"
            )
        if old:  # marks of exposures speak of later months, too
            await self._remove_where(f"type_key != 0 AND starts < {micros(month)}")
        return [f"{partition} dropped" for partition in old]

    async def _standing(self) -> list[dict[str, Any]]:
        """All marks, with their owners, each key once; a type is registered before anything of it is marked."""
        found = await self._connection.query(_MARKS, dialect.RECOUNTING)
        owners: dict[int, int] = {key: owner for key, owner in await self._connection.query(_OWNERS)}  # noqa: C416 - rows are no pairs to a type checker
        names = (*rollups.Mark._fields, "marks")
        marks = [dict(zip(names, row, strict=True)) for row in found]
        owned = [mark | {"client_key": owners.get(mark["type_key"])} if mark["type_key"] else mark for mark in marks]
        return [mark for mark in owned if mark["client_key"] is not None]

    def _recount(self, taken: Sequence[Mapping[str, Any]], version: int) -> int:
        rolled = 0
        forms, fetch = dialect.ClickHouseForms(), fetching(self._connection, dialect.RECOUNTING)
        for part in rollups.recount(taken, forms, fetch):
            cells = [*part.rows, *(_left(part, fetch) if part.left else ())]
            rows = [tuple({**cell, "version": version}[name] for name in schema.ROLLUPS.columns) for cell in cells]
            if rows:
                await_only(self._connection.insert(blocks.of_rows(schema.ROLLUPS, rows)))
            rolled += len(part.starts)
        return rolled

    async def _remove(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), REMOVED_AT_ONCE):
            listed = ", ".join(map(str, numbers[start : start + REMOVED_AT_ONCE]))
            await self._remove_where(f"mark IN ({listed})")

    async def _remove_where(self, condition: str) -> None:
        await self._connection.command(f"DELETE FROM {self._place(schema.MARKS)} WHERE {condition}")  # noqa: S608 - our own

    async def _fetched_everywhere(self, cluster: str) -> None:
        for table in (schema.EVENTS, schema.EXPOSURES, *schema.LATER):
            name = f"`{self._database}`.{table.local}"
            await self._connection.command(f"SYSTEM SYNC REPLICA ON CLUSTER `{cluster}` {name} LIGHTWEIGHT")

    async def _months(self) -> list[str]:
        parts = f"clusterAllReplicas('{self._cluster}', system.parts)" if self._cluster else "system.parts"
        table = f"{schema.EVENTS.name}_local" if self._cluster else schema.EVENTS.name
        query = f"""
            SELECT DISTINCT partition_id FROM {parts}
            WHERE database = '{self._database}' AND table = '{table}' AND active ORDER BY partition_id"""  # noqa: S608 - plain names
        return [partition for (partition,) in await self._connection.query(query, dialect.LOOKING_UP)]

    def _place(self, table: schema.ClickHouseTable) -> str:
        """The table that holds the rows, as a statement that changes it says where."""
        name = f"`{self._database}`.{table.name}"
        return f"{name}_local ON CLUSTER `{self._cluster}`" if self._cluster else name


def _left(part: rollups.Recounted, fetch: rollups.Fetch) -> Iterator[dict[str, Any]]:
    """The cells that are kept of recounted periods, and that nobody is in any more: with nothing in them."""
    kept, there = tables.rollups.c, {(row["starts"], row["variant"], row["phase"]) for row in part.rows}
    own = {name: getattr(part, name) for name in ("client_key", "experiment", "type_key", "grain")}
    query = select(kept.starts, kept.variant, kept.phase).where(*(kept[name] == value for name, value in own.items()))
    for row in fetch(query.where(kept.starts.in_(part.starts), kept.users > 0)):
        if (row["starts"], row["variant"], row["phase"]) not in there:
            yield dict.fromkeys(schema.ROLLUPS.columns, 0) | own | dict(row)
