"""Owners of experiments.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import exact

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the column."""
    if "owner" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("experiments")}:
        op.add_column("experiments", sa.Column("owner", exact(254)))
