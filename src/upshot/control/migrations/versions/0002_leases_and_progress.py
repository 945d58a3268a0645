"""Leases of scheduled work, and how far each worker is.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Moment, exact

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "leases",
        sa.Column("name", exact(120), nullable=False),
        sa.Column("holder", exact(36), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
        if_not_exists=True,
    )
    op.create_table(
        "progress",
        sa.Column("worker", exact(36), nullable=False),
        sa.Column("complete_to", Moment(), nullable=False),
        sa.Column("reported_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_progress")),
        if_not_exists=True,
    )
