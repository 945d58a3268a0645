"""Everything that writes to the file, on the one thread that does: appends, rollups, retention.

Exact deduplication asks `Identities` before the insert; the table itself has no index.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from sqlalchemy import Table, select

from upshot.errors import Unavailable
from upshot.events import Event, Exposure, Withdrawal
from upshot.eventstore import Verdict, columns, linking, rollups, tables
from upshot.eventstore.appends import Append, Group, new
from upshot.eventstore.embedded import duck
from upshot.eventstore.embedded.dictionary import Dictionary, last_sequence
from upshot.eventstore.embedded.identities import Identities
from upshot.eventstore.keys import Keys
from upshot.eventstore.rollups import Mark, Marker


class Writer:
    """The writing side of one file, and its connection. Every method is one transaction and belongs on the writing thread."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, identities: Identities) -> None:
        self._path = path
        self.connection = connection
        self._identities = identities
        self._sound = True  # what is known here is what the file holds
        self._keys: dict[str, Keys] = {}
        self._marker = Marker()
        self._load()

    def append(self, appends: Sequence[Append]) -> list[list[Verdict]]:
        """Make a group durable: look up, insert what is new, commit, then tell the index."""
        self.recover()
        if self._identities.complete < self._next - 1:
            self._catch_up()
        group = Group(appends, self._keys_of)
        known = zip(group.ids, self._identities.fingerprints(group.ids), strict=True)
        verdicts = group.judge({identity: stored for identity, stored in known if stored is not None})
        for_events, for_exposures = group.parted(verdicts)
        events, exposures = new(group.events, for_events), new(group.exposures, for_exposures)
        with self._transaction():
            self._insert_events(events, new(group.event_ids, for_events))
            self._insert_exposures(exposures, new(group.exposure_ids, for_exposures))
            for kind, counts in group.repeats(verdicts).items():
                row = [self._dictionary.type_key(*kind), *counts]
                self.connection.execute("INSERT INTO repeats VALUES ($1, $2, $3)", row)
            left = self._mark(events, exposures)
        self._marker.committed(left)
        if events or exposures:
            fresh = zip(new(group.ids, verdicts), new(group.fingerprints, verdicts), strict=True)
            self._identities.follow(fresh, self._next - 1)
        return group.answers(verdicts)

    def link(self, client: str, links: Sequence[tuple[str, str]]) -> tuple[int, list[int]]:
        """Store the links of aliases that have none; the keys of the client and of the users."""
        with self._transaction():
            owner = self._dictionary.client_key(client)
            rows = linking.of_links(owner, links, self._keys_of(client))
            self._insert_new(tables.aliases, rows, "alias_key")
        return owner, [row["user_key"] for row in rows]

    def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> tuple[int, list[int]]:
        """Store the withdrawals that are new; the keys of the client and of the users."""
        with self._transaction():
            owner = self._dictionary.client_key(client)
            rows = linking.of_withdrawals(owner, withdrawals, self._keys_of(client))
            self._insert_new(tables.withdrawals, rows, "experiment", "user_key")
        return owner, [row["user_key"] for row in rows]

    def mark(self, touched: Sequence[tuple[int, int, int]]) -> None:
        """Mark periods (client key, type key, µs) as if events had been appended to them."""
        with self._transaction():
            left = self._insert_marks(self._marker.marks(touched, []))
        self._marker.committed(left)

    def replace(self, recounted: Sequence[rollups.Recounted], taken: Sequence[int]) -> None:
        """Put rolled-up periods in the place of what was kept of them, and remove the marks that asked for it."""
        with self._transaction():
            for part in recounted:
                bounds = [part.client_key, part.experiment, part.type_key, part.grain, list(part.starts)]
                self.connection.execute(
                    "DELETE FROM rollups WHERE client_key = $1 AND experiment = $2 AND type_key = $3 AND grain = $4"
                    " AND list_contains($5::BIGINT[], starts)",
                    bounds,
                )
                if part.rows:
                    listed = {column.name: [row[column.name] for row in part.rows] for column in tables.rollups.columns}
                    self._insert(tables.rollups, {name: np.array(column) for name, column in listed.items()})
            self.connection.execute("DELETE FROM marks WHERE list_contains($1::BIGINT[], mark)", [list(taken)])

    def drop_before(self, moment: int) -> int:
        """Drop the events from before the day of a moment (µs), and the marks that they left; how many events.

        Marks of exposures stay: they speak of later periods, too.
        """
        day = moment - moment % rollups.DAY
        with self._transaction():
            [[dropped]] = self.connection.execute("DELETE FROM events WHERE occurred_at < $1", [day]).fetchall()
            self.connection.execute("DELETE FROM marks WHERE starts < $1 AND experiment = 0", [day])
        return int(dropped)

    def mark_everything(self) -> None:
        """Mark every period that has events: of a file from before there were rollups."""
        with self._transaction():
            for grain in rollups.GRAINS:
                self.connection.execute(
                    "INSERT INTO marks SELECT row_number() OVER () + (SELECT coalesce(max(mark), 0) FROM marks),"
                    " client_key, type_key, 0, $1, starts FROM (SELECT DISTINCT client_key, type_key,"
                    " occurred_at - occurred_at % $1 AS starts FROM events JOIN event_types USING (type_key))",
                    [grain],
                )
        self._load()

    def recover(self) -> None:
        """Read again what the file holds, after a failure.

        DuckDB goes on after few of them: a disk that is full at a checkpoint ends the use of the file until it is opened again.

        Raises:
            Unavailable: it cannot be opened yet, or somebody still reads from the one that failed.
        """
        if self._sound:
            return
        try:
            try:
                self._load()
            except duckdb.Error:
                self.connection.close()
                self.connection = duck.connect(self._path)
                self._load()
        except duckdb.Error as error:
            raise Unavailable("The event store cannot be opened again yet.", retry_after=1) from error
        self._sound = True

    def failed(self) -> None:
        """Somebody found that the file cannot be used: open it again if that is so."""
        self._sound = False
        self.recover()

    @property
    def dictionary(self) -> Dictionary:
        """The keys of the file's clients and event types."""
        return self._dictionary

    def _catch_up(self) -> None:
        """Without a complete index nothing is stored: it might be stored twice."""
        try:
            self._identities.catch_up(self.connection, self._next - 1)
        except Exception as error:  # the index raises nothing more telling
            raise Unavailable("The event store cannot write now.", retry_after=1) from error

    def _mark(self, owned: Sequence[tuple[str, Event]], exposures: Sequence[Exposure]) -> list[Mark]:
        keys = self._dictionary
        touched = [(keys.client_key(c), keys.type_key(c, event.event_type), event.occurred_at) for c, event in owned]
        exposed = [(keys.client_key(e.client), e.experiment, e.exposed_at) for e in exposures]
        return self._insert_marks(self._marker.marks(touched, exposed))

    def _insert_marks(self, left: list[Mark]) -> list[Mark]:
        if left:
            numbers = np.arange(self._next_mark, self._next_mark + len(left), dtype=np.int64)
            self._next_mark += len(left)
            fields = np.array(left, np.int64)
            self._insert(tables.marks, {"mark": numbers} | dict(zip(Mark._fields, fields.T, strict=True)))
        return left

    def _insert_events(self, owned: Sequence[tuple[str, Event]], ids: Sequence[bytes]) -> None:
        if owned:
            type_keys = [self._dictionary.type_key(client, event.event_type) for client, event in owned]
            found = columns.of_events(owned, ids, type_keys, self._keys_of)
            self._insert(tables.events, {"seq": self._take(len(owned))} | found)

    def _insert_exposures(self, exposures: Sequence[Exposure], ids: Sequence[bytes]) -> None:
        if exposures:
            clients = [self._dictionary.client_key(exposure.client) for exposure in exposures]
            found = columns.of_exposures(exposures, ids, clients, self._keys_of)
            self._insert(tables.exposures, {"seq": self._take(len(exposures))} | found)

    def _insert_new(self, table: Table, rows: Sequence[linking.Row], *keys: str) -> None:
        """Insert the rows whose client and keys are not there."""
        if rows:
            same = " AND ".join(f"there.{name} = fresh.{name}" for name in ("client_key", *keys))
            absent = f" WHERE NOT EXISTS (SELECT * FROM {table.name} AS there WHERE {same})"  # noqa: S608 - our own names
            self._insert(table, {name: np.array([row[name] for row in rows]) for name in rows[0]}, absent)

    def _insert(self, table: Table, values: columns.Columns, condition: str = "") -> None:
        self.connection.register("fresh", values)
        names = ", ".join(values)
        try:
            self.connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM fresh{condition}")  # noqa: S608 - our own names
        finally:
            self.connection.unregister("fresh")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.recover()
        try:
            self.connection.execute("BEGIN")
            yield
            self.connection.execute("COMMIT")
        except Exception as error:
            with suppress(duckdb.Error):  # the failure itself may have rolled it back
                self.connection.execute("ROLLBACK")
            self.failed()
            if isinstance(error, duckdb.Error):
                raise Unavailable("The event store cannot write now.", retry_after=1) from error
            raise

    def _keys_of(self, client: str) -> Keys:
        if client not in self._keys:
            self._keys[client] = Keys(client)
        return self._keys[client]

    def _take(self, count: int) -> Any:
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.int64)

    def _load(self) -> None:
        """What the tables say: the keys, and the next numbers."""
        self._dictionary = Dictionary(self.connection)
        self._next: int = last_sequence(self.connection) + 1
        [[highest]] = self.connection.execute("SELECT coalesce(max(mark), 0) FROM marks").fetchall()
        self._next_mark = int(highest) + 1


def outstanding(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The marks that stand, as a refresh reads them."""
    return duck.fetch(cursor, select(tables.marks))
