"""The tables of layers, holdouts and flags, and how often what decides was changed."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Table, UniqueConstraint

from upshot.control.tables import Document, LongText, Moment, exact, metadata

layers = Table(
    "layers", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("key", exact(120), nullable=False),
    Column("name", String(120), nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("client_id", "key"),
)  # fmt: skip

holdouts = Table(
    "holdouts", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("key", exact(120), nullable=False),
    Column("name", String(120), nullable=False),
    Column("share", Integer, nullable=False),
    Column("tags", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    UniqueConstraint("client_id", "key"),
)  # fmt: skip

flags = Table(
    "flags", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("key", exact(120), nullable=False),
    Column("description", LongText, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("default", Document, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("experiment", exact(36)),
    Column("values", Document, nullable=False),
    Column("rollout", Document),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("client_id", "key"),
)  # fmt: skip

# Grows with every change of what decides: who holds a snapshot of the same revision need not read it again.
revisions = Table(
    "revisions", metadata,
    Column("client_id", exact(120), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)  # fmt: skip
