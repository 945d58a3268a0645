"""What SQL engines write differently, as PostgreSQL writes it; an engine overrides what it writes in a form of its own."""

import string
import sys
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Numeric,
    Select,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    true,
    type_coerce,
    values,
)

from upshot.aggregation import Period
from upshot.eventstore import tables

LARGEST = sys.float_info.max
# The whole of a text that is a number in JSON; `{end}` is how an engine's regular expressions write the end of the text.
JSON_NUMBER = "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?{end}"


class Forms:
    """What engines write differently; here as PostgreSQL does, for an engine's own form to override."""

    events: FromClause = tables.events
    exposures: FromClause = tables.exposures
    aliases: FromClause = tables.aliases
    withdrawals: FromClause = tables.withdrawals
    event_types: FromClause = tables.event_types
    marks: FromClause = tables.marks
    rollups: FromClause = tables.rollups

    # The order in which events came, earliest first: for DuckDB, whose one writer numbers them.
    arrival: ClassVar[Sequence[ColumnElement[int]]] = (tables.events.c.seq,)

    # Whether rows that are all found on the left side are joined fully, which then says the same as on the left.
    full_joins: ClassVar[bool] = False

    # What `kind` says of texts, numbers and booleans.
    texts: ClassVar[Sequence[str]] = ("string",)
    numbers: ClassVar[Sequence[str]] = ("number",)
    booleans: ClassVar[Sequence[str]] = ("boolean",)

    def periods(self, periods: Sequence[Period]) -> FromClause:
        """A table of the periods: period (index), starts, ends (µs)."""
        columns = (column("period", Integer), column("starts", BigInteger), column("ends", BigInteger))
        listed = [(index, period.start, period.end) for index, period in enumerate(periods)]
        return values(*columns, name="periods").data(listed)

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """The value of an attribute of a JSON context as text; null where it is absent or null."""
        return cast(context, JSON).op("->>")(literal(name))

    def owned(self, type_keys: Collection[int]) -> ColumnElement[bool]:
        """Whether an event is of these types, where events are read in the order in which they came."""
        return self.events.c.type_key.in_(sorted(type_keys))

    def numbered(self) -> Select[Any]:
        """A value, unless no event of the store is numbered: then none, or null. Asked first, as most clients number none.

        The least key, so that a planner that knows nothing of the column takes the index of numbered events.
        """
        events = self.events.c
        return select(func.min(events.user_key)).where(events.ordinal.is_not(None))

    def covariance(self, one: ColumnElement[Any], another: ColumnElement[Any]) -> ColumnElement[Any]:
        """The population covariance of two numbers, centred inside the engine."""
        return func.covar_pop(one, another)

    def third_moment(self, number: ColumnElement[Any]) -> ColumnElement[Any]:
        """The third central moment of a number: cov(y², y) − 2 mean(y) var(y), so that the engine centres it."""
        return self.covariance(number * number, number) - 2 * func.avg(number) * func.var_pop(number)

    # The members of a JSON object, for filters.py. Texts are compared by code point.

    def kind(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """What a member of a JSON object is, in the engine's own words; null where it is absent."""
        return func.json_typeof(cast(properties, JSON).op("->")(literal(name)), type_=Text)

    def content(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The member as text; anything where it is absent or null."""
        return type_coerce(self.attribute(properties, name), Text)

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The member if it is a text, else null."""
        return case((self.kind(properties, name).in_(self.texts), self.content(properties, name)))

    def boolean(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """`true` or `false` if the member is that, else null."""
        return case((self.kind(properties, name).in_(self.booleans), self.content(properties, name)))

    def number(self, properties: ColumnElement[Any], name: str) -> ColumnElement[float]:
        """The member as a double if it is a number, and finite as one; else null."""
        return case((self.kind(properties, name).in_(self.numbers), self.double(self.content(properties, name))))

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """The number that a text is written as in JSON, if it is finite as a double; else null."""
        return case((text.regexp_match(JSON_NUMBER.format(end="$")), self.double(text)))

    def double(self, number: ColumnElement[str]) -> ColumnElement[float]:
        """The double of a number as JSON writes it, null when it is too large. A cast would fail on one out of range."""
        readable = func.jsonb_path_exists(
            func.to_jsonb(cast(number, Text)), literal_column("'$.double()'"), literal_column("'{}'"), true()
        )
        # Its first digit's place before the point, or minus the zeros behind it: enough to tell too small from too large.
        whole = func.length(func.substring(number, "^-?([1-9][0-9]*)"))
        zeros = func.length(func.substring(number, "^-?0[.](0*)"))
        exponent = cast(func.substring(number, "[eE](.*)$"), Numeric)
        vanishes = func.coalesce(whole, -zeros, 0) + func.coalesce(exponent, 0) < 0
        return case((readable, cast(number, Double)), (vanishes, literal(0.0, Double)))

    def position(self, text: ColumnElement[str], part: str) -> ColumnElement[int]:
        """Where one text first is in another: 1 at its beginning, 0 nowhere."""
        return func.strpos(text, part, type_=Integer)

    def ending(self, text: ColumnElement[str], part: str) -> ColumnElement[str]:
        """As much of the end of a text as another one is long."""
        return func.right(text, len(part), type_=text.type)

    def folded(self, text: ColumnElement[str]) -> ColumnElement[str]:
        """The text with a-z for A-Z, and nothing else changed."""
        return func.translate(text, string.ascii_uppercase, string.ascii_lowercase, type_=text.type)

    def among(self, value: ColumnElement[Any], options: Sequence[str] | Sequence[float]) -> ColumnElement[bool]:
        """Whether a text or a double is one of many: in one parameter, as engines limit their number."""
        return value.in_(select(func.unnest(literal(list(options), ARRAY(value.type)))))
