"""Answer: how many users an experiment needs and how long it takes, from a baseline that is given or measured.

Measured it is either in the control arm of an experiment, or among those who cause the events by which users would enter: as if
an experiment with one arm had run over the days before now. Either way the numbers are those of a result: one query path, and
the same adjustment for what came before the exposure.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from upshot import experiments, identifiers, metrics
from upshot.aggregation import AggregationPlan
from upshot.analysisplan import Stopping
from upshot.arms import Arms
from upshot.errors import Fault, Invalid, NotFound
from upshot.events import SECOND, micros
from upshot.experiments import Draft, Experiment
from upshot.metrics import Direction, Kind, Metric
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations
from upshot.operations import metrics as metric_operations
from upshot.planner import Baseline, Design, Plan, plan
from upshot.variants import VariantDraft

HISTORY = 28
"""Days of history that a baseline is measured over: whole weeks, and about as long as experiments run."""

Source = Literal["given", "experiment", "entry"]

_DAY = 86_400 * SECOND
_RAREST = 1e-9


@dataclass(frozen=True, slots=True)
class Asked:
    """What to plan. The baseline is `given`, or measured in the control of an `experiment`, or among those who caused events of
    the types `entry` in the last `history_days`; `metric` is a reference (text or definition), in an experiment its primary one
    by default. `users_per_day` stands in for those that were measured. With `adjust`, covariates may make the experiment more
    precise. Without users, days and effect, the effect is the smallest that matters, where the metric says one.
    """

    design: Design
    users: int | None = None
    days: int | None = None
    given: Baseline | None = None
    metric: Any = None
    experiment: str | None = None
    entry: tuple[str, ...] = ()
    history_days: int = HISTORY
    users_per_day: float | None = None
    adjust: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and what it rests on; a baseline that was measured has a metric, and a time from `start` to `end`."""

    plan: Plan
    baseline: Baseline
    design: Design
    source: Source = "given"
    metric: Metric | None = None
    start: datetime | None = None
    end: datetime | None = None


async def answer(stores: Stores, client: str, asked: Asked) -> Planned:
    """The plan; where its baseline is measured, from every event that was acknowledged before.

    Raises:
        Invalid: not one source of a baseline, too little or too much to plan for, or a metric or experiment that cannot be used.
        TimedOut: the event store took too long.
    """
    if asked.given is not None:
        return await asyncio.to_thread(from_given, asked)
    _check(asked)
    await stores.relay.run()
    metric, experiment, question = await (_in_experiment if asked.experiment else _of_entry)(stores, client, asked)
    aggregates = await stores.events.aggregate(client, question)
    baseline = measured(Arms(experiment, aggregates), metric, aggregates.first_exposure, question.end)
    start = question.start if question.start is not None else aggregates.first_exposure
    # Daily looks take long enough to compute that other requests would notice.
    plan = await asyncio.to_thread(_planned, asked, baseline, metric)
    return replace(
        plan,
        source="experiment" if asked.experiment else "entry",
        start=None if start is None else _moment(start),
        end=_moment(question.end),
    )


def from_given(asked: Asked) -> Planned:
    """The plan from a baseline that is given: no store is asked.

    Raises:
        Invalid: as `answer`.
        ValueError: none is given.
    """
    _check(asked)
    if asked.given is None:
        raise ValueError("no baseline is given")
    return _planned(asked, asked.given, None)


def measured(arms: Arms, metric: Metric, first: int | None, end: int) -> Baseline:
    """The baseline that the control arm shows, users having come to all arms from `first` to `end` (µs since 1970).

    The variance of a quantile counts all users, not only those who have values, because these are what a plan is made of.
    """
    control = arms.experiment.control
    value = arms.value(control, metric, arms.experiment.plan.alpha)
    scale = 1.0
    if metric.kind is Kind.QUANTILE:
        parts = [(arms.moments(control, phase, metric), arms.counted(control, phase, metric)) for phase in arms.phases]
        scale = max(((found.n, users / found.n) for found, users in parts if found), default=(0, 1.0))[1]
    reason = None
    if not value.sample_size:
        reason = "no_users"
    elif value.value is None:
        reason = "zero_denominator" if metric.is_ratio else "too_few"
    elif value.variance is None:
        reason = "one_user"
    days = None if first is None else max((end - first) / _DAY, 1 / 24)
    return Baseline(
        kind=metric.kind,
        value=value.value,
        variance=None if value.variance is None else value.variance * scale,
        users=value.sample_size,
        users_per_day=arms.everyone / days if days else None,
        days_to_count=(metric.delay + (metric.window or 0)) / _DAY if metric.complete else 0.0,
        variance_reduction=_reduction(arms, metric),
        direction=metric.direction,
        reason=reason,
    )


def _reduction(arms: Arms, metric: Metric) -> float:
    """The share of variance that covariates take out, over the shares that all phases have of all users."""
    found = 0.0
    for phase in arms.phases:
        adjustment = arms.adjusted(phase, metric)[1]
        if adjustment is not None:
            users = sum(arms.users(variant, phase) for variant in arms.experiment.variants)
            found += adjustment.variance_reduction * users / arms.everyone
    return found


