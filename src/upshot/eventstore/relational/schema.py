"""Make the tables of a relational event store, once, whoever starts first."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, inspect, select
from sqlalchemy.engine import URL

from upshot.database.schema import changing
from upshot.errors import ConfigurationError
from upshot.eventstore.relational import partitions, tables
from upshot.eventstore.rollups import DAY

VERSION = 1


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
            for index in table.indexes:  # where a run was killed after the table
                index.create(connection, checkfirst=True)
        connection.execute(insert(tables.schema), {"version": VERSION})


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
