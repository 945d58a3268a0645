"""Ratio metrics, a sum over users divided by another sum over users, such as clicks per session.

The randomised unit is the user, never the session or the event: those of one user depend on each other, and a test
that counts them as independent alarms far too often. The delta method turns the ratio into a mean over users.
"""

import sys
from collections.abc import Sequence

from upshot.statistics.comoments import Comoments
from upshot.statistics.comparison import Effect, compare_means, untested
from upshot.statistics.moments import Moments
from upshot.statistics.tails import require_level


def linearised(sample: Comoments, pairs: Sequence[tuple[int, int]]) -> Comoments | None:
    """Comoments of linearised ratios, one per pair (place of the numerator, place of the denominator).

    Quantity k has the mean R = mM/mD and the deviations of (M - R D)/mD, so that its variance is the delta method's
    (sM² - 2 R sMD + R² sD²)/mD² per user. None when a denominator's mean is 0, or so near it that its square
    underflows: then no ratio exists. The empty sample stays empty.
    Source: Deng, Knoblich & Lu (2018).
    """
    if sample.n == 0:
        return Comoments.empty(len(pairs))
    ratios, rows = [], []
    for numerator, denominator in pairs:
        divisor = sample.means[denominator]
        if divisor * divisor < sys.float_info.min:
            return None
        ratio = sample.means[numerator] / divisor
        row = [0.0] * len(sample.means)
        row[numerator] = 1.0 / divisor
        row[denominator] -= ratio / divisor
        ratios.append(ratio)
        rows.append(row)
    return Comoments(sample.n, tuple(ratios), sample.combined(rows).m2)


def ratio_arm(sample: Comoments) -> Moments | None:
    """Per-user moments of the ratio of an arm's first quantity (numerator) to its second (denominator).

    The mean is R = mM/mD and the variance the delta method's, per user: divided by n it is the variance of R. None
    when the denominator's mean is 0; the moments of nobody for the empty sample. Source: as ``linearised``.
    """
    ratio = linearised(sample, [(0, 1)])
    return None if ratio is None else ratio.marginal(0)


def compare_ratios(control: Comoments, treatment: Comoments, alpha: float) -> Effect:
    """Welch's t-test of two ratios, with Fieller's interval of the lift, at level 1 - ``alpha``.

    Each arm is (numerator, denominator) per user. ``method`` is "delta_welch_t". Statuses as in compare_means, and
    "zero_denominator" without any number where a denominator's mean is 0. Raises ValueError unless 0 < alpha < 1.
    Source: Deng, Knoblich & Lu (2018); unreliable where a denominator's mean is within a few standard errors of 0.
    """
    return compare_ratio_arms(ratio_arm(control), ratio_arm(treatment), alpha)


def compare_ratio_arms(
    control: Moments | None, treatment: Moments | None, alpha: float, *, method: str = "delta_welch_t"
) -> Effect:
    """As compare_ratios, from linearised arms (``ratio_arm``, ``adjust_ratio``), None being a zero denominator."""
    require_level(alpha)
    if control is None or treatment is None:
        return untested("zero_denominator", method)
    return compare_means(control, treatment, alpha, method=method)
