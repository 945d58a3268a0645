"""From moments to a result that people can trust. Pure: what a store measured goes in, the report comes out.

Which events count, said once (event stores compile it, tests hold a brute-force reference against it):

1. Every assigned user counts, with zero where there is no event. The analysis starts from exposures.
2. An event counts for a user when it happened at or after that user's exposure; equal times count.
3. It must lie in the window, which is half-open: from `start` (if given) to before `end`. Without an end of its own the window
   ends where the experiment ended, or now.
4. An event counts once, whatever is repeated, reordered or late. Late ones are counted and shown.
5. One event counts in every experiment that its user is in.
6. Phases of different allocation are compared within themselves and then put together; they are never pooled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from upshot import statistics
from upshot.aggregation import Aggregates
from upshot.allocation import percent_of
from upshot.arms import Arms
from upshot.comparisons import compare
from upshot.decision import CROSSOVER_ALARM, CROSSOVER_USERS, Decision, Evidence, decide
from upshot.events import SECOND
from upshot.experiments import Experiment, Status
from upshot.metrics import Kind, Metric
from upshot.report import (
    Caution,
    Comparison,
    Health,
    Point,
    Report,
    ReportedExperiment,
    SampleRatioHealth,
    SegmentReport,
    SufficientStatistics,
    Summary,
    VariantReport,
    Window,
)  # fmt: skip
from upshot.variants import Variant

SUSPICIOUS = 0.01
TWYMAN = 0.5
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Question:
    """What a result is asked for: metrics, the primary one first; which of them are guardrails; window; level."""

    metrics: tuple[Metric, ...]
    guardrails: frozenset[str]
    window: Window
    confidence_level: float

    @property
    def alpha(self) -> float:
        """The error rate that the confidence level allows."""
        return 1 - self.confidence_level


def report(
    experiment: Experiment,
    question: Question,
    aggregates: Aggregates,
    series: Sequence[Point] = (),
    segments: Sequence[SegmentReport] = (),
    *,
    sufficient: bool = False,
) -> Report:
    """The result of an experiment, from what the event store measured."""
    arms = Arms(experiment, aggregates)
    ratio = sample_ratio(arms)
    comparisons = compare(arms, question.metrics, question.alpha, trusted=ratio.ok is not False)
    users = sum(arms.users(variant) for variant in experiment.variants)
    health = _health(arms, aggregates, ratio, comparisons)
    verdict = decide(_evidence(experiment, question, health, users, comparisons))
    return Report(
        experiment=_experiment(experiment, question.window),
        window=question.window,
        summary=_summary(arms, question, aggregates, verdict, users),
        health=health,
        variants=[_variant(arms, variant, question, aggregates, users) for variant in experiment.variants],
        comparisons=comparisons,
        time_series=list(series),
        segments=list(segments),
        sufficient_statistics=_sufficient(arms, question.metrics) if sufficient else [],
    )


def sample_ratio(arms: Arms) -> SampleRatioHealth:
    """Observed users against those expected from the integer weights of each phase."""
    variants = arms.experiment.variants
    weights = {phase.number: phase.weights for phase in arms.experiment.phases}
    expected = dict.fromkeys((variant.position for variant in variants), 0.0)
    for phase in arms.phases:
        shares = weights.get(phase, {})
        total = sum(shares.values())
        arrived = sum(arms.users(variant, phase) for variant in variants)
        for variant in variants:
            expected[variant.position] += arrived * shares.get(variant.position, 0) / total if total else 0
    observed = [arms.users(variant) for variant in variants]
    found = statistics.sample_ratio(observed, list(expected.values()))
    return SampleRatioHealth(
        p_value=found.p_value,
        ok=None if found.p_value is None else found.p_value >= statistics.ALERT,
        status=found.status,
        expected={variant.name: expected[variant.position] for variant in variants},
        observed=dict(zip((variant.name for variant in variants), observed, strict=True)),
    )


def _experiment(experiment: Experiment, window: Window) -> ReportedExperiment:
    ended = experiment.ended_at or window.watermark
    days = max(0.0, (ended - experiment.started_at) / DAY) if experiment.started_at else None
    return ReportedExperiment(
        id=experiment.id,
        key=experiment.key,
        name=experiment.name,
        description=experiment.description,
        hypothesis=experiment.hypothesis,
        status=experiment.status,
        started_at=experiment.started_at,
        ended_at=experiment.ended_at,
        days_running=None if days is None else round(max(days, 0.0), 4),
        primary_metric=experiment.primary_metric,
        phase=experiment.phase.number if experiment.phase else None,
    )


def _variant(arms: Arms, variant: Variant, question: Question, aggregates: Aggregates, everyone: int) -> VariantReport:
    total = sum(other.weight for other in arms.experiment.variants)
    counts: dict[str, int] = {}
    for (cell, event_type), events in aggregates.event_counts.items():
        if cell.variant == variant.position:
            counts[event_type] = counts.get(event_type, 0) + events
    users = arms.users(variant)
    return VariantReport(
        variant_id=variant.id,
        name=variant.name,
        is_control=variant.is_control,
        traffic_allocation=percent_of(variant.weight, total),
        assigned_users=users,
        share=users / everyone if everyone else None,
        event_counts=dict(sorted(counts.items())),
        metrics={metric.key: arms.value(variant, metric, question.alpha) for metric in question.metrics},
    )


def _summary(arms: Arms, question: Question, aggregates: Aggregates, verdict: Decision, users: int) -> Summary:
    primary = question.metrics[0] if question.metrics else None
    values = [arms.value(v, primary, question.alpha) for v in arms.experiment.variants] if primary else []
    converted = sum(value.users_with_events for value in values)
    leading = verdict.comparison
    needed = _users_needed(arms, primary, leading, question.alpha) if primary and leading else None
    best = max(
        (
            (value.value, variant.name)
            for value, variant in zip(values, arms.experiment.variants, strict=False)
            if value.value
        ),
        default=(None, None),
    )
    return Summary(
        total_users=users,
        total_events=sum(aggregates.event_counts.values()),
        global_conversion_rate=converted / users if users and primary and primary.kind is Kind.CONVERSION else None,
        recommendation=verdict.recommendation,
        reason=verdict.reason,
        confidence=leading.confidence if leading else None,
        leader=best[1],
        users_needed=needed,
        days_needed=_days_needed(needed, users, aggregates, question.window),
    )


def _users_needed(arms: Arms, metric: Metric, leading: Comparison, alpha: float) -> int | None:
    """How many more users the leading difference, if it is real, needs for 80 % power; 0 when there are enough."""
    control = arms.value(arms.experiment.control, metric, alpha)
    difference = leading.absolute_difference
    if not difference or not control.variance or control.value is None:
        return None
    if leading.significant:
        return 0
    if metric.kind is Kind.CONVERSION and 0 < control.value + difference < 1:
        pair = statistics.users_needed_proportion(control.value, difference, alpha)
    else:
        pair = statistics.users_needed(control.variance, difference, alpha)
    needed = math.ceil(pair / 2 * len(arms.experiment.variants))
    return max(0, needed - sum(arms.users(variant) for variant in arms.experiment.variants))


def _days_needed(needed: int | None, users: int, aggregates: Aggregates, window: Window) -> int | None:
    """How many more days bring that many users, at the rate so far."""
    if needed is None or not users or aggregates.first_exposure is None:
        return None
    first = datetime.fromtimestamp(aggregates.first_exposure / SECOND, UTC)
    days = max((window.watermark - first) / DAY, 1 / 24)
    return math.ceil(needed / (users / days))


def _evidence(
    experiment: Experiment, question: Question, health: Health, users: int, comparisons: Sequence[Comparison]
) -> Evidence:
    primary = question.metrics[0].key if question.metrics else None
    crossing = users >= CROSSOVER_USERS and health.crossovers > CROSSOVER_ALARM * users
    ratio = (
        "The users did not arrive in the planned shares (sample ratio mismatch); find out why before you look further."
    )
    return Evidence(
        trustworthy=health.sample_ratio.ok is not False and not crossing,
        distrust="More than 1 % of the users were given two variants." if crossing else ratio,
        ended=experiment.status in {Status.COMPLETED, Status.ARCHIVED},
        primary=[c for c in comparisons if c.metric == primary],
        guardrails=[c for c in comparisons if c.metric in question.guardrails and c.metric != primary],
    )


def _health(arms: Arms, aggregates: Aggregates, ratio: SampleRatioHealth, comparisons: Sequence[Comparison]) -> Health:
    warnings = [
        Caution(code, message)
        for code, message, applies in (
            ("sample_ratio_mismatch", "Users did not arrive in the planned shares.", ratio.ok is False),
            (
                "sample_ratio_suspicious",
                "The shares of users are unusual, though not yet beyond chance.",
                ratio.ok is True and (ratio.p_value or 0) < SUSPICIOUS,
            ),
            ("no_users", "No user has been assigned yet.", not any(ratio.observed.values())),
            (
                "no_events",
                "No event has counted yet.",
                any(ratio.observed.values()) and not aggregates.event_counts,
            ),
            ("crossovers", "Some users were given more than one variant.", aggregates.crossovers > 0),
            (
                "late_events",
                "Some events came more than a week after they happened.",
                aggregates.late_events > 0,
            ),
            (
                "event_conflicts",
                "Some event ids came again with another content; the first one counts.",
                aggregates.conflicts > 0,
            ),
            (
                "several_phases",
                "The allocation was changed; variants are compared within each phase.",
                len(arms.phases) > 1,
            ),
            (
                "large_lift",
                "A lift above 50 % is more often a fault in the data than a success; check it.",
                any(abs(c.relative_lift or 0) > TWYMAN and c.significant for c in comparisons),
            ),
        )
        if applies
    ]
    return Health(
        sample_ratio=ratio,
        crossovers=aggregates.crossovers,
        late_events=aggregates.late_events,
        duplicates=aggregates.duplicates,
        conflicts=aggregates.conflicts,
        warnings=warnings,
    )


def _sufficient(arms: Arms, metrics: Sequence[Metric]) -> list[SufficientStatistics]:
    return [
        SufficientStatistics(variant.name, phase, metric.key, moments.n, moments.mean, moments.m2)
        for variant in arms.experiment.variants
        for phase in arms.phases
        for metric in metrics
        for moments in [arms.measured(variant, phase, metric).moments]
    ]
