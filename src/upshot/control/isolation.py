"""PostgreSQL's row-level security: whom it binds, and what the application's role may do.

With one URL the application owns its tables. With `MIGRATION_DATABASE_URL` two roles share the work: the owner changes the
schema, and the application, which can then neither bypass a policy nor switch one off, reads and writes rows.

Each transaction says whose it is (`set_config('upshot.client', …, true)`, in the round trip that sets its limits). Policies
show it that client's rows, nothing where none is said, and everything to `*`, which stands for all clients where work is done
for everybody. Any client may add to the outbox, of which it sees nothing.
"""

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.control.schema import metadata
from upshot.errors import ConfigurationError

_POWERS = text(
    "SELECT rolsuper, rolbypassrls, EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('experiments')"
    " AND pg_has_role(current_user, relowner, 'MEMBER')) AS owns FROM pg_roles WHERE rolname = current_user"
)
_BOUND = text(
    "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relnamespace = current_schema()::regnamespace"
)
_MAY_ADD = text("SELECT count(*) FROM pg_policies WHERE schemaname = current_schema() AND policyname = 'outbox_added'")
_CLIENT = "current_setting('upshot.client', true)"
_NAMES = {"rolsuper": "is a superuser", "rolbypassrls": "has BYPASSRLS", "owns": "owns the tables"}


def separate(connection: Connection, role: str) -> None:
    """Bind every table with rows of clients to them, and let the application's role read and write rows, now and of tables to
    come; of the audit log only read and add. What is so already is left alone: it would lock readers out."""
    bound = set(connection.execute(_BOUND).scalars())
    for table in metadata.sorted_tables:
        if table.name not in bound and ("client_id" in table.c or table.name == "outbox"):
            rule = f"client_id = {_CLIENT} OR {_CLIENT} = '*'" if "client_id" in table.c else f"{_CLIENT} = '*'"
            policy = f"{table.name}_client ON {table.name}"
            connection.execute(text(f"DROP POLICY IF EXISTS {policy}"))
            connection.execute(text(f"CREATE POLICY {policy} USING ({rule}) WITH CHECK ({rule})"))
            connection.execute(text(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"))
    if not connection.scalar(_MAY_ADD):
        connection.execute(text(f"CREATE POLICY outbox_added ON outbox FOR INSERT WITH CHECK ({_CLIENT} <> '')"))
    quoted = connection.dialect.identifier_preparer.quote(role)
    schema = connection.scalar(text("SELECT quote_ident(current_schema())"))
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {quoted}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {quoted}",
        f"REVOKE UPDATE, DELETE ON audit FROM {quoted}",
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {quoted}",
    ):
        connection.execute(text(statement))


async def check(connection: AsyncConnection) -> None:
    """Refuse a role that could see the rows of every client.

    Raises:
        ConfigurationError: it could.
    """
    powers = (await connection.execute(_POWERS)).one()._mapping  # noqa: SLF001 - SQLAlchemy's documented accessor
    found = [words for name, words in _NAMES.items() if powers[name]]
    if found:
        raise ConfigurationError(
            f"DATABASE_URL: row-level security would not bind the application: its role {' and '.join(found)}; "
            "give it a role of its own (docs/access.md)"
        )
