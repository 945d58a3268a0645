"""The tables of an event store in a relational database: those of every event store, with keys, indexes and partitions.

`identities` holds the identity of every event and exposure that was ever stored, for ever: partitions of events come and go, and
a unique index on a partitioned table would have to hold the time, which a retry may not repeat.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from upshot.eventstore import tables

metadata = MetaData()

_LENGTHS = {"client": 120, "name": 200, "user_id": 200, "event_id": 100, "experiment_id": 36, "reason": 40}


def _type_of(column: Column[Any]) -> TypeEngine[Any]:
    """MySQL wants lengths, a collation that keeps `User` and `user` apart, and a word for long text."""
    if isinstance(column.type, Text):
        return Text().with_variant(mysql.LONGTEXT(), "mysql")
    if isinstance(column.type, String):
        length = _LENGTHS[column.name]
        own = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
        return String(length).with_variant(own, "mysql")
    return column.type


def _columns(table: Table, *keys: str) -> list[Column[Any]]:
    """The columns of a table of every event store. Rows have no sequence numbers here: several processes append."""
    return [
        Column(
            column.name,
            _type_of(column),
            nullable=bool(column.nullable),
            primary_key=column.name in keys,
            autoincrement=False,
        )
        for column in table.columns
        if column.name != "seq"
    ]


clients = Table("clients", metadata, *_columns(tables.clients, "client"), UniqueConstraint("client_key"))
event_types = Table(
    "event_types", metadata, *_columns(tables.event_types, "client_key", "name"), UniqueConstraint("type_key")
)
identities = Table(
    "identities", metadata,
    Column("id_high", BigInteger, primary_key=True, autoincrement=False),
    Column("id_low", BigInteger, primary_key=True, autoincrement=False),
    Column("fingerprint", BigInteger, nullable=False),
)  # fmt: skip
events = Table("events", metadata, *_columns(tables.events), postgresql_partition_by="RANGE (occurred_at)")
exposures = Table("exposures", metadata, *_columns(tables.exposures))
aliases = Table("aliases", metadata, *_columns(tables.aliases, "client_key", "alias_key"))
withdrawals = Table("withdrawals", metadata, *_columns(tables.withdrawals, "client_key", "experiment", "user_key"))
repeats = Table("repeats", metadata, *_columns(tables.repeats))
marks = Table(
    "marks", metadata,
    Column("mark", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    *(column for column in _columns(tables.marks) if column.name != "mark"),
)  # fmt: skip
rollups = Table("rollups", metadata, *_columns(tables.rollups))
schema = Table("eventstore_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

# All that an aggregation reads of events, in the order in which it asks.
Index(
    "ix_events_aggregation", events.c.type_key, events.c.user_key, events.c.occurred_at, events.c.value, events.c.flags
)
# All that is read of numbered events; of the others it holds nothing, where an index can leave rows out.
_NUMBERED = events.c.ordinal.is_not(None)
Index(
    "ix_events_numbered", events.c.user_key, events.c.ordinal, events.c.occurred_at, events.c.type_key,
    postgresql_where=_NUMBERED, sqlite_where=_NUMBERED,
).ddl_if(dialect=("postgresql", "sqlite"))  # type: ignore[arg-type]  # fmt: skip
# Elsewhere it finds numbered events, in the order of which the others are all one: an append adds them at the end.
Index("ix_events_ordinal", events.c.ordinal).ddl_if(dialect="mysql")
# A tail of events goes by it: it grows at its end. SQLite numbers rows as they come, and needs none.
Index("ix_events_received", events.c.received_at).ddl_if(dialect=("postgresql", "mysql"))  # type: ignore[arg-type]
Index("ix_exposures_experiment", exposures.c.client_key, exposures.c.experiment, exposures.c.user_key)
Index("ix_aliases_user", aliases.c.client_key, aliases.c.user_key)
Index("ix_marks_period", marks.c.client_key, marks.c.grain, marks.c.starts)
Index(
    "ix_rollups_period",
    rollups.c.client_key, rollups.c.experiment, rollups.c.grain, rollups.c.type_key, rollups.c.starts,
)  # fmt: skip
