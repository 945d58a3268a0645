"""Quantiles: the frozen oracle numbers, the ranks, the laws, coverage, and broken variants that must be caught."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import bdtr

from upshot.statistics.comoments import Comoments
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments
from upshot.statistics.quantile import (
    QuantileArm,
    clustering_factor,
    compare_quantiles,
    interpolate,
    order_statistic_ranks,
    ranks,
    type7_ranks,
)
from upshot.statistics.tails import normal_critical_value, normal_p_value

Case = dict[str, Any]

COVERED = {
    "test_a_quantile_comparison_equals_the_oracle": ("quantile",),
    "test_order_statistic_ranks_equal_the_oracle": ("quantile_order_statistics",),
    "test_a_cap_equals_the_oracle": ("winsorize_upper",),
}

levels = st.floats(0.01, 0.99)
deviations = st.floats(0.01, 50)


def close(expected: float | list[float]) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def bounds(interval: Interval | None) -> list[float]:
    """Both bounds as a list."""
    assert interval is not None
    assert interval.lower is not None
    assert interval.upper is not None
    return [interval.lower, interval.upper]


def arm(values: dict[str, Any]) -> QuantileArm:
    """An arm of one value per user, as the oracle gives it."""
    triple = (values["quantile_hat"], values["quantile_lower"], values["quantile_upper"])
    return QuantileArm(values["n"], values["n_star"], values["nu"], *triple)


def test_a_quantile_comparison_equals_the_oracle(case: Case) -> None:
    """Variance, difference, error, p, interval and lift equal the oracle.

    Its variance is that of one unit, ours that of the estimate. Its interval of the lift is the delta method's, ours
    Fieller's. Its p-value, 1 - a distribution function, has the absolute rounding of 1. Without the factor (n-1)/n,
    or by a normal test, the numbers are others in the fourth digit.
    """
    control, treatment = arm(case["inputs"]["control"]), arm(case["inputs"]["treatment"])
    expected, alpha = case["expected"], case["params"]["alpha"]
    effect = compare_quantiles(control, treatment, alpha)
    assert (effect.status, effect.method) == ("ok", "quantile_welch_t")
    assert control.variance * control.values == close(expected["var_control_unit"])
    assert effect.absolute_difference == close(expected["diff"])
    assert effect.standard_error == close(expected["se"])
    p_value = pytest.approx(expected["p_value"], rel=0, abs=2.0**-52)
    assert effect.p_value == p_value
    assert bounds(effect.absolute_interval) == close(expected["ci"])
    assert effect.relative_lift == close(expected["lift"])
    assert bounds(effect.relative_interval) == pytest.approx(expected["ci_lift"], rel=0.05)
    assert bounds(effect.relative_interval) != close(expected["ci_lift"])
    z = normal_critical_value(0.05)
    assert ((control.upper - control.lower) / (2 * z)) ** 2 * control.values != close(expected["var_control_unit"])
    assert normal_p_value(effect.statistic or 0.0) != p_value


def test_the_ranks_are_those_of_the_formula() -> None:
    """At 10 000 values the 90th percentile has rank 9000 and its bounds lie 1.96 sqrt(900) = 58.8 ranks away."""
    assert ranks(10_000, 0.9) == (8942, 9000, 9059)
    assert ranks(10_000, 0.9, 0.01) == (8923, 9000, 9078)
    assert ranks(10_000, 0.9) != (math.ceil(9000 - 1.96 * 10_000 * 0.03), 9000, math.ceil(9000 + 1.96 * 300))


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_whole_rank_is_not_rounded_up(percent: int) -> None:
    """A rank n q that is whole in decimals is that rank, though 100 x 0.07 is 7.000000000000001 in doubles."""
    for hundreds in (1, 3, 10):
        found = ranks(100 * hundreds, percent / 100)
        assert found is None or found[1] == percent * hundreds
    assert math.ceil(100 * 0.07) == 8


@given(st.integers(0, 3000), levels, st.sampled_from([0.001, 0.05, 0.3]))
def test_ranks_lie_within_the_values(n: int, q: float, alpha: float) -> None:
    """The ranks are ordered, exist among n values, and are given exactly above the least size."""
    found = ranks(n, q, alpha)
    z = normal_critical_value(alpha)
    least = max(4.0, z * z) * max(q / (1 - q), (1 - q) / q)
    assume(abs(n - least) > 1e-6)
    assert (found is not None) == (n > least)
    if found is not None:
        lower, point, upper = found
        assert 1 <= lower <= point <= upper <= n
        assert point - 1 < n * q + 1e-9
        assert n * q - 1e-9 < point + 1


def test_the_least_size_is_not_upside_down() -> None:
    """A 99th percentile needs 4 x 99 = 396 values and one more; the fraction printed in a manual would need one."""
    assert (ranks(396, 0.99), ranks(397, 0.99)) == (None, (390, 394, 397))
    assert (ranks(396, 0.01), ranks(397, 0.01)) == (None, (1, 4, 8))
    assert (ranks(0, 0.5), ranks(4, 0.5)) == (None, None)
    assert ranks(5, 0.5) == (1, 3, 5)


def test_order_statistic_ranks_equal_the_oracle(case: Case) -> None:
    """The binomial ranks equal the oracle, the upper one above the binomial quantile; the normal ranks do not."""
    n, q = case["inputs"]["n"], case["inputs"]["q"]
    expected, alpha = case["expected"], case["params"]["alpha"]
    oracle = (expected["rank_low"], expected["rank_high_minus_1"] + 1)
    assert order_statistic_ranks(n, q, alpha) == oracle
    normal = ranks(n, q, alpha)
    assert normal is not None
    assert (normal[0], normal[2]) != oracle


@given(st.integers(0, 400), levels, st.sampled_from([0.01, 0.05, 0.3]))
def test_order_statistics_enclose_the_quantile_as_often_as_promised(n: int, q: float, alpha: float) -> None:
    """Each side errs with at most alpha/2 by the binomial tails, and the next rank inwards would err more often."""
    found = order_statistic_ranks(n, q, alpha)
    if found is None:
        assert (1 - q) ** n > alpha / 2 - 1e-12 or q**n > alpha / 2 - 1e-12
        return
    lower, upper = found
    assert bdtr(lower - 1, n, q) <= alpha / 2 + 1e-12
    assert bdtr(n - upper, n, 1 - q) <= alpha / 2 + 1e-12
    assert bdtr(lower, n, q) >= alpha / 2 - 1e-12
    assert bdtr(n - upper + 1, n, 1 - q) >= alpha / 2 - 1e-12


def cap_of(values: list[float], percent: float) -> float:
    """The percentile that the two ranks give."""
    found = type7_ranks(len(values), percent)
    assert found is not None
    lower, upper, fraction = found
    return interpolate(values[lower - 1], values[upper - 1], fraction)


def test_a_cap_equals_the_oracle(case: Case) -> None:
    """The cap over all values, or over those that are not zero, and the moments under it equal the oracle."""
    values, params, expected = case["inputs"]["values"], case["params"], case["expected"]
    kept = [value for value in values if value or not params.get("ignore_zeros")]
    cap = cap_of(sorted(kept), params["percentile"])
    assert cap == close(expected["cap"])
    nearest = sorted(kept)[math.ceil(len(kept) * params["percentile"] / 100) - 1]
    assert nearest != close(expected["cap"])
    if "sum" in expected:
        capped = Moments.of([min(value, cap) for value in values])
        assert capped.total == close(expected["sum"])
        assert capped.mean == close(expected["mean"])
        assert capped.variance == close(expected["var"])
        assert capped.m2 / capped.n != close(expected["var"])
        assert capped.m2 + capped.n * capped.mean**2 == close(expected["sum_squares"])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0, 100))
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    """Ranks and interpolation together are NumPy's default percentile, and never beyond the two values."""
    ordered = sorted(values)
    found = type7_ranks(len(values), percent)
    assert found is not None
    lower, upper, fraction = found
    assert 1 <= lower <= upper <= len(values)
    assert 0 <= fraction <= 1
    cap = cap_of(ordered, percent)
    assert ordered[lower - 1] <= cap <= ordered[upper - 1]
    assert cap == pytest.approx(float(np.percentile(values, percent)), rel=1e-9, abs=1e-6)


