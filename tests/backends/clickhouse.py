"""A private ClickHouse: its engine, which comes as a wheel, behind an HTTP front in a process of its own."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from tests.backends import free_port, unavailable
from tests.backends.daemon import Daemon

_HOW = "pip install chdb"


class ClickHouse(Daemon):
    """One running server. The user "default" may do everything and needs no password."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        super().__init__(
            sys.executable,
            str(Path(__file__).with_name("clickhouse_front.py")),
            str(folder / "data"),
            str(self._port),
            log=folder / "out",
            user=None,
            ending=signal.SIGTERM,
            answers=self._answers_queries,
        )

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._url("default")

    @property
    def version(self) -> str:
        """The engine's version."""
        return self.ask("SELECT version()")

    def database(self, name: str) -> str:
        """Make a fresh database; its URL."""
        self.ask(f"DROP DATABASE IF EXISTS `{name}` SYNC")
        self.ask(f"CREATE DATABASE `{name}`")
        return self._url(name)

    def ask(self, query: str, database: str = "default") -> str:
        """What a statement answers, as text."""
        client = clickhouse_connect.get_client(host="127.0.0.1", port=self._port, database=database, connect_timeout=2)
        try:
            return str(client.command(query))
        finally:
            client.close()

    def _url(self, database: str) -> str:
        return f"clickhouse://default@127.0.0.1:{self._port}/{database}"

    def _answers_queries(self) -> bool:
        with suppress(ClickHouseError):
            return bool(self.version)
        return False


@contextmanager
def clickhouse(folder: Path) -> Iterator[ClickHouse]:
    """A server for the time of a block, its data in the folder; skips the test where the engine is missing."""
    if find_spec("chdb") is None:
        unavailable("ClickHouse", _HOW)
    server = ClickHouse(folder)
    try:
        yield server
    finally:
        server.stop()
