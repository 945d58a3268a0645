"""Webhooks, their deliveries, and the alarms that were raised.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Document, LongText, Moment, exact

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.create_table(
        "webhooks",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("url", LongText, nullable=False),
        sa.Column("occasions", Document(), nullable=False),
        sa.Column("form", sa.String(20), nullable=False),
        sa.Column("secret", LongText, nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("former_secret", LongText),
        sa.Column("former_until", Moment()),
        sa.Column("failing_since", Moment()),
        sa.Column("disabled_at", Moment()),
        sa.Column("disabled_reason", sa.String(20)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        if_not_exists=True,
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("webhook_id", exact(36), nullable=False),
        sa.Column("occasion", sa.String(40), nullable=False),
        sa.Column("payload", LongText, nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("next_at", Moment()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", Moment()),
        sa.Column("last_answer", sa.String(40)),
        sa.Column("delivered_at", Moment()),
        sa.Column("given_up_at", Moment()),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        if_not_exists=True,
    )
    op.create_table(
        "alarms",
        sa.Column("experiment_id", exact(36), nullable=False),
        sa.Column("kind", exact(40), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("raised_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "kind", "digest", name=op.f("pk_alarms")),
        if_not_exists=True,
    )
    inspector = sa.inspect(op.get_bind())
    for table, columns in (
        ("webhooks", ["client_id"]),
        ("webhook_deliveries", ["next_at"]),
        ("webhook_deliveries", ["webhook_id", "created_at"]),
    ):
        name = f"ix_{table}_{'_'.join(columns)}"
        if not inspector.has_index(table, name):
            op.create_index(name, table, columns)
