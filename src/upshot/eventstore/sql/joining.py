"""How exposures and awaited events come together: who has an event after the exposure, who before it, who has no exposure."""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Select, Subquery, and_, case, func, literal, select

from upshot.eventstore.sql.identities import aliases_of, exposures_of
from upshot.eventstore.sql.question import Column, Question
from upshot.eventstore.sql.users import exposed_users


def exposed_last(question: Question) -> Select[Any]:
    """How many users are exposed and count, and the last of their exposures: users, last."""
    found = exposed_users(question)
    columns: list[Column] = [func.count().label("users"), func.max(found.c.exposed_at).label("last")]
    return select(*columns)


def joined(question: Question) -> Select[Any]:
    """Over users with events that the plan's metrics need, in its window: joined (users with one at or after the exposure),
    before and users_before (events before it, and their users), unknown and users_unknown (events of users without an exposure).

    Users who were exposed and are left out are in none of them: they are known, and do not count.
    """
    happened, exposures = _happened(question), _exposures(question)
    counts: ColumnElement[bool] = exposures.c.counts == 1
    after = and_(counts, happened.c.occurred_at >= exposures.c.exposed_at)
    before = and_(counts, happened.c.occurred_at < exposures.c.exposed_at)
    users = (
        select(
            happened.c.user_key,
            *(
                func.sum(case((condition, 1), else_=0)).label(name)
                for name, condition in (("after", after), ("before", before), ("unknown", exposures.c.counts.is_(None)))
            ),
        )
        .join_from(happened, exposures, exposures.c.user_key == happened.c.user_key, isouter=True)
        .group_by(happened.c.user_key)
        .subquery("acting")
    )
    columns = users.c
    return select(
        _users(columns.after).label("joined"),
        func.sum(columns.before).label("before"),
        _users(columns.before).label("users_before"),
        func.sum(columns.unknown).label("unknown"),
        _users(columns.unknown).label("users_unknown"),
    )


def _users(number: Column) -> Column:
    return func.sum(case((number > 0, 1), else_=0))


def _happened(question: Question) -> FromClause:
    """The events of the window, each with whose it is: user_key, occurred_at."""
    plan, events, keys = question.plan, question.forms.events, question.needed
    user: Column = events.c.user_key
    source: FromClause = events
    if question.linked:
        aliases = aliases_of(question)
        user = func.coalesce(aliases.c.user_key, user)
        source = events.outerjoin(aliases, aliases.c.alias_key == events.c.user_key)
    conditions = [
        events.c.type_key.in_(keys) if keys else literal(0, Integer) == 1,
        events.c.occurred_at < plan.end,
        *([] if plan.start is None else [events.c.occurred_at >= plan.start]),
    ]
    query = select(user.label("user_key"), events.c.occurred_at)
    return query.select_from(source).where(*conditions).subquery("happened")


def _exposures(question: Question) -> Subquery:
    """Everybody who was exposed before the plan's end, once: user_key, exposed_at, and whether that counts (1 or 0)."""
    table, conditions = exposures_of(question, question.plan.experiment, ("user_key", "exposed_at"))
    query = select(table.c.user_key, table.c.exposed_at)
    in_time = table.c.exposed_at < question.plan.end
    if question.linked or question.withdrawn:
        return query.add_columns(case((and_(in_time, *conditions), 1), else_=0).label("counts")).subquery("everyone")
    return query.add_columns(case((in_time, 1), else_=0).label("counts")).where(*conditions).subquery("everyone")
