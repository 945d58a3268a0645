"""What the keys of metrics mean now."""

from typing import Any

from sqlalchemy import Select, func, select

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
