"""How PostgreSQL, MySQL and SQLite write what engines write differently."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, String, case, cast, column, func, literal, select, union_all
from sqlalchemy import values as value_list

from upshot.aggregation import Period
from upshot.eventstore.forms import Forms
from upshot.eventstore.relational import tables


class PostgreSQLForms(Forms):
    """The common forms over this store's own tables."""

    events = tables.events
    exposures = tables.exposures
    event_types = tables.event_types
    marks = tables.marks
    rollups = tables.rollups


class MySQLForms(PostgreSQLForms):
    """MySQL and MariaDB do not agree on VALUES; both know UNION ALL."""

    def periods(self, periods: Sequence[Period]) -> FromClause:
        """One SELECT per period."""
        rows = [
            select(literal(index).label("period"), literal(part.start).label("starts"), literal(part.end).label("ends"))
            for index, part in enumerate(periods)
        ]
        return union_all(*rows).subquery("periods")

    def attribute(self, context: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """By JSON path; a JSON null is a value to MySQL, and none to us."""
        found = func.json_extract(context, path_of(name))
        return case((func.json_type(found) != "NULL", func.json_unquote(found)))


class SQLiteForms(PostgreSQLForms):
    """SQLite names the columns of a VALUES list only in WITH."""

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


FORMS: dict[str, Forms] = {"postgresql": PostgreSQLForms(), "mysql": MySQLForms(), "sqlite": SQLiteForms()}


def path_of(name: str) -> str:
    """A JSON path to an attribute that may be called anything."""
    return f"$.{json.dumps(name, ensure_ascii=False)}"
