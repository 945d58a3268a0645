"""Layers, holdouts and flags; what experiments have of them, their tags, overrides and winner.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import Document, LongText, Moment, exact

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables, and the columns of experiments and approvals."""
    for table, name, kind in (
        ("experiments", "tags", Document()),
        ("experiments", "layers", Document()),
        ("experiments", "holdouts", Document()),
        ("experiments", "overrides", Document()),
        ("experiments", "winner", sa.Integer()),
        ("approvals", "winner", exact(36)),
    ):
        if name not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}:
            op.add_column(table, sa.Column(name, kind))
    _named("layers")
    _named(
        "holdouts",
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("tags", Document(), nullable=False),
        sa.Column("ended_at", Moment()),
    )
    op.create_table(
        "flags",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("key", exact(120), nullable=False),
        sa.Column("description", LongText, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("default", Document(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("experiment", exact(36)),
        sa.Column("values", Document(), nullable=False),
        sa.Column("rollout", Document()),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        *_keys("flags"),
        if_not_exists=True,
    )
    op.create_table(
        "revisions",
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_revisions")),
        if_not_exists=True,
    )


def _named(table: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("id", exact(36), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("key", exact(120), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        *columns,
        *_keys(table),
        if_not_exists=True,
    )


def _keys(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("client_id", "key", name=op.f(f"uq_{table}_client_id_key")),
    )
