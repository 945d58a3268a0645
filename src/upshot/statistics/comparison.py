"""Comparing a treatment arm with control: one answer with its intervals, or the reason there is none.

Every interval inverts the very test that gives the p-value, so an interval of the difference leaves out 0
exactly when p < alpha, and so does an interval of the lift.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from upshot.statistics.interval import Interval
from upshot.statistics.lift import fieller_interval, relative_lift
from upshot.statistics.moments import ROUNDING_OF_A_MEAN, Moments
from upshot.statistics.score import score_difference_interval, score_intervals, score_ratio_interval
from upshot.statistics.tails import (
    SMALLEST_TRUSTED_P,
    log10_p_value,
    normal_critical_value,
    normal_p_value,
    require_level,
    student_critical_value,
    student_p_value,
)

__all__ = [
    "Effect",
    "Interval",
    "Intervals",
    "all_alike",
    "compare_means",
    "compare_proportions",
    "intervals_of",
    "pooled_test",
    "tested",
    "untested",
]


class Intervals(NamedTuple):
    """Confidence intervals of the difference and of the lift; None where there is none."""

    absolute: Interval | None
    relative: Interval | None


class _Means(NamedTuple):
    """What intervals of means follow from: each arm as (mean, variance of that mean), and the root of both variances."""

    control: tuple[float, float]
    treatment: tuple[float, float]
    standard_error: float

    @property
    def arms(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Both arms."""
        return self.control, self.treatment

    def intervals(self, critical: float) -> Intervals:
        """Of the difference, and Fieller's of the lift."""
        difference, reach = self.treatment[0] - self.control[0], critical * self.standard_error
        absolute = Interval(difference - reach, difference + reach)
        return Intervals(absolute, fieller_interval(self.control, self.treatment, critical))


class _Shares(NamedTuple):
    """What intervals of proportions follow from: each arm as (users, successes), and the squared statistic of their test."""

    control: tuple[int, int]
    treatment: tuple[int, int]
    z_square: float

    @property
    def arms(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Both arms' shares, with the variances that the pooled share gives them."""
        (n0, x0), (n1, x1) = self.control, self.treatment
        pooled = (x0 + x1) * (n0 + n1 - x0 - x1) / (n0 + n1) ** 2
        return (x0 / n0, pooled / n0), (x1 / n1, pooled / n1)

    def intervals(self, critical: float) -> Intervals:
        """Score intervals."""
        threshold = self.threshold(critical)
        difference = score_difference_interval(self.control, self.treatment, threshold)
        return self.named(difference, score_ratio_interval(self.control, self.treatment, threshold))

    def threshold(self, critical: float) -> float:
        """The squared critical value, in the form that agrees with the test."""
        return _agreeing_threshold(self.z_square, critical * critical, self.control[0] + self.treatment[0])

    def named(self, difference: Interval, ratio: Interval) -> Intervals:
        """With the ratio as a lift, if there is one."""
        if self.control[1] == 0:
            return Intervals(difference, None)
        return Intervals(difference, Interval(_less_one(ratio.lower), _less_one(ratio.upper)))


@dataclass(slots=True)  # not frozen: that would take four times as long to make, and there are many
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
    _basis: _Means | _Shares | None = field(default=None, repr=False, compare=False)

    @property
    def log10_p_value(self) -> float | None:
        """The p-value's decimal logarithm, finite where the p-value underflows; None without a test."""
        if self.p_value is None or self.statistic is None:
            return None
        if self.p_value > SMALLEST_TRUSTED_P:
            return math.log10(self.p_value)
        return log10_p_value(self.statistic, self.degrees_of_freedom)

    @property
    def arms(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Control and treatment as (mean, variance of that mean), as the test takes them; None without a test."""
        return None if self._basis is None else self._basis.arms

    def intervals(self, critical_value: float) -> Intervals:
        """The intervals that leave out 0 exactly when the statistic is further from 0 than ``critical_value`` (> 0), such as
        `sequential.always_valid_critical_value`; none without a test."""
        return Intervals(None, None) if self._basis is None else self._basis.intervals(critical_value)


def intervals_of(asked: Sequence[tuple[Effect, float]]) -> list[Intervals]:
    """``Effect.intervals`` of many (effect, critical value), those of proportions all at once."""
    shares = [
        (basis, critical)
        for effect, critical in asked
        if isinstance(basis := effect._basis, _Shares)  # noqa: SLF001
    ]
    searched = iter(score_intervals([(*basis[:2], basis.threshold(critical)) for basis, critical in shares]))
    return [
        effect._basis.named(*next(searched)) if isinstance(effect._basis, _Shares) else effect.intervals(critical)  # noqa: SLF001
        for effect, critical in asked
    ]


def compare_proportions(control: Moments, treatment: Moments, alpha: float) -> Effect:
    """Pooled two-proportion z-test of 0/1 data, with score intervals at level 1 - ``alpha``.

    ``standard_error`` is the pooled one. Raises ValueError unless 0 < alpha < 1 and both means lie in [0, 1].
    Source: z = (p1-p0)/sqrt(pq(1/n0+1/n1)) with the pooled p; intervals of Miettinen & Nurminen (1985). Their
    factor N/(N-1) is dropped where it alone would make the intervals contradict the p-value.
    """
    absolute, relative = (effect := pooled_test(control, treatment)).intervals(normal_critical_value(alpha))
    return replace(effect, absolute_interval=absolute, relative_interval=relative)


def pooled_test(control: Moments, treatment: Moments) -> Effect:
    """The test of compare_proportions without its intervals, for many that get theirs at once (``intervals_of``)."""
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
    return Effect(
        "ok",
        method,
        difference,
        None,
        relative_lift(x0 / n0, x1 / n1),
        None,
        "zero_baseline" if x0 == 0 else "ok",
        z,
        normal_p_value(z),
        standard_error,
        None,
        _Shares(arm0, arm1, z * z),
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
    return tested(method, arm0, arm1, student_critical_value(alpha, freedom), freedom)


def tested(
    method: str,
    control: tuple[float, float],
    treatment: tuple[float, float],
    critical: float,
    freedom: float | None,
) -> Effect:
    """The effect between two means, each (mean, variance of that mean), not both 0; normal without degrees of freedom."""
    difference = treatment[0] - control[0]
    standard_error = math.sqrt(control[1] + treatment[1])
    statistic = difference / standard_error
    basis = _Means(control, treatment, standard_error)
    absolute, relative = basis.intervals(critical)
    lift = relative_lift(control[0], treatment[0])
    lift_status = "ok"
    if lift is None:
        lift_status = "zero_baseline"
    elif relative is None:
        lift, lift_status = None, "unbounded"
    return Effect(
        "ok",
        method,
        difference,
        absolute,
        lift,
        relative,
        lift_status,
        statistic,
        normal_p_value(statistic) if freedom is None else student_p_value(statistic, freedom),
        standard_error,
        freedom,
        basis,
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
    largest = variance = 0.0
    for mean, own in arms:
        largest, variance = max(largest, abs(mean)), variance + own
    return math.sqrt(variance) <= ROUNDING_OF_A_MEAN * largest


def _less_one(ratio: float | None) -> float | None:
    return None if ratio is None else ratio - 1.0
