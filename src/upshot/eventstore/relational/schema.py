"""Make the tables of a relational event store, and bring those of an earlier version up to date; whoever starts first.

2   events have an ordinal
3   ids can be linked, and users withdrawn
4   events are found by when they came
"""

from datetime import datetime

from sqlalchemy import Connection, Table, delete, insert, inspect, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateColumn

from upshot.database.schema import changing
from upshot.errors import ConfigurationError
from upshot.eventstore.relational import partitions, tables
from upshot.eventstore.rollups import DAY

VERSION = 4


def make(url: URL) -> None:
    """Make what is missing, in an order in which a killed run can be begun again: the version comes last.

    Raises:
        ConfigurationError: the database cannot be used, or a newer version of the program made its tables.
        Unavailable: its server does not answer.
    """
    with changing(url, "EVENTS_URL") as connection:
        version = _version(connection)
        if version is not None and version > VERSION:
            raise ConfigurationError(
                f"EVENTS_URL: the event store is at schema {version}, this version knows {VERSION}"
            )
        if version == VERSION:
            return
        for table in tables.metadata.sorted_tables:
            if connection.dialect.name == "postgresql" and table is tables.events:
                partitions.make_events(connection)
            else:
                table.create(connection, checkfirst=True)
            _add_columns(connection, table)
    with changing(url, "EVENTS_URL") as connection:  # of its own: a new column locks readers out, a new index does not
        version = _version(connection)
        if version is not None and version >= VERSION:
            return
        for table in tables.metadata.sorted_tables:
            for index in table.indexes:  # where a run was killed after the table, or an earlier version made it
                index.create(connection, checkfirst=True)
        connection.execute((insert if version is None else update)(tables.schema), {"version": VERSION})


def _add_columns(connection: Connection, table: Table) -> None:
    """Give a table of an earlier version the columns that came later. They may be null: no row is written for it."""
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in there:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))


def maintain(url: URL, now: datetime, keep_from: int | None) -> list[str]:
    """Make partitions ahead where there are partitions; drop events from before a moment (µs), and the marks that they left.

    Months go whole where they are partitions, days elsewhere. Marks of exposures stay: they speak of later periods, too.
    """
    done = []
    with changing(url, "EVENTS_URL") as connection:
        partitioned = connection.dialect.name == "postgresql"
        if partitioned:
            done += [f"{name} made" for name in partitions.make_ahead(connection, now)]
        if keep_from is not None:
            bound = partitions.Month.of(keep_from).start if partitioned else keep_from - keep_from % DAY
            if partitioned:
                done += [f"{name} dropped" for name in partitions.drop_before(connection, bound)]
            gone = connection.execute(delete(tables.events).where(tables.events.c.occurred_at < bound)).rowcount
            done += [f"{gone} events dropped"] if gone else []
            left = tables.marks.c.starts < bound, tables.marks.c.experiment == 0
            connection.execute(delete(tables.marks).where(*left))
    return done


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(tables.schema.name):
        return None
    version: int | None = connection.scalar(select(tables.schema.c.version))
    return version
