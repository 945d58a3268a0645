"""Bring a control database to this version's schema, with Alembic, in one transaction per step."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine

from upshot.control import dialects
from upshot.errors import ConfigurationError

_SCRIPTS = Path(__file__).parent / "migrations"


async def upgrade(url: str) -> str:
    """Upgrade the database at `url`; returns the revision it is at.

    Raises:
        ConfigurationError: the database was made by a newer version of the program.
    """
    return await asyncio.to_thread(_upgrade, url)


def _upgrade(url: str) -> str:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    engine = _engine(url)
    try:
        with engine.begin() as connection:
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


def _engine(url: str) -> Engine:
    """One connection whose transaction holds the write lock: of two starters one migrates, the other waits and sees."""
    engine = create_engine(f"sqlite:///{dialects.path_of(url)}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
