"""PostgreSQL keeps events in monthly partitions, made ahead of time and dropped whole; TimescaleDB, where present, in chunks.

What comes for a month without a partition waits in the default one until the month gets its own.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, MetaData, text

from upshot.events import micros
from upshot.eventstore.relational import tables

AHEAD = 3  # months
_CHUNK = 30 * 24 * 3_600 * 1_000_000


class Month(NamedTuple):
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, occurred_at: int) -> "Month":
        """The month of a moment (µs)."""
        moment = datetime.fromtimestamp(occurred_at / 1_000_000, UTC)
        return cls(moment.year, moment.month)

    @property
    def following(self) -> "Month":
        """The next month."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def start(self) -> int:
        """Its first moment (µs)."""
        return micros(datetime(self.year, self.month, 1, tzinfo=UTC))

    @property
    def table(self) -> str:
        """The name of its partition."""
        return f"events_{self.year:04}_{self.month:02}"


def make_events(connection: Connection) -> None:
    """Make the table of events: a hypertable, or partitions by month with one for the rest."""
    if _has_timescale(connection):
        plain = tables.events.to_metadata(MetaData())
        plain.dialect_options["postgresql"]["partition_by"] = None
        plain.create(connection, checkfirst=True)
        connection.execute(
            text(
                "SELECT create_hypertable('events', 'occurred_at', chunk_time_interval => :chunk, if_not_exists => true)"
            ),
            {"chunk": _CHUNK},
        )
        return
    tables.events.create(connection, checkfirst=True)
    connection.execute(text("CREATE TABLE IF NOT EXISTS events_default PARTITION OF events DEFAULT"))


def make_ahead(connection: Connection, now: datetime) -> list[str]:
    """Make the partitions of this month, of the next three, and of every month that has events in the default one."""
    if _has_timescale(connection):
        return []
    wanted = [Month(now.year, now.month)]
    for _ in range(AHEAD):
        wanted.append(wanted[-1].following)
    wanted += _waiting_in_default(connection)
    there = set(_partitions(connection))
    made = []
    for month in dict.fromkeys(wanted):
        if month.table not in there:
            _make(connection, month)
            made.append(month.table)
    return made


def drop_before(connection: Connection, moment: int) -> list[str]:
    """Drop the partitions or chunks that ended before the beginning of a month (µs). Returns what went."""
    if _has_timescale(connection):
        dropped = connection.execute(text("SELECT drop_chunks('events', older_than => :moment)"), {"moment": moment})
        return [str(row[0]) for row in dropped]
    first = Month.of(moment)
    old = [name for name in _partitions(connection) if name < first.table]
    for name in old:
        connection.execute(text(f"DROP TABLE {name}"))
    return old


def _make(connection: Connection, month: Month) -> None:
    """A table of its own first, filled from the default partition, then attached: appends to other months go on meanwhile."""
    bounds = {"starts": month.start, "ends": month.following.start}
    connection.execute(text(f"CREATE TABLE {month.table} (LIKE events INCLUDING ALL)"))
    moved = "DELETE FROM events_default WHERE occurred_at >= :starts AND occurred_at < :ends RETURNING *"
    fill = f"WITH moved AS ({moved}) INSERT INTO {month.table} SELECT * FROM moved"  # noqa: S608 - our own name
    connection.execute(text(fill), bounds)
    connection.execute(
        text(f"ALTER TABLE events ATTACH PARTITION {month.table} FOR VALUES FROM ({month.start}) TO ({bounds['ends']})")
    )


def _waiting_in_default(connection: Connection) -> list[Month]:
    months = text(
        "SELECT DISTINCT extract(epoch FROM date_trunc('month', to_timestamp(occurred_at / 1000000.0) AT TIME ZONE 'UTC'))"
        " FROM events_default"
    )
    return [Month.of(int(row[0]) * 1_000_000) for row in connection.execute(months)]


def _partitions(connection: Connection) -> list[str]:
    names = text(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = 'events'::regclass AND child.relname ~ '^events_[0-9]{4}_[0-9]{2}$' ORDER BY 1"
    )
    return [str(row[0]) for row in connection.execute(names)]


def _has_timescale(connection: Connection) -> bool:
    return bool(connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")))
