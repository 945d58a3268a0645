"""What SQL engines write differently, as PostgreSQL writes it; an engine overrides what it writes in a form of its own."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, FromClause, Integer, cast, column, literal, values

from upshot.aggregation import Period
from upshot.eventstore import tables


class Forms:
    """What engines write differently; here as PostgreSQL does, for an engine's own form to override."""

    events: FromClause = tables.events
    exposures: FromClause = tables.exposures
    event_types: FromClause = tables.event_types
    marks: FromClause = tables.marks
    rollups: FromClause = tables.rollups

    def periods(self, periods: Sequence[Period]) -> FromClause:
        """A table of the periods: period (index), starts, ends (µs)."""
        columns = (column("period", Integer), column("starts", BigInteger), column("ends", BigInteger))
        listed = [(index, period.start, period.end) for index, period in enumerate(periods)]
        return values(*columns, name="periods").data(listed)

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """The value of an attribute of a JSON context as text; null where it is absent or null."""
        return cast(context, JSON).op("->>")(literal(name))
