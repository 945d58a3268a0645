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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from upshot import statistics
from upshot.aggregation import Aggregates
from upshot.allocation import percent_of
from upshot.arms import Arms
from upshot.comparisons import Judgement, compare, statistics_of
from upshot.decision import CROSSOVER_ALARM, CROSSOVER_USERS, Decision, Evidence, decide
from upshot.events import SECOND
from upshot.experiments import Experiment, Status
from upshot.metrics import Kind, Metric, Role
from upshot.report import (
    Caution,
    Comparison,
    CostOfWaiting,
    Health,
    Look,
    PlanChanged,
    Point,
    Report,
    ReportedExperiment,
    ReportedPlan,
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
class Seen:
    """What the last planned look saw: the look, and the aggregates of that moment."""

    look: Look
    aggregates: Aggregates


@dataclass(frozen=True, slots=True)
class Question:
    """What a result is asked for: metrics, the primary one first; what each is for; window; level; the last planned look."""

    metrics: tuple[Metric, ...]
    roles: Mapping[str, Role]
    window: Window
    confidence_level: float
    seen: Seen | None = None

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
    judgement = judged(arms, question, trusted=ratio.ok is not False)
    comparisons = compare(arms, question.metrics, judgement)
    health = _health(arms, aggregates, ratio, comparisons)
    verdict = decide(_evidence(arms, question, judgement, health, comparisons))
    return Report(
        experiment=_experiment(experiment, question.window),
        window=question.window,
        summary=_summary(arms, question, aggregates, verdict, judgement),
        health=health,
        variants=[_variant(arms, variant, question, aggregates) for variant in experiment.variants],
        comparisons=comparisons,
        time_series=list(series),
        segments=list(segments),
        sufficient_statistics=_sufficient(arms, question.metrics) if sufficient else [],
        plan=_plan(experiment, question),
    )


def judged(arms: Arms, question: Question, *, trusted: bool = True) -> Judgement:
    """How the comparisons of a question are judged."""
    experiment, seen = arms.experiment, question.seen
    planned = experiment.plan.planned_users
    ended = experiment.status in {Status.COMPLETED, Status.ARCHIVED}
    return Judgement(
        plan=experiment.plan,
        alpha=question.alpha,
        roles=question.roles,
        final=ended or (planned is not None and arms.everyone >= planned),
        trusted=trusted,
        look=seen.look if seen else None,
        seen=statistics_of(Arms(experiment, seen.aggregates), question.metrics, question.alpha) if seen else {},
    )


def sample_ratio(arms: Arms) -> SampleRatioHealth:
    """Observed users against those expected from the integer weights of each phase.

    A single look is tested by chi-squared; what blocks a result is the test that holds at every look.
    """
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
    watched = statistics.sequential_sample_ratio(observed, list(expected.values()))
    return SampleRatioHealth(
        p_value=found.p_value,
        ok=None if watched.p_value is None else watched.p_value >= statistics.ALERT,
        status=found.status,
        expected={variant.name: expected[variant.position] for variant in variants},
        observed=dict(zip((variant.name for variant in variants), observed, strict=True)),
        sequential_p_value=watched.p_value,
    )


def _plan(experiment: Experiment, question: Question) -> ReportedPlan:
    plan = experiment.plan
    return ReportedPlan(
        stopping=str(plan.in_force),
        alpha=plan.alpha,
        planned_users=plan.planned_users,
        spending=str(plan.spending),
        adjust=plan.adjust,
        locked_at=plan.locked_at,
        changes=[PlanChanged(change.at, change.field, change.before, change.after) for change in plan.changes],
        look=question.seen.look if question.seen else None,
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


def _variant(arms: Arms, variant: Variant, question: Question, aggregates: Aggregates) -> VariantReport:
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
        share=users / arms.everyone if arms.everyone else None,
        event_counts=dict(sorted(counts.items())),
        metrics={metric.key: arms.value(variant, metric, question.alpha) for metric in question.metrics},
        chance_to_be_best={metric.key: arms.chance_to_be_best(variant, metric) for metric in question.metrics},
    )


def _summary(
    arms: Arms, question: Question, aggregates: Aggregates, verdict: Decision, judgement: Judgement
) -> Summary:
    primary = question.metrics[0] if question.metrics else None
    variants = arms.experiment.variants
    values = [arms.value(variant, primary, question.alpha) for variant in variants] if primary else []
    users, converted = arms.everyone, sum(value.users_with_events for value in values)
    leading = verdict.comparison
    needed = _users_needed(arms, primary, leading, judgement) if primary and leading else None
    sign = -1 if primary and primary.direction == "decrease" else 1
    ranked = [(sign * value.value, v.name) for value, v in zip(values, variants, strict=False) if value.value]
    rate = _users_per_day(users, aggregates, question.window)
    days = math.ceil(needed / rate) if needed is not None and rate else None
    running = arms.experiment.status is Status.RUNNING
    return Summary(
        total_users=users,
        total_events=sum(aggregates.event_counts.values()),
        global_conversion_rate=converted / users if users and primary and primary.kind is Kind.CONVERSION else None,
        recommendation=verdict.recommendation,
        reason=verdict.reason,
        confidence=leading.confidence if leading else None,
        leader=max(ranked, default=(None, None))[1],
        users_needed=needed,
        days_needed=days,
        decide_at=question.window.watermark + days * DAY if days and running and days < 10_000 else None,
        cost_of_waiting=_cost_of_waiting(arms, leading, rate) if running and leading and rate else None,
    )


def _users_needed(arms: Arms, metric: Metric, leading: Comparison, judgement: Judgement) -> int | None:
    """How many more users are needed: those that were planned, or else for 80 % power for the leading difference, if it is
    real; 0 when there are enough."""
    planned = judgement.plan.planned_users
    if planned is not None:
        return max(0, planned - arms.everyone)
    control = arms.value(arms.experiment.control, metric, judgement.alpha)
    difference = leading.absolute_difference
    if not difference or not control.variance or control.value is None:
        return None
    if leading.significant:
        return 0
    if metric.is_share and 0 < control.value + difference < 1:
        pair = statistics.users_needed_proportion(control.value, difference, judgement.alpha)
    else:
        pair = statistics.users_needed(control.variance, difference, judgement.alpha)
    needed = math.ceil(pair / 2 * len(arms.experiment.variants))
    return max(0, needed - arms.everyone)


def _users_per_day(users: int, aggregates: Aggregates, window: Window) -> float | None:
    """How many users a day brought so far."""
    if not users or aggregates.first_exposure is None:
        return None
    first = datetime.fromtimestamp(aggregates.first_exposure / SECOND, UTC)
    return users / max((window.watermark - first) / DAY, 1 / 24)


def _cost_of_waiting(arms: Arms, leading: Comparison, users_per_day: float) -> CostOfWaiting | None:
    """What a day in which not everybody has the leading arm costs, if its difference is real."""
    if leading.absolute_difference is None or leading.improves is None:
        return None
    total = sum(variant.weight for variant in arms.experiment.variants)
    best = leading.variant if leading.improves else leading.baseline
    share = next(variant.weight / total for variant in arms.experiment.variants if variant.name == best)
    per_day = abs(leading.absolute_difference) * users_per_day * (1 - share)
    return CostOfWaiting(leading.metric, best, per_day, users_per_day)


def _evidence(
    arms: Arms, question: Question, judgement: Judgement, health: Health, comparisons: Sequence[Comparison]
) -> Evidence:
    primary = question.metrics[0] if question.metrics else None
    planned, users = judgement.plan.planned_users, arms.everyone
    crossing = users >= CROSSOVER_USERS and health.crossovers > CROSSOVER_ALARM * users
    ratio = (
        "The users did not arrive in the planned shares (sample ratio mismatch); find out why before you look further."
    )
    return Evidence(
        trustworthy=health.sample_ratio.ok is not False and not crossing,
        distrust="More than 1 % of the users were given two variants." if crossing else ratio,
        ended=arms.experiment.status in {Status.COMPLETED, Status.ARCHIVED},
        planned=None if planned is None else users >= planned,
        minimum_effect=primary.minimum_effect if primary else None,
        primary=[c for c in comparisons if primary and c.metric == primary.key],
        guardrails=[c for c in comparisons if c.role == Role.GUARDRAIL],
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
                "plan_changed",
                "The plan was changed after the start; a rule that is chosen after seeing the data keeps no promise.",
                bool(arms.experiment.plan.changes),
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
    found = []
    for variant in arms.experiment.variants:
        for phase in arms.phases:
            for metric in metrics:
                measured, moments = arms.measured(variant, phase, metric), arms.moments(variant, phase, metric)
                if moments is not None:
                    joint = measured.joint
                    found.append(
                        SufficientStatistics(
                            variant.name, phase, metric.key, moments.n, moments.mean, moments.m2,
                            list(joint.means) if joint else None, [list(row) for row in joint.m2] if joint else None,
                        )
                    )  # fmt: skip
    return found
