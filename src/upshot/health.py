"""Whether a result can be trusted: sample ratio, loss of events, crossovers, late and repeated events, and what a reader must
know."""

from collections.abc import Sequence
from dataclasses import replace

from upshot import statistics
from upshot.aggregation import Aggregates, Cell
from upshot.arms import Arms
from upshot.report import (
    Bounds,
    Caution,
    Comparison,
    EventLossHealth,
    Health,
    LossComparison,
    SampleRatioHealth,
    VariantLoss,
)
from upshot.statistics import Comoments, Effect, Moments
from upshot.variants import Variant

SUSPICIOUS = 0.01
TWYMAN = 0.5
LOSSY = 0.01
LOSING_USERS = (
    100  # of both arms: with fewer, how much each of them lost is too skewed for the test to keep its promise
)


def health(
    arms: Arms,
    aggregates: Aggregates,
    ratio: SampleRatioHealth,
    loss: EventLossHealth | None,
    comparisons: Sequence[Comparison],
) -> Health:
    """Whether a result can be trusted."""
    rates = [part.rate or 0.0 for part in loss.variants.values()] if loss else []
    warnings = [
        Caution(code, message)
        for code, message, applies in (
            ("sample_ratio_mismatch", "Users did not arrive in the planned shares.", ratio.ok is False),
            (
                "sample_ratio_suspicious",
                "The shares of users are unusual, though not yet beyond chance.",
                ratio.ok is True and (ratio.p_value or 0) < SUSPICIOUS,
            ),
            (
                "event_loss_differs",
                "More events are lost in one variant than in another: its numbers are too low.",
                loss is not None and not loss.ok,
            ),
            ("event_loss", "More than 1 % of the events of a variant are lost.", max(rates, default=0.0) > LOSSY),
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
        event_loss=loss,
    )


def distrust(ratio: SampleRatioHealth, loss: EventLossHealth | None) -> str | None:
    """The word for why nothing may be said of comparisons, if so."""
    if ratio.ok is False:
        return "srm_failed"
    return "event_loss" if loss is not None and not loss.ok else None


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
        interval=Bounds(max(interval.lower or 0.0, 0.0), min(interval.upper or 1.0, 1.0)) if interval else None,
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