def test_interpolation_never_passes_the_upper_value() -> None:
    """-1 + 1 · (1.2e-16 + 1) is 2.2e-16 in doubles; a cap above the largest value would cap nothing."""
    assert interpolate(-1.0, 1.2e-16, 1.0) == 1.2e-16
    assert -1.0 + (1.2e-16 + 1.0) > 1.2e-16


def test_impossible_levels_are_refused() -> None:
    """No values have no percentile; levels outside their range raise."""
    assert type7_ranks(0, 50) is None
    assert type7_ranks(1, 50) == (1, 1, 0.0)
    for call in (
        lambda: type7_ranks(5, 100.1),
        lambda: type7_ranks(-1, 50),
        lambda: ranks(5, 1.0),
        lambda: ranks(-1, 0.5),
        lambda: ranks(5, 0.5, 0.0),
        lambda: order_statistic_ranks(5, 0.0, 0.05),
        lambda: order_statistic_ranks(5, 0.5, 1.0),
        lambda: clustering_factor(Comoments.empty(2), math.nan),
        lambda: compare_quantiles(None, None, 0.0),
    ):
        with pytest.raises(ValueError, match=r"level|percentile"):
            call()


def made(estimate: float, below: float, above: float, *, users: int = 1000, clustering: float = 1.0) -> QuantileArm:
    """A 90th percentile of 5000 values whose order statistics lie so far below and above."""
    return QuantileArm(5_000, users, 0.9, estimate, estimate - below, estimate + above, clustering)


