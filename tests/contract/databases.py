"""Fresh databases of every kind that can hold control data or events, by name; each test gets one of its own."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

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
