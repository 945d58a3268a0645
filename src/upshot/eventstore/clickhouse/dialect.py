"""How ClickHouse is spoken to: its own functions and types where the common SQL would mean something else."""

from collections.abc import Sequence
from typing import Any

from clickhouse_connect.cc_sqlalchemy.dialect import ClickHouseDialect
from clickhouse_connect.cc_sqlalchemy.sql.compiler import ChStatementCompiler
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Double,
    Integer,
    Select,
    Text,
    case,
    func,
    literal,
    select,
)
from sqlalchemy.sql.compiler import GenericTypeCompiler

from upshot.eventstore import tables
from upshot.eventstore.forms import JSON_NUMBER, LARGEST, Forms

READ_SECONDS = 30
RECOUNT_SECONDS = 600

# What every query needs for its answer to be right, and bounded.
READING: dict[str, Any] = {
    "final": 1,  # each event and each exposure once
    "join_use_nulls": 1,
    "cast_keep_nullable": 1,
    "distributed_product_mode": "local",  # events and exposures of a user lie on one shard
    "max_query_size": 16 << 20,
    "max_execution_time": READ_SECONDS,
    "cancel_http_readonly_queries_on_client_close": 1,
}

# Without FINAL, which takes four times as long: who looks up wants any row of an identity, the first one if there are two.
LOOKING_UP = READING | {"final": 0}

# Where ids are linked or users withdrawn, who counts is found first and sent to all: the ids of one user lie on several shards.
SENT_AROUND = READING | {"distributed_product_mode": "global"}

# Types and users are spread differently over a cluster; a recount relates both, and has the time to send them around.
RECOUNTING = READING | {"max_execution_time": RECOUNT_SECONDS, "distributed_product_mode": "global"}

# As one literal that is cast: a list of many numbers in the statement itself takes three times as long to be read.
IDENTITIES = """
    SELECT id_high, id_low, argMax(fingerprint, seq) FROM identities
    WHERE id_high IN (SELECT arrayJoin(CAST('{high}', 'Array(Int64)'))) GROUP BY id_high, id_low"""

# The commonest values of every attribute in the contexts of users.
SEGMENT_VALUES = """
    SELECT name, value FROM (
      SELECT context, arrayJoin(JSONExtractKeys(context)) AS name, JSONExtract(context, name, 'Nullable(String)') AS value
      FROM ({contexts})
    )
    WHERE value IS NOT NULL
    GROUP BY name, value ORDER BY name, count() DESC, value LIMIT {most} BY name"""


class _Types(GenericTypeCompiler):
    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's signature
        return "Float64"  # FLOAT alone would be one of 32 bits

    def visit_DOUBLE(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's signature
        return "Float64"


class _Statements(ChStatementCompiler):
    def visit_var_pop_func(self, function: Any, **options: Any) -> str:
        # varPop keeps raw sums of squares, which lose everything when the mean is large beside the spread.
        return f"varPopStable({self.process(function.clauses, **options)})"

    def visit_covar_pop_func(self, function: Any, **options: Any) -> str:
        # For the same reason.
        return f"covarPopStable({self.process(function.clauses, **options)})"


class _Dialect(ClickHouseDialect):
    statement_compiler = _Statements
    type_compiler_cls = _Types


_DIALECT = _Dialect()


class ClickHouseForms(Forms):
    """How ClickHouse writes what engines write differently, for the questions of one client.

    The mark of a type does not name its client, because a view cannot know it. The type implies it: who asks is the owner of
    the types that are asked for.
    """

    texts = ("String",)
    numbers = ("Int64", "UInt64", "Double")
    booleans = ("Bool",)

    def __init__(self, client_key: int = 0) -> None:
        columns = tables.marks.c
        client = case((columns.type_key == 0, columns.client_key), else_=literal(client_key, BigInteger))
        others = (columns.type_key, columns.experiment, columns.grain, columns.starts)
        self.marks = select(client.label("client_key"), *others).subquery("marks")

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By name: JSONExtract knows no paths, and writes what is not a text as JSON."""
        return func.JSONExtract(context, literal(name), literal("Nullable(String)"), type_=Text)

    def kind(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """As a text: the answer is an enumeration, which refuses to be compared with what it does not know."""
        return func.toString(func.JSONType(properties, literal(name)), type_=Text)

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """By a function; there is no operator."""
        return case((func.match(text, JSON_NUMBER.format(end="$")) == 1, self.double(text)))

    def double(self, number: ColumnElement[str]) -> ColumnElement[float]:
        """Read as JSON: a conversion is inexact unless a setting says otherwise. Minus zero would be in no list of zero."""
        found = func.JSONExtract(number, literal("Nullable(Float64)"), type_=Double) + literal(0.0, Double)
        return case((func.abs(found) <= LARGEST, found))

    def position(self, text: ColumnElement[str], part: str) -> ColumnElement[int]:
        """In bytes; both are UTF-8."""
        return func.position(text, part, type_=Integer)

    def ending(self, text: ColumnElement[str], part: str) -> ColumnElement[str]:
        """In bytes."""
        return func.right(text, len(part.encode()), type_=Text)

    def folded(self, text: ColumnElement[str]) -> ColumnElement[str]:
        """`lower` knows ASCII only."""
        return func.lower(text, type_=Text)

    def numbered(self) -> Select[Any]:
        """Any one, without FINAL: a duplicate will do."""
        events = self.events.c
        return select(events.user_key).where(events.ordinal.is_not(None)).limit(1).suffix_with("SETTINGS final = 0")

    def among(self, value: ColumnElement[Any], options: Sequence[str] | Sequence[float]) -> ColumnElement[bool]:
        """As a list in the statement; without minus zero, as `double` answers none."""
        return value.in_([option or 0.0 if isinstance(option, float) else option for option in options])


def compiled(query: Select[Any] | CompoundSelect[Any]) -> str:
    """The SQL of a query with its values in it: the keys are wider than the common columns' types, which a server would check."""
    return str(query.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
