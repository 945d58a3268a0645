"""Answer: the result of an experiment, broken down as asked, and its user-level rows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from upshot import breakdowns, metrics, results
from upshot.aggregation import Aggregates, AggregationPlan
from upshot.analysisplan import Stopping
from upshot.arms import Arms
from upshot.comparisons import Judgement
from upshot.errors import Fault, Invalid
from upshot.events import SECOND, micros
from upshot.experiments import Experiment
from upshot.metrics import Definitions, Metric, Role
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations
from upshot.operations import metrics as metric_operations
from upshot.report import CumulativePoint, InteractionReport, Look, Point, Report, SegmentReport, Window
from upshot.statistics import boundaries, looks_up_to, nominal_levels

WIDEST = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a result is asked for. `primary` and `event_types` stand in for the experiment's own choice, `confidence_level`
    for that of its plan; `segments` are attributes, or two joined by `*`; `beside` is another experiment, to see whether the
    two interact; `cumulative` asks for the comparisons as they stood at the end of each period."""

    start: datetime | None = None
    end: datetime | None = None
    zone: str = "UTC"
    metrics: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    primary: str | None = None
    variant: str | None = None
    confidence_level: float | None = None
    granularity: str | None = None
    segments: tuple[str, ...] = ()
    all_segments: bool = False
    beside: str | None = None
    cumulative: bool = False
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
    definitions = await metric_operations.definitions_for(stores, client, experiment, asked.metrics)
    chosen, roles = _metrics(experiment, asked, definitions)
    now = stores.clock.now()
    plan = _plan(experiment, chosen, asked, now)
    aggregates = await stores.events.aggregate(client, plan)
    plan = replace(plan, unadjusted=aggregates.unadjusted)
    level = 1 - experiment.plan.alpha if asked.confidence_level is None else asked.confidence_level
    question = results.Question(
        chosen,
        roles,
        _window(asked, plan, aggregates, await _watermark(stores, experiment, aggregates, now)),
        level,
        await _seen(stores, client, experiment, plan, aggregates, now),
    )
    judgement = results.judgement_of_parts(Arms(experiment, aggregates), question)
    series = await _series(stores, client, experiment, question, plan, asked) if asked.granularity else []
    segments = await _segments(stores, client, experiment, chosen, judgement, plan, asked)
    found = results.report(experiment, question, aggregates, series, segments, sufficient=asked.sufficient)
    if segments:
        found = replace(found, segment_differences=breakdowns.differences(segments, question.alpha))
    if asked.cumulative:
        points = await _cumulative(stores, client, experiment, question, judgement, plan, asked)
        found = replace(found, cumulative=points)
    if asked.beside:
        found = replace(
            found, interactions=await _interactions(stores, client, experiment, asked.beside, question, plan)
        )
    return _of_variant(found, experiment, asked.variant) if asked.variant else found


async def export(
    stores: Stores, client: str, reference: str, asked: Asked
) -> tuple[list[str], AsyncIterator[list[tuple[Any, ...]]]]:
    """Column names, and one row per exposed user in batches: who, which variant, since when, and every metric's number."""
    await stores.relay.run()
    experiment = await experiment_operations.browse(stores, client, reference)
    definitions = await metric_operations.definitions_for(stores, client, experiment, asked.metrics)
    chosen, _ = _metrics(experiment, asked, definitions)
    plan = _plan(experiment, chosen, asked, stores.clock.now())
    names = {variant.position: variant.name for variant in experiment.variants}
    columns = ["user_id", "variant", "phase", "exposed_at", "context", *plan.exported]
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


def _metrics(
    experiment: Experiment, asked: Asked, definitions: Definitions
) -> tuple[tuple[Metric, ...], dict[str, Role]]:
    """The metrics to report, the primary one first, and what each is for."""
    primary = asked.primary or (asked.event_types[0] if asked.event_types else None)
    seen = replace(experiment, primary_metric=primary) if primary else experiment
    if asked.metrics:
        chosen = metrics.asked_for(seen, asked.metrics, definitions)
    elif asked.event_types:
        wanted = tuple(dict.fromkeys((primary or "", *asked.event_types, "revenue")))
        chosen = metrics.asked_for(seen, wanted, definitions)
    else:
        chosen = metrics.of_experiment(seen, definitions)
    guardrails = {metric.key for metric in metrics.guardrails_of(experiment, definitions)}
    roles = {metric.key: Role.GUARDRAIL if metric.key in guardrails else metric.role for metric in chosen}
    if chosen and roles[chosen[0].key] is not Role.GUARDRAIL:
        roles[chosen[0].key] = Role.PRIMARY
    return chosen, {key: role for key, role in roles.items() if role is not None}


