"""Answer: the result of an experiment, broken down as asked, and its user-level rows."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from upshot import breakdowns, metrics, results
from upshot.aggregation import Aggregates, AggregationPlan
from upshot.errors import Fault, Invalid
from upshot.events import SECOND, micros
from upshot.experiments import Experiment
from upshot.metrics import Metric
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations
from upshot.report import Point, Report, SegmentReport, Window

WIDEST = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a result is asked for. `primary` and `event_types` stand in for the experiment's own choice."""

    start: datetime | None = None
    end: datetime | None = None
    zone: str = "UTC"
    metrics: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    primary: str | None = None
    variant: str | None = None
    confidence_level: float = 0.95
    granularity: str | None = None
    segments: tuple[str, ...] = ()
    all_segments: bool = False
    sufficient: bool = False


async def report(stores: Stores, client: str, reference: str, asked: Asked) -> Report:
    """The result of an experiment, with every exposure and event in it that was acknowledged before.

    Raises:
        NotFound: there is no such experiment.
        Invalid: a metric, the window, the variant or the granularity cannot be used.
        TimedOut: the event store took too long.
    """
    await stores.relay.run()
    experiment = await experiment_operations.browse(stores, client, reference)
    chosen, guardrails = _metrics(experiment, asked)
    now = stores.clock.now()
    plan = _plan(experiment, chosen, asked, now)
    aggregates = await stores.events.aggregate(client, plan)
    question = results.Question(
        chosen,
        guardrails,
        _window(asked, plan, aggregates, await _watermark(stores, experiment, aggregates, now)),
        asked.confidence_level,
    )
    series = await _series(stores, client, experiment, question, plan, asked) if asked.granularity else []
    segments = await _segments(stores, client, experiment, question, plan, asked)
    found = results.report(experiment, question, aggregates, series, segments, sufficient=asked.sufficient)
    return _of_variant(found, experiment, asked.variant) if asked.variant else found


async def export(
    stores: Stores, client: str, reference: str, asked: Asked
) -> tuple[list[str], AsyncIterator[list[tuple[Any, ...]]]]:
    """Column names, and one row per exposed user in batches: who, which variant, since when, and every metric's number."""
    await stores.relay.run()
    experiment = await experiment_operations.browse(stores, client, reference)
    chosen, _ = _metrics(experiment, asked)
    plan = _plan(experiment, chosen, asked, stores.clock.now())
    names = {variant.position: variant.name for variant in experiment.variants}
    columns = ["user_id", "variant", "phase", "exposed_at", "context", *(metric.key for metric in chosen)]
    return columns, _readable(stores.events.rows(client, plan), names)


async def _readable(
    batches: AsyncIterator[list[tuple[Any, ...]]], names: dict[int, str]
) -> AsyncIterator[list[tuple[Any, ...]]]:
    async for batch in batches:
        yield [
            (
                user_id,
                names[variant],
                phase,
                datetime.fromtimestamp(exposed_at / SECOND, UTC),
                context,
                *numbers,
            )
            for user_id, variant, phase, exposed_at, context, *numbers in batch
        ]


def _metrics(experiment: Experiment, asked: Asked) -> tuple[tuple[Metric, ...], frozenset[str]]:
    """The metrics to report, the primary one first, and which of them are guardrails."""
    primary = asked.primary or (asked.event_types[0] if asked.event_types else None)
    seen = replace(experiment, primary_metric=primary) if primary else experiment
    if asked.metrics:
        chosen = metrics.asked_for(seen, asked.metrics)
    elif asked.event_types:
        chosen = metrics.asked_for(seen, tuple(dict.fromkeys((primary or "", *asked.event_types, "revenue"))))
    else:
        chosen = metrics.of_experiment(seen)
    guardrails = metrics.of_references(None, experiment.guardrails, ())
    return chosen, frozenset(metric.key for metric in guardrails) if experiment.guardrails else frozenset()


def _plan(experiment: Experiment, chosen: tuple[Metric, ...], asked: Asked, now: datetime) -> AggregationPlan:
    end = asked.end or experiment.ended_at or now + timedelta.resolution  # what happened this very moment counts
    if asked.start is not None and asked.start >= end:
        raise Invalid.of(Fault("/query/start_date", "empty_window", "must lie before the end"))
    if asked.start is not None and end - asked.start > WIDEST:
        raise Invalid.of(Fault("/query/start_date", "too_wide", "the window spans at most 400 days"))
    start = micros(asked.start) if asked.start else None
    return AggregationPlan(experiment.number, chosen, start, micros(end))


async def _watermark(stores: Stores, experiment: Experiment, aggregates: Aggregates, now: datetime) -> datetime:
    """Up to when the answer is complete: now, but for what a queue holds and what a replica has not seen."""
    moments = [now]
    if aggregates.as_of is not None:
        moments.append(datetime.fromtimestamp(aggregates.as_of / SECOND, UTC))
    if stores.queue is not None:
        complete = await stores.control.complete_to(now)
        moments.append(complete or experiment.created_at)  # no worker has ever emptied the queue
    return min(moments)


def _window(asked: Asked, plan: AggregationPlan, aggregates: Aggregates, watermark: datetime) -> Window:
    start = plan.start if plan.start is not None else aggregates.first_exposure
    return Window(
        start=None if start is None else datetime.fromtimestamp(start / SECOND, UTC),
        end=datetime.fromtimestamp(plan.end / SECOND, UTC),
        timezone=asked.zone,
        watermark=watermark,
    )


async def _series(
    stores: Stores,
    client: str,
    experiment: Experiment,
    question: results.Question,
    plan: AggregationPlan,
    asked: Asked,
) -> list[Point]:
    if question.window.start is None or asked.granularity is None:
        return []
    spans = breakdowns.periods(question.window.start, question.window.end, asked.granularity, ZoneInfo(asked.zone))
    found = await stores.events.aggregate(client, replace(plan, periods=spans))
    return breakdowns.series(experiment, question.metrics, question.alpha, spans, found)


async def _segments(
    stores: Stores,
    client: str,
    experiment: Experiment,
    question: results.Question,
    plan: AggregationPlan,
    asked: Asked,
) -> list[SegmentReport]:
    if not asked.segments and not asked.all_segments:
        return []
    values = await stores.events.segment_values(client, experiment.number, breakdowns.VALUES)
    attributes: Sequence[str] = asked.segments or sorted(values)[: breakdowns.SEGMENTS]
    found: list[SegmentReport] = []
    for attribute in attributes:
        aggregates = await stores.events.aggregate(client, replace(plan, segment=attribute))
        named = values.get(attribute, [])
        found += breakdowns.segments(experiment, question.metrics, question.alpha, attribute, named, aggregates)
    return found


def _of_variant(found: Report, experiment: Experiment, reference: str) -> Report:
    """The same report, showing one variant and the control."""
    variant = experiment.variant_called(reference)
    if variant is None:
        raise Invalid.of(Fault("/query/variant_id", "unknown_variant", "names no variant of this experiment"))
    shown = {variant.name, experiment.control.name}
    return replace(
        found,
        variants=[part for part in found.variants if part.name in shown],
        comparisons=[part for part in found.comparisons if part.variant in shown],
        time_series=[part for part in found.time_series if part.variant in shown],
    )