arms = st.builds(made, st.floats(1, 1e3), deviations, deviations, users=st.integers(2, 5_000))


@given(arms, arms, st.sampled_from([0.01, 0.05, 0.3]))
def test_p_value_and_intervals_give_one_verdict(control: QuantileArm, treatment: QuantileArm, alpha: float) -> None:
    """The intervals of difference and lift leave out 0 exactly when p < alpha; swapped arms flip the sign only."""
    effect, swapped = compare_quantiles(control, treatment, alpha), compare_quantiles(treatment, control, alpha)
    assert effect.p_value is not None
    assert swapped.statistic == -(effect.statistic or 0.0)
    assert swapped.p_value == pytest.approx(effect.p_value, rel=1e-9, abs=1e-300)
    assume(abs(effect.p_value - alpha) > 1e-9)
    for interval in (effect.absolute_interval, effect.relative_interval):
        if interval is not None:
            lower, upper = bounds(interval)
            assert (lower > 0 or upper < 0) == (effect.p_value < alpha)


@given(arms, arms, st.floats(0.01, 100))
def test_the_unit_does_not_matter(control: QuantileArm, treatment: QuantileArm, unit: float) -> None:
    """Milliseconds give the statistic, p-value and lift of seconds."""

    def scaled(one: QuantileArm) -> QuantileArm:
        triple = (one.estimate * unit, one.lower * unit, one.upper * unit)
        return QuantileArm(one.values, one.users, one.level, *triple)

    plain, other = (
        compare_quantiles(control, treatment, 0.05),
        compare_quantiles(scaled(control), scaled(treatment), 0.05),
    )
    assert other.statistic == pytest.approx(plain.statistic, rel=1e-6, abs=1e-9)
    assert other.p_value == pytest.approx(plain.p_value, rel=1e-6, abs=1e-12)
    if plain.lift_status == other.lift_status == "ok":
        assert other.relative_lift == pytest.approx(plain.relative_lift, rel=1e-6, abs=1e-9)


