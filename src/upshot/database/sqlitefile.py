"""SQLite: one connection that writes and checkpoints, others that read."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from upshot import targeting
from upshot.errors import ConfigurationError

# SQLite 3.7.0 to 3.51.2 can corrupt a WAL file when two connections write or checkpoint at the same instant
# (sqlite.org/wal.html, "The WAL-reset bug"). One connection writes and checkpoints here, whatever the version.
WRITER_SECONDS = 5.0

_COMMON = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA mmap_size=0",
    "PRAGMA cache_size=-32000",
)
_WRITER = (
    *_COMMON,
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA wal_autocheckpoint=1000",
)
_READER = (*_COMMON, "PRAGMA query_only=ON", "PRAGMA wal_autocheckpoint=0")


def path_of(url: URL, setting: str) -> Path:
    """The file that a SQLite URL names; its folder is made when it is not there.

    Raises:
        ConfigurationError: the URL names no file, or the folder cannot be made.
    """
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(f"{setting}: SQLite needs a file, such as sqlite:///upshot-data/control.db")
    path = Path(url.database)
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot make the folder {path.parent}: {error.strerror}") from error
    return path


def engines(path: Path, *, synchronous: str = "FULL", **driver: Any) -> tuple[AsyncEngine, AsyncEngine]:
    """Two engines on one SQLite file: the single writing connection, and readers that never write nor checkpoint.

    `driver` goes to SQLAlchemy; the power-cut simulation connects through its own disk with it.
    """
    # A pool of one is the queue in which writers wait for one another.
    writer = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=1,
        max_overflow=0,
        pool_timeout=WRITER_SECONDS,
        pool_reset_on_return=None,
        hide_parameters=True,
        **driver,
    )
    readers = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=2,
        max_overflow=2,
        pool_timeout=1,
        hide_parameters=True,  # as in servers.py
        **driver,
    )
    # A deferred transaction that writes after it read fails at once when another one wrote in between.
    _prepare(writer, (*_WRITER, f"PRAGMA synchronous={synchronous}"), begin="BEGIN IMMEDIATE")
    _prepare(readers, _READER, begin="BEGIN")
    return writer, readers


def keep_wal(connection: sqlite3.Connection, seconds: float) -> None:
    """Have the file keep a write-ahead log from now on. Of two connections that ask for it at the same instant SQLite turns one
    away without letting it wait: it asks again, for so long.

    Raises:
        sqlite3.OperationalError: the file cannot be opened or written, or was in use all that time.
    """
    for attempt in Retrying(
        retry=retry_if_exception(_is_busy),
        stop=stop_after_delay(seconds),
        wait=wait_random(0.005, 0.05),
        reraise=True,
    ):
        with attempt:
            connection.execute("PRAGMA journal_mode=WAL")


def copy(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, beside whoever writes; a plain copy of its files would be torn."""
    reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
    with closing(reading), closing(sqlite3.connect(target)) as copied:
        reading.backup(copied)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


def _prepare(engine: AsyncEngine, pragmas: Sequence[str], begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by its own rules
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()
        connection.run_async(_with_functions)

    @event.listens_for(engine.sync_engine, "invalidate")
    def let_go(connection: Any, _record: Any, _error: BaseException | None) -> None:
        # SQLite closes no connection while rows of a statement wait to be read, and these wait as long as the traceback of who
        # was broken off is kept anywhere: its lock would stay, and turn every writer away.
        with suppress(sqlite3.Error, ValueError, MissingGreenlet):  # closed already, or nobody is there to wait for it
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Any) -> None:
        connection.exec_driver_sql(begin)


class _Variance:
    """The population variance, which SQLite lacks, by Welford's recurrence."""

    def __init__(self) -> None:
        self._moments = (0, 0.0, 0.0)

    def step(self, value: float | None) -> None:
        """Take one value."""
        if value is not None:
            number, mean, squares = self._moments
            number, delta = number + 1, value - mean
            mean += delta / number
            self._moments = (number, mean, squares + delta * (value - mean))

    def finalize(self) -> float | None:
        """The variance of what was taken; none of nothing."""
        number, _, squares = self._moments
        return squares / number if number else None


class _Covariance:
    """The population covariance, which SQLite lacks, by the same recurrence."""

    def __init__(self) -> None:
        self._comoments = (0, 0.0, 0.0, 0.0)

    def step(self, one: float | None, another: float | None) -> None:
        """Take one pair of values."""
        if one is not None and another is not None:
            number, mean, other, products = self._comoments
            number, delta = number + 1, one - mean
            mean, other = mean + delta / number, other + (another - other) / number
            self._comoments = (number, mean, other, products + delta * (another - other))

    def finalize(self) -> float | None:
        """The covariance of what was taken; none of nothing."""
        number, _, _, products = self._comoments
        return products / number if number else None


def _written_number(text: str | None) -> float | None:
    return None if text is None else targeting.number(text)


async def _with_functions(driver: Any) -> None:
    if isinstance(driver._conn, sqlite3.Connection):  # noqa: SLF001 - the power-cut simulation brings another one
        await driver._execute(driver._conn.create_aggregate, "var_pop", 1, _Variance)  # noqa: SLF001 - no public way
        await driver._execute(driver._conn.create_aggregate, "covar_pop", 2, _Covariance)  # noqa: SLF001
        await driver.create_function("written_number", 1, _written_number, deterministic=True)
