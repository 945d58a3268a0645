"""Bring a control database to this version's schema, with Alembic, in one transaction where the database has such."""

import asyncio
import importlib
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from upshot.control import isolation
from upshot.database import parsed
from upshot.database.schema import changing
from upshot.errors import ConfigurationError

_SCRIPTS = Path(__file__).parent / "migrations"


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
    newest = max(script.name for script in _SCRIPTS.glob("versions/[0-9]*.py")).partition("_")[0]
    with changing(url, "DATABASE_URL") as connection:
        revision = _revision(connection)
        if revision != newest:
            # Alembic takes a tenth of a second and ten megabytes that an ordinary start does without.
            importlib.import_module("upshot.control.steps").run(connection, _SCRIPTS, revision)
        if role is not None:
            isolation.separate(connection, role)
        return newest


def _revision(connection: Connection) -> str | None:
    """The last step that the database has seen, by Alembic's table."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
