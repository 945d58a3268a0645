"""Changing a schema: a connection without an event loop, held by one process at a time."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool, create_engine, event, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError

from upshot.database import sqlitefile
from upshot.database.servers import CONNECT_SECONDS, REFUSED, WAITED, code_of
from upshot.database.urls import blocking
from upshot.errors import ConfigurationError, Unavailable

_LOCK = 8_720_184_511  # any number that nobody else locks
_WAIT_SECONDS = 30


@contextmanager
def changing(url: URL, setting: str) -> Iterator[Connection]:
    """A transaction in which a schema may be changed: of several starters one changes it, the others wait and see.

    MySQL commits every DDL statement by itself: there the changes must be such that they can be begun again.

    Raises:
        ConfigurationError: the database cannot be opened, or refuses us.
        Unavailable: its server does not answer.
    """
    engine = _engine(url, setting)
    try:
        with engine.begin() as connection:
            _lock(connection)
            yield connection
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        if url.get_backend_name() == "sqlite" or code_of(error) in REFUSED:
            raise ConfigurationError(f"{setting}: the database cannot be opened: {reason}") from error
        if error.connection_invalidated or error.statement is None or code_of(error) in WAITED:
            raise Unavailable(f"The database cannot be reached: {reason}", retry_after=1) from error
        raise  # a statement that the database refuses would be refused again
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    """Lock others out until the end: of the transaction in PostgreSQL, of the connection in MySQL, where whoever came before the
    last commit would see the old revision. SQLite's transaction holds the write lock already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
        connection.execute(text("SET LOCAL upshot.client = '*'"))  # row-level security binds the owner, too
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    elif connection.dialect.name == "mysql":
        connection.execute(text(f"SET SESSION lock_wait_timeout = {_WAIT_SECONDS}"))
        if not connection.scalar(text(f"SELECT GET_LOCK('upshot-{_LOCK}', {_WAIT_SECONDS})")):
            raise Unavailable("Another process is changing the database's schema.", retry_after=1)


def _engine(url: URL, setting: str) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(blocking(url), poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})
    sqlitefile.path_of(url, setting)
    engine = create_engine(blocking(url), connect_args={"timeout": _WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        # Before anybody opens it to write, who would be turned away where two do so at once.
        sqlitefile.keep_wal(connection, _WAIT_SECONDS)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
