"""Comparing a treatment arm with control: one answer with its intervals, or the reason there is none.

Every interval inverts the very test that gives the p-value, so an interval of the difference leaves out 0
exactly when p < alpha, and so does an interval of the lift.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from upshot.statistics.interval import Interval
from upshot.statistics.lift import fieller_interval, relative_lift
from upshot.statistics.moments import ROUNDING_OF_A_MEAN, Moments
from upshot.statistics.score import score_difference_interval, score_ratio_interval
from upshot.statistics.tails import (
    normal_critical_value,
    normal_p_value,
    require_level,
    student_critical_value,
    student_p_value,
)

__all__ = [
    "Effect",
    "Interval",
    "all_alike",
    "compare_means",
    "compare_proportions",
    "compare_strata",
    "post_stratified",
    "untested",
]


@dataclass(frozen=True, slots=True)
class Effect:
    """What treatment changes against control. A number that does not exist is None, and a status says why.

    ``status`` is "ok", "no_users", "one_user", "zero_variance", "zero_denominator" (of a ratio) or "too_few" and
    speaks of the test; ``lift_status`` adds "zero_baseline" and "unbounded" and speaks of the lift and its
    interval. Differences and ``standard_error`` (the one of the test) are in the unit of the quantity, lifts are
    fractions of |control mean|, ``p_value`` is two-sided in [0, 1]. ``degrees_of_freedom`` is None for normal tests.
    ``method`` is "two_proportion_z", "welch_t", "stratified_z", "delta_welch_t" or "quantile_welch_t".
    """

    status: str
    method: str
    absolute_difference: float | None
    absolute_interval: Interval | None
    relative_lift: float | None
    relative_interval: Interval | None
    lift_status: str
    statistic: float | None
    p_value: float | None
    standard_error: float | None
    degrees_of_freedom: float | None


def compare_proportions(control: Moments, treatment: Moments, alpha: float) -> Effect:
    """Pooled two-proportion z-test of 0/1 data, with score intervals at level 1 - ``alpha``.

    ``standard_error`` is the pooled one. Raises ValueError unless 0 < alpha < 1 and both means lie in [0, 1].
    Source: z = (p1-p0)/sqrt(pq(1/n0+1/n1)) with the pooled p; intervals of Miettinen & Nurminen (1985). Their
    factor N/(N-1) is dropped where it alone would make the intervals contradict the p-value.
    """
    critical = normal_critical_value(alpha)
    method = "two_proportion_z"
    if control.n == 0 or treatment.n == 0:
        return untested("no_users", method)
    arm0, arm1 = _counts(control), _counts(treatment)
    (n0, x0), (n1, x1) = arm0, arm1
    total, successes = n0 + n1, x0 + x1
    if successes in {0, total}:
        return untested("zero_variance", method, x0 / n0, x1 / n1)
    difference = (x1 * n0 - x0 * n1) / (n0 * n1)
    standard_error = math.sqrt(successes * (total - successes) / (total * n0 * n1))
    z = difference / standard_error
    threshold = _agreeing_threshold(z * z, critical * critical, total)
    lift = relative_lift(x0 / n0, x1 / n1)
    ratios = None if lift is None else score_ratio_interval(arm0, arm1, threshold)
    return Effect(
        "ok",
        method,
        difference,
        score_difference_interval(arm0, arm1, threshold),
        lift,
        None if ratios is None else Interval(_less_one(ratios.lower), _less_one(ratios.upper)),
        "zero_baseline" if lift is None else "ok",
        z,
        normal_p_value(z),
        standard_error,
        None,
    )


def compare_means(control: Moments, treatment: Moments, alpha: float, *, method: str = "welch_t") -> Effect:
    """Welch's t-test of two means, with the t interval and Fieller's interval of the lift at 1 - ``alpha``.

    ``method`` names the comparison where the moments are not those of plain values (ratios, quantiles). Raises
    ValueError unless 0 < alpha < 1. Source: Welch (1947) with Satterthwaite's degrees of freedom
    (V0+V1)² / (V0²/(n0-1) + V1²/(n1-1)), V the variance of an arm's mean; Fieller (1954).
    """
    require_level(alpha)
    if control.n == 0 or treatment.n == 0:
        return untested("no_users", method)
    s0, s1 = control.variance, treatment.variance
    if s0 is None or s1 is None:
        return untested("one_user", method, control.mean, treatment.mean)
    arm0, arm1 = (control.mean, s0 / control.n), (treatment.mean, s1 / treatment.n)
    if all_alike(arm0, arm1):
        return untested("zero_variance", method, control.mean, treatment.mean)
    # Shares of the variance, as the squares of very small variances would underflow.
    share = arm0[1] / (arm0[1] + arm1[1])
    freedom = 1.0 / (share**2 / (control.n - 1) + (1.0 - share) ** 2 / (treatment.n - 1))
    return _tested(method, arm0, arm1, student_critical_value(alpha, freedom), freedom)


def compare_strata(strata: Sequence[tuple[Moments, Moments]], alpha: float, *, proportions: bool = False) -> Effect:
    """Post-stratified z-test over strata of (control, treatment), such as phases with different allocations.

    Each arm's mean is the sum of (N_k/N) m_ak with variance the sum of (N_k/N)² V_ak, N_k the users of both
    arms in stratum k. With `proportions` (values of 0 and 1) V_ak is that of the stratum's pooled proportion, as in
    the unstratified test: an arm's own variance alarms too often for rare events in unequal splits. Strata in which
    an arm has fewer than two users are left out; with none left the status is "too_few". Raises ValueError unless
    0 < alpha < 1. Source: Miratrix, Sekhon & Yu (2013), fixed strata.
    """
    critical = normal_critical_value(alpha)
    method = "stratified_z"
    alike = map(_of_pooled_variance, strata) if proportions else strata
    usable = [(c, t, c.n + t.n) for c, t in alike if c.n >= 2 and t.n >= 2]
    if not usable:
        return untested("too_few", method)
    total = sum(users for _, _, users in usable)
    arm0 = _post_stratified([(users / total, c) for c, _, users in usable])
    arm1 = _post_stratified([(users / total, t) for _, t, users in usable])
    if all_alike(arm0, arm1):
        return untested("zero_variance", method, arm0[0], arm1[0])
    return _tested(method, arm0, arm1, critical, None)


def post_stratified(strata: Sequence[tuple[Moments, Moments]], *, proportions: bool = False) -> tuple[Moments, Moments]:
    """Control and treatment over all strata, as moments of as many users with the post-stratified mean and its variance.

    Weights, variances and the strata left out are those of compare_strata; without any left both are empty.
    """
    alike = map(_of_pooled_variance, strata) if proportions else strata
    usable = [(c, t) for c, t in alike if c.n >= 2 and t.n >= 2]
    total = sum(c.n + t.n for c, t in usable)
    shares = [(c.n + t.n) / total for c, t in usable]
    control = _together(list(zip(shares, (c for c, _ in usable), strict=True)))
    return control, _together(list(zip(shares, (t for _, t in usable), strict=True)))


def _together(cells: Sequence[tuple[float, Moments]]) -> Moments:
    n = sum(cell.n for _, cell in cells)
    mean, variance = _post_stratified(cells)
    return Moments(n, mean, variance * n * (n - 1)) if n else Moments()


def _of_pooled_variance(stratum: tuple[Moments, Moments]) -> tuple[Moments, Moments]:
    """Both arms with the variance that a proportion common to both would have."""
    common = (stratum[0] + stratum[1]).mean
    variance = common * (1.0 - common)
    first, second = (Moments(arm.n, arm.mean, variance * max(arm.n - 1, 0)) for arm in stratum)
    return first, second


def _post_stratified(cells: Sequence[tuple[float, Moments]]) -> tuple[float, float]:
    mean = math.fsum(weight * cell.mean for weight, cell in cells)
    return mean, math.fsum(weight * weight * cell.m2 / (cell.n - 1) / cell.n for weight, cell in cells)


def _tested(
    method: str,
    control: tuple[float, float],
    treatment: tuple[float, float],
    critical: float,
    freedom: float | None,
) -> Effect:
    difference = treatment[0] - control[0]
    standard_error = math.sqrt(control[1] + treatment[1])
    statistic = difference / standard_error
    reach = critical * standard_error
    lift = relative_lift(control[0], treatment[0])
    lift_interval = fieller_interval(control, treatment, critical)
    lift_status = "ok"
    if lift is None:
        lift_status = "zero_baseline"
    elif lift_interval is None:
        lift, lift_status = None, "unbounded"
    return Effect(
        "ok",
        method,
        difference,
        Interval(difference - reach, difference + reach),
        lift,
        lift_interval,
        lift_status,
        statistic,
        normal_p_value(statistic) if freedom is None else student_p_value(statistic, freedom),
        standard_error,
        freedom,
    )


def untested(
    status: str, method: str, control_mean: float | None = None, treatment_mean: float | None = None
) -> Effect:
    """The effect where no test exists and ``status`` says why: the difference and lift of two means, if known."""
    difference = lift = None
    lift_status = status
    if control_mean is not None and treatment_mean is not None:
        difference = treatment_mean - control_mean
        lift = relative_lift(control_mean, treatment_mean)
        lift_status = "zero_baseline" if lift is None else status
    return Effect(status, method, difference, None, lift, None, lift_status, None, None, None, None)


def _counts(moments: Moments) -> tuple[int, int]:
    successes = round(moments.total)
    if not 0 <= successes <= moments.n:
        raise ValueError(f"a proportion needs values of 0 and 1; the mean is {moments.mean}")
    return moments.n, successes


def _agreeing_threshold(z_square: float, threshold: float, total: int) -> float:
    widened = threshold * total / (total - 1)
    return threshold if threshold < z_square <= widened else widened


def all_alike(*arms: tuple[float, float]) -> bool:
    """Whether arms of (mean, variance of that mean) vary by no more than the rounding of their largest mean."""
    largest = max(abs(mean) for mean, _ in arms)
    return math.sqrt(sum(variance for _, variance in arms)) <= ROUNDING_OF_A_MEAN * largest


def _less_one(ratio: float | None) -> float | None:
    return None if ratio is None else ratio - 1.0
