"""CUPED: what users did before the experiment takes part of the noise out of what they do in it.

An outcome y is replaced by y - theta (x - mean of x), x being known before the assignment and so untouched by it.
The difference of the arms keeps its expectation and loses the share rho² of its variance (rho: correlation of y
and x). Sources: Deng, Xu, Kohavi & Walker (2013); Lin (2013); for ratios also Deng, Knoblich & Lu (2018).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upshot.statistics.comoments import ROUNDING_OF_A_COMBINATION, Comoments
from upshot.statistics.moments import Moments
from upshot.statistics.ratio import linearised, ratio_arm

COLLINEAR = 2.0**-30
"""A covariate of which the covariates before it leave less than this share of variance adds nothing but rounding."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How an outcome was adjusted. ``status`` is "ok" or, where nothing was adjusted, "fallback_unadjusted".

    ``theta`` has one coefficient per covariate, in units of the outcome per unit of the covariate, 0 for one that is
    not used. ``variance_reduction`` in [0, 1] is the share by which the variances of the arms' means, added up, went
    down; 0 also where they went up, as they can by chance with a useless covariate.
    """

    theta: tuple[float, ...]
    variance_reduction: float
    status: str


def adjust(arms: Sequence[Comoments]) -> tuple[list[Moments], Adjustment]:
    """Adjusted per-user moments of every arm, each given as (outcome, covariate, covariate, ...).

    theta = Sxx^-1 sxy from the concatenation of all arms; an arm's mean becomes m - theta (mx - mx_all) and its
    variance sy² + theta' Sxx theta - 2 theta' sxy. The order of arms does not matter. Constant covariates, and those
    that follow from the ones before them, are not used. The arms come back unadjusted when no covariate is left, or
    when an arm with users has fewer than k + 2 for k covariates (3 for a single one): so few would be fitted rather
    than adjusted. Arms without users stay empty. Raises ValueError when arms differ in dimension.
    """
    return _adjusted(arms, sum(arms, Comoments()))


def adjust_ratio(arms: Sequence[Comoments]) -> tuple[list[Moments | None], Adjustment]:
    """Adjusted per-user moments of a ratio, each arm given as (m, d, mp, dp): now, and before the experiment.

    Both ratios are linearised, y = (m - R d)/mD and x = (mp - Rp dp)/mDp, in each arm around its own ratios for the
    means and variances, in the concatenation of all arms for theta; then as ``adjust``. The mean of an arm is its
    adjusted ratio. With a denominator of mean 0 in an arm, nothing is adjusted; None for an arm whose own d is so
    (see ratio_arm). Source: tea-tasting's RatioOfMeans, with the delta method of Deng, Knoblich & Lu (2018).
    """
    pairs = ((0, 1), (2, 3))
    ratios = [linearised(arm, pairs) for arm in arms]
    together = linearised(sum(arms, Comoments()), pairs)
    usable = [ratio for ratio in ratios if ratio is not None]
    if together is None or len(usable) < len(ratios):
        return [ratio_arm(arm) for arm in arms], Adjustment((0.0,), 0.0, "fallback_unadjusted")
    moments, adjustment = _adjusted(usable, together)
    return list(moments), adjustment


def _adjusted(arms: Sequence[Comoments], together: Comoments) -> tuple[list[Moments], Adjustment]:
    plain = [arm.marginal(0) for arm in arms]
    covariates = max(len(together.means) - 1, 0)
    enough = all(arm.n >= covariates + 2 for arm in arms if arm.n > 0)
    theta = _coefficients(together) if enough and covariates > 0 else None
    if theta is None:
        return plain, Adjustment((0.0,) * covariates, 0.0, "fallback_unadjusted")
    weights = (1.0, *(-coefficient for coefficient in theta))
    centre = math.fsum(coefficient * mean for coefficient, mean in zip(theta, together.means[1:], strict=True))
    adjusted = [arm.linear(weights, centre) for arm in arms]
    before, after = _variance_of_means(plain), _variance_of_means(adjusted)
    reduction = 1.0 - after / before if before > 0.0 else 0.0
    return adjusted, Adjustment(theta, min(max(reduction, 0.0), 1.0), "ok")


def _variance_of_means(arms: Sequence[Moments]) -> float:
    return math.fsum((arm.variance or 0.0) / arm.n for arm in arms if arm.n > 0)


def _coefficients(sample: Comoments) -> tuple[float, ...] | None:
    """Least-squares coefficients of the first quantity on the others, 0 for those not used; None when none is."""
    products, means = np.array(sample.m2), np.array(sample.means)
    scale = np.sqrt(np.diag(products))
    constant = scale <= ROUNDING_OF_A_COMBINATION * math.sqrt(sample.n) * np.abs(means)
    # Gauss-Jordan in correlations and in the given order: there a pivot is the share of a covariate's variance that
    # the covariates before it leave. A constant one, of infinite scale, has no share.
    scale = np.where(constant, np.inf, scale)[1:]
    covariates = len(scale)
    table = products[1:, [*range(1, covariates + 1), 0]] / np.outer(scale, [*scale, 1.0])
    used = np.zeros(covariates, dtype=bool)
    for place in range(covariates):
        if table[place, place] > COLLINEAR:
            used[place] = True
            table[place] /= table[place, place]
            others = np.arange(covariates) != place
            table[others] -= np.outer(table[others, place], table[place])
    return tuple(np.where(used, table[:, -1] / scale, 0.0).tolist()) if used.any() else None
