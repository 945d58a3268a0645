"""Fixtures that many tests share: stores in a folder of their own, the application in this process, a real server."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.servers import OTHER_TOKEN, TOKEN, UNLIMITED, RunningServer, asking, running
from upshot import cache, control, eventstore
from upshot.clock import FixedClock
from upshot.control import migrate
from upshot.http.app import create_app
from upshot.operations import Stores
from upshot.settings import Settings

pytest_plugins = ["tests.backends.fixtures"]

for _name in [name for name in os.environ if name.startswith("UPSHOT_")]:
    del os.environ[_name]

settings.register_profile("upshot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("upshot")


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still until a test moves it."""
    return FixedClock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A control store of this version in a SQLite file: its migrations have tests of their own, and take 0.1 s."""
    path = tmp_path_factory.mktemp("migrated") / "control.db"
    asyncio.run(migrate.upgrade(f"sqlite:///{path}"))
    return path.read_bytes()


@pytest.fixture
async def stores(tmp_path: Path, clock: FixedClock, migrated: bytes) -> AsyncIterator[Stores]:
    """Fresh embedded stores."""
    (tmp_path / "control.db").write_bytes(migrated)
    opened = Stores(
        await control.connect(f"sqlite:///{tmp_path / 'control.db'}"),
        await eventstore.connect(f"duckdb:///{tmp_path / 'events.db'}"),
        cache.connect("memory://"),
        clock,
    )
    yield opened
    await opened.close()


@pytest.fixture
async def api(tmp_path: Path, migrated: bytes) -> AsyncIterator[httpx.AsyncClient]:
    """The whole application in this process, asked as the client "first"."""
    (tmp_path / "control.db").write_bytes(migrated)
    app = create_app(Settings(data_dir=tmp_path, **UNLIMITED), {TOKEN: "first", OTHER_TOKEN: "second"})
    async with asking(app) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server process, shared by the tests of a module."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started
