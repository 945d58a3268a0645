"""Score intervals for the difference and the ratio of two proportions, from counts alone.

Both invert the score test with the restricted maximum-likelihood estimate under the hypothesis; at "no
difference" they are the pooled z-test. ``threshold`` is the squared critical value, times N/(N-1) for the
Miettinen-Nurminen form. Instead of a hypothesis, the Lagrange multiplier of its constraint is searched: then
the restricted estimates are roots of quadratics (difference) or plain fractions (ratio), and the squared
statistic is strictly increasing, so every acceptance region is an interval and every bound is unique.

Sources: Miettinen & Nurminen (1985); Farrington & Manning (1990); for the ratio also Koopman (1984).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from upshot.statistics.interval import Interval

_TOLERANCE = 1e-12
_NEARLY = 1e-6
"""Newton's next step squares the error: below this share it is the last one."""
_STEPS = 200
_ADJACENT = 1.0 + 2.0**-51
_MANY = 32
_STEPS_AT_ONCE = 12

Arm = tuple[int, int]
"""Users and successes."""

_Numbers = NDArray[np.float64]


def score_difference_interval(control: Arm, treatment: Arm, threshold: float) -> Interval:
    """All differences (treatment - control), within [-1, 1], whose squared score statistic is <= threshold.

    Each arm is (users, successes), 0 <= successes <= users, users >= 1; ``threshold`` > 0, else ValueError.
    """
    _require(control, treatment, threshold)
    lower = _lowest_difference(control, treatment, threshold)
    return Interval(lower, -_lowest_difference(treatment, control, threshold))


def score_ratio_interval(control: Arm, treatment: Arm, threshold: float) -> Interval:
    """All ratios (treatment / control), >= 0, whose squared score statistic is <= threshold.

    Arms and errors as in score_difference_interval. The upper bound is None (unbounded) when control has no
    success; the lower bound is 0 when treatment has none.
    """
    _require(control, treatment, threshold)
    inverse = _lowest_ratio(treatment, control, threshold)
    return Interval(_lowest_ratio(control, treatment, threshold), 1.0 / inverse if inverse > 0.0 else None)


def score_intervals(asked: Sequence[tuple[Arm, Arm, float]]) -> list[tuple[Interval, Interval]]:
    """The intervals of difference and ratio of many (control, treatment, threshold), in their order.

    From a few dozen on, all of them are searched at once, but for those with an arm of nothing but failures or successes, and
    those whose search takes more steps than such searches do. Errors as in score_difference_interval.
    """
    found: dict[int, tuple[Interval, Interval]] = {}
    if len(asked) >= _MANY:
        table = np.array([(*control, *treatment, threshold) for control, treatment, threshold in asked], float).T
        mirrored = table[[2, 3, 0, 1, 4]]
        with np.errstate(all="ignore"):
            lower, upper = _lowest_differences(*table), -_lowest_differences(*mirrored)
            least, most = _lowest_ratios(*table), 1.0 / _lowest_ratios(*mirrored)
        known = np.isfinite(lower + upper + least + most).nonzero()[0].tolist()
        bounds = (part.tolist() for part in (lower, upper, least, most))
        for place, low, high, first, last in zip(known, *(_at(known, part) for part in bounds), strict=True):
            found[place] = Interval(low, high), Interval(first, last)
    return [
        found.get(place) or (score_difference_interval(*one), score_ratio_interval(*one))
        for place, one in enumerate(asked)
    ]


def _at(places: list[int], values: list[float]) -> list[float]:
    return [values[place] for place in places]


def _require(control: Arm, treatment: Arm, threshold: float) -> None:
    for n, successes in (control, treatment):
        if n < 1 or not 0 <= successes <= n:
            raise ValueError(f"{successes} successes among {n} users")
    if not threshold > 0.0:
        raise ValueError(f"the squared critical value must be positive, not {threshold}")


def _lowest_difference(control: Arm, treatment: Arm, threshold: float) -> float:
    # The restricted estimate p of an arm solves n(p^-p) = multiplier p(1-p): both p and 1-p from sums of positive terms, so that
    # neither loses digits near 0. Its spread is p(1-p); the root of the discriminant divides its slope.
    n0, x0 = control
    n1, x1 = treatment
    y0, y1 = n0 - x0, n1 - x1
    if x1 == 0 and y0 == 0:
        return -1.0
    sqrt = math.sqrt
    pooled = (x0 + x1) * (y0 + y1) / (n0 + n1) / n0 / n1
    multiplier = sqrt(threshold / pooled) if pooled > 0.0 else threshold
    low, high = 0.0, math.inf
    for count in range(_STEPS):
        gap1, gap0, double = n1 - multiplier, n0 - multiplier, 2.0 * multiplier
        root1, root0 = sqrt(gap1 * gap1 + 2.0 * double * y1), sqrt(gap0 * gap0 + 2.0 * double * x0)
        up1 = 2.0 * y1 / (gap1 + root1) if gap1 > 0.0 else (root1 - gap1) / double
        up0 = 2.0 * x0 / (gap0 + root0) if gap0 > 0.0 else (root0 - gap0) / double
        spread1 = 2.0 * x1 / (multiplier + n1 + root1) * up1
        spread0 = 2.0 * y0 / (multiplier + n0 + root0) * up0
        variance = spread1 / n1 + spread0 / n0
        reached = multiplier * multiplier * variance / threshold
        off = abs(reached - 1.0)
        if off <= _TOLERANCE or high <= low * _ADJACENT:
            break
        low, high = (multiplier, high) if reached < 1.0 else (low, multiplier)
        step = 0.0
        if reached > 0.0:
            bend = (spread1 / root1 if root1 else 0.0) + (spread0 / root0 if root0 else 0.0)
            step = multiplier * reached ** (-variance / (variance + bend))
            if off <= _NEARLY and low < step < high:
                multiplier = step
                break
        # With all or no successes in an arm the statistic has a kink, across which Newton's steps can bounce.
        bouncing = count >= 6 and count % 2 == 0
        if bouncing or not low < step < high:
            step = sqrt(low * high) if low > 0.0 and high < math.inf else double
        multiplier = step
    # The squared statistic is multiplier · (estimate - bound), which at a kink keeps more digits than V does.
    return max((x1 * n0 - x0 * n1) / (n0 * n1) - threshold / multiplier, -1.0)


