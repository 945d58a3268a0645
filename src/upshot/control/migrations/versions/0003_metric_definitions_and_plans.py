"""Metric definitions with their versions, and the analysis plan of an experiment.

The new column may be empty: experiments that exist have no plan of their own, and while servers are replaced one by one those of
the previous release go on adding experiments without one.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Document, LongText, Moment, Number, exact

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and the column."""
    op.create_table(
        "metric_definitions",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("key", exact(200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", LongText, nullable=False),
        sa.Column("description", LongText, nullable=False),
        sa.Column("definition", Document(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("archived_at", Moment()),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_metric_definitions")),
        sa.UniqueConstraint("client_id", "key", "version", name=op.f("uq_metric_definitions_client_id_key_version")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    # MySQL itself, other than MariaDB, knows no ADD COLUMN IF NOT EXISTS.
    if "plan" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("experiments")}:
        op.add_column("experiments", sa.Column("plan", Document()))
