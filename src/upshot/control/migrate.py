"""Bring a control database to this version's schema, with Alembic, in one transaction where the database has such."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError

from upshot.database import parsed, sqlitefile
from upshot.database.servers import CONNECT_SECONDS, REFUSED, code_of
from upshot.database.urls import blocking
from upshot.errors import ConfigurationError, Unavailable

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 8_720_184_511  # any number that nobody else locks
_WAIT_SECONDS = 30


async def upgrade(url: str) -> str:
    """Upgrade the database at `url`; returns the revision it is at.

    Raises:
        ConfigurationError: the URL cannot be used, the database refuses us, or a newer version of the program made it.
        Unavailable: the database server does not answer.
    """
    database = parsed(url, "DATABASE_URL")
    try:
        return await asyncio.to_thread(_upgrade, database)
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        if database.get_backend_name() == "sqlite" or code_of(error) in REFUSED:
            raise ConfigurationError(f"DATABASE_URL: the database cannot be opened: {reason}") from error
        raise Unavailable(f"The database cannot be reached: {reason}", retry_after=1) from error


def _upgrade(url: URL) -> str:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    engine = _engine(url)
    try:
        with engine.begin() as connection, _alone(connection):
            revision = MigrationContext.configure(connection).get_current_revision()
            head = scripts.get_current_head() or ""
            if revision != head:
                _check_known(revision, scripts)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            return head
    finally:
        engine.dispose()


def _check_known(revision: str | None, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            f"DATABASE_URL: the database is at schema {revision}, which this version does not know (it is at "
            f"{scripts.get_current_head()}); run the version that made it, or a newer one"
        )


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Of several starters one migrates, the others wait and see. SQLite's transaction holds the write lock already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    elif connection.dialect.name == "mysql":
        connection.execute(text(f"SELECT GET_LOCK('upshot-{_LOCK}', {_WAIT_SECONDS})"))
    yield
    if connection.dialect.name == "mysql":
        connection.execute(text(f"SELECT RELEASE_LOCK('upshot-{_LOCK}')"))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(blocking(url), connect_args={"connect_timeout": CONNECT_SECONDS})
    sqlitefile.path_of(url, "DATABASE_URL")
    engine = create_engine(blocking(url), connect_args={"timeout": _WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
