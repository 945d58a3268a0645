"""A SQLite file keeps a write-ahead log before anybody writes into it: two who ask for one at once turn each other away."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from upshot.control import migrate
from upshot.database import sqlitefile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is, or will be."""
    return tmp_path / "control.db"


class Asking(sqlite3.Connection):
    """A connection that tells when it was turned away."""

    turned_away: Callable[[], object] = staticmethod(lambda: None)

    def execute(self, *asked: Any) -> sqlite3.Cursor:
        """Run a statement."""
        try:
            return super().execute(*asked)
        except sqlite3.OperationalError:
            self.turned_away()
            raise


@pytest.fixture
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody who reads a file as SQLite makes it, until it is told to commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE kept (number INTEGER)")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM kept").fetchall()
        yield connection


@pytest.fixture
def plain(path: Path, reading: sqlite3.Connection) -> Iterator[Asking]:
    """Another connection to that file."""
    # A time of its own to wait would hide what SQLite does of two that ask at the same instant: it lets neither wait.
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None, factory=Asking)) as asking:
        yield asking


def mode(path: Path) -> str:
    """How the file is written, by its own word."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


async def test_a_file_keeps_a_log_from_its_first_migration_on(path: Path) -> None:
    """So that whoever opens it to write finds it so."""
    await migrate.upgrade(f"sqlite:///{path}")

    assert mode(path) == "wal"


def test_who_is_turned_away_asks_again(plain: Asking, reading: sqlite3.Connection, path: Path) -> None:
    """Until the other one is done, which is after two times here."""
    turned_away = count(1)

    def done() -> None:
        if next(turned_away) == 2:
            reading.execute("COMMIT")

    plain.turned_away = done
    sqlitefile.keep_wal(plain, 60)

    assert mode(path) == "wal"
    assert next(turned_away) == 3


def test_asking_once_is_caught(plain: Asking) -> None:
    """A mutant: it is turned away, whatever the connection would wait."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        plain.execute("PRAGMA journal_mode=WAL")


def test_who_waits_too_long_is_told(plain: Asking) -> None:
    """The file is in use all the time."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlitefile.keep_wal(plain, 0.05)


def test_a_file_that_cannot_be_written_is_not_asked_twice(path: Path) -> None:
    """No waiting makes it better."""
    with closing(sqlite3.connect(path)) as making:
        making.execute("CREATE TABLE kept (number INTEGER)")
    began = time.monotonic()

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as asking, pytest.raises(sqlite3.OperationalError):
        sqlitefile.keep_wal(asking, 30)
    assert time.monotonic() - began < 15
