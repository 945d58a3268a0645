"""From an aggregation plan to SQL: the one expression of which events count, compiled for every engine.

An event counts for a user when it happened at or after that user's exposure and inside the window. It is joined to the
exposures by the user's key, folded to one row per user, and only then to moments per variant: so an active user weighs as
much as a quiet one, and a store never hands rows to the statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    select,
)  # fmt: skip

from upshot.aggregation import AggregationPlan
from upshot.events import LATE
from upshot.eventstore.forms import Forms
from upshot.metrics import Kind, Metric


@dataclass(frozen=True, slots=True)
class Question:
    """A plan with the client and the event types translated to keys; types that were never seen have none."""

    plan: AggregationPlan
    client_key: int
    type_keys: Mapping[str, int]
    forms: Forms

    def keys_of(self, metric: Metric) -> tuple[int, ...]:
        """The keys of a metric's event types, all known ones when it has none; sorted, so that the SQL is stable."""
        names = metric.event_types or self.type_keys
        return tuple(sorted(self.type_keys[name] for name in names if name in self.type_keys))

    @property
    def needed(self) -> tuple[int, ...]:
        """The keys that any metric needs."""
        return tuple(sorted({key for metric in self.plan.metrics for key in self.keys_of(metric)}))


def exposed(question: Question) -> Select[Any]:
    """Users per cell, with the first exposure: variant, phase, [period,] [segment,] users, first."""
    found = _exposed(question)
    cells = [found.c.variant, found.c.phase]
    query = select(*cells)
    if question.plan.periods:
        periods = question.forms.periods(question.plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(found.c.exposed_at >= periods.c.starts, found.c.exposed_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    if question.plan.segment is not None:
        query = query.add_columns(found.c.segment)
        cells.append(found.c.segment)
    counted = query.add_columns(func.count().label("users"), func.min(found.c.exposed_at).label("first"))
    return counted.group_by(*cells).order_by(*cells)


def crossovers(question: Question) -> Select[Any]:
    """How many users have more than one exposure, and so perhaps more than one variant."""
    found = _exposed(question)
    return select(func.count() - func.count(func.distinct(found.c.user_key)))


def moments(question: Question) -> Select[Any]:
    """Per cell and metric: users with events, events, mean and population variance over those users; late events.

    Columns: variant, phase, [period,] [segment,] late, then for metric i: users_i, events_i, and unless it is a conversion
    total_i, mean_i and variance_i; then count_k for every needed type k.
    """
    users = per_user(question)
    cells = [users.c[name] for name in _cell_names(question)]
    columns: list[ColumnElement[Any]] = [func.coalesce(func.sum(users.c.late), 0).label("late")]
    for index, metric in enumerate(question.plan.metrics):
        number = users.c[f"events_{index}"]
        columns += [
            func.count(number).label(f"users_{index}"),
            func.coalesce(func.sum(number), 0).label(f"events_{index}"),
        ]
        if metric.kind is not Kind.CONVERSION:
            # Centred inside the engine: raw sums of squares lose everything when the mean is large beside the spread.
            value = users.c[f"value_{index}"]
            columns += [
                func.coalesce(func.sum(value), 0.0).label(f"total_{index}"),
                func.avg(value).label(f"mean_{index}"),
                func.var_pop(value).label(f"variance_{index}"),
            ]
    columns += [func.coalesce(func.sum(users.c[f"type_{key}"]), 0).label(f"count_{key}") for key in question.needed]
    return select(*cells, *columns).group_by(*cells).order_by(*cells)


def per_user(question: Question) -> Subquery:
    """One row per user (and period) with at least one event that counts."""
    plan, found, events = question.plan, _exposed(question), question.forms.events
    query = select(found.c.variant, found.c.phase).join_from(
        events, found, and_(events.c.user_key == found.c.user_key, events.c.occurred_at >= found.c.exposed_at)
    )
    query = query.where(events.c.type_key.in_(question.needed), events.c.occurred_at < plan.end)
    if plan.start is not None:
        query = query.where(events.c.occurred_at >= plan.start)
    cells: list[ColumnElement[Any]] = [found.c.variant, found.c.phase]
    if plan.periods:
        periods = question.forms.periods(plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(events.c.occurred_at >= periods.c.starts, events.c.occurred_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    if plan.segment is not None:
        query = query.add_columns(found.c.segment)
        cells.append(found.c.segment)
    return (
        query.add_columns(events.c.user_key, *_folded(question))
        .group_by(*cells, events.c.user_key)
        .subquery("per_user")
    )


def rows(question: Question) -> Select[Any]:
    """One row per exposed user, whether or not it has events: what an export streams."""
    found, users = _exposed(question, context=True), per_user(question)
    measured = []
    for index, metric in enumerate(question.plan.metrics):
        value: ColumnElement[Any] = users.c[f"events_{index}" if metric.kind is Kind.CONVERSION else f"value_{index}"]
        if metric.kind is Kind.CONVERSION:
            value = case((value.is_not(None), 1), else_=0)
        measured.append(func.coalesce(value, 0).label(f"metric_{index}"))
    return select(
        found.c.user_id, found.c.variant, found.c.phase, found.c.exposed_at, found.c.context, *measured
    ).join_from(found, users, found.c.user_key == users.c.user_key, isouter=True)


def _exposed(question: Question, *, context: bool = False) -> Subquery:
    """The experiment's exposed users."""
    plan, table = question.plan, question.forms.exposures.c
    columns: list[ColumnElement[Any]] = [table.user_key, table.variant, table.phase, table.exposed_at]
    if context:
        columns += [table.user_id, table.context]
    if plan.segment is not None:
        columns.append(question.forms.attribute(table.context, plan.segment).label("segment"))
    query = select(*columns).where(table.client_key == question.client_key, table.experiment == plan.experiment)
    return query.where(table.exposed_at < plan.end).subquery("exposed")


def _folded(question: Question) -> Sequence[ColumnElement[Any]]:
    """A user's numbers: events and value of each metric (null without such events), events of each type, late ones."""
    events = question.forms.events
    columns: list[ColumnElement[Any]] = [
        func.sum(case((events.c.flags >= LATE, 1), else_=0)).label("late"),
        *(func.sum(_where((key,), literal(1, Integer), question)).label(f"type_{key}") for key in question.needed),
    ]
    for index, metric in enumerate(question.plan.metrics):
        keys = question.keys_of(metric)
        columns.append(func.sum(_where(keys, literal(1, Integer), question)).label(f"events_{index}"))
        if metric.kind is Kind.SUM:
            amount = func.coalesce(events.c.value, cast(literal(0), Double()))
            columns.append(func.sum(_where(keys, amount, question)).label(f"value_{index}"))
        elif metric.kind is Kind.COUNT:
            count = func.sum(_where(keys, literal(1, Integer), question))
            columns.append(cast(count, Double()).label(f"value_{index}"))
    return columns


def _where(keys: tuple[int, ...], value: ColumnElement[Any], question: Question) -> ColumnElement[Any]:
    """`value` for events of these types, null for others; no test where every event that was read is of these types."""
    if keys == question.needed:
        return value
    return case((question.forms.events.c.type_key.in_(keys), value)) if keys else cast(literal(None), Double())


def _cell_names(question: Question) -> list[str]:
    plan = question.plan
    return [
        "variant",
        "phase",
        *(["period"] if plan.periods else []),
        *(["segment"] if plan.segment is not None else []),
    ]
