"""What was lost of the events that senders number, per variant, and whether the variants lose alike."""

from dataclasses import replace

from upshot import statistics
from upshot.aggregation import Cell
from upshot.arms import Arms
from upshot.report import EventLossHealth, LossComparison, VariantLoss
from upshot.statistics import Comoments, Effect, Interval, Moments
from upshot.variants import Variant

LOSING_USERS = 100
"""Of both arms: with fewer, how much each user lost is too skewed for the test to keep its promise."""


def event_loss(arms: Arms, alpha: float) -> EventLossHealth | None:
    """What was lost of numbered events, with intervals at level 1 - `alpha`; None where no event is numbered.

    What blocks a result is a test that holds at every look, as with the sample ratio, corrected over the variants (Holm). Users
    are the units: a user on a bad connection loses many events.
    """
    if not arms.delivery:
        return None
    variants = arms.experiment.variants
    compared = [_loss_against_control(arms, variant, alpha) for variant in variants if not variant.is_control]
    adjusted = statistics.holm([comparison.always_valid_p_value for comparison in compared])
    return EventLossHealth(
        ok=all(p_value is None or p_value >= statistics.ALERT for p_value in adjusted),
        one_in=max(part.one_in for part in arms.delivery.values()),
        variants={variant.name: _loss_of(arms, variant, alpha) for variant in variants},
        comparisons=[replace(each, adjusted_p_value=p) for each, p in zip(compared, adjusted, strict=True)],
    )


def _loss_of(arms: Arms, variant: Variant, alpha: float) -> VariantLoss:
    """Over all phases."""
    parts = [part.moments for cell, part in arms.delivery.items() if cell.variant == variant.position]
    joint = sum(parts, Comoments.empty(2))
    lost, sent = (round(joint.n * mean) for mean in joint.means)
    ratio = statistics.ratio_arm(joint) if joint.n else None
    interval = statistics.mean_interval(ratio, alpha) if ratio else None
    return VariantLoss(
        sent=sent,
        lost=lost,
        rate=ratio.mean if ratio else None,
        interval=Interval(max(interval.lower or 0.0, 0.0), min(interval.upper or 1.0, 1.0)) if interval else None,
    )


def _loss_against_control(arms: Arms, variant: Variant, alpha: float) -> LossComparison:
    control = arms.experiment.control
    both = [part for cell, part in arms.delivery.items() if cell.variant in {control.position, variant.position}]
    users, losing = sum(part.moments.n for part in both), sum(part.losing for part in both)
    effect = _effect_on_loss(arms, control, variant, alpha)
    watched = None
    if effect.statistic is not None and losing >= LOSING_USERS:
        tightest = arms.experiment.plan.tightest_at(len(arms.experiment.variants))
        watched = statistics.always_valid_p_value(effect.statistic, users, statistics.ALERT, tightest)
    reason = effect.status if effect.status != "ok" else "too_few" if watched is None else None
    return LossComparison(
        variant=variant.name,
        baseline=control.name,
        difference=effect.absolute_difference,
        p_value=effect.p_value,
        always_valid_p_value=watched,
        adjusted_p_value=None,
        reason=reason,
    )


def _effect_on_loss(arms: Arms, control: Variant, variant: Variant, alpha: float) -> Effect:
    """Within one phase, or put together from several; phases in which an arm sent nothing say nothing."""
    pairs = []
    for phase in arms.phases:
        parts = [arms.delivery.get(Cell(arm.position, phase)) for arm in (control, variant)]
        pairs += _rates(*(part.moments if part else Comoments.empty(2) for part in parts))
    if len(pairs) > 1:
        return statistics.compare_strata(pairs, alpha)
    first, second = pairs[0] if pairs else (Moments(), Moments())
    return statistics.compare_means(first, second, alpha, method="delta_welch_t")


def _rates(control: Comoments, treatment: Comoments) -> list[tuple[Moments, Moments]]:
    """The rates of loss in two arms, if they exist, with the variance of both arms together.

    Arms that lose alike have it in common; an arm's own says too little of rare losses, and alarms too often in unequal splits.
    """
    common = statistics.ratio_arm(control + treatment)
    rates = [statistics.ratio_arm(arm) for arm in (control, treatment)]
    if common is None or not common.n or rates[0] is None or rates[1] is None:
        return []
    variance = common.variance or 0.0
    first, second = (Moments(rate.n, rate.mean, variance * max(rate.n - 1, 0)) for rate in rates if rate)
    return [(first, second)]
