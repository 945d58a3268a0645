"""Put events and exposures into a relational database, each once for ever, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.database import insert_new
from upshot.database.inserting import among
from upshot.eventstore.appends import Group
from upshot.eventstore.columns import Columns
from upshot.eventstore.keys import integers
from upshot.eventstore.relational import tables
from upshot.eventstore.rollups import Recounted

_ROLLING_UP = 8_720_184_512  # any number that nobody else locks

# One array per column: a statement of two thousand parameters would spend its time on them.
_NEW_IDENTITIES = text(
    "INSERT INTO identities SELECT * FROM unnest(CAST(:high AS bigint[]), CAST(:low AS bigint[]), CAST(:mark AS bigint[]))"
    " ON CONFLICT DO NOTHING RETURNING id_high, id_low"
)


async def claim(connection: AsyncConnection, group: Group) -> dict[bytes, int]:
    """Claim the identities of a group that are new; returns those that were stored before, with their fingerprints."""
    wanted: dict[tuple[int, int], tuple[bytes, int]] = {}
    for pair, identity, fingerprint in zip(integers(group.ids).tolist(), group.ids, group.fingerprints, strict=True):
        wanted.setdefault((pair[0], pair[1]), (identity, fingerprint))
    new = await _insert(connection, {pair: fingerprint for pair, (_, fingerprint) in wanted.items()})
    known = [pair for pair in wanted if pair not in new]
    stored: dict[bytes, int] = {}
    for start in range(0, len(known), 1_000):
        query = select(tables.identities).where(among(tables.identities, known[start : start + 1_000]))
        for row in await connection.execute(query):
            if (row.id_high, row.id_low) in wanted:
                stored[wanted[row.id_high, row.id_low][0]] = row.fingerprint
    return stored


async def _insert(connection: AsyncConnection, fingerprints: dict[tuple[int, int], int]) -> set[tuple[Any, ...]]:
    ordered = sorted(fingerprints)  # two transactions that claim the same identities must not wait for each other
    if connection.dialect.name == "postgresql":
        high, low = zip(*ordered, strict=True)
        arrays = {"high": list(high), "low": list(low), "mark": [fingerprints[pair] for pair in ordered]}
        return {tuple(row) for row in await connection.execute(_NEW_IDENTITIES, arrays)}
    rows = [{"id_high": pair[0], "id_low": pair[1], "fingerprint": fingerprints[pair]} for pair in ordered]
    added: set[tuple[Any, ...]] = set()
    for start in range(0, len(rows), 1_000):
        added |= await insert_new(connection, tables.identities, rows[start : start + 1_000])
    return added


async def add_rows(connection: AsyncConnection, table: Table, columns: Columns) -> None:
    """Append rows, given as columns; by COPY where there is one."""
    names = [name for name in columns if name != "seq"]
    rows = list(zip(*(_listed(columns[name]) for name in names), strict=True))
    if connection.dialect.name != "postgresql":
        await connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    driver = (await connection.get_raw_connection()).driver_connection
    async with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:  # type: ignore[union-attr]
        for row in rows:
            await copy.write_row(row)


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def replace(connection: Connection, recounted: Sequence[Recounted], taken: Sequence[int]) -> None:
    """Put rolled-up periods in the place of what was kept of them, and remove the marks that asked for it."""
    kept, marks = tables.rollups, tables.marks
    for part in recounted:
        connection.execute(
            delete(kept).where(
                kept.c.client_key == part.client_key,
                kept.c.experiment == part.experiment,
                kept.c.type_key == part.type_key,
                kept.c.grain == part.grain,
                kept.c.starts.in_(part.starts),
            )
        )
        if part.rows:
            connection.execute(insert(kept), part.rows)
    for start in range(0, len(taken), 1_000):
        connection.execute(delete(marks).where(marks.c.mark.in_(taken[start : start + 1_000])))


async def alone(connection: AsyncConnection) -> bool:
    """Whether this transaction is the one that rolls up. SQLite has one writer anyway; the lock goes with the transaction."""
    if connection.dialect.name == "sqlite":
        return True
    if connection.dialect.name == "postgresql":
        return bool(await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _ROLLING_UP}))
    row = select(tables.schema.c.version).with_for_update(skip_locked=True)
    return await connection.scalar(row) is not None
