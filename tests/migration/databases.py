"""What tests of migrations look at: how a database is made up, what its rows are, and what an earlier release left."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, event, inspect, select
from sqlalchemy.engine import Engine

from upshot.control import migrate
from upshot.control.schema import metadata
from upshot.database import parsed
from upshot.database.schema import changing
from upshot.database.urls import blocking

HEAD = "0010"
EARLIER = ("0001", "0002", "0003", "0008")

_PARTITION = re.compile(r"assignments_p\d\d")
_ASPECTS = ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "check_constraints", "indexes")
_CHANGE = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_RULE = (
    '{"any": [{"attribute": "a", "operator": "lt", "value": 0.1}, {"attribute": "ü", "operator": "eq", "value": 1}]}'
)
_NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection beside the program's own; what it changes is committed."""
    engine = create_engine(blocking(parsed(url, "DATABASE_URL")))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def differences(url: str, expected: MetaData = metadata) -> list[object]:
    """What Alembic would still change to make the database equal to `expected`."""
    options = {"compare_type": True, "include_name": lambda name, *_: not _PARTITION.fullmatch(name or "")}
    with connected(url) as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), expected))


def described(url: str) -> dict[str, dict[str, str]]:
    """How every table is made up, in more detail than Alembic compares: collations, checks, names, what a deletion does."""
    with connected(url) as connection:
        inspector = inspect(connection)
        return {
            table: {aspect: _shown(getattr(inspector, f"get_{aspect}")(table)) for aspect in _ASPECTS}
            for table in tables(connection)
        }


def tables(connection: Connection) -> list[str]:
    """The names of the program's tables; partitions are not counted."""
    names = sorted(inspect(connection).get_table_names())
    return [name for name in names if name != "alembic_version" and not _PARTITION.fullmatch(name)]


def partitions(url: str) -> list[str]:
    """The names of the partitions of the assignments."""
    with connected(url) as connection:
        return sorted(filter(_PARTITION.fullmatch, inspect(connection).get_table_names()))


def _shown(found: Any) -> str:
    if isinstance(found, list):
        return "\n".join(sorted(map(_shown, found)))
    if isinstance(found, dict):
        return str({key: _shown(value) for key, value in sorted(found.items())})
    return repr(found)


class Rows:
    """The rows of all tables as they are now."""

    def __init__(self, url: str) -> None:
        self._tables = MetaData()
        with connected(url) as connection:
            self._tables.reflect(connection, only=tables(connection))
        self.counts: dict[str, int] = {}
        self.checksum = self.summed(url)

    def summed(self, url: str) -> str:
        """A checksum over the same tables and columns, at another time."""
        found = hashlib.sha256()
        with connected(url) as connection:
            for table in self._tables.sorted_tables:
                rows = connection.execute(select(table).order_by(*table.primary_key.columns)).all()
                self.counts[table.name] = len(rows)
                for row in rows:
                    found.update(repr(tuple(row)).encode())
        return found.hexdigest()


def earlier_release(url: str, revision: str, users: int) -> Rows:
    """Make the database as an earlier release left it, with so many assignments."""
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    with changing(parsed(url, "DATABASE_URL"), "DATABASE_URL") as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with connected(url) as connection:
        _fill(connection, users)
    return Rows(url)


def _fill(connection: Connection, users: int) -> None:
    found = MetaData()
    found.reflect(connection, only=tables(connection))
    rows: dict[str, list[dict[str, Any]]] = {
        "experiments": [_experiment(number) for number in range(1, 11)],
        "variants": [_variant(number, position) for number in range(1, 11) for position in range(2)],
        "phases": [
            {"experiment": n, "number": 1, "client_id": "one", "started_at": _NOW, "weights": '{"0": 1, "1": 1}'}
            for n in range(1, 11)
        ],
        "assignments": [_assignment(number) for number in range(users)],
        "outbox": [{"exposures": f"[{number}]".encode() * 50} for number in range(20)],
        "users": [_user(number) for number in range(3)],
        "leases": [{"name": "rollups", "holder": "worker-1", "expires_at": _NOW}],
        "progress": [{"worker": "worker-1", "complete_to": _NOW, "reported_at": _NOW}],
    }
    for name, values in rows.items():
        if name in found.tables:
            connection.execute(found.tables[name].insert(), values)


def _experiment(number: int) -> dict[str, Any]:
    texts = {"name": f"Experiment {number}", "description": "d" * 3_000 + "🚀", "hypothesis": "ü", "salt": f"s{number}"}
    documents = {"metrics": '["buy"]', "guardrails": "[]", "targeting": _RULE}
    moments = {"started_at": _NOW, "ended_at": None, "created_at": _NOW, "updated_at": _NOW}
    keys = {"number": number, "client_id": "one", "id": f"experiment-{number}", "key": f"Key-{number}"}
    return (
        keys | texts | documents | moments | {"status": "running", "primary_metric": "buy", "traffic": 9, "version": 3}
    )


def _user(number: int) -> dict[str, Any]:
    moments = dict.fromkeys(("created_at", "updated_at", "not_before"), _NOW)
    person = {"email": f"ü{number}@example.com", "name": "Ünal", "role": "admin", "password": "$argon2id$…"}
    return moments | person | {"id": f"user-{number}", "client_id": "one"}


def _variant(number: int, position: int) -> dict[str, Any]:
    keys = {"experiment": number, "position": position, "client_id": "one", "id": f"variant-{number}-{position}"}
    return keys | {
        "name": f"v{position}",
        "is_control": position == 0,
        "weight": 2**40 + position,
        "config": '{"x": 0.1}',
    }


def _assignment(number: int) -> dict[str, Any]:
    moment = _NOW + timedelta(microseconds=number)
    keys = {"experiment": number % 10 + 1, "user_id": f"User-{number}-ü", "client_id": "one"}
    decision = {"variant": number % 2, "phase": 1, "assigned_at": moment}
    return keys | decision | {"exposed_at": moment if number % 3 else None, "context": '{"country": "DE"}'}


def stamped(url: str) -> str | None:
    """The last step that a database says it has seen."""
    with connected(url) as connection:
        return migrate._revision(connection)


class BrokenOff(Exception):
    """The test ends a migration here."""


@contextmanager
def watched(last: int | None = None) -> Iterator[list[str]]:
    """The statements that change something, of any connection; after `last` of them comes the end."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if _CHANGE.match(statement):
            statements.append(statement)
            if len(statements) == last:
                raise BrokenOff

    event.listen(Engine, "after_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "after_cursor_execute", note)
