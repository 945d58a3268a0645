"""How PostgreSQL, MySQL and SQLite write what engines write differently."""

import json
import string
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Double,
    FromClause,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    String,
    Text,
    TypeDecorator,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy import values as value_list
from sqlalchemy.dialects import mysql

from upshot.aggregation import Period
from upshot.eventstore.forms import JSON_NUMBER, LARGEST, Forms
from upshot.eventstore.relational import tables

TOO_LARGE = str(2**1024 - 2**970)  # the least number that is read as infinite: half a step above the largest double
MOST_HIDDEN = 2.0**42
LARGEST_TENS = 1.8e298  # with ten digits less, nothing up to there is mistaken for a number ten times as large


class _Bytes(TypeDecorator[str]):
    """Text that MySQL compares byte by byte."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else value.encode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else value.decode()


class PostgreSQLForms(Forms):
    """The common forms over this store's own tables."""

    events = tables.events
    exposures = tables.exposures
    aliases = tables.aliases
    withdrawals = tables.withdrawals
    event_types = tables.event_types
    marks = tables.marks
    rollups = tables.rollups
    arrival: ClassVar[Sequence[ColumnElement[int]]] = (
        tables.events.c.received_at,
        tables.events.c.id_high,
        tables.events.c.id_low,
    )

    # Where it expects few rows, as it does of all that is new, it would count everybody's events again for every user; a full
    # join it can only hash or merge.
    full_joins = True


