"""Every variant against control in every metric: the effect, its correction, and the evidence that words rest on.

Which p-value is in force, by the way of stopping (statistics.md 2.17):

    always_valid       the always-valid one, at any time
    group_sequential   significant when the last look's boundary was crossed; otherwise the always-valid one, up to "high"
    fixed              the ordinary one, once the planned size is reached or the experiment has ended; before that none
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from upshot import statistics
from upshot.analysisplan import AnalysisPlan, Stopping
from upshot.arms import Arms, bounds
from upshot.metrics import Direction, Metric, Role
from upshot.report import Comparison, Look
from upshot.statistics import Effect, Moments
from upshot.variants import Variant

NON_ZERO_USERS = 100  # statistics.md 2.8: below it, the always-valid test of a skewed mean does not keep its promise
NON_ZERO_USERS_CUT = 25  # the same where large values are cut off
HARM_SHARE = 0.15  # of the planned size: guardrails watch for harm that is big and early

Pairs = Sequence[tuple[Moments | None, Moments | None]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How comparisons are judged: the metrics' roles, the plan, the error rate, and what the last planned look saw.

    `final` says that the planned size is reached or the experiment has ended; `distrust` why nothing may be said of the data, if
    so. `look` has the look's boundary, and `seen` the statistic of every (variant, metric) there.
    """

    plan: AnalysisPlan
    alpha: float
    roles: Mapping[str, Role] = field(default_factory=dict)
    final: bool = False
    distrust: str | None = None
    look: Look | None = None
    seen: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def role(self, metric: str) -> Role:
        """What a metric is for."""
        return self.roles.get(metric, Role.SECONDARY)

    @property
    def of_parts(self) -> "Judgement":
        """How parts of the data are judged: planned looks are at the whole, so these are always-valid instead."""
        if self.plan.in_force is not Stopping.GROUP_SEQUENTIAL:
            return self
        return replace(self, plan=replace(self.plan, stopping=Stopping.ALWAYS_VALID), look=None, seen={})


def compare(arms: Arms, metrics: Sequence[Metric], judgement: Judgement) -> list[Comparison]:
    """Every variant against control in every metric, corrected and put into words."""
    return correct(uncorrected(arms, metrics, judgement), judgement)


def uncorrected(arms: Arms, metrics: Sequence[Metric], judgement: Judgement) -> list[Comparison]:
    """Every variant against control in every metric, without a word."""
    treatments = [variant for variant in arms.experiment.variants if not variant.is_control]
    return [_comparison(arms, variant, metric, judgement) for metric in metrics for variant in treatments]


def correct(comparisons: Sequence[Comparison], judgement: Judgement) -> list[Comparison]:
    """The same comparisons, corrected and put into words.

    Holm over the primary metrics and variants; Benjamini-Hochberg over all secondary ones together; Holm over the variants of
    each guardrail by itself, as every one of them must hold.
    """
    corrected = list(comparisons)
    families: dict[str, list[int]] = {}
    for place, comparison in enumerate(comparisons):
        guardrail = comparison.role == Role.GUARDRAIL
        families.setdefault(f"guardrail {comparison.metric}" if guardrail else comparison.role, []).append(place)
    for family, places in families.items():
        secondary = family == Role.SECONDARY
        correction = statistics.benjamini_hochberg if secondary else statistics.holm
        name = None if len(places) == 1 else "benjamini_hochberg" if secondary else "holm"
        fixed = correction([comparisons[place].p_value for place in places])
        watched = correction([comparisons[place].always_valid_p_value for place in places])
        for place, by_fixed, by_watched in zip(places, fixed, watched, strict=True):
            words = _words(comparisons[place], by_fixed, by_watched, judgement, len(places))
            corrected[place] = replace(comparisons[place], adjusted_p_value=by_fixed, correction=name, **words)
    return corrected


