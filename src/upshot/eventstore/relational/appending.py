"""Put events and exposures into a relational database, each once for ever, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.database import insert_new
from upshot.database.inserting import among
from upshot.eventstore import Verdict
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


async def judge(connection: AsyncConnection, ids: Sequence[bytes], marks: Sequence[int]) -> list[Verdict]:
    """Claim the identities that are new; which were new, which stored before or named earlier in the same call."""
    if not ids:
        return []
    first: dict[tuple[int, int], int] = {}
    pairs: list[tuple[int, int]] = [(int(high), int(low)) for high, low in integers(ids)]
    for pair, mark in zip(pairs, marks, strict=True):
        first.setdefault(pair, mark)
    new = await _claim(connection, first)
    known = [pair for pair in first if pair not in new]
    stored = dict(first)
    for start in range(0, len(known), 1_000):
        query = select(tables.identities).where(among(tables.identities, known[start : start + 1_000]))
        stored |= {(row.id_high, row.id_low): row.fingerprint for row in await connection.execute(query)}
    verdicts = []
    for pair, mark in zip(pairs, marks, strict=True):
        if pair in new:
            verdicts.append(Verdict.ACCEPTED)
            new.discard(pair)
        else:
            verdicts.append(Verdict.DUPLICATE if stored[pair] == mark else Verdict.CONFLICT)
    return verdicts


async def _claim(connection: AsyncConnection, marks: dict[tuple[int, int], int]) -> set[tuple[Any, ...]]:
    ordered = sorted(marks)  # two transactions that claim the same identities must not wait for each other
    if connection.dialect.name == "postgresql":
        high, low = zip(*ordered, strict=True)
        arrays = {"high": list(high), "low": list(low), "mark": [marks[pair] for pair in ordered]}
        return {tuple(row) for row in await connection.execute(_NEW_IDENTITIES, arrays)}
    rows = [{"id_high": pair[0], "id_low": pair[1], "fingerprint": marks[pair]} for pair in ordered]
    new: set[tuple[Any, ...]] = set()
    for start in range(0, len(rows), 1_000):
        new |= await insert_new(connection, tables.identities, rows[start : start + 1_000])
    return new


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


async def count_repeats(connection: AsyncConnection, type_keys: Sequence[int], verdicts: Sequence[Verdict]) -> None:
    """Note how many events came again, per type."""
    found: dict[int, list[int]] = {}
    for key, verdict in zip(type_keys, verdicts, strict=True):
        if verdict is not Verdict.ACCEPTED:
            counts = found.setdefault(key, [0, 0])
            counts[0] += 1
            counts[1] += verdict is Verdict.CONFLICT
    if found:
        rows = [{"type_key": key, "duplicates": counts[0], "conflicts": counts[1]} for key, counts in found.items()]
        await connection.execute(insert(tables.repeats), rows)


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
