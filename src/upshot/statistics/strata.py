"""Comparing over strata, such as phases of different allocation: within each of them, then put together, never pooled."""

import math
from collections.abc import Sequence

from upshot.statistics.comparison import Effect, all_alike, tested, untested
from upshot.statistics.moments import Moments
from upshot.statistics.tails import normal_critical_value


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
    return tested(method, arm0, arm1, critical, None)


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
