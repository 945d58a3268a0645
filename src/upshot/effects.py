"""The effect of a variant in one metric: tested within a phase or put together from several, and what the test allows to say."""

import math

from upshot import statistics
from upshot.arms import Arms, Strata
from upshot.metrics import Direction, Kind, Metric
from upshot.statistics import Effect, Moments
from upshot.variants import Variant

NON_ZERO_USERS = 100  # statistics.md 2.8: below it, the always-valid test of a skewed mean does not keep its promise
NON_ZERO_USERS_CUT = 25  # the same where large values are cut off
HARM_SHARE = 0.15  # of the planned size: guardrails watch for harm that is big and early


def effect_of(strata: Strata, metric: Metric, alpha: float, *, adjusted: bool = False) -> Effect:
    """The effect within one phase, or put together from several; that of a share in one phase without intervals, which many of
    them get at once."""
    method = "cuped_welch_t" if adjusted else "quantile_welch_t" if metric.kind is Kind.QUANTILE else "welch_t"
    if metric.is_ratio:
        method = "delta_cuped_welch_t" if adjusted else "delta_welch_t"
    share = metric.is_share and not adjusted
    pairs = [(control, treatment) for control, treatment in strata if control is not None and treatment is not None]
    if len(pairs) < len(strata):
        return statistics.untested("zero_denominator" if metric.is_ratio else "too_few", method)
    if len(pairs) > 1:
        return statistics.compare_strata(pairs, alpha, proportions=share)
    control, treatment = pairs[0] if pairs else (Moments(), Moments())
    if share:
        return statistics.pooled_test(control, treatment)
    return statistics.compare_means(control, treatment, alpha, method=method)


def statistics_of(arms: Arms, metrics: tuple[Metric, ...], alpha: float) -> dict[tuple[str, str], float]:
    """The statistic of every (variant, metric), as a look sees it."""
    found: dict[tuple[str, str], float] = {}
    for metric in metrics:
        for variant in arms.treatments:
            strata, how = arms.strata(variant, metric)
            effect = effect_of(strata, metric, alpha, adjusted=bool(how))
            if effect.statistic is not None and math.isfinite(effect.statistic):
                found[variant.name, metric.key] = effect.statistic
    return found


def users_of(strata: Strata) -> int:
    """The users of both arms."""
    return sum([arm.n for pair in strata for arm in pair if arm is not None])


def watchable(arms: Arms, variant: Variant, metric: Metric, effect: Effect) -> bool:
    """Whether the always-valid p-value can keep its promise yet: means of skewed values need users with values."""
    if effect.statistic is None or not math.isfinite(effect.statistic):
        return False
    if metric.is_share:
        return True
    wanted = NON_ZERO_USERS_CUT if metric.winsorising and metric.winsorising.upper else NON_ZERO_USERS
    for arm in (arms.control, variant):
        if sum([arms.measured(arm, phase, metric).users for phase in arms.phases]) < wanted:
            return False
    return True


def guardrail_of(
    strata: Strata, metric: Metric, effect: Effect, alpha: float, tightest: int
) -> tuple[str | None, int | None]:
    """Whether a guardrail is shown to be harmed, at any look, or safe within its margin, or neither; then also how many users of
    both arms would show it to be safe in 80 % of experiments, if nothing is lost."""
    pairs = [(c, t) for c, t in strata if c is not None and t is not None and c.n and t.n]
    if len(pairs) != len(strata) or not pairs:
        return None, None
    share = metric.is_share and effect.method in {"two_proportion_z", "stratified_z"}
    control, treatment = pairs[0] if len(pairs) == 1 else statistics.post_stratified(pairs, proportions=share)
    found = statistics.non_inferiority(
        control,
        treatment,
        alpha=alpha,
        margin_relative=metric.margin,
        higher_is_better=metric.direction is Direction.INCREASE,
        proportions=share and len(pairs) == 1,
        harm_critical=math.inf,  # harm is what the always-valid bound below says
    )
    if _harmed(effect, users_of(strata), metric, alpha, tightest):
        return "harmed", None
    margin, variance = metric.margin * abs(control.mean), control.variance
    if found.verdict != "inconclusive" or not margin or not variance:
        return found.verdict, None
    treated = treatment.n / (control.n + treatment.n)
    return found.verdict, statistics.users_needed_non_inferiority(variance, margin, alpha, treatment_share=treated)


def _harmed(effect: Effect, users: int, metric: Metric, alpha: float, tightest: int) -> bool:
    """Whether the metric is worse beyond the one-sided bound that holds at every look, and is tight early."""
    planned = max(1, round(HARM_SHARE * tightest))
    critical = statistics.always_valid_one_sided_critical_value(users, alpha, planned)
    sign = -1.0 if metric.direction is Direction.DECREASE else 1.0
    return effect.statistic is not None and sign * effect.statistic < -critical


def detectable(strata: Strata, alpha: float) -> float | None:
    """The absolute difference that the present number of users would find in 80 % of experiments."""
    controls = [control for control, _ in strata if control is not None]
    control = controls[0] if len(controls) == 1 else sum(controls, Moments())
    treated = sum([treatment.n for _, treatment in strata if treatment is not None])
    variance = control.variance
    if not variance or not treated:
        return None
    return statistics.minimum_detectable_effect(variance, control.n, treated, alpha)
