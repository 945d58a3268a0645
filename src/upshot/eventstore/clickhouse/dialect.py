"""How ClickHouse is spoken to: its own functions and types where the common SQL would mean something else."""

from typing import Any

from clickhouse_connect.cc_sqlalchemy.dialect import ClickHouseDialect
from clickhouse_connect.cc_sqlalchemy.sql.compiler import ChStatementCompiler
from sqlalchemy import BigInteger, ColumnElement, Select, case, func, literal, select
from sqlalchemy.sql.compiler import GenericTypeCompiler

from upshot.eventstore import tables
from upshot.eventstore.forms import Forms

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

# Types and users are spread differently over a cluster; a recount relates both, and has the time to send them around.
RECOUNTING = READING | {"max_execution_time": RECOUNT_SECONDS, "distributed_product_mode": "global"}

# As one literal that is cast: a list of many numbers in the statement itself takes three times as long to be read.
IDENTITIES = """
    SELECT id_high, id_low, argMax(fingerprint, seq) FROM identities
    WHERE id_high IN (SELECT arrayJoin(CAST('{high}', 'Array(Int64)'))) GROUP BY id_high, id_low"""

# The commonest values of every attribute in the contexts of an experiment.
SEGMENT_VALUES = """
    SELECT name, value FROM (
      SELECT context, arrayJoin(JSONExtractKeys(context)) AS name, JSONExtract(context, name, 'Nullable(String)') AS value
      FROM exposures WHERE client_key = {client} AND experiment = {experiment}
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


class _Dialect(ClickHouseDialect):
    statement_compiler = _Statements
    type_compiler_cls = _Types


_DIALECT = _Dialect()


class ClickHouseForms(Forms):
    """How ClickHouse writes what engines write differently, for the questions of one client.

    The mark of a type does not name its client, because a view cannot know it. The type implies it: who asks is the owner of
    the types that are asked for.
    """

    def __init__(self, client_key: int = 0) -> None:
        columns = tables.marks.c
        client = case((columns.type_key == 0, columns.client_key), else_=literal(client_key, BigInteger))
        others = (columns.type_key, columns.experiment, columns.grain, columns.starts)
        self.marks = select(client.label("client_key"), *others).subquery("marks")

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By name: JSONExtract knows no paths, and writes what is not a text as JSON."""
        return func.JSONExtract(context, literal(name), literal("Nullable(String)"))


def compiled(query: Select[Any]) -> str:
    """The SQL of a query with its values in it: the keys are wider than the common columns' types, which a server would check."""
    return str(query.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
