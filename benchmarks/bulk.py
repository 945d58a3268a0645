"""Millions of events into every store, past its front door: the embedded store's rows as files, loaded by the engine itself.

The keys of the client and of the event types are the store's own; identities are not filled: nothing is appended afterwards.
"""

import asyncio
import csv
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import clickhouse_connect
import duckdb
import psycopg
import pymysql
from sqlalchemy.engine import make_url

from benchmarks.dataset import TYPES
from upshot import eventstore
from upshot.events import Event, Exposure

EVENTS = ("type_key", "user_key", "occurred_at", "received_at", "value", "flags", "id_high", "id_low", "fingerprint", "user_id",
          "event_id", "experiment_id", "properties")  # fmt: skip
EXPOSURES = (
    "client_key",
    "experiment",
    "user_key",
    "variant",
    "phase",
    "exposed_at",
    "id_high",
    "id_low",
    "user_id",
    "context",
)
ROWS = 2_000_000  # of one file

Ask = Callable[[str], list[tuple[object, ...]]]


def fill(url: str, client: str, source: Path, folder: Path) -> None:
    """Put what an embedded store's file holds into the store at `url`, whose tables know the client and the types afterwards."""
    asyncio.run(_register(url, client))
    {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql, "clickhouse": _clickhouse}[url.partition(":")[0]](
        url, client, source, folder
    )


async def _register(url: str, client: str) -> None:
    store = await eventstore.connect(url)
    await store.append(client, [Event(name, "nobody", name, 0, 0, None, "{}", None, 0, 0) for name in TYPES])
    await store.expose([Exposure(client, 999, "nobody", 0, 1, 0, "{}")])
    await store.close()


def _files(ask: Ask, client: str, source: Path, folder: Path, form: str) -> Iterator[tuple[str, Path]]:
    """(table, file) of parts of the rows, with the store's own keys."""
    types = {str(name): int(str(key)) for key, name in ask("SELECT type_key, name FROM event_types")}
    [[owner]] = ask(f"SELECT client_key FROM clients WHERE client = '{client}'")  # noqa: S608 - our own
    case = " ".join(f"WHEN {number} THEN {types[name]}" for number, name in enumerate(TYPES, 1))
    with duckdb.connect(source, read_only=True) as connection:
        connection.execute("SET enable_progress_bar = false")
        for table, names, own in (
            ("events", EVENTS, {"type_key": f"(CASE type_key {case} END)::BIGINT AS type_key"}),
            ("exposures", EXPOSURES, {"client_key": f"{owner}::BIGINT AS client_key"}),
        ):
            [[rows]] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608
            chosen = ", ".join(own.get(name, name) for name in names)
            for number, first in enumerate(range(0, rows, ROWS)):
                path = folder / f"{table}-{number}.{form}"
                options = "FORMAT parquet" if form == "parquet" else "FORMAT csv, HEADER false, NULLSTR '\\N'"
                part = f"SELECT {chosen} FROM {table} LIMIT {ROWS} OFFSET {first}"  # noqa: S608
                connection.execute(f"COPY ({part}) TO '{path}' ({options})")
                yield table, path
                path.unlink()


# The tests' server is a small one; this is how one of these events would be set up.
SIZED = {"innodb_buffer_pool_size": 6 << 30, "innodb_log_file_size": 2 << 30}


def _postgresql(url: str, client: str, source: Path, folder: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        names: Mapping[str, tuple[str, ...]] = {"events": EVENTS, "exposures": EXPOSURES}
        for table, path in _files(lambda query: connection.execute(query).fetchall(), client, source, folder, "csv"):
            statement = f"COPY {table} ({', '.join(names[table])}) FROM STDIN (FORMAT csv, NULL '\\N')"
            with connection.cursor() as cursor, cursor.copy(statement) as copy, path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    copy.write(chunk)
        connection.execute("VACUUM (ANALYZE)")


def _mysql(url: str, client: str, source: Path, folder: Path) -> None:
    place = make_url(url)
    connection = pymysql.connect(
        host=place.host, port=place.port or 3306, user=place.username, database=place.database, local_infile=True
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL local_infile = 1")
        for name, size in SIZED.items():
            cursor.execute(f"SET GLOBAL {name} = {size}")

        def ask(query: str) -> list[tuple[object, ...]]:
            cursor.execute(query)
            return list(cursor.fetchall())

        names = {"events": EVENTS, "exposures": EXPOSURES}
        for table, path in _files(ask, client, source, folder, "csv"):
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {table} FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"'"
                f" ESCAPED BY '\\\\' ({', '.join(names[table])})"
            )
            connection.commit()
        cursor.execute("ANALYZE TABLE events, exposures")


def _sqlite(url: str, client: str, source: Path, folder: Path) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        names = {"events": EVENTS, "exposures": EXPOSURES}
        for table, path in _files(lambda query: connection.execute(query).fetchall(), client, source, folder, "csv"):
            marks = ", ".join("?" for _ in names[table])
            with path.open(encoding="utf-8", newline="") as file:
                rows = ([None if value == "\\N" else value for value in row] for row in csv.reader(file))
                connection.executemany(f"INSERT INTO {table} ({', '.join(names[table])}) VALUES ({marks})", rows)  # noqa: S608
            connection.commit()
        connection.execute("ANALYZE")


def _clickhouse(url: str, client: str, source: Path, folder: Path) -> None:
    place = make_url(url)
    server = clickhouse_connect.get_client(
        host=place.host or "", port=place.port or 8123, database=place.database or ""
    )
    names = {"events": EVENTS, "exposures": EXPOSURES}
    for table, path in _files(
        lambda query: [tuple(row) for row in server.query(query).result_rows], client, source, folder, "parquet"
    ):
        columns = ", ".join(names[table])
        server.command(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM file('{path}', Parquet)")  # noqa: S608
    server.command("OPTIMIZE TABLE events FINAL")
    server.close()
