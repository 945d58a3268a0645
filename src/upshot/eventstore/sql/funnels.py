"""Funnels: who came to which step, and when."""

from typing import Any

from sqlalchemy import CTE, CompoundSelect, FromClause, Integer, and_, func, literal, select, union_all

from upshot.eventstore.sql.identities import by_id
from upshot.eventstore.sql.question import Column, Question
from upshot.eventstore.sql.users import cells_of_users, exposed_users, over
from upshot.metrics import Metric


def funnel(question: Question, metric: Metric) -> CompoundSelect[Any]:
    """How many users came to each step, and for the last one, by cell: variant, phase, [period,] [segments,] step, users."""
    plan, counted = question.plan, []
    periods = question.forms.periods(plan.periods) if plan.periods else None
    for step, reached in enumerate(steps(question, metric)):
        cells = [reached.c[name] for name in cells_of_users(plan)]
        query = select(*cells, literal(step, Integer).label("step"), func.count().label("users"))
        if periods is not None:
            within = and_(reached.c.at >= periods.c.starts, reached.c.at < periods.c.ends)
            query = query.add_columns(periods.c.period).join(periods, within)
            cells.append(periods.c.period)
        counted.append(query.group_by(*cells))
    return union_all(*counted)


def steps(question: Question, metric: Metric, prefix: str = "step") -> list[CTE]:
    """Of each step of a funnel the users who came to it, and when: the first event of the step at or after the step before.

    Two steps in a row that share an event type take two events, one after the other.
    """
    plan, found, steps = question.plan, exposed_users(question.only(metric)), list[CTE]()
    names = ["user_key", *cells_of_users(plan), "exposed_at"]
    before: FromClause = found
    for number, source in enumerate(metric.steps):
        users, id_key = by_id(question, before)
        at: Column = users.c.at if number else users.c.exposed_at + metric.delay
        events, keys = question.forms.events.alias(f"events_{number}"), question.keys_of(source)
        moment = events.c.occurred_at
        again = number > 0 and set(keys) & set(question.keys_of(metric.steps[number - 1]))
        conditions = [*question.is_of(source, events), moment < plan.end, moment > at if again else moment >= at]
        if plan.start is not None:
            conditions.append(moment >= plan.start)
        if metric.window is not None:
            conditions.append(moment < users.c.exposed_at + (metric.delay + metric.window))
        if metric.complete:
            conditions.append(over(metric, users.c.exposed_at, plan))
        columns = [users.c[name] for name in names]
        query = select(*columns, func.min(moment).label("at"))
        query = query.join_from(events, users, and_(events.c.user_key == id_key, *conditions))
        before = query.group_by(*columns).cte(f"{prefix}_{number}")
        steps.append(before)
    return steps
