"""Every query about layers, holdouts and flags, client first, on every dialect."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Select, Table, delete, insert, select, update
from sqlalchemy.engine import Row

from upshot.control import records
from upshot.control.featuretables import flags, holdouts, layers, revisions
from upshot.control.sqlpart import SqlPart
from upshot.database import insert_new
from upshot.flags import Flag
from upshot.holdouts import Holdout
from upshot.layers import Layer


class SqlFeatures(SqlPart):
    """What a transaction knows of features. One that may write locks the holdouts that it reads, and what it reads by key."""

    async def layers(self, client: str) -> list[Layer]:
        """All layers, by key."""
        return [_layer_of(row) for row in await self._connection.execute(_of(client, layers))]

    async def layer(self, client: str, key: str) -> Layer | None:
        """The layer with that key."""
        row = await self._one(client, layers, key)
        return None if row is None else _layer_of(row)

    async def holdouts(self, client: str) -> list[Holdout]:
        """All holdouts, by key."""
        return [_holdout_of(row) for row in await self._read(_of(client, holdouts))]

    async def holdout(self, client: str, key: str) -> Holdout | None:
        """The holdout with that key."""
        row = await self._one(client, holdouts, key)
        return None if row is None else _holdout_of(row)

    async def flags(self, client: str, *, after: str = "", limit: int | None = None) -> list[Flag]:
        """Flags, by key, from behind the key `after`."""
        query = _of(client, flags).where(flags.c.key > after).limit(limit)
        return [records.flag_of(row) for row in await self._connection.execute(query)]

    async def flag(self, client: str, key: str) -> Flag | None:
        """The flag with that key."""
        row = await self._one(client, flags, key)
        return None if row is None else records.flag_of(row)

    async def driven_by(self, client: str, experiment_id: str) -> Sequence[str]:
        """The keys of the flags that an experiment drives."""
        query = select(flags.c.key).where(flags.c.client_id == client, flags.c.experiment == experiment_id)
        return (await self._connection.execute(query.order_by(flags.c.key))).scalars().all()

    async def revision(self, client: str) -> int:
        """How often what decides was changed."""
        query = select(revisions.c.revision).where(revisions.c.client_id == client)
        return int(await self._connection.scalar(query) or 0)

    async def touch(self, client: str) -> None:
        """Make a new revision."""
        next_one = update(revisions).where(revisions.c.client_id == client).values(revision=revisions.c.revision + 1)
        if not (await self._connection.execute(next_one)).rowcount:
            new = await insert_new(self._connection, revisions, [{"client_id": client, "revision": 1}])
            if not new:  # another one came first
                await self._connection.execute(next_one)

    async def add_layer(self, client: str, layer: Layer) -> None:
        """Store a new layer."""
        await self._add(client, layers, "layer", _columns_of(layer))

    async def delete_layer(self, client: str, layer: Layer) -> None:
        """Remove a layer."""
        await self._delete(client, layers, layer.id)

    async def add_holdout(self, client: str, holdout: Holdout) -> None:
        """Store a new holdout."""
        await self._add(client, holdouts, "holdout", _columns_of(holdout))

    async def save_holdout(self, client: str, holdout: Holdout) -> None:
        """Store a changed holdout."""
        await self._save(client, holdouts, _columns_of(holdout))

    async def add_flag(self, client: str, flag: Flag) -> None:
        """Store a new flag."""
        await self._add(client, flags, "flag", records.columns_of_flag(flag))

    async def save_flag(self, client: str, flag: Flag) -> None:
        """Store a changed flag."""
        await self._save(client, flags, records.columns_of_flag(flag))

    async def delete_flag(self, client: str, flag: Flag) -> None:
        """Remove a flag."""
        await self._delete(client, flags, flag.id)

    async def _one(self, client: str, table: Table, key: str) -> Row[Any] | None:
        return (await self._read(select(table).where(table.c.client_id == client, table.c.key == key))).one_or_none()

    async def _add(self, client: str, table: Table, kind: str, columns: dict[str, Any]) -> None:
        added = insert(table).values(columns | {"client_id": client})
        await self._unique(added, f"Another {kind} has this key.")
        await self.touch(client)

    async def _save(self, client: str, table: Table, columns: dict[str, Any]) -> None:
        same = table.c.client_id == client, table.c.id == columns["id"]
        await self._connection.execute(update(table).where(*same).values(columns))
        await self.touch(client)

    async def _delete(self, client: str, table: Table, identity: str) -> None:
        await self._connection.execute(delete(table).where(table.c.client_id == client, table.c.id == identity))
        await self.touch(client)


def _of(client: str, table: Table) -> Select[Any]:
    return select(table).where(table.c.client_id == client).order_by(table.c.key)


def _columns_of(thing: Layer | Holdout) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing)}


def _layer_of(row: Row[Any]) -> Layer:
    return Layer(row.id, row.key, row.name, row.created_at)


def _holdout_of(row: Row[Any]) -> Holdout:
    return Holdout(row.id, row.key, row.name, row.share, tuple(row.tags), row.created_at, row.ended_at)
