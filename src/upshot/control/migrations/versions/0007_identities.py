"""Linked ids.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Moment, exact

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table and its index."""
    op.create_table(
        "identity_links",
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("id", exact(200), nullable=False),
        sa.Column("user_id", exact(200), nullable=False),
        sa.Column("linked_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "id", name=op.f("pk_identity_links")),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    if not sa.inspect(op.get_bind()).has_index("identity_links", "ix_identity_links_linked_at"):
        op.create_index("ix_identity_links_linked_at", "identity_links", ["linked_at"])
