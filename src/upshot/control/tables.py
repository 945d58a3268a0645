"""The tables of the control store. The migrations make exactly these; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


PARTITIONS = 16  # of the assignments in PostgreSQL


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept in UTC with microseconds on every dialect."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To UTC; SQLite keeps no offset."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Back to an aware moment."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Document(TypeDecorator[Any]):
    """A JSON value, kept as text: no store reads into it, so none may reshape its numbers."""

    impl = Text().with_variant(mysql.LONGTEXT(), "mysql")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        """To JSON."""
        return msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """From JSON."""
        return None if value is None else msgspec.json.decode(value)


# SQLite gives ever-growing numbers only to a column declared INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql")
Bytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")


def exact(length: int) -> String:
    """An identifier, compared code point by code point: MySQL's own collations would take `User` and `user` for one."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


experiments = Table(
    "experiments", metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("client_id", exact(120), nullable=False),
    Column("id", exact(36), nullable=False, unique=True),
    Column("key", exact(120), nullable=False),
    Column("name", String(120), nullable=False),
    Column("description", LongText, nullable=False),
    Column("hypothesis", LongText, nullable=False),
    Column("status", String(20), nullable=False),
    Column("primary_metric", String(200)),
    Column("metrics", Document, nullable=False),
    Column("guardrails", Document, nullable=False),
    Column("targeting", Document, nullable=False),
    Column("traffic", Integer, nullable=False),
    Column("salt", exact(120), nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("version", Integer, nullable=False),
    Column("plan", Document),  # none where the experiment is older than plans are
    Column("tags", Document),
    Column("layers", Document),
    Column("holdouts", Document),
    Column("overrides", Document),
    Column("winner", Integer),
    Column("owner", exact(254)),  # none where the experiment is older than owners are
    UniqueConstraint("client_id", "key"),
    CheckConstraint("status IN ('draft', 'running', 'paused', 'completed', 'archived')", name="status"),
    CheckConstraint("traffic BETWEEN 0 AND 1000000", name="traffic"),
    sqlite_autoincrement=True,
)  # fmt: skip

variants = Table(
    "variants", metadata,
    Column("experiment", Number, ForeignKey("experiments.number", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("client_id", exact(120), nullable=False),
    Column("id", exact(36), nullable=False, unique=True),
    Column("name", exact(120), nullable=False),
    Column("is_control", Boolean, nullable=False),
    Column("weight", BigInteger, nullable=False),
    Column("config", Document, nullable=False),
    UniqueConstraint("experiment", "name"),
    CheckConstraint("weight >= 0", name="weight"),
)  # fmt: skip

phases = Table(
    "phases", metadata,
    Column("experiment", Number, ForeignKey("experiments.number", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("client_id", exact(120), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("weights", Document, nullable=False),
)  # fmt: skip

assignments = Table(
    "assignments", metadata,
    Column("experiment", Number, ForeignKey("experiments.number"), primary_key=True, autoincrement=False),
    Column("user_id", exact(200), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("variant", Integer, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("assigned_at", Moment, nullable=False),
    Column("exposed_at", Moment),
    Column("context", LongText, nullable=False),
    sqlite_with_rowid=False,
    postgresql_partition_by="HASH (user_id)",
)  # fmt: skip

# One entry holds the exposures of one committed group of assignments, as JSON.
outbox = Table(
    "outbox", metadata,
    Column("entry", Number, primary_key=True, autoincrement=True),
    Column("exposures", Bytes, nullable=False),
    sqlite_autoincrement=True,
)  # fmt: skip

# Every version of every definition; those before a deletion are archived. `name` and `description` are there to be searched.
metric_definitions = Table(
    "metric_definitions", metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("client_id", exact(120), nullable=False),
    Column("key", exact(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", LongText, nullable=False),
    Column("description", LongText, nullable=False),
    Column("definition", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("archived_at", Moment),
    UniqueConstraint("client_id", "key", "version"),
    sqlite_autoincrement=True,
)  # fmt: skip

# Who does scheduled work, and until when nobody else does.
leases = Table(
    "leases", metadata,
    Column("name", exact(120), primary_key=True),
    Column("holder", exact(36), nullable=False),
    Column("expires_at", Moment, nullable=False),
)  # fmt: skip

# How far each worker is: what was handed to the queue before that moment is in the event store, as far as this worker knows.
progress = Table(
    "progress", metadata,
    Column("worker", exact(36), primary_key=True),
    Column("complete_to", Moment, nullable=False),
    Column("reported_at", Moment, nullable=False),
)  # fmt: skip

Index("ix_experiments_client_id_number", experiments.c.client_id, experiments.c.number)
