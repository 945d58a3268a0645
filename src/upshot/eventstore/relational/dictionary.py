"""The integer keys of clients and event types, the same for every process on the database; new ones are added when met."""

from collections.abc import Collection

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.database import Database, insert_new
from upshot.eventstore.relational.tables import clients, event_types

UNKNOWN = -1


class Dictionary:
    """The keys of one database, remembered: a key never changes and never goes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clients: dict[str, int] = {}
        self._types: dict[tuple[int, str], int] = {}

    async def client_keys(self, names: Collection[str]) -> dict[str, int]:
        """The keys of clients, new ones where there are none."""
        while missing := [name for name in names if name not in self._clients]:
            async with self._database.begin() as connection:
                await self._read_clients(connection)
                for name in missing:
                    if name not in self._clients:
                        key = await _next(connection, clients, "client_key")
                        await insert_new(connection, clients, [{"client": name, "client_key": key}])
            await self._refresh()
        return {name: self._clients[name] for name in names}

    async def type_keys(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The keys of (client, event type), new ones where there are none."""
        owners = await self.client_keys({client for client, _ in wanted})
        while missing := [(owners[c], name) for c, name in wanted if (owners[c], name) not in self._types]:
            async with self._database.begin() as connection:
                await self._read_types(connection)
                for owner, name in missing:
                    if (owner, name) not in self._types:
                        key = await _next(connection, event_types, "type_key")
                        row = {"client_key": owner, "name": name, "type_key": key}
                        await insert_new(connection, event_types, [row])
            await self._refresh()
        return {(client, name): self._types[owners[client], name] for client, name in wanted}

    async def known_client(self, client: str) -> int:
        """The key of a client, or one that no row has."""
        if client not in self._clients:
            await self._refresh()
        return self._clients.get(client, UNKNOWN)

    async def known_types(self, client: str, names: Collection[str] | None) -> dict[str, int]:
        """The keys of a client's event types of these names, or of all; names that were never seen are left out."""
        await self._refresh()
        owner = self._clients.get(client, UNKNOWN)
        return {
            name: key
            for (other, name), key in self._types.items()
            if other == owner and (names is None or name in names)
        }

    async def _refresh(self) -> None:
        async with self._database.read() as connection:
            await self._read_clients(connection)
            await self._read_types(connection)

    async def _read_clients(self, connection: AsyncConnection) -> None:
        self._clients |= {row.client: row.client_key for row in await connection.execute(select(clients))}

    async def _read_types(self, connection: AsyncConnection) -> None:
        rows = await connection.execute(select(event_types))
        self._types |= {(row.client_key, row.name): row.type_key for row in rows}


async def _next(connection: AsyncConnection, table: Table, column: str) -> int:
    """A key that is free as far as this transaction sees; where another process takes it first, the insert does nothing."""
    highest = await connection.scalar(select(func.max(table.c[column])))
    return (highest or 0) + 1
