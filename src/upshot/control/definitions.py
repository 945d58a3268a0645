"""What the keys of metrics mean now."""

from typing import Any

from sqlalchemy import Select, func, or_, select

from upshot.control.tables import metric_definitions


def current(client: str) -> Select[Any]:
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


def defined(client: str, *, search: str | None, after: int | None) -> Select[Any]:
    """The newest version of every key that is searched for, the last changed first, from below number `after`."""
    table = metric_definitions.c
    query = current(client)
    if search:
        columns = (table.key, table.name, table.description)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if after is not None:
        query = query.where(table.number < after)
    return query.order_by(table.number.desc())
