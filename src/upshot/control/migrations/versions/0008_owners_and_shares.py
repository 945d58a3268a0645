"""Owners of experiments, and links by which a result is shared.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import LongText, Moment, exact

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the column, the table and its index."""
    if "owner" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("experiments")}:
        op.add_column("experiments", sa.Column("owner", exact(254)))
    op.create_table(
        "shares",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("experiment_id", exact(36), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("created_by_name", LongText, nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
        sa.UniqueConstraint("digest", name=op.f("uq_shares_digest")),
        if_not_exists=True,
    )
    if not sa.inspect(op.get_bind()).has_index("shares", "ix_shares_client_id_experiment_id"):
        op.create_index("ix_shares_client_id_experiment_id", "shares", ["client_id", "experiment_id"])
