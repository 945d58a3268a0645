"""PostgreSQL's row-level security: whom it binds, and what the application's role may do.

With one URL the application owns its tables. With `MIGRATION_DATABASE_URL` two roles share the work: the owner changes the
schema, and the application, which can then neither bypass a policy nor switch one off, reads and writes rows.
"""

import logging

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.errors import ConfigurationError

log = logging.getLogger(__name__)

_POWERS = text(
    "SELECT rolsuper, rolbypassrls, EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('experiments')"
    " AND pg_has_role(current_user, relowner, 'MEMBER')) AS owns FROM pg_roles WHERE rolname = current_user"
)
_NAMES = {"rolsuper": "is a superuser", "rolbypassrls": "has BYPASSRLS", "owns": "owns the tables"}


def grant(connection: Connection, role: str) -> None:
    """Let the application's role read and write the rows of the schema, now and of tables to come; of the audit log only add and
    read."""
    quoted = connection.dialect.identifier_preparer.quote(role)
    schema = connection.scalar(text("SELECT quote_ident(current_schema())"))
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {quoted}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {quoted}",
    ):
        connection.execute(text(statement))
    if connection.scalar(text("SELECT to_regclass('audit')")) is not None:
        connection.execute(text(f"REVOKE UPDATE, DELETE ON audit FROM {quoted}"))
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is not None:
        connection.execute(text(f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {quoted}"))


async def check(connection: AsyncConnection, *, separate: bool) -> None:
    """Look whether our role could see the rows of every client.

    Args:
        separate: whether another role owns the tables; then one that could bypass the policies is refused, else it is said.

    Raises:
        ConfigurationError: it could.
    """
    powers = (await connection.execute(_POWERS)).one()._mapping  # noqa: SLF001 - SQLAlchemy's documented accessor
    found = [words for name, words in _NAMES.items() if powers[name]]
    if not separate:
        if powers["rolsuper"] or powers["rolbypassrls"]:
            log.warning("row-level security does not bind us: our role %s; see docs/security.md", found[0])
        return
    if found:
        raise ConfigurationError(
            f"DATABASE_URL: row-level security would not bind the application: its role {' and '.join(found)}; "
            "give it a role of its own (docs/security.md)"
        )