class MySQLForms(PostgreSQLForms):
    """MySQL and MariaDB do not agree on VALUES; both know UNION ALL."""

    full_joins = False

    texts = ("STRING",)
    numbers = ("INTEGER", "UNSIGNED INTEGER", "DOUBLE", "DECIMAL")
    booleans = ("BOOLEAN",)

    def periods(self, periods: Sequence[Period]) -> FromClause:
        """One SELECT per period."""
        rows = [
            select(literal(index).label("period"), literal(part.start).label("starts"), literal(part.end).label("ends"))
            for index, part in enumerate(periods)
        ]
        return union_all(*rows).subquery("periods")

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By JSON path; a JSON null is a value to MySQL, and none to us."""
        return case((self.kind(context, name) != "NULL", self.content(context, name)))

    def kind(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By JSON path."""
        return func.json_type(func.json_extract(properties, path_of(name)), type_=String)

    def content(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By JSON path."""
        return func.json_unquote(func.json_extract(properties, path_of(name)), type_=String)

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """As bytes: a collation may hold upper and lower case, or a text and the same with spaces behind it, to be equal."""
        return cast(super().text(properties, name), _Bytes)

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """Of characters: MySQL matches no bytes. `$` would hold before a last line feed."""
        characters = cast(text, mysql.CHAR(charset="utf8mb4"))
        return case((characters.regexp_match(JSON_NUMBER.format(end=r"\z")), self.double(characters)))

    def double(self, number: ColumnElement[str]) -> ColumnElement[float]:
        """What is too large is read as the largest double, which other numbers are rightly read as: their digits tell."""
        found = cast(number, Double)
        mantissa = func.regexp_replace(number, "[eE].*", "")
        exponent = cast(func.nullif(func.substr(func.regexp_substr(number, "[eE].*"), 2), ""), Numeric(65, 0))
        smaller = cast(func.concat(mantissa, "e", func.coalesce(exponent, 0) - 10), Double)
        digits = cast(func.regexp_replace(mantissa, "^[-0.]+|[.]", ""), _Bytes)
        rightly = and_(func.abs(smaller) < LARGEST_TENS, digits < TOO_LARGE)
        return case((or_(func.abs(found) < LARGEST, rightly), found))

    def position(self, text: ColumnElement[str], part: str) -> ColumnElement[int]:
        """In bytes."""
        return func.locate(literal(part, _Bytes), text, type_=Integer)

    def ending(self, text: ColumnElement[str], part: str) -> ColumnElement[str]:
        """In bytes."""
        return func.right(text, len(part.encode()), type_=_Bytes)

    def folded(self, text: ColumnElement[str]) -> ColumnElement[str]:
        """Letter by letter: there is no function for this."""
        for letter in string.ascii_uppercase:
            text = func.replace(text, literal(letter, _Bytes), literal(letter.lower(), _Bytes), type_=_Bytes)
        return text

    def owned(self, type_keys: Collection[int]) -> ColumnElement[bool]:
        """By a value, not a column."""
        return _owned(type_keys)

    def numbered(self) -> Select[Any]:
        """The greatest ordinal: the end of an index that holds the other events, too."""
        return select(func.max(self.events.c.ordinal))

    def among(self, value: ColumnElement[Any], options: Sequence[str] | Sequence[float]) -> ColumnElement[bool]:
        """As a list in the statement: the drivers write parameters there."""
        return value.in_(options)

    def covariance(self, one: ColumnElement[Any], another: ColumnElement[Any]) -> ColumnElement[Any]:
        """By the variance of the sum: there is no function for two numbers."""
        return (func.var_pop(one + another) - func.var_pop(one) - func.var_pop(another)) / 2

    def third_moment(self, number: ColumnElement[Any]) -> ColumnElement[Any]:
        """Null where rounding would be worth more than a thousandth of skewness: the variance of y² + y hides what is left of
        about 2^-52 |mean|³ / var(y)."""
        mean, variance = func.abs(func.avg(number)), func.var_pop(number)
        return case(
            (variance == 0, variance), (mean * mean * mean <= MOST_HIDDEN * variance, super().third_moment(number))
        )


class SQLiteForms(PostgreSQLForms):
    """SQLite names the columns of a VALUES list only in WITH; it numbers rows as they come."""

    arrival = (literal_column("events.rowid", BigInteger),)

    def owned(self, type_keys: Collection[int]) -> ColumnElement[bool]:
        """By a value, not a column."""
        return _owned(type_keys)

    full_joins = False

    def periods(self, periods: Sequence[Period]) -> FromClause:
        """A VALUES list as a common table expression."""
        columns = [column(name, Integer) for name in ("period", "starts", "ends")]
        listed = [(index, part.start, part.end) for index, part in enumerate(periods)]
        return value_list(*columns, name="periods").data(listed).cte("periods")

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By name among the members: SQLite's paths cannot name every attribute. It turns booleans into numbers."""
        member = func.json_each(context).table_valued("key", "value", "type")
        text = case((member.c.type.in_(["true", "false"]), member.c.type), else_=cast(member.c.value, String))
        return select(text).where(member.c.key == name).scalar_subquery()

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By name among the members."""
        return cast(_member(properties, name, "value", "text"), Text)

    def boolean(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """By name among the members."""
        return cast(_member(properties, name, "type", "true", "false"), Text)

    def number(self, properties: ColumnElement[Any], name: str) -> ColumnElement[float]:
        """By name among the members. What is too large is read as infinite."""
        found = cast(_member(properties, name, "value", "integer", "real"), Double)
        return case((func.abs(found) <= LARGEST, found))

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """By a function of our own (sqlitefile.py): SQLite has no regular expressions, and reads 19 digits."""
        return func.written_number(text, type_=Double)

    def position(self, text: ColumnElement[str], part: str) -> ColumnElement[int]:
        """Under another name."""
        return func.instr(text, part, type_=Integer)

    def ending(self, text: ColumnElement[str], part: str) -> ColumnElement[str]:
        """Counted from the end."""
        return func.substr(text, -len(part), type_=Text)

    def folded(self, text: ColumnElement[str]) -> ColumnElement[str]:
        """`lower` knows ASCII only."""
        return func.lower(text, type_=Text)

    def among(self, value: ColumnElement[Any], options: Sequence[str] | Sequence[float]) -> ColumnElement[bool]:
        """As a JSON list in one parameter."""
        listed = func.json_each(json.dumps([str(option) for option in options])).table_valued("value")
        numbers = isinstance(value.type, Double)
        return value.in_(select(self.written(listed.c.value) if numbers else listed.c.value))


def _owned(type_keys: Collection[int]) -> ColumnElement[bool]:
    """Whether an event is of these types; by a value: engines would find all of them by an index of the types, and sort them."""
    return (tables.events.c.type_key + 0).in_(sorted(type_keys))


FORMS: dict[str, Forms] = {"postgresql": PostgreSQLForms(), "mysql": MySQLForms(), "sqlite": SQLiteForms()}


def _member(properties: ColumnElement[Any], name: str, column: str, *types: str) -> ColumnElement[Any]:
    """What SQLite's table of members says of one, if it is of one of the types; else null."""
    member = func.json_each(properties).table_valued("key", "value", "type")
    return select(member.c[column]).where(member.c.key == name, member.c.type.in_(types)).scalar_subquery()


def path_of(name: str) -> str:
    """A JSON path to an attribute that may be called anything."""
    return f"$.{json.dumps(name, ensure_ascii=False)}"