def statistics_of(arms: Arms, metrics: Sequence[Metric], alpha: float) -> dict[tuple[str, str], float]:
    """The statistic of every (variant, metric), as a look sees it."""
    found: dict[tuple[str, str], float] = {}
    for metric in metrics:
        for variant in arms.experiment.variants:
            if not variant.is_control:
                strata, how = arms.strata(variant, metric)
                effect = effect_of(strata, metric, alpha, adjusted=bool(how))
                if effect.statistic is not None and math.isfinite(effect.statistic):
                    found[variant.name, metric.key] = effect.statistic
    return found


def effect_of(strata: Pairs, metric: Metric, alpha: float, *, adjusted: bool = False) -> Effect:
    """The effect within one phase, or put together from several."""
    method = "cuped_welch_t" if adjusted else "quantile_welch_t" if metric.kind == "quantile" else "welch_t"
    if metric.is_ratio:
        method = "delta_cuped_welch_t" if adjusted else "delta_welch_t"
    share = metric.is_share and not adjusted
    if any(arm is None for pair in strata for arm in pair):
        return statistics.untested("zero_denominator" if metric.is_ratio else "too_few", method)
    pairs = [(control, treatment) for control, treatment in strata if control is not None and treatment is not None]
    if len(pairs) > 1:
        return statistics.compare_strata(pairs, alpha, proportions=share)
    control, treatment = pairs[0] if pairs else (Moments(), Moments())
    if share:
        return statistics.compare_proportions(control, treatment, alpha)
    return statistics.compare_means(control, treatment, alpha, method=method)


def _comparison(arms: Arms, variant: Variant, metric: Metric, judgement: Judgement) -> Comparison:
    alpha = judgement.alpha
    strata, how = arms.strata(variant, metric)
    effect = effect_of(strata, metric, alpha, adjusted=bool(how))
    users = _users(strata)
    tightest = judgement.plan.tightest_at(len(arms.experiment.variants))
    watchable = _watchable(arms, variant, metric, effect)
    error, sign = effect.standard_error, -1.0 if metric.direction is Direction.DECREASE else 1.0
    posterior = (
        statistics.flat_prior(sign * effect.absolute_difference, error)
        if error and effect.absolute_difference is not None
        else None
    )
    watched = always = None
    if watchable and effect.statistic is not None:
        watched = statistics.always_valid_p_value(effect.statistic, users, alpha, tightest)
        level = statistics.always_valid_level(users, alpha, tightest)
        always = effect_of(strata, metric, level, adjusted=bool(how))
    reason = effect.status if effect.status != "ok" else effect.lift_status
    stopping = judgement.plan.in_force
    if reason == "ok" and watched is None and stopping is not Stopping.FIXED:
        reason = "too_few"
    credible = None
    if posterior is not None:
        interval = statistics.credible_interval(posterior, alpha)
        low, high = sorted((sign * (interval.lower or 0.0), sign * (interval.upper or 0.0)))
        credible = statistics.Interval(low, high)
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
        minimum_detectable_effect=_detectable(strata, alpha),
        method=effect.method,
        stopping=str(stopping),
        reason=None if reason == "ok" else reason,
        role=str(judgement.role(metric.key)),
        direction=str(metric.direction),
        improves=None if not effect.absolute_difference else sign * effect.absolute_difference > 0,
        always_valid_interval=bounds(always.absolute_interval) if always else None,
        always_valid_relative_interval=bounds(always.relative_interval) if always else None,
        expected_loss_of_control=posterior.expected_loss_control if posterior else None,
        credible_interval=bounds(credible),
        guardrail=_guardrail(strata, metric, judgement, effect, tightest) if watchable else None,
        adjusted=how or None,
        standard_error=error,
        degrees_of_freedom=effect.degrees_of_freedom,
        log10_p_value=None
        if effect.statistic is None
        else statistics.log10_p_value(effect.statistic, effect.degrees_of_freedom),
    )


