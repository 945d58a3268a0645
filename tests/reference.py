"""The rules of attribution a second time, as plain Python over lists: what every event store is measured against."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from upshot.aggregation import AggregationPlan, Cell, Measured
from upshot.events import Event, Exposure
from upshot.metrics import Kind, Metric
from upshot.statistics import Moments


class Expected(NamedTuple):
    """What a plan should find: users, and metrics, per cell."""

    exposed: dict[Cell, int]
    measured: dict[tuple[Cell, str], Measured]


def aggregate(
    client: str,
    plan: AggregationPlan,
    exposures: Sequence[Exposure],
    events: Iterable[tuple[str, Event]],
    contexts: Mapping[str, Mapping[str, Any]],
    counts: Callable[[Event, Exposure], bool] = lambda event, exposure: event.occurred_at >= exposure.exposed_at,
) -> Expected:
    """Aggregate by looking at every event; `counts` is the attribution rule, for mutants to replace."""
    first: dict[str, Exposure] = {}
    for exposure in exposures:
        if exposure.client == client and exposure.experiment == plan.experiment and exposure.exposed_at < plan.end:
            first.setdefault(exposure.user_id, exposure)
    distinct: dict[str, Event] = {}
    for _, event in (item for item in events if item[0] == client):
        distinct.setdefault(event.event_id, event)
    exposed: dict[Cell, int] = {}
    for exposure in first.values():
        for cell in _cells(plan, exposure, exposure.exposed_at, contexts):
            exposed[cell] = exposed.get(cell, 0) + 1
    values: dict[tuple[Cell, str], dict[str, list[float]]] = {}
    for event in distinct.values():
        owner = first.get(event.user_id)
        if owner is None or not _in_window(plan, event) or not counts(event, owner):
            continue
        for cell in _cells(plan, owner, event.occurred_at, contexts):
            for key in _keys(plan, event):
                values.setdefault((cell, key), {}).setdefault(event.user_id, []).append(event.value or 0.0)
    metrics = {metric.key: metric for metric in plan.metrics}
    return Expected(exposed, {key: _measured(metrics[key[1]], users) for key, users in values.items()})


def _keys(plan: AggregationPlan, event: Event) -> list[str]:
    return [metric.key for metric in plan.metrics if not metric.event_types or event.event_type in metric.event_types]


def _in_window(plan: AggregationPlan, event: Event) -> bool:
    return (plan.start is None or event.occurred_at >= plan.start) and event.occurred_at < plan.end


def _cells(
    plan: AggregationPlan, exposure: Exposure, moment: int, contexts: Mapping[str, Mapping[str, Any]]
) -> Iterable[Cell]:
    segment = None
    if plan.segment is not None:
        value = contexts[exposure.user_id].get(plan.segment)
        segment = None if value is None else str(value)
    if not plan.periods:
        yield Cell(exposure.variant, exposure.phase, None, segment)
    for index, period in enumerate(plan.periods):
        if period.start <= moment < period.end:
            yield Cell(exposure.variant, exposure.phase, index, segment)


def _measured(metric: Metric, users: Mapping[str, Sequence[float]]) -> Measured:
    numbers: Mapping[Kind, Callable[[Sequence[float]], float]] = {
        Kind.CONVERSION: lambda _: 1.0,
        Kind.COUNT: len,
        Kind.SUM: sum,
    }
    moments = Moments.of([numbers[metric.kind](values) for values in users.values()])
    events = sum(len(values) for values in users.values())
    return Measured(len(users), events, moments.total, moments)
