"""A private MariaDB server, Debian's: the server of MySQL's family that this project is tested on."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from tests.backends import free_port, program
from tests.backends.daemon import ROOT, Daemon, give, ran

USER = "mysql" if ROOT else None
_HOW = "make servers, or apt install mariadb-server"
_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--key-buffer-size=1M",
)
_FIRST = """CREATE USER IF NOT EXISTS upshot@'%';
GRANT ALL ON *.* TO upshot@'%';
CREATE DATABASE IF NOT EXISTS upshot;
"""


class MariaDB(Daemon):
    """One running server. The user "upshot" may do everything and needs no password."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        super().__init__(
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            f"--port={self._port}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={folder / 'first.sql'}",
            *_SETTINGS,
            log=folder / "mariadb.log",
            user=USER,
            ending=signal.SIGTERM,
            answers=self._answers_queries,
        )

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._url("upshot")

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self.ask("SELECT VERSION()"))

    def database(self, name: str) -> str:
        """Make a fresh database; its URL."""
        self.ask(f"DROP DATABASE IF EXISTS `{name}`")
        self.ask(f"CREATE DATABASE `{name}`")
        return self._url(name)

    def empty(self, name: str, keeping: str) -> None:
        """Take all rows out of a database but those of one table, and let its numbers begin anew."""
        with self._asking(name) as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute("SHOW TABLES")
            for (table,) in cursor.fetchall():
                if table != keeping and cursor.execute(f"SELECT 1 FROM `{table}` LIMIT 1"):  # noqa: S608
                    cursor.execute(f"TRUNCATE TABLE `{table}`")

    def ask(self, query: str, database: str = "upshot") -> Any:
        """The first value that a statement answers."""
        with self._asking(database) as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
            return None if row is None else row[0]

    @contextmanager
    def _asking(self, database: str) -> Iterator[pymysql.cursors.Cursor]:
        with (
            pymysql.connect(
                host="127.0.0.1",
                port=self._port,
                user="upshot",
                database=database,
                autocommit=True,
                connect_timeout=10,
                read_timeout=10,
            ) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor

    def _url(self, database: str) -> str:
        return f"mysql://upshot@127.0.0.1:{self._port}/{database}"

    def _answers_queries(self) -> bool:
        with suppress(pymysql.err.OperationalError):
            return bool(self.ask("SELECT 1"))
        return False


@contextmanager
def mariadb(folder: Path) -> Iterator[MariaDB]:
    """A server for the time of a block, its data in the folder; skips the test where there is none to be had."""
    installing = _program("mariadb-install-db")
    give(folder, USER)
    (folder / "first.sql").write_text(_FIRST, encoding="utf-8")
    done = subprocess.run(
        [
            installing,
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        user=USER,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    server = MariaDB(folder)
    try:
        ran("MariaDB", server.version)
        yield server
    finally:
        server.end()


def _program(name: str) -> str:
    return program("MariaDB", _HOW, name, f"/usr/sbin/{name}")
