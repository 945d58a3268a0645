"""Fresh databases of every kind that can hold control data or events, by name; each test gets one of its own."""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from upshot.control import migrate
from upshot.database import servers, sqlitefile

NAMES = ("sqlite", "postgresql", "mariadb")
_numbers = itertools.count()

SECONDS = 60
"""How long locks and connections are waited for here. That the product gives them up sooner is the subject of other tests, and
nothing that a busy machine should show in these."""

Fresh = Callable[[str], str]


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """A function from the name of a database system to the URL of a fresh database there."""
    patient(monkeypatch)

    def database(name: str) -> str:
        number = next(_numbers)
        if name == "sqlite":
            return f"sqlite:///{tmp_path / f'database-{number}.db'}"
        server = request.getfixturevalue(f"{name}_server")
        url: str = server.database(f"test_{os.getpid()}_{number}")
        return url

    return database


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for so long."""
    for name in ("CONNECT_SECONDS", "POOL_SECONDS"):
        monkeypatch.setattr(servers, name, SECONDS)
    for name, usual, longer in (
        ("_POSTGRESQL", f"'{servers.LOCK_SECONDS * 1_000}'", f"'{SECONDS * 1_000}'"),
        ("_MYSQL", "max_statement_time = 30", "max_statement_time = 300"),
        ("_MYSQL", f"lock_wait_timeout = {servers.LOCK_SECONDS}", f"lock_wait_timeout = {SECONDS}"),
    ):
        assert usual in getattr(servers, name)
        monkeypatch.setattr(servers, name, getattr(servers, name).replace(usual, longer))
    monkeypatch.setattr(sqlitefile, "WRITER_SECONDS", float(SECONDS))
    monkeypatch.setattr(sqlitefile, "_WRITER", (*sqlitefile._WRITER, f"PRAGMA busy_timeout={SECONDS * 1_000}"))


@pytest.fixture(scope="session")
def standing() -> dict[str, str]:
    """The database of each server that was migrated from empty: its URL."""
    return {}


@pytest.fixture
def migrated(request: pytest.FixtureRequest, fresh: Fresh, made: Path, standing: dict[str, str]) -> Fresh:
    """A function from the name of a database system to the URL of a database of this version there, without a row.

    How one comes about has tests of its own, and takes one or two seconds: SQLite's is copied, and a server has one that is
    emptied for the next test. A test that wants a second one there gets it the long way.
    """
    taken: set[str] = set()

    def database(name: str) -> str:
        if name == "sqlite":
            url = fresh(name)
            shutil.copy(made / "control.db", url.removeprefix("sqlite:///"))
            return url
        if name in taken:
            return fresh(name)
        taken.add(name)
        if name not in standing:
            standing[name] = fresh(name)
            with ThreadPoolExecutor(1) as executor:  # the caller may be in a loop of its own
                executor.submit(asyncio.run, migrate.upgrade(standing[name])).result()
        server = request.getfixturevalue(f"{name}_server")
        server.empty(standing[name].rpartition("/")[2], keeping="alembic_version")
        return standing[name]

    return database
