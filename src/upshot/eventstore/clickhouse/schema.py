"""The tables in ClickHouse: on one server, or on every server of a cluster with a distributed table in front of each.

Of what tells who is one user every server has all, so that each can join its own rows with it.

A cluster needs the macros {shard} and {replica}, Keeper, and internal_replication in its definition.

The types of keys are wider than in tables.py, because keys are hashes here: processes that start at once agree without asking.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from upshot.eventstore.rollups import GRAINS

DEDUPLICATED_BLOCKS = 1_000  # how many inserts a table remembers by their tokens
ARRIVED = "arrived"  # the index by which a tail of events leaves out what is old

# The version of a row: ClickHouse keeps the highest of several, so the clock is negated and the first one counts.
# The server sets it, so that several processes share a clock.
_VERSION = "Int64 DEFAULT -toUnixTimestamp64Nano(now64(9))"


@dataclass(frozen=True, slots=True)
class ClickHouseTable:
    """One table: the columns that are inserted, and how the engine lays it out; without `sharding` every server has all rows."""

    name: str
    columns: Mapping[str, str]
    order: str
    sharding: str | None
    version: str = "seq"
    partition: str = "tuple()"
    engine: str = "ReplacingMergeTree"
    settings: Mapping[str, int] = field(default_factory=dict)
    index: str = ""

    @property
    def _engine_columns(self) -> str:
        versioned = {**self.columns, "seq": _VERSION} if self.version == "seq" else self.columns
        lines = [f"  {name} {kind}" for name, kind in versioned.items()]
        return ",\n".join([*lines, f"  INDEX {self.index}"] if self.index else lines)

    def _storage(self, *, replicated: bool) -> str:
        place = ""
        if replicated:
            part, copy = ("{shard}", "{replica}") if self.sharding else ("all", "{shard}-{replica}")
            place = f"'/clickhouse/tables/{part}/{{database}}/{{table}}', '{copy}', "
        window = "replicated_deduplication_window" if replicated else "non_replicated_deduplication_window"
        settings = {
            window: DEDUPLICATED_BLOCKS,
            "fsync_after_insert": 1,
            "fsync_part_directory": 1,
            "min_compressed_bytes_to_fsync_after_merge": 1,
            **self.settings,
        }
        return (
            f"ENGINE = {'Replicated' if replicated else ''}{self.engine}({place}{self.version})\n"
            f"PARTITION BY {self.partition}\nORDER BY ({self.order})\n"
            f"SETTINGS {', '.join(f'{name} = {value}' for name, value in settings.items())}"
        )

    def alone(self, database: str) -> str:
        """The statement that makes it on one server."""
        head = f"CREATE TABLE IF NOT EXISTS `{database}`.{self.name}"
        return f"{head} (\n{self._engine_columns}\n)\n{self._storage(replicated=False)}"

    def sharded(self, database: str, cluster: str) -> list[str]:
        """The statements that make it on a cluster: replicated tables that hold the rows, and one in front that spreads them."""
        name, everywhere = f"`{database}`.{self.local}", f"ON CLUSTER `{cluster}`"
        body = f"(\n{self._engine_columns}\n)\n{self._storage(replicated=True)}"
        made = [f"CREATE TABLE IF NOT EXISTS {name} {everywhere} {body}"]
        if self.sharding:
            front = f"Distributed(`{cluster}`, `{database}`, {self.local}, {self.sharding})"
            made.append(f"CREATE TABLE IF NOT EXISTS `{database}`.{self.name} {everywhere} AS {name}\nENGINE = {front}")
        return made

    @property
    def local(self) -> str:
        """The name of the table that holds the rows on the servers of a cluster."""
        return f"{self.name}_local" if self.sharding else self.name


CLIENTS = ClickHouseTable(
    "clients",
    {"client_key": "Int64", "client": "String"},
    order="client_key, client",
    sharding="intHash64(client_key)",
)

EVENT_TYPES = ClickHouseTable(
    "event_types",
    {"type_key": "Int64", "client_key": "Int64", "name": "String"},
    order="client_key, type_key, name",
    sharding="intHash64(type_key)",
)

EVENTS = ClickHouseTable(
    "events",
    {
        "type_key": "Int64",
        "user_key": "Int64",
        "occurred_at": "Int64",
        "received_at": "Int64",
        "value": "Nullable(Float64)",
        "flags": "Int16",
        "id_high": "Int64",
        "id_low": "Int64",
        "fingerprint": "Int64",
        "user_id": "String",
        "event_id": "String",
        "experiment_id": "Nullable(String)",
        "properties": "String",
        "ordinal": "Nullable(Int64)",
    },
    order="type_key, user_key, id_high, id_low",
    sharding="intHash64(user_key)",
    partition="toYYYYMM(fromUnixTimestamp64Micro(occurred_at, 'UTC'))",
    index=f"{ARRIVED} seq TYPE minmax GRANULARITY 1",
)

# Sharded like the events, so that a shard joins what it holds. Not partitioned: a user's exposures are to meet in one part.
EXPOSURES = ClickHouseTable(
    "exposures",
    {
        "client_key": "Int64",
        "experiment": "Int64",
        "user_key": "Int64",
        "variant": "Int16",
        "phase": "Int16",
        "exposed_at": "Int64",
        "id_high": "Int64",
        "id_low": "Int64",
        "user_id": "String",
        "context": "String",
    },
    order="client_key, experiment, user_key, id_high, id_low",
    sharding="intHash64(user_key)",
)

ALIASES = ClickHouseTable(
    "aliases",
    {"client_key": "Int64", "alias_key": "Int64", "user_key": "Int64", "user_id": "String"},
    order="client_key, alias_key",
    sharding=None,
)

WITHDRAWALS = ClickHouseTable(
    "withdrawals",
    {"client_key": "Int64", "experiment": "Int64", "user_key": "Int64", "reason": "String"},
    order="client_key, experiment, user_key",
    sharding=None,
)

# Looked up at every append, by hashes that lie anywhere: a granule is what one look-up reads.
IDENTITIES = ClickHouseTable(
    "identities",
    {"id_high": "Int64", "id_low": "Int64", "fingerprint": "Int64"},
    order="id_high, id_low",
    sharding="intHash64(id_high)",
    settings={"index_granularity": 256},
)

REPEATS = ClickHouseTable(
    "repeats",
    {"type_key": "Int64", "duplicates": "Int64", "conflicts": "Int64"},
    order="type_key",
    sharding="intHash64(type_key)",
    version="(duplicates, conflicts)",
    engine="SummingMergeTree",
)

# Each row stands for a touched period (rollups.py) until it is removed; those of one number are one.
MARKS = ClickHouseTable(
    "marks",
    {
        "mark": "Int64",
        "client_key": "Int64",
        "type_key": "Int64",
        "experiment": "Int64",
        "grain": "Int64",
        "starts": "Int64",
    },
    order="type_key, client_key, experiment, grain, starts, mark",
    sharding="intHash64(starts)",
    version="mark",
)

ROLLUPS = ClickHouseTable(
    "rollups",
    {
        "client_key": "Int64",
        "experiment": "Int64",
        "type_key": "Int64",
        "grain": "Int64",
        "starts": "Int64",
        "variant": "Int16",
        "phase": "Int16",
        "users": "Int64",
        "events": "Int64",
        "late": "Int64",
        "total": "Float64",
        "mean": "Float64",
        "variance": "Float64",
        "count_mean": "Float64",
        "count_variance": "Float64",
        "version": "Int64",
    },
    order="client_key, experiment, type_key, grain, starts, variant, phase",
    sharding="intHash64(type_key)",
    version="version",
)


@dataclass(frozen=True, slots=True)
class MarkingView:
    """Leaves the marks of every block that is inserted into a table."""

    source: ClickHouseTable
    key: str
    moment: str

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.source.name}_marks"

    def marks(self, source: str) -> str:
        """The query for the marks of some rows: each period once."""
        return f"""SELECT toInt64(if({_OPEN}, cityHash64(client_key, type_key, experiment, grain, starts), rand64())) AS mark, *
