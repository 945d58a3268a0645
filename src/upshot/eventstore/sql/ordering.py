"""Numbers and values by rank: where to cut off, and quantiles."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Double, FromClause, Select, Subquery, and_, case, cast, func, literal, select

from upshot.eventstore.sql.folding import per_user, timing
from upshot.eventstore.sql.identities import by_id
from upshot.eventstore.sql.question import Column, Question
from upshot.eventstore.sql.users import exposed_users
from upshot.metrics import Metric, Unit


def spread(question: Question, metric: Metric, column: str) -> Select[Any]:
    """How many users of all arms together have a number in a column of `per_user`, how many of these are below zero, and how
    many are zero: number, negative, zero."""
    users = per_user(question.only(metric))
    value = users.c[f"{column}_0"]
    return select(
        func.count(value).label("number"),
        func.coalesce(func.sum(case((value < 0, 1), else_=0)), 0).label("negative"),
        func.coalesce(func.sum(case((value == 0, 1), else_=0)), 0).label("zero"),
    )


def at_ranks(question: Question, metric: Metric, column: str, ranks: Sequence[int], *, zeros: bool) -> Select[Any]:
    """The numbers at some ranks (1-based) among those of all arms together: position, number."""
    users = per_user(question.only(metric))
    value = users.c[f"{column}_0"]
    ranked = select(value.label("number"), func.row_number().over(order_by=value).label("position"))
    ranked = ranked.where(value.is_not(None)) if zeros else ranked.where(value != 0)
    found = ranked.subquery("ranked")
    return select(found.c.position, found.c.number).where(found.c.position.in_(sorted(set(ranks))))


def values_counted(question: Question, metric: Metric) -> Select[Any]:
    """How many values there are to rank, and of how many users: variant, phase, number, users."""
    values = _values(question, metric)
    cells = (values.c.variant, values.c.phase)
    users = func.count(func.distinct(values.c.user_key)).label("users")
    return select(*cells, func.count().label("number"), users).group_by(*cells).order_by(*cells)


def values_at_ranks(question: Question, metric: Metric, ranks: Sequence[int]) -> Select[Any]:
    """The values at some ranks (1-based) within each variant and phase: variant, phase, position, number."""
    values = _values(question, metric)
    position = func.row_number().over(partition_by=(values.c.variant, values.c.phase), order_by=values.c.number)
    ranked = select(values.c.variant, values.c.phase, values.c.number, position.label("position")).subquery("ranked")
    return select(ranked).where(ranked.c.position.in_(sorted(set(ranks))))


def values_below(question: Question, metric: Metric, bounds: Mapping[tuple[int, int], float]) -> Select[Any]:
    """Per variant and phase the moments, over users, of how many values are at most the bound of the cell and how many there
    are: variant, phase, users, mean_0, mean_1, product_0_0, product_0_1, product_1_1."""
    values = _values(question, metric)
    bound = case(
        *(
            (and_(values.c.variant == variant, values.c.phase == phase), cast(literal(value), Double()))
            for (variant, phase), value in bounds.items()
        )
    )
    cells = (values.c.variant, values.c.phase)
    below: Column = cast(func.sum(case((values.c.number <= bound, 1), else_=0)), Double()).label("below")
    number: Column = cast(func.count(), Double()).label("number")
    users = select(*cells, below, number).group_by(*cells, values.c.user_key).subquery("users")
    return (
        select(
            users.c.variant,
            users.c.phase,
            func.count().label("users"),
            func.avg(users.c.below).label("mean_0"),
            func.avg(users.c.number).label("mean_1"),
            func.var_pop(users.c.below).label("product_0_0"),
            question.forms.covariance(users.c.below, users.c.number).label("product_0_1"),
            func.var_pop(users.c.number).label("product_1_1"),
        )
        .group_by(users.c.variant, users.c.phase)
        .order_by(users.c.variant, users.c.phase)
    )


def _values(question: Question, metric: Metric) -> Subquery:
    """What a quantile is taken of, each with its variant, phase and user: the values of events, or a number per user."""
    alone = question.only(metric)
    if metric.unit is Unit.USER:
        users = per_user(alone)
        return (
            select(users.c.variant, users.c.phase, users.c.user_key, users.c.value_0.label("number"))
            .where(users.c.value_0.is_not(None))
            .subquery("numbers")
        )
    events = question.forms.events
    found, id_key = by_id(alone, exposed_users(alone))
    value = alone.value_of(metric.source)
    conditions = [
        *_read(alone, events, found),
        *alone.is_of(metric.source),
        *timing(alone, metric, found.c.exposed_at),
    ]
    query = select(found.c.variant, found.c.phase, found.c.user_key, value.label("number")).join_from(
        events, found, events.c.user_key == id_key
    )
    return query.where(value.is_not(None), *conditions).subquery("numbers")


def _read(question: Question, events: FromClause, found: FromClause) -> list[Column]:
    """The conditions on an event to count at all."""
    plan = question.plan
    conditions = [
        events.c.type_key.in_(question.needed),
        events.c.occurred_at >= found.c.exposed_at,
        events.c.occurred_at < plan.end,
    ]
    return conditions if plan.start is None else [*conditions, events.c.occurred_at >= plan.start]
