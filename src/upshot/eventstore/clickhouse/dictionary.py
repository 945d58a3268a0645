"""The keys of clients and event types: 63 bits of a hash, so that processes that start at once agree without asking.

Two names among n share a key with probability n²/2^64, which is 10^-7 for a million event types. That cannot go unnoticed:
a name is stored before anything of its kind, and refused when its key stands for another one.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

from upshot.errors import UpshotError
from upshot.eventstore.clickhouse import blocks, schema
from upshot.eventstore.clickhouse.connection import Connection

EventType = tuple[str, str]  # (client, name)

_REMEMBERED = 65_536


@lru_cache(_REMEMBERED)
def client_key(client: str) -> int:
    """The key of a client."""
    return _hash(client.encode(), b"client")


@lru_cache(_REMEMBERED)
def type_key(client: str, name: str) -> int:
    """The key of a client's event type."""
    return _hash(client_key(client).to_bytes(8, "big") + name.encode(), b"type")


class Dictionary:
    """The names behind the keys, as one store's tables have them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stored: set[int] = set()

    async def register(self, clients: Iterable[str], types: Iterable[EventType]) -> None:
        """Store the names that this process does not know to be stored."""
        clients, types = set(clients), set(types)
        owners = {client_key(client): (client,) for client in clients | {client for client, _ in types}}
        await self._store(schema.CLIENTS, "client_key, client", owners)
        named = {type_key(client, name): (client_key(client), name) for client, name in types}
        await self._store(schema.EVENT_TYPES, "type_key, client_key, name", named)

    async def types_of(self, client: str) -> dict[str, int]:
        """The keys of a client's event types, whichever process saw them first."""
        query = f"SELECT name, type_key FROM event_types WHERE client_key = {client_key(client)}"  # noqa: S608 - a number
        return {name: key for name, key in await self._connection.query(query)}  # noqa: C416 - rows are no pairs to a type checker

    async def _store(
        self, table: schema.ClickHouseTable, columns: str, named: Mapping[int, tuple[int | str, ...]]
    ) -> None:
        new = {key: name for key, name in named.items() if key not in self._stored}
        if not new:
            return
        keys = ", ".join(map(str, sorted(new)))
        query = f"SELECT {columns} FROM {table.name} WHERE {columns.partition(',')[0]} IN ({keys})"  # noqa: S608 - our own
        found = {key: tuple(name) for key, *name in await self._connection.query(query)}
        if any(new[key] != name for key, name in found.items()):
            raise UpshotError(f"Two names share one key in the table {table.name}; the second one must be changed.")
        missing = [(key, *name) for key, name in sorted(new.items()) if key not in found]
        if missing:
            await self._connection.insert(blocks.of_rows(table, missing))
        self._stored.update(new)


def _hash(name: bytes, kind: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8, person=kind).digest(), "big") >> 1