FROM (
  SELECT DISTINCT {self.key}, arrayJoin({list(GRAINS)}) AS grain, {self.moment} - {self.moment} % grain AS starts
  FROM {source}
)"""  # noqa: S608 - our own names

    def statement(self, database: str, cluster: str | None) -> str:
        """The statement that makes it: beside the table that holds the rows, whoever inserts them there."""
        suffix, everywhere = ("_local", f" ON CLUSTER `{cluster}`") if cluster else ("", "")
        head = f"CREATE MATERIALIZED VIEW IF NOT EXISTS `{database}`.{self.name}{everywhere}"
        query = self.marks(f"`{database}`.{self.source.name}{suffix}")
        return f"{head}\nTO `{database}`.{MARKS.name}{suffix} AS\n{query}"


# A period that is not over needs one mark, however many blocks touch it: those of one number become one.
_OPEN = "starts + grain > toUnixTimestamp64Micro(now64(6))"

MARK_EVENTS = MarkingView(EVENTS, "toInt64(0) AS client_key, type_key, toInt64(0) AS experiment", "occurred_at")
MARK_EXPOSURES = MarkingView(EXPOSURES, "client_key, toInt64(0) AS type_key, experiment", "exposed_at")

VIEWS = (MARK_EVENTS, MARK_EXPOSURES)
TABLES = (CLIENTS, EVENT_TYPES, EVENTS, EXPOSURES, IDENTITIES, REPEATS, MARKS)
LATER = (ALIASES, WITHDRAWALS)
NAMES = tuple(made.name for made in (*TABLES, *VIEWS, ROLLUPS))


def added(database: str, cluster: str | None = None) -> list[str]:
    """The statements that bring a database of an earlier version up to date: the column of events that are numbered, where the
    rows lie and then in front; the tables of linked ids and withdrawn users; and the index of new events."""
    column = f"ADD COLUMN IF NOT EXISTS ordinal {EVENTS.columns['ordinal']} AFTER properties"
    index = f"ADD INDEX IF NOT EXISTS {EVENTS.index}"
    if cluster is None:
        made = [table.alone(database) for table in LATER]
        return [f"ALTER TABLE `{database}`.{EVENTS.name} {change}" for change in (column, index)] + made
    tables = (f"{EVENTS.name}_local", EVENTS.name)
    return [
        *(f"ALTER TABLE `{database}`.{table} ON CLUSTER `{cluster}` {column}" for table in tables),
        f"ALTER TABLE `{database}`.{EVENTS.local} ON CLUSTER `{cluster}` {index}",
        *(statement for table in LATER for statement in table.sharded(database, cluster)),
    ]


def ddl(database: str, cluster: str | None = None) -> list[str]:
    """The statements that make the tables: in a database of one server, or on all servers of a cluster.

    Rollups come last: a database from before there were any is marked by then, from the first exposure on.
    """

    def made(table: ClickHouseTable) -> list[str]:
        return table.sharded(database, cluster) if cluster else [table.alone(database)]

    return [
        *([f"CREATE DATABASE IF NOT EXISTS `{database}` ON CLUSTER `{cluster}`"] if cluster else []),
        *(statement for table in TABLES for statement in made(table)),
        *added(database, cluster),
        *(view.statement(database, cluster) for view in VIEWS),
        f"INSERT INTO `{database}`.{MARKS.name} ({', '.join(MARKS.columns)}) SETTINGS distributed_foreground_insert = 1\n"
        + MARK_EXPOSURES.marks(f"`{database}`.{EXPOSURES.name}"),
        *made(ROLLUPS),
    ]
