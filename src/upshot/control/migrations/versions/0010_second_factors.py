"""Second factors of people.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Document

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the column."""
    if "factor" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("users")}:
        op.add_column("users", sa.Column("factor", Document()))
