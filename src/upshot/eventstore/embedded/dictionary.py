"""The integer keys of clients and event types, as the tables have them; new ones are added in the running transaction."""

from collections.abc import Collection

import duckdb

UNKNOWN = -1


class Dictionary:
    """The keys of one store. After a roll-back it must be read again: keys that were added are gone."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._clients: dict[str, int] = {name: key for key, name in connection.execute("FROM clients").fetchall()}
        self._types: dict[tuple[int, str], int] = {
            (owner, name): key for key, owner, name in connection.execute("FROM event_types").fetchall()
        }

    def known_client(self, client: str) -> int:
        """The key of a client, or one that no row has."""
        return self._clients.get(client, UNKNOWN)

    def known_types(self, client: str, names: Collection[str] | None) -> dict[str, int]:
        """The keys of a client's event types of these names, or of all; names that were never seen are left out."""
        owner = self.known_client(client)
        if names is not None:
            return {name: self._types[owner, name] for name in names if (owner, name) in self._types}
        return {name: key for (other, name), key in self._types.items() if other == owner}

    def client_key(self, client: str) -> int:
        """The key of a client, a new one where there is none."""
        if client not in self._clients:
            self._clients[client] = len(self._clients) + 1
            self._connection.execute("INSERT INTO clients VALUES ($1, $2)", [self._clients[client], client])
        return self._clients[client]

    def type_key(self, client: str, name: str) -> int:
        """The key of a client's event type, a new one where there is none."""
        owner = self.client_key(client)
        if (owner, name) not in self._types:
            self._types[owner, name] = len(self._types) + 1
            row = [self._types[owner, name], owner, name]
            self._connection.execute("INSERT INTO event_types VALUES ($1, $2, $3)", row)
        return self._types[owner, name]


def last_sequence(connection: duckdb.DuckDBPyConnection) -> int:
    """The highest sequence number of any row; -1 when there is none."""
    query = """
        SELECT greatest((SELECT coalesce(max(seq), -1) FROM events), (SELECT coalesce(max(seq), -1) FROM exposures))"""
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else -1
