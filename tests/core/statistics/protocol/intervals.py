"""C7, C8, C13 and C15: how often intervals cover the truth."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit
from tests.core.statistics.protocol.rows import (
    ALPHA,
    COMPARED,
    CRITICAL,
    Array,
    Row,
    Size,
    Verdicts,
    close,
    welch,
    within,
)

from upshot.calibration import Check, exactly
from upshot.statistics import (
    Comoments,
    Interval,
    Moments,
    QuantileArm,
    adjust,
    compare_means,
    compare_proportions,
    credible_interval,
    flat_prior,
)
from upshot.statistics.betabinomial import Beta, beta_interval, beta_posterior
from upshot.statistics.quantile import compare_quantiles, ranks

FEW = 50
"""Below so many expected conversions of an arm, counts are too coarse for exact coverage: from 93.5 to 97 % is accepted, as it is
of arms too small for the skewness of their values."""

USERS_PER_SQUARED_SKEWNESS = 355
"""Users of an arm from which on means of skewed values are near enough to normal (Kohavi's rule, statistics.md 2.2)."""

Layout = tuple[int, int, float, float]
"""Users of control and treatment, and their true rates."""


def score_difference(n0: int, x0: Array, n1: int, x1: Array, difference: Any) -> Array:
    """The squared score statistic of a true difference (without N/(N-1)), by Miettinen and Nurminen's cubic."""
    total, x = n0 + n1, x0 + x1
    l2 = (n1 + 2 * n0) * difference - total - x
    l1 = (n0 * difference - total - 2 * x0) * difference + x
    l0 = x0 * difference * (1 - difference)
    q = l2**3 / (3 * total) ** 3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
    p = np.sign(q) * np.sqrt(np.maximum(l2**2 / (3 * total) ** 2 - l1 / (3 * total), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = (math.pi + np.arccos(np.clip(np.nan_to_num(q / p**3), -1, 1))) / 3
    p0 = np.clip(2 * p * np.cos(angle) - l2 / (3 * total), 0.0, 1.0)
    p1 = np.clip(p0 + difference, 0.0, 1.0)
    return _squared(x1 / n1 - x0 / n0 - difference, p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)


def score_ratio(n0: int, x0: Array, n1: int, x1: Array, ratio: Any) -> Array:
    """The squared score statistic of a true ratio (without N/(N-1)), statistics.md 2.1."""
    a, b = (n0 + n1) * ratio, -(n1 * ratio + x1 + n0 + x0 * ratio)
    p0 = (-b - np.sqrt(b * b - 4 * a * (x0 + x1))) / (2 * a)
    p1 = ratio * p0
    return _squared(x1 / n1 - ratio * x0 / n0, p1 * (1 - p1) / n1 + ratio**2 * p0 * (1 - p0) / n0)


def _squared(distance: Array, variance: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0.0, 0.0, distance * distance / variance)


def c7(size: Size) -> Iterator[Row]:
    """Intervals of differences and lifts, of shares and of means; the delta method's lift is the broken variant."""
    runs = size.runs(40_000)
    rng = np.random.default_rng(7)
    for rate, few, share, lift in product((0.01, 0.05), (10, 20, 50, 200, 1_000), (1, 9), (0.0, 0.2, 1.0)):
        n1 = round(few / rate)
        layout = (share * n1, n1, rate, rate * (1 + lift))
        yield from _of_shares(rng, layout, few, runs)
    for few, lift in product((10, 20, 50, 200, 1_000), (0.0, 0.2, 1.0)):
        layout = (100 * few, 100 * few, 0.01, 0.01 * (1 + lift))
        yield from _of_rare_means(rng, layout, few, runs)
    for n1 in (200, 1_500):
        yield from _of_spending(rng, n1, runs)


def _of_shares(rng: np.random.Generator, layout: Layout, few: int, runs: int) -> Iterator[Row]:
    n0, n1, p0, p1 = layout
    x0, x1 = rng.binomial(n0, p0, runs).astype(float), rng.binomial(n1, p1, runs).astype(float)
    apart = np.abs(x1 / n1 - x0 / n0) > 0
    z_square = np.where(apart, score_difference(n0, x0, n1, x1, 0.0), 0.0)
    wide = CRITICAL**2 * (n0 + n1) / (n0 + n1 - 1)
    threshold = np.where((z_square > CRITICAL**2) & (z_square <= wide), CRITICAL**2, wide)
    found = {
        "score difference": (score_difference(n0, x0, n1, x1, p1 - p0), x1 / n1 - x0 / n0 > p1 - p0),
        "score ratio": (score_ratio(n0, x0, n1, x1, p1 / p0), x1 / n1 * p0 > x0 / n0 * p1),
    }
    _assert_score(layout, x0, x1, threshold)
    where = f"{n0:,} and {n1:,} users, {p0:.1%} and {p1:.1%}"
    for method, (squared, above) in found.items():
        yield from _coverage(f"{method}, {where}", squared > threshold, above, few, runs)


def _assert_score(layout: Layout, x0: Array, x1: Array, threshold: Array) -> None:
    """The bounds of our intervals are where the arrays' statistic reaches the threshold."""
    n0, n1, _, _ = layout
    for a, b, limit in zip(x0[:20].tolist(), x1[:20].tolist(), threshold[:20].tolist(), strict=True):
        effect = compare_proportions(Moments.binomial(n0, int(a)), Moments.binomial(n1, int(b)), ALPHA)
        if effect.absolute_interval is not None:
            for bound in (effect.absolute_interval.lower, effect.absolute_interval.upper):
                at_bound = score_difference(n0, np.array([a]), n1, np.array([b]), bound)
                close(limit, at_bound[0], 1e-6)
        if effect.relative_interval is not None:
            for lift in (effect.relative_interval.lower, effect.relative_interval.upper):
                if lift is not None and lift > -1:
                    close(limit, score_ratio(n0, np.array([a]), n1, np.array([b]), 1 + lift)[0], 1e-6)


def _coverage(what: str, missed: Verdicts, above: Verdicts, few: int, runs: int) -> Iterator[Row]:
    """The coverage, and either tail: intervals above the truth, and below it."""
    covered = runs - int(missed.sum())
    if few < FEW:
        yield Row(within("C7", f"{what} (coarse): covered", covered, runs, 0.935, 0.97))
    else:
        yield Row(exactly("C7", f"{what}: covered", covered, runs, 1 - ALPHA))
    yield Row(within("C7", f"{what}: too high", int((missed & above).sum()), runs, 0.01, 0.04))
    yield Row(within("C7", f"{what}: too low", int((missed & ~above).sum()), runs, 0.01, 0.04))


def _of_rare_means(rng: np.random.Generator, layout: Layout, few: int, runs: int) -> Iterator[Row]:
    """Values of 0 and 1 compared as means, in equal arms: Fieller's lift, and the delta method's."""
    n0, n1, p0, p1 = layout
    x0, x1 = rng.binomial(n0, p0, runs).astype(float), rng.binomial(n1, p1, runs).astype(float)
    yield from _of_means((n0, n1), np.array([[x0, x0], [x1, x1]]), (p0, p1), few, runs)


def _of_spending(rng: np.random.Generator, n1: int, runs: int) -> Iterator[Row]:
    """Exponential values in a 90/10 split, in arms larger and smaller than their skewness of 2 asks for."""
    users = (9 * n1, n1)
    sums = np.array([_exponential(rng, n, runs) for n in users])
    for lift in (0.0, 0.2, 1.0):
        scale = np.array([[[1.0], [1.0]], [[1.0 + lift], [(1.0 + lift) ** 2]]])
        few = 0 if n1 < USERS_PER_SQUARED_SKEWNESS * 4 else n1
        yield from _of_means(users, sums * scale, (1.0, 1.0 + lift), few, runs)


def _exponential(rng: np.random.Generator, users: int, runs: int) -> Array:
    """Sum and sum of squares of so many values."""
    found = np.empty((2, runs))
    part = max(1, 500_000 // users)
    for start in range(0, runs, part):
        values = rng.exponential(size=(min(part, runs - start), users))
        found[:, start : start + part] = values.sum(axis=1), (values * values).sum(axis=1)
    return found


def _of_means(users: tuple[int, int], sums: Array, means: tuple[float, float], few: int, runs: int) -> Iterator[Row]:
    (n0, n1), ((s0, q0), (s1, q1)) = users, sums
    _, freedom = welch(n0, s0, q0, n1, s1, q1)
    critical = -stdtrit(freedom, ALPHA / 2)
    m0, m1 = s0 / n0, s1 / n1
    v0, v1 = (q0 - s0 * m0) / (n0 - 1) / n0, (q1 - s1 * m1) / (n1 - 1) / n1
    ratio = means[1] / means[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.nan_to_num(np.abs(m1 - m0 - means[1] + means[0]) / np.sqrt(v0 + v1), posinf=0.0)
        off_ratio = np.nan_to_num(np.abs(m1 - ratio * m0) / np.sqrt(v1 + ratio**2 * v0), posinf=0.0)
        delta = np.abs(m1 / m0 - ratio) / np.sqrt(v1 / m0**2 + v0 * m1**2 / m0**4)
    noisy = critical**2 * v0 >= m0**2  # the baseline is not told from 0: no lift is ruled out
    _assert_means(users, sums, means, (off <= critical, noisy | (off_ratio <= critical)))
    where = f"{n0:,} and {n1:,} users, means {means[0]:g} and {means[1]:g}"
    yield from _coverage(f"Welch, {where}", off > critical, m1 - m0 > means[1] - means[0], few, runs)
    yield from _coverage(f"Fieller, {where}", ~noisy & (off_ratio > critical), m1 > ratio * m0, few, runs)
    if 0 < few < FEW and means[0] == means[1]:
        missed = np.nan_to_num(delta, posinf=0.0) > CRITICAL
        tail = int((missed & (m1 > ratio * m0)).sum())
        yield Row(within("C7", f"delta method's lift, {where}: too high", tail, runs, 0.01, 0.04), control=True)


def _assert_means(
    users: tuple[int, int], sums: Array, means: tuple[float, float], covered: tuple[Verdicts, Verdicts]
) -> None:
    """Our intervals cover where the arrays' do."""
    for run in range(min(COMPARED, sums.shape[2])):
        arms = [Moments(n, s / n, q - s * s / n) for n, (s, q) in zip(users, sums[:, :, run].tolist(), strict=True)]
        effect = compare_means(arms[0], arms[1], ALPHA)
        if effect.absolute_interval is not None:
            assert covers(effect.absolute_interval, means[1] - means[0]) == covered[0][run]
            assert covers(effect.relative_interval, means[1] / means[0] - 1) == covered[1][run]


def covers(interval: Interval | None, truth: float) -> bool:
    """Whether an interval holds the truth; none rules nothing out."""
    if interval is None:
        return True
    return (interval.lower is None or interval.lower <= truth) and (interval.upper is None or truth <= interval.upper)


def c8(size: Size) -> Iterator[Row]:
    """Adjusted differences, and the variance that the adjustment takes out."""
    runs = size.runs(20_000)
    rng = np.random.default_rng(8)
    for (n0, n1), rho in product(((30, 30), (100, 100), (1_000, 1_000), (900, 100)), (0.7, 0.0)):
        yield from _adjusted(rng, (n0, n1), rho, runs)


def _adjusted(rng: np.random.Generator, users: tuple[int, int], rho: float, runs: int) -> Iterator[Row]:
    arms = [_bivariate(rng, n, rho, runs) for n in users]
    (n0, n1), (means0, m2_0), (means1, m2_1) = users, *arms
    shift = means1 - means0
    pooled = m2_0 + m2_1 + n0 * n1 / (n0 + n1) * np.stack([shift[0] ** 2, shift[0] * shift[1], shift[1] ** 2])
    theta = pooled[1] / pooled[2]
    difference = shift[0] - theta * shift[1]
    plain, adjusted = (
        [(m2[0] + c * (theta**2 * m2[2] - 2 * theta * m2[1])) / (n - 1) / n for n, m2 in ((n0, m2_0), (n1, m2_1))]
        for c in (0, 1)
    )
    error, unadjusted = np.sqrt(sum(adjusted)), np.sqrt(sum(plain))
    freedom = error**4 / (adjusted[0] ** 2 / (n0 - 1) + adjusted[1] ** 2 / (n1 - 1))
    critical = -stdtrit(freedom, ALPHA / 2)
    reduction = np.clip(1 - error**2 / unadjusted**2, 0, 1)
    for run in range(min(COMPARED, runs)):
        samples = [
            Comoments(n, tuple(means[:, run].tolist()), ((m2[0, run], m2[1, run]), (m2[1, run], m2[2, run])))
            for n, means, m2 in ((n0, means0, m2_0), (n1, means1, m2_1))
        ]
        (control, treatment), how = adjust(samples)
        effect = compare_means(control, treatment, ALPHA)
        close([effect.statistic, how.variance_reduction], [difference[run] / error[run], reduction[run]])
    where = f"{n0} and {n1} users, correlation {rho}"
    covered = int((np.abs(difference) <= critical * error).sum())
    yield Row(exactly("C8", f"adjusted, {where}: covered", covered, runs, 1 - ALPHA))
    left, kept = round(1_000 * (1 - float(reduction.mean()))), 1_000 * (1 - rho**2)
    name = f"variance left of 1,000, {where}: 1 - rho² ± 2 %"
    yield Row(Check("C8", name, left, 1_000, 1 - rho**2, round(0.98 * kept), round(1.02 * kept)))
    if rho:
        careless = int((np.abs(difference) <= critical * unadjusted).sum())
        yield Row(exactly("C8", f"unadjusted error, {where}: covered", careless, runs, 1 - ALPHA), control=True)


def _bivariate(rng: np.random.Generator, n: int, rho: float, runs: int) -> tuple[Array, Array]:
    """Means (y, x) and centred products (yy, yx, xx) of n users of standard normal y and x, by Bartlett's decomposition."""
    root = math.sqrt(1 - rho * rho)
    z = rng.normal(size=(2, runs)) / math.sqrt(n)
    first, cross, second = (
        np.sqrt(rng.chisquare(n - 1, runs)),
        rng.normal(size=runs),
        np.sqrt(rng.chisquare(n - 2, runs)),
    )
    x, y = (first, np.zeros(runs)), (rho * first + root * cross, root * second)
    products = np.stack([y[0] ** 2 + y[1] ** 2, y[0] * x[0], x[0] ** 2])
    return np.stack([rho * z[0] + root * z[1], z[0]]), products


def c13(size: Size) -> Iterator[Row]:
    """Differences of quantiles of 5000 lognormal values per arm."""
    runs, n = size.runs(4_000), 5_000
    rng = np.random.default_rng(13)
    for q in (0.5, 0.9, 0.99):
        found = ranks(n, q)
        assert found is not None
        # Three order statistics of n uniform values are sums of gamma spacings; values follow from them.
        spacings = rng.gamma(np.diff([0, *found, n + 1]), size=(2, runs, 4)).cumsum(axis=2)
        values = np.exp(_normal_quantile(spacings[:, :, :3] / spacings[:, :, 3:]))
        covered = narrow = 0
        for (low, point, high), (other_low, other_point, other_high) in zip(*values.tolist(), strict=True):
            arms = QuantileArm(n, n, q, point, low, high), QuantileArm(n, n, q, other_point, other_low, other_high)
            effect = compare_quantiles(*arms, ALPHA)
            covered += covers(effect.absolute_interval, 0.0)
            narrow += effect.standard_error is not None and abs(point - other_point) <= effect.standard_error
        yield Row(exactly("C13", f"quantile {q}: covered", covered, runs, 1 - ALPHA))
        yield Row(exactly("C13", f"quantile {q}, half as wide: covered", narrow, runs, 1 - ALPHA), control=True)


def _normal_quantile(p: Array) -> Array:
    return np.asarray(ndtri(p))


def c15(size: Size) -> Iterator[Row]:
    """Credible intervals, when effects come from the prior; and what a flat prior makes of watching."""
    runs, prior, error = size.runs(5_000), 0.05, 0.03
    rng = np.random.default_rng(15)
    effects = rng.normal(0.0, prior, runs)
    seen = effects + rng.normal(0.0, error, runs)
    posteriors = [flat_prior(d, error, prior_sd=prior) for d in seen.tolist()]
    covered = sum(covers(credible_interval(p, ALPHA), e) for p, e in zip(posteriors, effects.tolist(), strict=True))
    yield Row(exactly("C15", "normal prior, credible interval: covered", covered, runs, 1 - ALPHA))
    narrow = [flat_prior(d, error, prior_sd=prior / 3) for d in seen.tolist()]
    covered = sum(covers(credible_interval(p, ALPHA), e) for p, e in zip(narrow, effects.tolist(), strict=True))
    yield Row(exactly("C15", "a prior three times too narrow: covered", covered, runs, 1 - ALPHA), control=True)
    beta = Beta(5.0, 95.0)
    shares = rng.beta(beta.a, beta.b, runs)
    counts = rng.binomial(400, shares).tolist()
    intervals = {count: beta_interval(beta_posterior(400, count, beta), ALPHA) for count in set(counts)}
    covered = sum(covers(intervals[count], share) for count, share in zip(counts, shares.tolist(), strict=True))
    yield Row(exactly("C15", "Beta prior, credible interval: covered", covered, runs, 1 - ALPHA))
    yield from _watched_by_chance(rng, runs, prior)


def _watched_by_chance(rng: np.random.Generator, runs: int, prior: float) -> Iterator[Row]:
    """Stopped on the first of 28 days on which the chance to beat control is above 95 % or below 5 %."""
    days = np.arange(1, 29)
    noise = rng.normal(0.0, 0.2, (runs, 28)).cumsum(axis=1) / days
    errors = (0.2 / np.sqrt(days)).tolist()
    winners = sum(any(_decided(d, e, None) for d, e in zip(run, errors, strict=True)) for run in noise.tolist())
    yield Row(
        within("C15", "flat prior, stopped at a chance of 95 %: a winner", winners, runs, 0.09, 0.11), control=True
    )
    effects = rng.normal(0.0, prior, runs)
    for name, believed, control in (("the prior", prior, False), ("a flat prior", None, True)):
        covered = 0
        for run, effect in zip((noise + effects[:, None]).tolist(), effects.tolist(), strict=True):
            day = next((day for day in range(28) if _decided(run[day], errors[day], believed)), 27)
            posterior = flat_prior(run[day], errors[day], prior_sd=believed)
            covered += covers(credible_interval(posterior, ALPHA), effect)
        check = exactly("C15", f"stopped by {name}, credible interval: covered", covered, runs, 1 - ALPHA)
        yield Row(check, control=control)


def _decided(difference: float, error: float, prior: float | None) -> bool:
    chance = flat_prior(difference, error, prior_sd=prior).chance_to_beat_control
    return not 0.05 <= chance <= 0.95
