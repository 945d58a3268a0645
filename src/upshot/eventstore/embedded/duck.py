"""How DuckDB is spoken to: PostgreSQL's SQL with few exceptions, and numbered parameters."""

from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import ColumnElement, CompoundSelect, Double, Select, Text, case, func, literal, try_cast
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.engine import Dialect

from upshot.eventstore.forms import LARGEST, Forms


class _Statements(PGCompiler_psycopg):
    def visit_try_cast(self, element: Any, **options: Any) -> str:
        # PostgreSQL has no such thing.
        return f"TRY_CAST({self.process(element.clause, **options)} AS {self.process(element.typeclause, **options)})"


class _Dialect(PGDialect_psycopg):
    statement_compiler = _Statements


DIALECT: Dialect = _Dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

# The commonest values of every attribute in the contexts of users; DuckDB's own JSON functions and QUALIFY.
SEGMENT_VALUES = """
    WITH seen AS (
      SELECT context, unnest(json_keys(context)) AS name FROM ({contexts}) AS users
    ), counted AS (
      SELECT name, context ->> ('/' || replace(replace(name, '~', '~0'), '/', '~1')) AS value, count(*) AS users
      FROM seen GROUP BY 1, 2
    )
    SELECT name, value FROM counted WHERE value IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY name ORDER BY users DESC, value) <= {most}
    ORDER BY name, users DESC, value"""


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a file."""
    return duckdb.connect(path, config={"autoinstall_known_extensions": False, "preserve_insertion_order": False})


def copy(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Copy the whole database of a cursor into a new file, in one transaction."""
    [[name]] = cursor.execute("SELECT current_database()").fetchall()
    quoted, target = name.replace('"', '""'), str(path).replace("'", "''")
    cursor.execute(f"ATTACH '{target}' AS copied")
    try:
        cursor.execute(f'COPY FROM DATABASE "{quoted}" TO copied')
    finally:
        cursor.execute("DETACH copied")


def quiet(cursor: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A cursor that prints no progress bar: the engine would draw one into the server's output after two seconds."""
    return cursor.execute("SET enable_progress_bar = false")


class DuckForms(Forms):
    """How DuckDB writes what engines write differently."""

    texts = ("VARCHAR",)
    numbers = ("BIGINT", "UBIGINT", "DOUBLE")
    booleans = ("BOOLEAN",)

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By JSON pointer: DuckDB would take a plain name that begins with $ or / for a path."""
        return func.json_extract_string(context, _pointer(name), type_=Text)

    def kind(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By JSON pointer."""
        return func.json_type(properties, _pointer(name), type_=Text)

    def double(self, number: ColumnElement[str]) -> ColumnElement[float]:
        """What is too large is read as infinite."""
        found = try_cast(number, Double)
        return case((func.abs(found) <= LARGEST, found))


def _pointer(name: str) -> ColumnElement[str]:
    return literal("/" + name.replace("~", "~0").replace("/", "~1"))


def compiled(query: Select[Any] | CompoundSelect[Any]) -> tuple[str, list[Any]]:
    """The SQL of a query, and its parameters in order."""
    compiled = query.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    positions = compiled.positiontup or []
    return str(compiled), [compiled.params[name] for name in positions]


def fetch(cursor: duckdb.DuckDBPyConnection, query: Select[Any] | CompoundSelect[Any]) -> list[dict[str, Any]]:
    """The rows of a query, by column name."""
    found = cursor.execute(*compiled(query))
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
