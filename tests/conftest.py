"""Fixtures that many tests share: stores in a folder of their own, the application in this process, a real server."""

import asyncio
import os
import shutil
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
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of this version, empty: how it comes about has tests of its own, and takes 0.2 s."""
    folder = tmp_path_factory.mktemp("made")

    async def make() -> None:
        await migrate.upgrade(f"sqlite:///{folder / 'control.db'}")
        await (await eventstore.connect(f"duckdb:///{folder / 'events.db'}")).close()

    asyncio.run(make())
    return folder


@pytest.fixture
def data_dir(tmp_path: Path, made: Path) -> Path:
    """An empty data folder of a test's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
async def stores(data_dir: Path, clock: FixedClock) -> AsyncIterator[Stores]:
    """Fresh embedded stores."""
    opened = Stores(
        await control.connect(f"sqlite:///{data_dir / 'control.db'}"),
        await eventstore.connect(f"duckdb:///{data_dir / 'events.db'}"),
        cache.connect("memory://"),
        clock,
    )
    yield opened
    await opened.close()


@pytest.fixture
async def api(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The whole application in this process, asked as the client "first"."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {TOKEN: "first", OTHER_TOKEN: "second"})
    async with asking(app) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server process, shared by the tests of a module."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started
