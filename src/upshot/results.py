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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from upshot.aggregation import Aggregates
from upshot.allocation import percent_of
from upshot.arms import Arms
from upshot.comparisons import Judgement, compare
from upshot.decision import decide
from upshot.effects import statistics_of
from upshot.eventloss import event_loss
from upshot.experiments import Experiment, Status
from upshot.health import distrust, health, sample_ratio
from upshot.metrics import Metric, Role
from upshot.posteriors import chances_to_be_best
from upshot.report import (
    Look,
    PlanChanged,
    Point,
    Report,
    ReportedExperiment,
    ReportedPlan,
    SegmentReport,
    SufficientStatistics,
    VariantReport,
    Window,
)  # fmt: skip
from upshot.summary import evidence, summary
from upshot.variants import Variant

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
    primary = question.metrics[0] if question.metrics else None
    loss = event_loss(arms, question.alpha)
    judgement = judged(arms, question, distrust(ratio, loss))
    comparisons = compare(arms, question.metrics, judgement)
    trust = health(arms, aggregates, ratio, loss, comparisons, question.metrics)
    verdict = decide(evidence(arms, primary, judgement, trust, comparisons))
    best = {metric.key: chances_to_be_best(arms, metric) for metric in question.metrics}
    return Report(
        experiment=_experiment(experiment, question.window),
        window=question.window,
        summary=summary(arms, primary, question.window, aggregates, verdict, judgement),
        health=trust,
        variants=[_variant(arms, variant, question, aggregates, best) for variant in experiment.variants],
        comparisons=comparisons,
        time_series=list(series),
        segments=list(segments),
        sufficient_statistics=_sufficient(arms, question.metrics) if sufficient else [],
        plan=_plan(experiment, question),
        confidence_level=question.confidence_level,
    )


def judgement_of_parts(arms: Arms, question: Question) -> Judgement:
    """How breakdowns of a question are judged; nothing is significant in them, either, where the whole cannot be trusted."""
    return judged(arms, question, distrust(sample_ratio(arms), event_loss(arms, question.alpha))).of_parts


def judged(arms: Arms, question: Question, distrust: str | None = None) -> Judgement:
    """How the comparisons of a question are judged, or why they are not."""
    experiment, seen = arms.experiment, question.seen
    planned = experiment.plan.planned_users
    ended = experiment.status in {Status.COMPLETED, Status.ARCHIVED}
    return Judgement(
        plan=experiment.plan,
        alpha=question.alpha,
        roles=question.roles,
        final=ended or (planned is not None and arms.everyone >= planned),
        distrust=distrust,
        look=seen.look if seen else None,
        seen=statistics_of(Arms(experiment, seen.aggregates), question.metrics, question.alpha) if seen else {},
    )


def _plan(experiment: Experiment, question: Question) -> ReportedPlan:
    plan = experiment.plan
    return ReportedPlan(
        stopping=str(plan.in_force),
        alpha=plan.alpha,
        planned_users=plan.planned_users,
        spending=str(plan.spending),
        adjust=plan.adjust,
        prior_lift_sd=plan.prior_lift_sd,
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


def _variant(
    arms: Arms, variant: Variant, question: Question, aggregates: Aggregates, best: Mapping[str, Mapping[int, float]]
) -> VariantReport:
    total = sum(other.weight for other in arms.experiment.variants)
    counts: dict[str, int] = {}
    for (cell, event_type), events in aggregates.event_counts.items():
        if cell.variant == variant.position:
            counts[event_type] = counts.get(event_type, 0) + events
    users = arms.users(variant)
    tightest = max(1, arms.experiment.plan.tightest_at(len(arms.experiment.variants)) // 2)
    return VariantReport(
        variant_id=variant.id,
        name=variant.name,
        is_control=variant.is_control,
        traffic_allocation=percent_of(variant.weight, total),
        assigned_users=users,
        share=users / arms.everyone if arms.everyone else None,
        event_counts=dict(sorted(counts.items())),
        metrics={metric.key: arms.value(variant, metric, question.alpha, tightest) for metric in question.metrics},
        chance_to_be_best={key: chances.get(variant.position) for key, chances in best.items()},
    )


def _sufficient(arms: Arms, metrics: Sequence[Metric]) -> list[SufficientStatistics]:
    found = []
    for variant in arms.experiment.variants:
        for phase in arms.phases:
            for metric in metrics:
                measured, moments = arms.measured(variant, phase, metric), arms.moments(variant, phase, metric)
                if moments is not None:
                    joint, third = measured.joint, arms.third_moments(variant, metric, phase)
                    found.append(
                        SufficientStatistics(
                            variant.name, phase, metric.key, moments.n, moments.mean, moments.m2,
                            list(joint.means) if joint else None, [list(row) for row in joint.m2] if joint else None,
                            third.skewness if third else None,
                        )
                    )  # fmt: skip
    return found
