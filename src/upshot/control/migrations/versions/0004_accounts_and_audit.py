"""People, API keys, sessions, invitations; the audit log, approvals and what a client's admins chose.

The audit log is only added to: SQLite and PostgreSQL refuse to change or remove its rows, whoever asks. MySQL lets nobody make a
trigger without a right that few have; there the application's account is given no right to change that table (docs/security.md).

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Document, LongText, Moment, Number, exact

revision = "0004"
down_revision = "0003"

_SQLITE = (
    "CREATE TRIGGER IF NOT EXISTS audit_not_{what}d BEFORE {what} ON audit"
    " BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END"
)
_POSTGRESQL = (
    (
        "CREATE OR REPLACE FUNCTION upshot_audit_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit log is only added to'; END $$"
    ),
    (
        "CREATE OR REPLACE TRIGGER audit_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION upshot_audit_is_only_added_to()"
    ),
)


def upgrade() -> None:
    """Make the tables, their indexes and the triggers."""
    _people()
    _credentials()
    _trail()
    inspector = sa.inspect(op.get_bind())
    for table, columns in (
        ("api_keys", ["client_id"]),
        ("sessions", ["user_id"]),
        ("refresh_tokens", ["session_id"]),
        ("invitations", ["user_id"]),
        ("audit", ["client_id", "number"]),
        ("approvals", ["client_id", "state"]),
    ):
        name = f"ix_{table}_{'_'.join(columns)}"
        if not inspector.has_index(table, name):
            op.create_index(name, table, columns)
    dialect = op.get_bind().dialect.name
    triggers = {"sqlite": [_SQLITE.format(what=what) for what in ("update", "delete")], "postgresql": _POSTGRESQL}
    for statement in triggers.get(dialect, ()):
        op.execute(statement)


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("email", exact(254), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("password", sa.String(200)),
        sa.Column("subject", exact(64)),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.Column("not_before", Moment(), nullable=False),
        sa.Column("signed_in_at", Moment()),
        sa.Column("disabled_at", Moment()),
        sa.CheckConstraint("role IN ('viewer', 'editor', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("client_id", "email", name=op.f("uq_users_client_id_email")),
        sa.UniqueConstraint("client_id", "subject", name=op.f("uq_users_client_id_subject")),
        if_not_exists=True,
    )


def _credentials() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", exact(10), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("name", exact(120), nullable=False),
        sa.Column("scopes", Document(), nullable=False),
        sa.Column("origins", Document(), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("ending", exact(4), nullable=False),
        sa.Column("created_by", exact(120), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment()),
        sa.Column("last_used_at", Moment()),
        sa.Column("revoked_at", Moment()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        if_not_exists=True,
    )
    op.create_table(
        "sessions",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("user_id", exact(36), nullable=False),
        sa.Column("means", sa.String(20), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("used_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("revoked_at", Moment()),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("digest", name=op.f("uq_sessions_digest")),
        if_not_exists=True,
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("session_id", exact(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_refresh_tokens_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
        if_not_exists=True,
    )
    op.create_table(
        "invitations",
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("user_id", exact(36)),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("used_at", Moment()),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_invitations_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitations")),
        if_not_exists=True,
    )


def _trail() -> None:
    op.create_table(
        "audit",
        sa.Column("number", Number, autoincrement=True, nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor_kind", sa.String(20), nullable=False),
        sa.Column("actor_id", exact(120), nullable=False),
        sa.Column("actor_name", LongText, nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("object_kind", sa.String(40), nullable=False),
        sa.Column("object_id", exact(200), nullable=False),
        sa.Column("before", Document()),
        sa.Column("after", Document()),
        sa.Column("request_id", exact(128)),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "approvals",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("experiment_id", exact(36), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("requested_by", exact(160), nullable=False),
        sa.Column("requested_by_name", LongText, nullable=False),
        sa.Column("requested_at", Moment(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("decided_by", exact(160)),
        sa.Column("decided_by_name", LongText),
        sa.Column("decided_at", Moment()),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_approvals_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        if_not_exists=True,
    )
    op.create_table(
        "client_settings",
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("chosen", Document(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_settings")),
        if_not_exists=True,
    )
