"""Make the tables of a relational event store, once, whoever starts first."""

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.engine import URL

from upshot.database.schema import changing
from upshot.errors import ConfigurationError
from upshot.eventstore.relational import partitions, tables

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


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(tables.schema.name):
        return None
    version: int | None = connection.scalar(select(tables.schema.c.version))
    return version
