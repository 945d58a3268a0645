"""Every variant against control in every metric: the test, its correction, and the evidence that words rest on."""

import math
from collections.abc import Sequence
from dataclasses import replace

from upshot import statistics
from upshot.arms import Arms, bounds
from upshot.experiments import Status
from upshot.metrics import Kind, Metric
from upshot.report import Comparison
from upshot.statistics import Effect
from upshot.variants import Variant

NON_ZERO_USERS = 100  # statistics.md 2.8: below it, the always-valid test of a skewed mean does not keep its promise


def compare(arms: Arms, metrics: Sequence[Metric], alpha: float, *, trusted: bool = True) -> list[Comparison]:
    """Every variant against control in every metric, corrected within each metric over the variants (Holm).

    Args:
        arms: the users and their moments.
        metrics: what to compare.
        alpha: the error rate; intervals are at the level 1 − alpha.
        trusted: False when the sample ratio is off; then nothing is called significant.
    """
    treatments = [variant for variant in arms.experiment.variants if not variant.is_control]
    return correct(
        [_comparison(arms, v, metric, alpha) for metric in metrics for v in treatments],
        alpha,
        trusted=trusted,
    )


def correct(comparisons: Sequence[Comparison], alpha: float, *, trusted: bool = True) -> list[Comparison]:
    """The same comparisons, corrected within each metric (Holm) and put into words."""
    corrected = list(comparisons)
    for metric in dict.fromkeys(comparison.metric for comparison in comparisons):
        places = [place for place, comparison in enumerate(comparisons) if comparison.metric == metric]
        fixed = statistics.holm([comparisons[place].p_value for place in places])
        watched = statistics.holm([comparisons[place].always_valid_p_value for place in places])
        for place, by_fixed, by_watched in zip(places, fixed, watched, strict=True):
            comparison = comparisons[place]
            in_force = by_fixed if comparison.stopping == "fixed" else by_watched
            corrected[place] = replace(
                comparison,
                adjusted_p_value=by_fixed,
                significant=in_force <= alpha if in_force is not None and trusted else None,
                confidence=statistics.word(in_force, alpha) if trusted else None,
                reason=comparison.reason if trusted else "srm_failed",
            )
    return corrected


def _comparison(arms: Arms, variant: Variant, metric: Metric, alpha: float) -> Comparison:
    effect = _effect(arms, variant, metric, alpha)
    watched = _always_valid(arms, variant, metric, effect, alpha)
    ended = arms.experiment.status in {Status.COMPLETED, Status.ARCHIVED}
    error = effect.standard_error
    posterior = (
        statistics.flat_prior(effect.absolute_difference, error)
        if error and effect.absolute_difference is not None
        else None
    )
    reason = effect.status if effect.status != "ok" else effect.lift_status
    if reason == "ok" and not ended and watched is None:
        reason = "too_few"
    return Comparison(
        variant_id=variant.id,
        variant=variant.name,
        baseline=arms.experiment.control.name,
        metric=metric.key,
        absolute_difference=effect.absolute_difference,
        relative_lift=effect.relative_lift,
        interval=bounds(effect.absolute_interval),
        relative_interval=bounds(effect.relative_interval),
        statistic=effect.statistic,
        p_value=effect.p_value,
        adjusted_p_value=None,
        always_valid_p_value=watched,
        significant=None,
        confidence=None,
        chance_to_beat_control=posterior.chance_to_beat_control if posterior else None,
        expected_loss=posterior.expected_loss_treatment if posterior else None,
        minimum_detectable_effect=_detectable(arms, variant, metric, alpha),
        method=effect.method,
        stopping="fixed" if ended else "always_valid",
        reason=None if reason == "ok" else reason,
    )


def _effect(arms: Arms, variant: Variant, metric: Metric, alpha: float) -> Effect:
    """The effect within one phase, or put together from several."""
    strata = arms.strata(variant, metric)
    if len(strata) > 1:
        return statistics.compare_strata(strata, alpha, proportions=metric.kind is Kind.CONVERSION)
    control, treatment = strata[0] if strata else (statistics.Moments(), statistics.Moments())
    compared = statistics.compare_proportions if metric.kind is Kind.CONVERSION else statistics.compare_means
    return compared(control, treatment, alpha)


def _always_valid(arms: Arms, variant: Variant, metric: Metric, effect: Effect, alpha: float) -> float | None:
    """The p-value that holds however often one looks; None where it could not keep that promise yet."""
    if effect.statistic is None or not math.isfinite(effect.statistic):
        return None
    pair = (arms.experiment.control, variant)
    if metric.kind is not Kind.CONVERSION:
        active = min(sum(arms.measured(arm, phase, metric).users for phase in arms.phases) for arm in pair)
        if active < NON_ZERO_USERS:
            return None
    return statistics.always_valid_p_value(effect.statistic, sum(arms.users(arm) for arm in pair), alpha)


def _detectable(arms: Arms, variant: Variant, metric: Metric, alpha: float) -> float | None:
    """The absolute difference that the present number of users would find in 80 % of experiments."""
    control = arms.value(arms.experiment.control, metric, alpha)
    treated = arms.users(variant)
    if not control.variance or not treated:
        return None
    return statistics.minimum_detectable_effect(control.variance, control.sample_size, treated, alpha)
