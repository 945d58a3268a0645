"""The answer first: what to do, how sure it is, how many users and days are still needed, and what waiting costs."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from upshot import statistics
from upshot.aggregation import Aggregates
from upshot.arms import Arms
from upshot.comparisons import Judgement
from upshot.decision import CROSSOVER_ALARM, CROSSOVER_USERS, Decision, Evidence
from upshot.events import SECOND
from upshot.experiments import Status
from upshot.metrics import Kind, Metric, Role
from upshot.report import Comparison, CostOfWaiting, Health, Summary, Window

DAY = timedelta(days=1)


def summary(
    arms: Arms, primary: Metric | None, window: Window, aggregates: Aggregates, verdict: Decision, judgement: Judgement
) -> Summary:
    """The summary of a result, whose verdict is known."""
    variants = arms.experiment.variants
    values = [arms.value(variant, primary, judgement.alpha) for variant in variants] if primary else []
    users, converted = arms.everyone, sum(value.users_with_events for value in values)
    leading = verdict.comparison
    needed = _users_needed(arms, primary, leading, judgement) if primary and leading else None
    sign = -1 if primary and primary.direction == "decrease" else 1
    ranked = [(sign * value.value, v.name) for value, v in zip(values, variants, strict=False) if value.value]
    rate = _users_per_day(users, aggregates, window)
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
        decide_at=window.watermark + days * DAY if days and running and days < 10_000 else None,
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


def evidence(
    arms: Arms, primary: Metric | None, judgement: Judgement, health: Health, comparisons: Sequence[Comparison]
) -> Evidence:
    """What the rules of the decision look at."""
    planned, users = judgement.plan.planned_users, arms.everyone
    seen = users + health.crossovers  # who had two variants is left out of the users
    crossing = seen >= CROSSOVER_USERS and health.crossovers > CROSSOVER_ALARM * seen
    distrust = [
        reason
        for reason, applies in (
            ("More than 1 % of the users were given two variants.", crossing),
            (
                "The users did not arrive in the planned shares (sample ratio mismatch); find out why before you look further.",
                health.sample_ratio.ok is False,
            ),
            (
                "More events are lost in one variant than in another; find out why before you look further.",
                health.event_loss is not None and not health.event_loss.ok,
            ),
        )
        if applies
    ]
    return Evidence(
        trustworthy=not distrust,
        distrust=next(iter(distrust), ""),
        ended=arms.experiment.status in {Status.COMPLETED, Status.ARCHIVED},
        planned=None if planned is None else users >= planned,
        minimum_effect=primary.minimum_effect if primary else None,
        primary=[c for c in comparisons if primary and c.metric == primary.key],
        guardrails=[c for c in comparisons if c.role == Role.GUARDRAIL],
    )
