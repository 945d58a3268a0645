"""Experiments, variants, phases, assignments and the outbox.

MySQL commits every DDL statement: a step that was killed there is run again, so each statement leaves alone what is there.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

from upshot.control.tables import PARTITIONS, Bytes, Document, LongText, Moment, Number, exact

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first schema."""
    op.create_table(
        "experiments",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("id", exact(36), nullable=False),
        sa.Column("key", exact(120), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("description", LongText, nullable=False),
        sa.Column("hypothesis", LongText, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("primary_metric", sa.String(200)),
        sa.Column("metrics", Document(), nullable=False),
        sa.Column("guardrails", Document(), nullable=False),
        sa.Column("targeting", Document(), nullable=False),
        sa.Column("traffic", sa.Integer(), nullable=False),
        sa.Column("salt", exact(120), nullable=False),
        sa.Column("started_at", Moment()),
        sa.Column("ended_at", Moment()),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "status IN ('draft', 'running', 'paused', 'completed', 'archived')",
            name=op.f("ck_experiments_status"),
        ),
        sa.CheckConstraint("traffic BETWEEN 0 AND 1000000", name=op.f("ck_experiments_traffic")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_experiments")),
        sa.UniqueConstraint("client_id", "key", name=op.f("uq_experiments_client_id_key")),
        sa.UniqueConstraint("id", name=op.f("uq_experiments_id")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    # MySQL itself, other than MariaDB, knows no CREATE INDEX IF NOT EXISTS.
    if not sa.inspect(op.get_bind()).has_index("experiments", "ix_experiments_client_id_number"):
        op.create_index("ix_experiments_client_id_number", "experiments", ["client_id", "number"])
    op.create_table(
        "variants",
        sa.Column("experiment", Number, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("id", exact(36), nullable=False),
        sa.Column("name", exact(120), nullable=False),
        sa.Column("is_control", sa.Boolean(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("config", Document(), nullable=False),
        sa.CheckConstraint("weight >= 0", name=op.f("ck_variants_weight")),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.number"], name=op.f("fk_variants_experiment"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment", "position", name=op.f("pk_variants")),
        sa.UniqueConstraint("experiment", "name", name=op.f("uq_variants_experiment_name")),
        sa.UniqueConstraint("id", name=op.f("uq_variants_id")),
        if_not_exists=True,
    )
    op.create_table(
        "phases",
        sa.Column("experiment", Number, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("weights", Document(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.number"], name=op.f("fk_phases_experiment"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment", "number", name=op.f("pk_phases")),
        if_not_exists=True,
    )
    op.create_table(
        "assignments",
        sa.Column("experiment", Number, autoincrement=False, nullable=False),
        sa.Column("user_id", exact(200), nullable=False),
        sa.Column("client_id", exact(120), nullable=False),
        sa.Column("variant", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("assigned_at", Moment(), nullable=False),
        sa.Column("exposed_at", Moment()),
        sa.Column("context", LongText, nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiments.number"], name=op.f("fk_assignments_experiment")),
        sa.PrimaryKeyConstraint("experiment", "user_id", name=op.f("pk_assignments")),
        sqlite_with_rowid=False,
        postgresql_partition_by="HASH (user_id)",
        if_not_exists=True,
    )
    op.create_table(
        "outbox",
        sa.Column("entry", Number, primary_key=True, autoincrement=True),
        sa.Column("exposures", Bytes, nullable=False),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        for part in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE IF NOT EXISTS assignments_p{part:02} PARTITION OF assignments"
                f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {part})"
            )
