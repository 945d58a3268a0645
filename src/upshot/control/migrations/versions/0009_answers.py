"""Answers that are given again to whoever asks the same with the same key.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import LongText, Moment, exact

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table and its index."""
    op.create_table(
        "answers",
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("key", exact(64), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("holder", exact(36), nullable=False),
        sa.Column("answer", LongText),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "key", name=op.f("pk_answers")),
        if_not_exists=True,
    )
    if not sa.inspect(op.get_bind()).has_index("answers", "ix_answers_expires_at"):
        op.create_index("ix_answers_expires_at", "answers", ["expires_at"])
