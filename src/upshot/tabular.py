"""Rows of CSV, NDJSON and Parquet files as the import takes them: assignments and events as JSON objects.

In an assignments file, columns other than user_id, variant and assigned_at make up the context; in an events file, columns
other than user_id, event_type (or type), timestamp, event_id, experiment_id, session_id and sequence make up the properties. A
column called `context` or `properties` holds that object as JSON. Text that reads as a number or a boolean becomes one there; ids
stay text. A time without an offset is taken as UTC. In CSV a quote before what would begin a formula is no part of the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import duckdb
import msgspec

from upshot.errors import ConfigurationError
from upshot.export import restored

Kind = Literal["assignments", "events"]

_BATCH = 10_000
_FIELDS: Mapping[Kind, tuple[frozenset[str], str]] = MappingProxyType(
    {
        "assignments": (frozenset({"user_id", "variant", "assigned_at"}), "context"),
        "events": (
            frozenset(
                {"user_id", "event_type", "type", "timestamp", "event_id", "experiment_id", "session_id", "sequence"}
            ),
            "properties",
        ),
    }
)
# The delimiter is found out; the quotes are not, because cells that begin with ' would be taken for quoted ones.
_CSV = """read_csv($1, all_varchar = true, header = true, quote = '"', escape = '"')"""
_READERS = {
    ".csv": _CSV,
    ".gz": _CSV,
    ".parquet": "read_parquet($1)",
    ".ndjson": "read_ndjson_objects($1)",
    ".jsonl": "read_ndjson_objects($1)",
}


class Lines(Protocol):
    """Rows that are sent one line each."""

    count: int

    def lines(self) -> Iterator[bytes]:
        """Each row as one line of NDJSON."""
        ...


class Rows:
    """The rows of one file.

    Raises:
        ConfigurationError: the file cannot be read, or is of another kind.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise ConfigurationError(f"{path}: must be a .csv, .ndjson or .parquet file")
        self._path, self._kind, self._reader = path, kind, reader
        try:
            counted = duckdb.connect().execute(f"SELECT count(*) FROM {reader}", [str(path)]).fetchone()  # noqa: S608
        except duckdb.Error as error:
            raise ConfigurationError(f"{path}: cannot be read: {str(error).partition(chr(10))[0]}") from None
        self.count = int(counted[0]) if counted else 0

    def lines(self) -> Iterator[bytes]:
        """Each row as one line of NDJSON."""
        cursor = duckdb.connect().execute(f"SELECT * FROM {self._reader}", [str(self._path)])  # noqa: S608 - our own text
        names = [column[0] for column in cursor.description or ()]
        is_document, is_csv = (self._reader.startswith(f"read_{form}") for form in ("ndjson", "csv"))
        if is_csv:
            names = [restored(name) for name in names]
        while rows := cursor.fetchmany(_BATCH):
            for row in rows:
                cells = [cell and restored(cell) for cell in row] if is_csv else row
                content = row[0].encode() if is_document else msgspec.json.encode(self._content(names, cells))
                yield content + b"\n"

    def _content(self, names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
        fields, rest = _FIELDS[self._kind]
        content: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in zip(names, row, strict=True):
            if value is None or value == "":
                continue
            if name in fields:
                content[name] = _field(name, value)
            elif name == rest:
                others |= msgspec.json.decode(value)
            else:
                others[name] = _scalar(value)
        return content | {rest: others} if others else content


def _field(name: str, value: Any) -> Any:
    if name in {"timestamp", "assigned_at"}:
        return _moment(value)
    return _scalar(value) if name == "sequence" else str(value)


def _scalar(text: Any) -> Any:
    if not isinstance(text, str):
        return float(text) if isinstance(text, Decimal) else text.isoformat() if isinstance(text, datetime) else text
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, int | float) else text


def _moment(value: Any) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)  # the import will say what is wrong with it
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
