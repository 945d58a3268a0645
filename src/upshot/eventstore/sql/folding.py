"""One row per user: the events that count, folded to the numbers of each metric.

An event counts for a user when it happened at or after that user's exposure, inside the window, and, where a metric says so,
inside that metric's own window after the exposure. Where covariates are read, the same quantities are folded over the time
before the exposure in the same pass.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)

from upshot.events import LATE
from upshot.eventstore.sql.identities import by_id
from upshot.eventstore.sql.question import Column, Question, caps_of, folded
from upshot.eventstore.sql.sampling import looked_at
from upshot.eventstore.sql.users import cells_of_users, exposed_users, over
from upshot.metrics import Fold, Kind, Metric, Quantity


def per_user(question: Question) -> Subquery:
    """One row per user (and period) with at least one event that counts, or that came before where covariates are read.

    With a covariate from the context there is a row for every exposed user.
    """
    plan, events = question.plan, question.forms.events
    found, id_key = by_id(question, exposed_users(question))
    everybody = any(metric.covariate and plan.adjusts(metric) for _, metric in folded(plan)) and not plan.periods
    earlier = [metric.lookback for metric in plan.metrics if plan.adjusts(metric) and not metric.covariate]
    lookback = 0 if plan.periods else max(earlier, default=0)
    after = events.c.occurred_at >= found.c.exposed_at
    window = [after] if plan.start is None else [after, events.c.occurred_at >= plan.start]
    read = and_(*window)
    if lookback:
        read = or_(read, and_(~after, events.c.occurred_at >= found.c.exposed_at - lookback))
    joined = and_(
        events.c.user_key == id_key,
        events.c.type_key.in_(question.needed),
        events.c.occurred_at < plan.end,
        read,
        *([] if question.linked else looked_at(plan, events.c)),
    )
    cells: list[Column] = [found.c[name] for name in cells_of_users(plan)]
    query = select(*cells)
    query = (
        query.join_from(found, events, joined, isouter=True) if everybody else query.join_from(events, found, joined)
    )
    if plan.periods:
        periods = question.forms.periods(plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(events.c.occurred_at >= periods.c.starts, events.c.occurred_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    columns = list(_folded(question, found, window if lookback or everybody else []))
    return query.add_columns(found.c.user_key, *columns).group_by(*cells, found.c.user_key).subquery("per_user")


def _folded(question: Question, found: FromClause, counts: list[Column]) -> Iterator[Column]:
    """A user's numbers: events and value of each metric (null without such events), events of each type, late ones.

    `counts` are the conditions under which an event counts at all, where others are read as well.
    """
    plan, events, one = question.plan, question.forms.events.c, literal(1, Integer)
    yield func.coalesce(func.sum(when([*counts, events.flags >= LATE], one)), 0).label("late")
    for key in question.needed:
        of_type = [events.type_key == key] if question.needed != (key,) else []
        yield func.sum(when([*counts, *of_type], one)).label(f"type_{key}")
    for place, metric in folded(plan):
        own = [*counts, *timing(question, metric, found.c.exposed_at)]
        first, *others = metric.quantities
        yield func.sum(when([*own, *_having(question, first)], one)).label(f"events_{place}")
        names = dict(zip(("value", "other"), (first, *others), strict=False))
        for name, quantity in names.items():
            if quantity.fold is not Fold.ANY or metric.is_ratio:
                yield _fold(question, quantity, own).label(f"{name}_{place}")
        if plan.adjusts(metric):
            yield from _before(question, metric, place, found)


def _before(question: Question, metric: Metric, place: int, found: FromClause) -> Iterator[Column]:
    """The covariates of a metric: a number of the context, or its quantities before the exposure."""
    if metric.covariate:
        yield func.max(found.c[f"covariate_{place}"]).label(f"before_{place}")
        return
    moment, exposed_at = question.forms.events.c.occurred_at, found.c.exposed_at
    earlier = [moment < exposed_at, moment >= exposed_at - metric.lookback]
    for name, quantity in zip(("before", "before_other"), metric.quantities, strict=False):
        yield _fold(question, quantity, earlier).label(f"{name}_{place}")


def _fold(question: Question, quantity: Quantity, conditions: list[Column]) -> Column:
    """The number of a user: null without such events."""
    one = literal(1, Integer)
    kept = [*conditions, *_having(question, quantity)]
    if quantity.fold is Fold.SUM:
        return func.sum(when(kept, func.coalesce(question.value_of(quantity.source), cast(literal(0), Double()))))
    return cast((func.max if quantity.fold is Fold.ANY else func.sum)(when(kept, one)), Double())


def _having(question: Question, quantity: Quantity) -> list[Column]:
    """The conditions on an event to belong to a quantity."""
    conditions = question.is_of(quantity.source)
    if quantity.fold is Fold.VALUES:
        conditions.append(question.value_of(quantity.source).is_not(None))
    return conditions


def timing(question: Question, metric: Metric, exposed_at: Column) -> list[Column]:
    """The conditions that a metric's own window makes on the moment of an event."""
    moment, found = question.forms.events.c.occurred_at, []
    if metric.delay:
        found.append(moment >= exposed_at + metric.delay)
    if metric.window is not None:
        found.append(moment < exposed_at + (metric.delay + metric.window))
    if metric.complete:
        found.append(over(metric, exposed_at, question.plan))
    return found


def when(conditions: Sequence[Column], value: Column) -> Column:
    """`value` where all conditions hold, else null; no test where there is none."""
    return case((and_(*conditions), value)) if conditions else value


def numbers_of_user(question: Question, metric: Metric, place: int, users: Subquery) -> list[Column]:
    """A user's numbers in a metric, cut off, with a number for every user."""
    found = list[Column]()
    for name in question.plan.numbers_of(metric):
        column = f"{name}_{place}"
        if name == "value" and metric.is_share:
            found.append(case((reached(metric, place, users.c), 1.0), else_=0.0))
            continue
        filled = func.coalesce(users.c[column], cast(literal(0), Double()))
        found.append(filled)
    return [caps.expression(number) for caps, number in zip(caps_of(question, metric), found, strict=True)]


def reached(metric: Metric, place: int, columns: Any) -> ColumnElement[bool]:
    """Whether a user's number is 1, where it is 0 or 1."""
    value: Column
    if metric.kind is Kind.THRESHOLD:
        value = columns[f"value_{place}"]
        return value >= metric.amount
    value = columns[f"events_{place}"]
    return value > 0
