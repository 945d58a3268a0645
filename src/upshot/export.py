"""User-level rows as CSV, NDJSON or Parquet, in chunks of bytes, whatever store they come from."""

import asyncio
import csv
import io
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import msgspec

Batches = AsyncIterator[list[tuple[Any, ...]]]

# What a spreadsheet may take for the beginning of a formula: the signs and white space that OWASP lists, with the full-width and
# small forms that some keyboards write; behind any number of quotes, so that one more can be taken away again.
_FORMULA = re.compile("'*(?:[\\t\\r\\n\\0]|[\\s\ufeff]*[=+@＝＋－＠﹢﹣﹦﹫−-])")
_CHUNK = 1 << 20


async def to_csv(columns: Sequence[str], batches: Batches) -> AsyncIterator[bytes]:
    """RFC 4180; a text that a spreadsheet would take for a formula gets a quote before it, names of columns too."""
    yield _csv([columns])
    async for batch in batches:
        yield _csv(batch)


async def to_ndjson(columns: Sequence[str], batches: Batches) -> AsyncIterator[bytes]:
    """One JSON object a line; the context is an object, too."""
    place = list(columns).index("context")
    encode = msgspec.json.Encoder().encode_lines
    async for batch in batches:
        rows = [(*row[:place], msgspec.Raw(row[place].encode()), *row[place + 1 :]) for row in batch]
        yield encode([dict(zip(columns, row, strict=True)) for row in rows])


async def to_parquet(columns: Sequence[str], batches: Batches) -> AsyncIterator[bytes]:
    """One Parquet file, written by DuckDB beside the stream and removed after it."""
    with tempfile.TemporaryDirectory(prefix="upshot-export-") as folder:
        path = Path(folder) / "rows.parquet"
        connection = duckdb.connect(str(Path(folder) / "rows.duckdb"))
        try:
            names = ", ".join(f'"{_quoted(name)}" {_type(place)}' for place, name in enumerate(columns))
            await asyncio.to_thread(connection.execute, f"CREATE TABLE rows ({names})")
            marks = ", ".join("?" for _ in columns)
            async for batch in batches:
                await asyncio.to_thread(_insert, connection, f"INSERT INTO rows VALUES ({marks})", batch)  # noqa: S608
            await asyncio.to_thread(connection.execute, f"COPY rows TO '{path}' (FORMAT parquet)")
        finally:
            connection.close()
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk


FORMATS: Mapping[str, tuple[Callable[[Sequence[str], Batches], AsyncIterator[bytes]], str]] = MappingProxyType(
    {
        "csv": (to_csv, "text/csv; charset=utf-8"),
        "ndjson": (to_ndjson, "application/x-ndjson"),
        "parquet": (to_parquet, "application/vnd.apache.parquet"),
    }
)


def harmless(text: str) -> str:
    """A text as a cell that no spreadsheet calculates: with a quote before what may begin a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(cell: str) -> str:
    """The text of a cell: `restored(harmless(text)) == text` for every text."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return harmless(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _insert(connection: duckdb.DuckDBPyConnection, statement: str, batch: Sequence[tuple[Any, ...]]) -> None:
    connection.execute("BEGIN")
    connection.executemany(statement, batch)
    connection.execute("COMMIT")


def _type(place: int) -> str:
    fixed = ("VARCHAR", "VARCHAR", "SMALLINT", "TIMESTAMPTZ", "VARCHAR")
    return fixed[place] if place < len(fixed) else "DOUBLE"


def _quoted(name: str) -> str:
    return name.replace('"', '""')
