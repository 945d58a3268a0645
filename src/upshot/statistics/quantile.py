"""Quantiles of values, such as the 90th percentile of a latency: which sorted values are needed, and their comparison.

A quantile has no sufficient statistics. What can be asked of a store in one pass are single order statistics, so this
room says which ranks it needs, and takes the values found there.
"""

import math
from dataclasses import dataclass

import scipy

from upshot.statistics.comoments import Comoments
from upshot.statistics.comparison import Effect, compare_means, untested
from upshot.statistics.moments import Moments
from upshot.statistics.ratio import ratio_arm
from upshot.statistics.tails import normal_critical_value, require_level

_SHORT_OF_ONE = 1.0 - 2.0**-50
"""n q is a whole number for most q in use, and its double must not lie above it: 100 x 0.07 does."""


@dataclass(frozen=True, slots=True)
class QuantileArm:
    """One arm's quantile: its estimate, and the two order statistics whose distance gives its variance.

    ``values`` and ``users`` are counts, ``level`` in (0, 1) is q. ``lower``, ``estimate`` and ``upper``, in the unit of
    the values, are those at the ranks that ``ranks(values, level, alpha)`` names. ``clustering`` is how many times
    larger the variance is than with independent values (see clustering_factor): 1 for one value per user.
    """

    values: int
    users: int
    level: float
    estimate: float
    lower: float
    upper: float
    clustering: float = 1.0
    alpha: float = 0.05

    @property
    def variance(self) -> float:
        """Variance of the estimate in squared units, 0 where the two order statistics are equal.

        ((upper - lower) / (2 z))² (n-1)/n times the clustering. Source: Deng, Knoblich & Lu (2018); Yao, Li & Lu
        (2024); the factor (n-1)/n, of no weight at the sizes that ``ranks`` admits, is that of gbstats.
        """
        error = (self.upper - self.lower) / (2.0 * normal_critical_value(self.alpha))
        return error * error * (self.values - 1) / self.values * self.clustering

    @property
    def moments(self) -> Moments:
        """Moments of as many users, whose mean is the estimate and has its variance: what comparisons take."""
        return Moments(self.users, self.estimate, self.variance * self.users * (self.users - 1))


def ranks(n: int, q: float, alpha: float = 0.05) -> tuple[int, int, int] | None:
    """1-based ranks (lower, estimate, upper) of the sorted values that a quantile and its variance need.

    They are the empirical quantiles, of rank ceil(n p), at p = q - z s, q and q + z s with s = sqrt(q(1-q)/n). None
    where n is too small for the outer ones, or for the normal approximation: n must exceed 4q/(1-q) and 4(1-q)/q, for
    alpha below .0455 with z² in place of 4. Raises ValueError unless n >= 0 and q and alpha lie in (0, 1).
    Source: Deng, Knoblich & Lu (2018).
    """
    _require(n, q)
    z = normal_critical_value(alpha)
    least = max(4.0, z * z) * max(q / (1.0 - q), (1.0 - q) / q)
    # Rounded, as 4 x .99/.01 is 396 and not the double above it.
    if n <= round(least, 6):
        return None
    reach = z * math.sqrt(n * q * (1.0 - q))
    lower, point, upper = (math.ceil((n * q + shift) * _SHORT_OF_ONE) for shift in (-reach, 0.0, reach))
    return max(lower, 1), point, min(upper, n)


def order_statistic_ranks(n: int, q: float, alpha: float) -> tuple[int, int] | None:
    """1-based ranks of the order statistics that enclose the q-quantile with probability >= 1 - ``alpha``.

    Whatever the distribution of the values, as long as they are independent; each side errs with at most alpha/2.
    None where n is too small for one of them to exist. Raises ValueError as ``ranks``.
    Source: the number of values below the quantile is Binomial(n, q); its quantiles at alpha/2 and 1 - alpha/2.
    """
    _require(n, q)
    require_level(alpha)
    lower = _binomial_quantile(alpha / 2.0, n, q)
    upper = n - _binomial_quantile(alpha / 2.0, n, 1.0 - q) + 1
    return (lower, upper) if lower >= 1 and upper <= n else None


def type7_ranks(n: int, percent: float) -> tuple[int, int, float] | None:
    """1-based ranks of the two neighbouring sorted values around a percentile, and how far between them it lies.

    The fraction in [0, 1) is for ``interpolate``. None without values; raises ValueError unless n >= 0 and ``percent``
    lies in [0, 100]. Source: Hyndman & Fan (1996), type 7, h = (n-1) p + 1, the default of NumPy and R.
    """
    if n < 0 or not 0.0 <= percent <= 100.0:
        raise ValueError(f"no percentile {percent} of {n} values")
    if n == 0:
        return None
    place = (n - 1) * percent / 100.0
    below = math.floor(place)
    return below + 1, min(below + 2, n), place - below


def interpolate(lower_value: float, upper_value: float, fraction: float) -> float:
    """The value ``fraction`` of the way from one sorted value to the next, never beyond either; in their unit."""
    return min(lower_value + fraction * (upper_value - lower_value), upper_value)


def clustering_factor(counts: Comoments, q: float) -> float:
    """How many times larger a quantile's variance is because several values come from the same user; >= 0.

    ``counts`` are per user (values <= the estimate, values). The factor is the variance of their ratio by the delta
    method over q(1-q)/n, n all values: 1 with one value per user. It is 1, too, where the users show no
    variance to compare with, as with a single user or an estimate that no value exceeds. Raises ValueError unless q
    lies in (0, 1). Source: Deng, Knoblich & Lu (2018); Yao, Li & Lu (2024).
    """
    _require(counts.n, q)
    share = ratio_arm(counts)
    if share is None or not share.variance:
        return 1.0
    return share.variance / share.n / (q * (1.0 - q) / counts.marginal(1).total)


def compare_quantiles(control: QuantileArm | None, treatment: QuantileArm | None, alpha: float) -> Effect:
    """Welch's t-test of two quantiles, with Fieller's interval of the lift, at level 1 - ``alpha``.

    Degrees of freedom count users, the randomised unit. None is an arm for which ``ranks`` gave none: "too_few", as
    for an arm whose values are fewer than that; "zero_variance" where the order statistics agree in both arms; other
    statuses as in compare_means. ``method`` is "quantile_welch_t". Raises ValueError unless 0 < alpha < 1 and both
    arms have the same level. Source: Deng, Knoblich & Lu (2018); Yao, Li & Lu (2024); t as in gbstats.
    """
    require_level(alpha)
    method = "quantile_welch_t"
    if control is None or treatment is None:
        return untested("too_few", method)
    if control.level != treatment.level:
        raise ValueError(f"quantiles at {control.level} and {treatment.level} do not compare")
    if any(ranks(arm.values, arm.level, arm.alpha) is None for arm in (control, treatment)):
        return untested("too_few", method, control.estimate, treatment.estimate)
    return compare_means(control.moments, treatment.moments, alpha, method=method)


def _require(n: int, q: float) -> None:
    if n < 0 or not 0.0 < q < 1.0:
        raise ValueError(f"no quantile at {q} of {n} values: a level lies between 0 and 1")


def _binomial_quantile(probability: float, n: int, q: float) -> int:
    """The least k with P(Binomial(n, q) <= k) >= probability."""
    low, high = 0, n
    while low < high:
        k = (low + high) // 2
        # P(X <= k) = I_{1-q}(n - k, k + 1), here always with k < n.
        low, high = (low, k) if scipy.special.betainc(n - k, k + 1, 1.0 - q) >= probability else (k + 1, high)
    return low