def _planned(asked: Asked, baseline: Baseline, metric: Metric | None) -> Planned:
    if asked.users_per_day is not None:
        baseline = replace(baseline, users_per_day=asked.users_per_day)
    design = asked.design
    if _is_open(asked) and metric is not None and metric.minimum_effect is not None:
        sign = -1.0 if metric.direction is Direction.DECREASE else 1.0
        design = replace(design, relative_effect=sign * metric.minimum_effect)
    elif _is_open(asked):
        raise Invalid.of(Fault("", "missing", "say relative_effect, absolute_effect, users or run_for_days"))
    return Planned(plan(baseline, design, users=asked.users, days=asked.days), baseline, design, metric=metric)


def _is_open(asked: Asked) -> bool:
    effects = (asked.design.relative_effect, asked.design.absolute_effect)
    return all(given is None for given in (asked.users, asked.days, *effects))


def _check(asked: Asked) -> None:
    given, design = asked.given, asked.design
    if sum((given is not None, asked.experiment is not None, bool(asked.entry))) != 1:
        message = "needs a baseline, an experiment or entry, and only one of them"
        raise Invalid.of(Fault("", "one_source", message))
    effects = {"relative_effect": design.relative_effect, "absolute_effect": design.absolute_effect}
    unplanned = design.looks is not None and design.stopping is not Stopping.GROUP_SEQUENTIAL
    named = [found for name in asked.entry if (found := identifiers.fault_of_text(name, identifiers.EVENT_TYPE_LENGTH))]
    twice = given is not None and None not in {given.users_per_day, asked.users_per_day}
    rules = [
        (Fault("/metric", "unexpected", "is that of the baseline"), given is not None and asked.metric is not None),
        (Fault("/metric", "missing", "which metric?"), bool(asked.entry) and asked.metric is None),
        (Fault("/looks", "unexpected", "only group_sequential plans have a number of looks"), unplanned),
        (Fault("/users_per_day", "said_twice", "is in the baseline already"), twice),
        (Fault("/run_for_days", "said_twice", "follows from users"), None not in {asked.users, asked.days}),
        (Fault("/absolute_effect", "said_twice", "follows from relative_effect"), None not in effects.values()),
        *((Fault(f"/{name}", "out_of_range", "must not be 0"), effect == 0.0) for name, effect in effects.items()),
        *((Fault("/entry", *fault), True) for fault in named),
        *(_rules_of(given) if given is not None else ()),
    ]
    faults = [fault for fault, applies in rules if applies]
    if faults:
        raise Invalid.of(*faults)


def _rules_of(given: Baseline) -> list[tuple[Fault, bool]]:
    """What may be wrong with a baseline that is given."""
    deviation, has_one = "/baseline/standard_deviation", given.variance is not None
    wide = given.is_share and given.value is not None and not _RAREST <= given.value <= 1.0 - _RAREST
    return [
        (Fault("/baseline/value", "out_of_range", "a share lies between 0 and 1"), wide),
        (Fault(deviation, "unexpected", "follows from the value of a share"), given.is_share and has_one),
        (Fault(deviation, "missing", "is needed unless the value is a share"), not given.is_share and not has_one),
    ]


Question = tuple[Metric, Experiment, AggregationPlan]


async def _in_experiment(stores: Stores, client: str, asked: Asked) -> Question:
    """What a result of the experiment would ask about the metric."""
    try:
        experiment = await experiment_operations.browse(stores, client, asked.experiment or "")
    except NotFound:
        raise Invalid.of(Fault("/experiment", "unknown_experiment", "names no experiment")) from None
    metric = None if asked.metric is None else metrics.parse(asked.metric, (), "/metric")
    names = (asked.metric,) if isinstance(asked.metric, str) else ()
    definitions = await metric_operations.definitions_for(stores, client, experiment, names)
    if metric is None:
        metric = metrics.of_experiment(experiment, definitions)[0]
    elif names:
        metric = metrics.asked_for(experiment, names, definitions)[0]
    end = experiment.ended_at or stores.clock.now() + timedelta.resolution  # what happened this very moment counts
    adjust = asked.adjust and experiment.plan.adjust
    return metric, experiment, AggregationPlan(experiment.number, (metric,), None, micros(end), covariates=adjust)


async def _of_entry(stores: Stores, client: str, asked: Asked) -> Question:
    """What a result would ask of an experiment with one arm that everybody entered by an event of these types.

    Nobody has a context there, and so no attribute that could be the covariate: the metric itself, before that event, is.
    """
    metric = metrics.parse(asked.metric, (), "/metric")
    if isinstance(asked.metric, str):
        async with stores.control.browsing(client) as transaction:
            metric = (await transaction.metrics.definitions(client, {asked.metric})).get(asked.metric, metric)
    metric = replace(metric, covariate=None)
    now = stores.clock.now()
    arms = [VariantDraft("control"), VariantDraft("treatment")]
    experiment = experiments.create(Draft("plan", arms), now, stores.clock.new_id)
    start, end = micros(now - asked.history_days * timedelta(days=1)), micros(now + timedelta.resolution)
    plan = AggregationPlan(0, (metric,), start, end, covariates=asked.adjust, entry=asked.entry)
    return metric, experiment, plan


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / SECOND, UTC)
