"""Bring a control database to this version's schema, with Alembic, in one transaction where the database has such."""

import asyncio
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from upshot.control import isolation
from upshot.database import parsed
from upshot.database.schema import changing
from upshot.errors import ConfigurationError

_SCRIPTS = Path(__file__).parent / "migrations"
_alembic = (
    threading.Lock()
)  # what a step works on is a global of Alembic: of two threads one would change the other's database


async def upgrade(url: str, owner: str | None = None) -> str:
    """Upgrade the database at `url`; returns the revision it is at. `owner` is the URL of the role that changes the schema in
    PostgreSQL, where that is not the application's own, which is then given what it needs.

    Raises:
        ConfigurationError: the URL cannot be used, the database refuses us, or a newer version of the program made it.
        Unavailable: the database server does not answer.
    """
    place, role = parsed(url, "DATABASE_URL"), None
    if owner is not None:
        role = place.username
        place = parsed(owner, "MIGRATION_DATABASE_URL")
        if place.get_backend_name() != "postgresql":
            raise ConfigurationError("MIGRATION_DATABASE_URL: roles of their own are for PostgreSQL only")
    return await asyncio.to_thread(_upgrade, place, role)


def _upgrade(url: URL, role: str | None) -> str:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    with changing(url, "DATABASE_URL") as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        head = scripts.get_current_head() or ""
        if revision != head:
            _check_known(revision, scripts)
            config.attributes["connection"] = connection
            with _alembic:
                command.upgrade(config, "head")
        if role is not None:
            isolation.separate(connection, role)
        return head


def _check_known(revision: str | None, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            f"DATABASE_URL: the database is at schema {revision}, which this version does not know (it is at "
            f"{scripts.get_current_head()}); run the version that made it, or a newer one"
        )
