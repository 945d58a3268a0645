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

NAMES = ("sqlite", "postgresql", "mariadb")
_numbers = itertools.count()

Fresh = Callable[[str], str]


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """A function from the name of a database system to the URL of a fresh database there."""

    def database(name: str) -> str:
        number = next(_numbers)
        if name == "sqlite":
            return f"sqlite:///{tmp_path / f'database-{number}.db'}"
        server = request.getfixturevalue(f"{name}_server")
        url: str = server.database(f"test_{os.getpid()}_{number}")
        return url

    return database


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
