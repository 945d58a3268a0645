"""Users per cell: the exposed ones, those who are in another experiment as well, and those who would enter a new one."""

from typing import Any

from sqlalchemy import FromClause, Integer, Select, Subquery, and_, case, func, literal, select

from upshot.aggregation import AggregationPlan
from upshot.eventstore import filters
from upshot.eventstore.sql.identities import aliases_of, exposures_of
from upshot.eventstore.sql.question import Column, Question, folded
from upshot.eventstore.sql.sampling import looked_at
from upshot.metrics import Metric, Source


def exposed(question: Question) -> Select[Any]:
    """Users per cell, with the first exposure: variant, phase, [period,] [segments,] users, first; and for metric i that
    counts complete windows only, eligible_i."""
    plan, found = question.plan, exposed_users(question)
    cells = [found.c[name] for name in cells_of_users(plan)]
    query = select(*cells)
    if plan.periods:
        periods = question.forms.periods(plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(found.c.exposed_at >= periods.c.starts, found.c.exposed_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    whole = [
        func.sum(case((over(metric, found.c.exposed_at, plan), 1), else_=0)).label(f"eligible_{place}")
        for place, metric in enumerate(plan.metrics)
        if metric.complete
    ]
    counted = query.add_columns(func.count().label("users"), func.min(found.c.exposed_at).label("first"), *whole)
    return counted.group_by(*cells).order_by(*cells)


def exposed_users(question: Question, *, context: bool = False) -> Subquery:
    """The experiment's exposed users who count; of those who are in another experiment, too, where that is asked for."""
    query = _entered(question) if question.plan.entry else _assigned(question, context=context)
    return query.subquery("exposed")


def _assigned(question: Question, *, context: bool) -> Select[Any]:
    """Those who were exposed."""
    plan, names = question.plan, ["user_key", "variant", "phase", "exposed_at"]
    names += ["user_id", "context"] if context else []
    read = [*names, "context"] if plan.segments or plan.covariates else names
    table, conditions = exposures_of(question, plan.experiment, read)
    columns: list[Column] = [table.c[name] for name in names]
    columns += [
        question.forms.attribute(table.c.context, name).label(f"segment_{place}")
        for place, name in enumerate(plan.segments)
    ]
    columns += [
        filters.number_of(table.c.context, metric.covariate, question.forms).label(f"covariate_{place}")
        for place, metric in folded(plan)
        if metric.covariate and plan.adjusts(metric)
    ]
    query = select(*columns).where(*conditions)
    if plan.beside is not None:
        other, beside = exposures_of(question, plan.beside, ("user_key", "variant"), "other")
        query = query.add_columns(other.c.variant.label("beside")).join(other, other.c.user_key == table.c.user_key)
        query = query.where(*beside)
    return query.where(table.c.exposed_at < plan.end, *looked_at(plan, table.c))


def _entered(question: Question) -> Select[Any]:
    """Those who caused an event of the plan's entry, as if they had been exposed by it."""
    plan, events = question.plan, question.forms.events.alias("entries")
    keys = question.keys_of(Source(plan.entry))
    first = func.min(events.c.occurred_at).label("exposed_at")
    user: Column = events.c.user_key
    source: FromClause = events
    if question.linked:
        aliases = aliases_of(question)
        user = func.coalesce(aliases.c.user_key, user)
        source = events.outerjoin(aliases, aliases.c.alias_key == events.c.user_key)
    shown = user.label("user_key") if question.linked else user
    columns: list[Column] = [shown, literal(0, Integer).label("variant"), literal(1, Integer).label("phase"), first]
    query = select(*columns)
    query = query.select_from(source).where(events.c.type_key.in_(keys) if keys else literal(0, Integer) == 1)
    query = query.where(events.c.occurred_at < plan.end)
    if plan.start is not None:
        query = query.where(events.c.occurred_at >= plan.start)
    return query.group_by(user)


def cells_of_users(plan: AggregationPlan) -> list[str]:
    """The columns of `exposed_users` that say where a user belongs."""
    segments = [f"segment_{place}" for place in range(len(plan.segments))]
    return ["variant", "phase", *segments, *(["beside"] if plan.beside is not None else [])]


def cell_names(plan: AggregationPlan) -> list[str]:
    """The columns that say where a number belongs."""
    return [*cells_of_users(plan), *(["period"] if plan.periods else [])]


def over(metric: Metric, exposed_at: Column, plan: AggregationPlan) -> Column:
    """Whether a user's window is over."""
    return exposed_at <= plan.end - metric.delay - (metric.window or 0)
