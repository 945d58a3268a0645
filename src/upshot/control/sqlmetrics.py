"""Every query about what the keys of metrics mean, client first, on every dialect."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, insert, or_, select, update

from upshot.control import records
from upshot.control.lists import Definition, DefinitionPage
from upshot.control.sqlpart import SqlPart
from upshot.control.tables import metric_definitions
from upshot.errors import Conflict
from upshot.metrics import Metric

TAKEN = "Another metric has this key."


class SqlMetrics(SqlPart):
    """What a transaction knows of metric definitions. One that may write locks the key that it reads."""

    async def definitions(self, client: str, keys: Collection[str] | None = None) -> dict[str, Metric]:
        """What these keys, or all that the client has, mean now."""
        query = _current(client)
        if keys is not None:
            query = query.where(metric_definitions.c.key.in_(sorted(keys)))
        found = map(records.definition_of, await self._connection.execute(query))
        return {definition.metric.key: definition.metric for definition in found}

    async def definition(self, client: str, key: str, version: int | None = None) -> Definition | None:
        """What a key means now, or that version of it."""
        if self._writing:
            await self._hold(client, key)
        table = metric_definitions.c
        query = _current(client)
        if version is not None:
            query = select(metric_definitions).where(table.client_id == client, table.version == version)
        row = (await self._connection.execute(query.where(table.key == key))).one_or_none()
        return None if row is None else records.definition_of(row)

    async def page(
        self, client: str, *, search: str | None = None, after: int | None = None, limit: int = 50
    ) -> DefinitionPage:
        """A page of what keys mean now, the last changed first."""
        query = _searched(client, search=search, after=after)
        rows = (await self._connection.execute(query.limit(limit + 1))).all()
        following = rows[limit - 1].number if len(rows) > limit else None
        return DefinitionPage(tuple(map(records.definition_of, rows[:limit])), following)

    async def add(self, client: str, metric: Metric, now: datetime) -> Definition:
        """Store the definition of a key that has none."""
        await self._hold(client, metric.key)
        table = metric_definitions.c
        query = select(table.version, table.archived_at).where(table.client_id == client, table.key == metric.key)
        newest = (await self._connection.execute(query.order_by(table.version.desc()).limit(1))).one_or_none()
        if newest is not None and newest.archived_at is None:
            raise Conflict(TAKEN)
        return await self.save(client, replace(metric, version=newest and newest.version), now)

    async def save(self, client: str, metric: Metric, now: datetime) -> Definition:
        """Store the next version of a definition."""
        stored = replace(metric, version=(metric.version or 0) + 1)
        owner = {"client_id": client, "version": stored.version, "created_at": now}
        added = insert(metric_definitions).values(owner | records.columns_of_definition(stored))
        await self._unique(added, TAKEN)
        return Definition(stored, now)

    async def archive(self, client: str, key: str, now: datetime) -> bool:
        """Let a key mean nothing from now on."""
        await self._hold(client, key)
        table = metric_definitions.c
        archived = update(metric_definitions).where(
            table.client_id == client, table.key == key, table.archived_at.is_(None)
        )
        return bool((await self._connection.execute(archived.values(archived_at=now))).rowcount)

    async def _hold(self, client: str, key: str) -> None:
        """Lock every version of a key: the statement after this one sees what others added until now."""
        table = metric_definitions.c
        query = select(table.number).where(table.client_id == client, table.key == key)
        await self._connection.execute(query.with_for_update())


def _current(client: str) -> Select[Any]:
    """The newest version of every key, unless it is archived."""
    versions = metric_definitions.alias()
    newest = select(func.max(versions.c.version)).where(
        versions.c.client_id == client, versions.c.key == metric_definitions.c.key
    )
    return select(metric_definitions).where(
        metric_definitions.c.client_id == client,
        metric_definitions.c.archived_at.is_(None),
        metric_definitions.c.version == newest.scalar_subquery(),
    )


def _searched(client: str, *, search: str | None, after: int | None) -> Select[Any]:
    """The newest version of every key that is searched for, the last changed first, from below number `after`."""
    table = metric_definitions.c
    query = _current(client)
    if search:
        columns = (table.key, table.name, table.description)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if after is not None:
        query = query.where(table.number < after)
    return query.order_by(table.number.desc())