def _words(
    comparison: Comparison, by_fixed: float | None, by_watched: float | None, judgement: Judgement, family: int
) -> dict[str, Any]:
    """What may be said of a comparison now, from its corrected p-values."""
    if judgement.distrust:
        return {"reason": judgement.distrust}
    alpha, stopping = judgement.alpha, Stopping(comparison.stopping)
    if stopping is Stopping.FIXED:
        return _said(by_fixed, alpha) if judgement.final else {"reason": comparison.reason or "not_final"}
    if stopping is Stopping.ALWAYS_VALID:
        return _said(by_watched, alpha)
    crossed = _crossed(comparison, judgement, family)
    if crossed:
        return {"significant": True, "confidence": "significant"}
    word = statistics.word(by_watched, alpha)
    return {"significant": crossed, "confidence": "high" if word == "significant" else word}


def _said(p_value: float | None, alpha: float) -> dict[str, Any]:
    return {
        "significant": None if p_value is None else p_value <= alpha,
        "confidence": statistics.word(p_value, alpha),
    }


def _crossed(comparison: Comparison, judgement: Judgement, family: int) -> bool | None:
    """Whether the last planned look's statistic crossed its boundary, which several questions share (Bonferroni).

    A skewed mean of few users crosses too often here, too: it needs what the always-valid test needs.
    """
    seen = judgement.seen.get((comparison.variant, comparison.metric))
    if judgement.look is None or seen is None or comparison.always_valid_p_value is None:
        return None
    critical = statistics.boundaries(
        tuple(judgement.look.fractions), judgement.alpha / family, judgement.plan.spending
    )[-1]
    return abs(seen) >= critical


def _users(strata: Pairs) -> int:
    return sum(arm.n for pair in strata for arm in pair if arm is not None)


def _watchable(arms: Arms, variant: Variant, metric: Metric, effect: Effect) -> bool:
    """Whether the always-valid p-value can keep its promise yet: means of skewed values need users with values."""
    if effect.statistic is None or not math.isfinite(effect.statistic):
        return False
    if metric.is_share:
        return True
    pair = (arms.experiment.control, variant)
    active = min(sum(arms.measured(arm, phase, metric).users for phase in arms.phases) for arm in pair)
    return active >= (NON_ZERO_USERS_CUT if metric.winsorising and metric.winsorising.upper else NON_ZERO_USERS)


def _guardrail(strata: Pairs, metric: Metric, judgement: Judgement, effect: Effect, tightest: int) -> str | None:
    """Whether a guardrail is shown to be harmed, at any look, or safe within its margin; None for other metrics."""
    pairs = [(c, t) for c, t in strata if c is not None and t is not None and c.n and t.n]
    if judgement.role(metric.key) is not Role.GUARDRAIL or len(pairs) != len(strata) or not pairs:
        return None
    share = metric.is_share and effect.method in {"two_proportion_z", "stratified_z"}
    users = _users(strata)
    control, treatment = pairs[0] if len(pairs) == 1 else statistics.post_stratified(pairs, proportions=share)
    found = statistics.non_inferiority(
        control,
        treatment,
        alpha=judgement.alpha,
        margin_relative=metric.margin,
        higher_is_better=metric.direction is Direction.INCREASE,
        proportions=share and len(pairs) == 1,
        harm_critical=math.inf,  # harm is what the always-valid bound below says
    )
    return "harmed" if _harmed(effect, users, metric, judgement, tightest) else found.verdict


def _harmed(effect: Effect, users: int, metric: Metric, judgement: Judgement, tightest: int) -> bool:
    """Whether the metric is worse beyond the one-sided bound that holds at every look, and is tight early."""
    planned = max(1, round(HARM_SHARE * tightest))
    critical = statistics.always_valid_one_sided_critical_value(users, judgement.alpha, planned)
    sign = -1.0 if metric.direction is Direction.DECREASE else 1.0
    return effect.statistic is not None and sign * effect.statistic < -critical


def _detectable(strata: Pairs, alpha: float) -> float | None:
    """The absolute difference that the present number of users would find in 80 % of experiments."""
    control = sum((pair[0] for pair in strata if pair[0] is not None), Moments())
    treated = sum(pair[1].n for pair in strata if pair[1] is not None)
    if not control.variance or not treated:
        return None
    return statistics.minimum_detectable_effect(control.variance, control.n, treated, alpha)
