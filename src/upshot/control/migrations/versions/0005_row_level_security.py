"""In PostgreSQL every row is shown to its client's transactions only, also to the owner of the tables.

A transaction says whose it is with `SET LOCAL upshot.client`; one that does not say it sees nothing, `*` stands for all clients
(work that is done for everybody). A superuser, and a role with BYPASSRLS, is not bound by it: `control/isolation.py` looks for
that.

Revision: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = (
    "experiments", "variants", "phases", "assignments", "metric_definitions",
    "users", "api_keys", "sessions", "refresh_tokens", "invitations", "audit", "approvals", "client_settings",
)  # fmt: skip
_OURS = "client_id = current_setting('upshot.client', true) OR current_setting('upshot.client', true) = '*'"
_EVERYBODYS = "current_setting('upshot.client', true) = '*'"


def upgrade() -> None:
    """Make the policies. The outbox holds exposures of all clients, and assignments are stored for all of them at once."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            _bind(table, _OURS)
        _bind("outbox", _EVERYBODYS)


def _bind(table: str, rule: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"DROP POLICY IF EXISTS {table}_client ON {table}")
    op.execute(f"CREATE POLICY {table}_client ON {table} USING ({rule}) WITH CHECK ({rule})")