def _plan(experiment: Experiment, chosen: tuple[Metric, ...], asked: Asked, now: datetime) -> AggregationPlan:
    end = asked.end or experiment.ended_at or now + timedelta.resolution  # what happened this very moment counts
    if asked.start is not None and asked.start >= end:
        raise Invalid.of(Fault("/query/start_date", "empty_window", "must lie before the end"))
    if asked.start is not None and end - asked.start > WIDEST:
        raise Invalid.of(Fault("/query/start_date", "too_wide", "the window spans at most 400 days"))
    start = micros(asked.start) if asked.start else None
    adjust = experiment.plan.adjust
    return AggregationPlan(experiment.number, chosen, start, micros(end), covariates=adjust, delivery=True)


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
    found = await stores.events.aggregate(client, replace(plan, periods=spans, covariates=False))
    return breakdowns.series(experiment, question.metrics, question.alpha, spans, found)


async def _cumulative(
    stores: Stores,
    client: str,
    experiment: Experiment,
    question: results.Question,
    judgement: Judgement,
    plan: AggregationPlan,
    asked: Asked,
) -> list[CumulativePoint] | None:
    if question.window.start is None or asked.granularity is None:
        return []
    spans = breakdowns.periods(question.window.start, question.window.end, asked.granularity, ZoneInfo(asked.zone))
    grown = replace(plan, periods=spans, covariates=False, cumulative=True)
    found = await stores.events.aggregate(client, grown)
    return breakdowns.cumulative(experiment, grown.accumulated, judgement, spans, found)


async def _seen(
    stores: Stores, client: str, experiment: Experiment, plan: AggregationPlan, aggregates: Aggregates, now: datetime
) -> results.Seen | None:
    """The last planned look, if stopping is group-sequential: looks are at the end of every UTC day of the experiment.

    Looks and their information follow from when users came, so that whoever asks, whenever, gets the same ones.
    """
    planned = experiment.plan.planned_users
    if (
        experiment.plan.in_force is not Stopping.GROUP_SEQUENTIAL
        or planned is None
        or aggregates.first_exposure is None
    ):
        return None
    start = datetime.fromtimestamp(aggregates.first_exposure / SECOND, UTC)
    end = min(now, experiment.ended_at or now)
    days = breakdowns.periods(start, end, "day", ZoneInfo("UTC"))[: breakdowns.MOST_PERIODS["day"]]
    found = await stores.events.aggregate(client, replace(plan, metrics=(), periods=days, covariates=False))
    came = [0] * len(days)
    for cell, users in found.exposed.items():
        came[cell.period or 0] += users
    fractions: tuple[float, ...] = ()
    looked: int | None = None
    for index, day in enumerate(days):
        over = day.end <= micros(end) or experiment.ended_at is not None
        following = looks_up_to(fractions, sum(came[: index + 1]) / planned) if over else fractions
        if following != fractions:
            fractions, looked = following, min(day.end, micros(end))
    if looked is None:
        return None
    critical = boundaries(fractions, experiment.plan.alpha, experiment.plan.spending)[-1]
    [level] = nominal_levels((critical,))
    look = Look(datetime.fromtimestamp(looked / SECOND, UTC), list(fractions), critical, level)
    then = replace(plan, end=min(plan.end, looked), delivery=False)
    return results.Seen(look, await stores.events.aggregate(client, then))


async def _segments(
    stores: Stores,
    client: str,
    experiment: Experiment,
    chosen: tuple[Metric, ...],
    judgement: Judgement,
    plan: AggregationPlan,
    asked: Asked,
) -> list[SegmentReport]:
    if not asked.segments and not asked.all_segments:
        return []
    values = await stores.events.segment_values(client, experiment.number, breakdowns.VALUES)
    found: list[SegmentReport] = []
    for wanted in asked.segments or sorted(values)[: breakdowns.SEGMENTS]:
        attributes = tuple(wanted.split(breakdowns.CROSS)) if asked.segments else (wanted,)
        if len(attributes) > breakdowns.CROSSED or len(set(attributes)) < len(attributes) or not all(attributes):
            raise Invalid.of(Fault("/query/group_by", "bad_segments", "names attributes, or two of them joined by *"))
        aggregates = await stores.events.aggregate(client, replace(plan, segments=attributes))
        found += breakdowns.segments(experiment, chosen, judgement, attributes, values, aggregates)
    return found


async def _interactions(
    stores: Stores,
    client: str,
    experiment: Experiment,
    reference: str,
    question: results.Question,
    plan: AggregationPlan,
) -> list[InteractionReport]:
    other = await experiment_operations.browse(stores, client, reference)
    if other.id == experiment.id:
        raise Invalid.of(Fault("/query/interaction_with", "same_experiment", "must be another experiment"))
    beside = replace(plan, beside=other.number, covariates=False)
    aggregates = await stores.events.aggregate(client, beside)
    return breakdowns.interactions(experiment, other, question.metrics, question.alpha, aggregates)


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
