"""Servers for the conformance suites."""

from collections.abc import Iterator

import pytest
from tests.backends.clickhouse import ClickHouse, clickhouse
from tests.backends.daemon import ran, server_folder


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[ClickHouse]:
    """A ClickHouse server; take a fresh database of it."""
    with server_folder() as folder, clickhouse(folder) as server:
        ran("ClickHouse", server.version)
        yield server
