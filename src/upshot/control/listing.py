"""Which experiments a list shows."""

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Select, Text, or_, select, type_coerce

from upshot.control.tables import experiments
from upshot.experiments import Status


def listed(
    client: str,
    *,
    status: Collection[Status] | None,
    search: str | None,
    tag: str | None,
    owner: str | None,
    after: int | None,
) -> Select[Any]:
    """The client's experiments that are all of what is said, the newest first, from below number `after`."""
    table = experiments.c
    query = select(experiments).where(table.client_id == client)
    if status is not None:
        query = query.where(table.status.in_(sorted(status)))
    if search:
        columns = (table.name, table.key, table.description)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if tag:  # in the text of a JSON list
        written = msgspec.json.encode(tag).decode()
        query = query.where(type_coerce(table.tags, Text).contains(written, autoescape=True))
    if owner:
        query = query.where(table.owner == owner)
    if after is not None:
        query = query.where(table.number < after)
    return query.order_by(table.number.desc())


def labelled(client: str) -> Select[Any]:
    """The owners and tags of the client's experiments, each pair once."""
    return select(experiments.c.owner, experiments.c.tags).where(experiments.c.client_id == client).distinct()