def _lowest_ratio(control: Arm, treatment: Arm, threshold: float) -> float:
    n0, x0 = control
    n1, x1 = treatment
    if x1 == 0:
        return 0.0
    a, b = (n1 - x1) / n1, (n0 - x0) / n0
    if a == 0.0:
        at_most = b * x1 * x1 / (x0 + x1)
        if at_most <= threshold:
            certain = 1.0 / (1.0 + (threshold - at_most) / n1)
            return certain * (n0 + x1) / (x0 + x1)
    moved = _moved_successes((a, b), (x0, x1), threshold)
    return (x1 - moved) * (n0 + moved) / ((n1 - moved) * (x0 + moved))


def _moved_successes(failing: tuple[float, float], successes: tuple[int, int], threshold: float) -> float:
    # Solves a s²/(x1-s) + b s²/(x0+s) = threshold on (0, x1). The left side is convex and increasing and the
    # start, either term alone, is not below the root: Newton's steps descend to it without a safeguard.
    a, b = failing
    x0, x1 = successes
    s = float(x1)
    if a > 0.0:
        s = 2.0 * threshold * x1 / (threshold + math.sqrt(threshold * (threshold + 4.0 * a * x1)))
    if b > 0.0:
        s = min(s, (threshold + math.sqrt(threshold * (threshold + 4.0 * b * x0))) / (2.0 * b))
    for _ in range(_STEPS):
        left, right = x1 - s, x0 + s
        first = a * s / left if a > 0.0 else 0.0
        second = b * s / right
        excess = s * (first + second) - threshold
        slope = first * (1.0 + x1 / left if a > 0.0 else 0.0) + second * (1.0 + x0 / right)
        step = excess / slope
        s -= step
        if step <= _NEARLY * s:
            break
    return s


def _lowest_differences(n0: _Numbers, x0: _Numbers, n1: _Numbers, x1: _Numbers, threshold: _Numbers) -> _Numbers:
    """As _lowest_difference, of many; NaN where the search is not a short one, or a count is 0."""
    y0, y1 = n0 - x0, n1 - x1
    multiplier = np.sqrt(threshold * (n0 + n1) * n0 * n1 / ((x0 + x1) * (y0 + y1)))
    done = np.zeros(len(n0), bool)
    for _ in range(_STEPS_AT_ONCE):
        gap1, gap0, double = n1 - multiplier, n0 - multiplier, 2.0 * multiplier
        root1, root0 = np.sqrt(gap1 * gap1 + 2.0 * double * y1), np.sqrt(gap0 * gap0 + 2.0 * double * x0)
        up1 = np.where(gap1 > 0.0, 2.0 * y1 / (gap1 + root1), (root1 - gap1) / double)
        up0 = np.where(gap0 > 0.0, 2.0 * x0 / (gap0 + root0), (root0 - gap0) / double)
        spread1 = 2.0 * x1 / (multiplier + n1 + root1) * up1
        spread0 = 2.0 * y0 / (multiplier + n0 + root0) * up0
        variance = spread1 / n1 + spread0 / n0
        reached = multiplier * multiplier * variance / threshold
        step = multiplier * reached ** (-variance / (variance + spread1 / root1 + spread0 / root0))
        multiplier = np.where(done, multiplier, step)
        done |= np.abs(reached - 1.0) <= _NEARLY
        if done.all():
            break
    found = np.maximum((x1 * n0 - x0 * n1) / (n0 * n1) - threshold / multiplier, -1.0)
    return np.where(done & (np.minimum(np.minimum(x0, x1), np.minimum(y0, y1)) > 0.0), found, np.nan)


def _lowest_ratios(n0: _Numbers, x0: _Numbers, n1: _Numbers, x1: _Numbers, threshold: _Numbers) -> _Numbers:
    """As _lowest_ratio, of many; NaN where the search is not a short one, or a count is 0."""
    a, b = (n1 - x1) / n1, (n0 - x0) / n0
    s = np.minimum(
        2.0 * threshold * x1 / (threshold + np.sqrt(threshold * (threshold + 4.0 * a * x1))),
        (threshold + np.sqrt(threshold * (threshold + 4.0 * b * x0))) / (2.0 * b),
    )
    done = np.zeros(len(n0), bool)
    for _ in range(_STEPS_AT_ONCE):
        left, right = x1 - s, x0 + s
        first, second = a * s / left, b * s / right
        slope = first * (1.0 + x1 / left) + second * (1.0 + x0 / right)
        step = np.where(done, 0.0, (s * (first + second) - threshold) / slope)
        s = s - step
        done |= step <= _NEARLY * s
        if done.all():
            break
    found = (x1 - s) * (n0 + s) / ((n1 - s) * (x0 + s))
    return np.where(done & (np.minimum(np.minimum(x0, x1), np.minimum(a, b)) > 0.0), found, np.nan)
