"""Insert-or-nothing: rows whose key is there stay as they are, and the caller learns which ones it added, or holds the one that
is there; and many rows changed at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, insert, or_, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

GROUPS = 8
DIALECTS = {"sqlite": sqlite, "postgresql": postgresql}

Key = tuple[Any, ...]


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> set[Key]:
    """Insert the rows whose primary key is not there yet; returns the keys that this call added.

    Two transactions that insert the same key at once: one adds it, the other waits and adds nothing. Rows are inserted in the
    order of their keys, so that two such transactions never wait for each other.
    """
    if not rows:
        return set()
    names = [column.name for column in table.primary_key.columns]
    ordered = sorted(rows, key=lambda row: [row[name] for name in names])
    if connection.dialect.name == "mysql":
        return await _one_by_one_where_it_matters(connection, table, names, ordered)
    return {tuple(row) for row in await insert_showing(connection, table, ordered)}


async def insert_showing(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *shown: ColumnElement[Any]
) -> Iterable[tuple[Any, ...]]:
    """As `insert_new`, of rows in the order of their keys, and not on MySQL: the keys that were added, and what is shown."""
    inserted = DIALECTS[connection.dialect.name].insert(table).on_conflict_do_nothing()
    added: Iterable[tuple[Any, ...]] = await connection.execute(
        inserted.returning(*table.primary_key.columns, *shown), rows
    )
    return added


async def _one_by_one_where_it_matters(
    connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> set[Key]:
    """MySQL tells how many rows it inserted, not which: what is there already is looked up first.

    Only when another transaction inserts some of the rest at the same moment are they inserted singly.
    """
    keys = {tuple(row[name] for name in names): row for row in rows}
    there = await connection.execute(select(*table.primary_key.columns).where(among(table, list(keys))))
    for row in there:
        keys.pop(tuple(row), None)
    if not keys:
        return set()
    statement = insert(table).prefix_with("IGNORE")
    async with connection.begin_nested() as savepoint:
        if (await connection.execute(statement, list(keys.values()))).rowcount == len(keys):
            return set(keys)
        await savepoint.rollback()
    return {key for key, row in keys.items() if (await connection.execute(statement, [row])).rowcount}


async def insert_or_hold(connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row unless its key is there.

    On MySQL the row that is there is locked as for a change: two that found it and wait for each other to change it, as they
    would behind an insertion that does nothing, were a deadlock.
    """
    if connection.dialect.name == "mysql":
        listed = mysql.insert(table).values(row)
        unchanged = {column.name: column for column in table.primary_key.columns}
        await connection.execute(listed.on_duplicate_key_update(unchanged))
        return
    inserted = DIALECTS[connection.dialect.name].insert(table).values(row)
    await connection.execute(inserted.on_conflict_do_nothing())


async def overwrite(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    """Set one column of rows that are there, in one statement, in the order of their keys as `insert_new`.

    It is written as an insertion of rows that are all there: engines agree on no other form of an update with many values.
    """
    if not rows:
        return
    names = [key.name for key in table.primary_key.columns]
    ordered = sorted(rows, key=lambda row: [row[name] for name in names])
    if connection.dialect.name == "mysql":
        listed = mysql.insert(table).values(ordered)
        await connection.execute(listed.on_duplicate_key_update({column: listed.inserted[column]}))
        return
    inserted = DIALECTS[connection.dialect.name].insert(table)
    changed = inserted.on_conflict_do_update(index_elements=names, set_={column: inserted.excluded[column]})
    # What returns something is sent with all rows at once, and compiled once for all times.
    await connection.execute(changed.returning(*table.primary_key.columns), ordered)


def among(table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    """That a row's primary key is one of these; where the leading columns differ much, perhaps of a few rows more.

    Grouped by the leading columns, every engine uses the index; hundreds of alternatives would take longer to plan than to read.
    """
    *leading, last = table.primary_key.columns
    groups: dict[Key, list[Any]] = {}
    for *head, tail in keys:
        groups.setdefault(tuple(head), []).append(tail)
    if len(groups) > GROUPS:
        parts = [column.in_(set(values)) for column, values in zip(leading, zip(*groups, strict=True), strict=True)]
        return and_(*parts, last.in_({key[-1] for key in keys}))
    return or_(
        *(
            and_(*(column == value for column, value in zip(leading, head, strict=True)), last.in_(tails))
            for head, tails in groups.items()
        )
    )
