"""The tables of who may do what, and of what was done. The migrations make exactly these, as those of `tables.py`.

Every row is one client's; `sessions`, `refresh_tokens` and `answers` are forgotten when they have ended, the audit log never is.
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from upshot.control.tables import Document, LongText, Moment, Number, exact, metadata

DIGEST = 64

users = Table(
    "users", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("email", exact(254), nullable=False),
    Column("name", String(120), nullable=False),
    Column("role", String(20), nullable=False),
    Column("password", String(200)),
    Column("subject", exact(64)),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("signed_in_at", Moment),
    Column("disabled_at", Moment),
    Column("factor", Document),
    UniqueConstraint("client_id", "email"),
    UniqueConstraint("client_id", "subject"),
    CheckConstraint("role IN ('viewer', 'editor', 'admin')", name="role"),
)  # fmt: skip

api_keys = Table(
    "api_keys", metadata,
    Column("id", exact(10), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("name", exact(120), nullable=False),
    Column("scopes", Document, nullable=False),
    Column("origins", Document, nullable=False),
    Column("digest", exact(DIGEST), nullable=False),
    Column("ending", exact(4), nullable=False),
    Column("created_by", exact(120), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
)  # fmt: skip

sessions = Table(
    "sessions", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("user_id", exact(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("means", String(20), nullable=False),
    Column("digest", exact(DIGEST), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)  # fmt: skip

# Refresh tokens that were used: whoever shows one again has it from somebody else.
refresh_tokens = Table(
    "refresh_tokens", metadata,
    Column("digest", exact(DIGEST), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("session_id", exact(36), ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
)  # fmt: skip

invitations = Table(
    "invitations", metadata,
    Column("digest", exact(DIGEST), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("role", String(20), nullable=False),
    Column("user_id", exact(36), ForeignKey("users.id", ondelete="CASCADE")),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
)  # fmt: skip

# Written and read, never changed: triggers say no in SQLite and PostgreSQL.
audit = Table(
    "audit", metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("client_id", exact(120), nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor_kind", String(20), nullable=False),
    Column("actor_id", exact(120), nullable=False),
    Column("actor_name", LongText, nullable=False),
    Column("action", String(60), nullable=False),
    Column("object_kind", String(40), nullable=False),
    Column("object_id", exact(200), nullable=False),
    Column("before", Document),
    Column("after", Document),
    Column("request_id", exact(128)),
    sqlite_autoincrement=True,
)  # fmt: skip

approvals = Table(
    "approvals", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("experiment_id", exact(36), nullable=False),
    Column("action", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("requested_by", exact(160), nullable=False),
    Column("requested_by_name", LongText, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("state", String(20), nullable=False),
    Column("decided_by", exact(160)),
    Column("decided_by_name", LongText),
    Column("decided_at", Moment),
    Column("winner", exact(36)),
    CheckConstraint("state IN ('pending', 'approved', 'rejected', 'withdrawn')", name="state"),
)  # fmt: skip

# What a client's admins chose for all of it, a document each.
client_settings = Table(
    "client_settings", metadata,
    Column("client_id", exact(120), primary_key=True),
    Column("chosen", Document, nullable=False),
)  # fmt: skip

shares = Table(
    "shares", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("experiment_id", exact(36), nullable=False),
    Column("digest", exact(DIGEST), nullable=False, unique=True),
    Column("created_by_name", LongText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
)  # fmt: skip

# Answers that are given again to whoever asks the same with the same key. They are sealed: some hold secrets that are shown once.
answers = Table(
    "answers", metadata,
    Column("client_id", exact(120), primary_key=True),
    Column("key", exact(DIGEST), primary_key=True),
    Column("digest", exact(DIGEST), nullable=False),
    Column("holder", exact(36), nullable=False),
    Column("answer", LongText),
    Column("expires_at", Moment, nullable=False),
)  # fmt: skip

Index("ix_answers_expires_at", answers.c.expires_at)
Index("ix_shares_client_id_experiment_id", shares.c.client_id, shares.c.experiment_id)
Index("ix_api_keys_client_id", api_keys.c.client_id)
Index("ix_sessions_user_id", sessions.c.user_id)
Index("ix_refresh_tokens_session_id", refresh_tokens.c.session_id)
Index("ix_invitations_user_id", invitations.c.user_id)
Index("ix_audit_client_id_number", audit.c.client_id, audit.c.number)
Index("ix_approvals_client_id_state", approvals.c.client_id, approvals.c.state)