def test_arms_without_a_test_have_no_number() -> None:
    """Too few values, equal order statistics, a single user: a status and at most the difference."""
    full = made(50, 1, 2)
    for other in (None, QuantileArm(36, 36, 0.9, 55, 50, 60)):
        for effect in (compare_quantiles(full, other, 0.05), compare_quantiles(other, full, 0.05)):
            assert (effect.status, effect.lift_status, effect.method) == ("too_few", "too_few", "quantile_welch_t")
            assert (effect.p_value, effect.absolute_interval, effect.standard_error) == (None, None, None)
            assert (effect.absolute_difference is None) == (other is None)
    alike = compare_quantiles(made(50, 0, 0), made(55, 0, 0), 0.05)
    assert (alike.status, alike.absolute_difference, alike.p_value) == ("zero_variance", 5.0, None)
    assert compare_quantiles(made(50, 0, 0), full, 0.05).status == "ok"
    assert compare_quantiles(full, made(50, 1, 1, users=1), 0.05).status == "one_user"
    with pytest.raises(ValueError, match="do not compare"):
        compare_quantiles(full, QuantileArm(5_000, 1_000, 0.5, 1, 0, 2), 0.05)


def test_one_value_per_user_is_no_clustering() -> None:
    """With one value per user the factor is that of a share with n - 1; with copies it is the number of copies."""
    n, q = 1000, 0.9
    single = Comoments.of([(float(place < n * q), 1.0) for place in range(n)])
    assert clustering_factor(single, q) == close(n / (n - 1))
    copies = Comoments.of([(4.0 * (place < n * q), 4.0) for place in range(n)])
    assert clustering_factor(copies, q) == close(4 * n / (n - 1))
    assert copies.marginal(0).m2 / (n - 1) / n / (q * (1 - q) / (4 * n)) != close(4 * n / (n - 1))
    four = made(50, 1, 2, clustering=4.0)
    assert four.variance == close(4 * made(50, 1, 2).variance)


def test_users_who_show_no_variance_show_no_clustering() -> None:
    """A single user, nobody, no values, or an estimate that nothing exceeds leave the factor at 1."""
    for counts in (
        Comoments.of([(9.0, 10.0)]),
        Comoments.empty(2),
        Comoments.of([(0.0, 0.0), (0.0, 0.0)]),
        Comoments.of([(3.0, 3.0), (5.0, 5.0)]),
    ):
        assert clustering_factor(counts, 0.9) == 1.0


# The exact binomial 99.9 % band of misses among 600 intervals at 95 %.
RUNS = 600
BAND = range(14, 50)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_intervals_of_a_quantile_difference_cover_the_truth(q: float) -> None:
    """Among 600 experiments of lognormal values the interval misses in about 5 %; half as wide it misses too often."""
    rng, misses, narrow = np.random.default_rng(13), 0, 0
    found = ranks(5_000, q)
    assert found is not None
    places = [rank - 1 for rank in found]
    for _ in range(RUNS):
        values = np.partition(rng.lognormal(size=(2, 5_000)), places, axis=1)[:, places].tolist()
        pair = [QuantileArm(5_000, 5_000, q, point, lower, upper) for lower, point, upper in values]
        effect = compare_quantiles(pair[0], pair[1], 0.05)
        assert effect.p_value is not None
        misses += effect.p_value <= 0.05
        narrow += abs(effect.statistic or 0.0) > 0.5 * normal_critical_value(0.05)
    assert misses in BAND
    assert narrow > BAND[-1]


def test_values_of_the_same_users_need_the_clustering() -> None:
    """Ten values per user that share the user's level: with the factor misses stay in the band, without they do not."""
    rng, misses, naive, users, each = np.random.default_rng(31), 0, 0, 200, 10
    found = ranks(users * each, 0.8)
    assert found is not None
    places = [rank - 1 for rank in found]
    for _ in range(RUNS):
        values = np.exp(rng.normal(size=(2, users, 1)) + 0.5 * rng.normal(size=(2, users, each)))
        pair = []
        for side in values:
            lower, point, upper = np.partition(side.ravel(), places)[places].tolist()
            below = (side <= point).sum(axis=1).tolist()
            counts = Comoments.of([(float(count), float(each)) for count in below])
            pair.append(QuantileArm(users * each, users, 0.8, point, lower, upper, clustering_factor(counts, 0.8)))
        effect = compare_quantiles(pair[0], pair[1], 0.05)
        assert effect.p_value is not None
        misses += effect.p_value <= 0.05
        factor = max(one.clustering for one in pair)
        naive += abs(effect.statistic or 0.0) * math.sqrt(factor) > normal_critical_value(0.05)
    assert misses in BAND
    assert naive > BAND[-1]
