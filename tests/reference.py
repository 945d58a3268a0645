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
    for owner, event in events:
        if owner == client:
            distinct.setdefault(event.event_id, event)
    exposed: dict[Cell, int] = {}
    for exposure in first.values():
        for cell in _cells(plan, exposure, exposure.exposed_at, contexts):
            exposed[cell] = exposed.get(cell, 0) + 1
    values: dict[tuple[Cell, str], dict[str, list[float]]] = {}
    for event in distinct.values():
        owner_exposure = first.get(event.user_id)
        if owner_exposure is None or not _in_window(plan, event) or not counts(event, owner_exposure):
            continue
        for metric in plan.metrics:
            if metric.event_types and event.event_type not in metric.event_types:
                continue
            for cell in _cells(plan, owner_exposure, event.occurred_at, contexts):
                users = values.setdefault((cell, metric.key), {})
                users.setdefault(event.user_id, []).append(event.value or 0.0)
    metrics = {metric.key: metric for metric in plan.metrics}
    return Expected(exposed, {key: _measured(metrics[key[1]], users) for key, users in values.items()})


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
    numbers = {Kind.CONVERSION: lambda _: 1.0, Kind.COUNT: lambda v: float(len(v)), Kind.SUM: sum}[metric.kind]
    moments = Moments.of([numbers(values) for values in users.values()])
    return Measured(len(users), sum(len(values) for values in users.values()), moments)
