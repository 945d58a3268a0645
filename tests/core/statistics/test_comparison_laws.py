"""Laws every comparison obeys: mirror, scale, and one verdict from p-value and both intervals."""

import math
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from upshot.statistics.comparison import Effect, compare_means, compare_proportions
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments
from upshot.statistics.score import score_difference_interval, score_ratio_interval
from upshot.statistics.strata import compare_strata
from upshot.statistics.tails import normal_critical_value

Counts = tuple[int, int]

levels = st.sampled_from([0.01, 0.05, 0.1, 0.3])
means = st.builds(
    lambda n, mean, deviation: Moments(n, mean, deviation * deviation * (n - 1)),
    st.integers(2, 10_000),
    st.floats(-100, 100).map(lambda mean: round(mean, 3)),
    st.floats(0.01, 100),
)


@st.composite
def counts(draw: st.DrawFn, most: int = 5_000) -> Counts:
    """Users and successes of one arm, with every edge from none to all."""
    n = draw(st.integers(1, most))
    return n, draw(st.one_of(st.integers(0, n), st.integers(0, min(n, 5)), st.just(n)))


def excludes_zero(interval: Interval | None) -> bool:
    """Whether 0 lies outside."""
    assert interval is not None
    above = interval.lower is not None and interval.lower > 0
    return above or (interval.upper is not None and interval.upper < 0)


def mirrored(interval: Interval | None) -> Interval | None:
    """The interval of the opposite difference."""
    if interval is None or interval.lower is None or interval.upper is None:
        return None
    return Interval(-interval.upper, -interval.lower)


def assert_one_verdict(effect: Effect, alpha: float) -> None:
    """The p-value, the difference's interval and the lift's interval agree on significance."""
    assert effect.p_value is not None
    assume(abs(effect.p_value - alpha) > 1e-12)
    significant = effect.p_value < alpha
    assert excludes_zero(effect.absolute_interval) == significant
    if effect.relative_interval is not None:
        assert excludes_zero(effect.relative_interval) == significant


def proportions(control: Counts, treatment: Counts, alpha: float) -> Effect:
    """The comparison of two arms given as counts."""
    return compare_proportions(Moments.binomial(*control), Moments.binomial(*treatment), alpha)


@given(counts(), counts(), levels)
@example((16, 1), (7, 3), 0.05)
def test_proportions_give_one_verdict(control: Counts, treatment: Counts, alpha: float) -> None:
    """Intervals of difference and lift leave out 0 exactly when p < alpha, at every count."""
    effect = proportions(control, treatment, alpha)
    assume(effect.status == "ok")
    assert_one_verdict(effect, alpha)


def test_the_correction_for_small_samples_never_contradicts_the_p_value() -> None:
    """Where the factor N/(N-1) alone would swallow 0, the intervals side with the p-value."""
    critical, contradictions = normal_critical_value(0.05), 0
    for n in (6, 8, 9):
        for x0, x1 in product(range(n + 1), repeat=2):
            effect = proportions((n, x0), (n, x1), 0.05)
            if effect.statistic is None or effect.p_value is None:
                continue
            contradictions += critical < abs(effect.statistic) <= critical * math.sqrt(2 * n / (2 * n - 1))
            assert excludes_zero(effect.absolute_interval) == (effect.p_value < 0.05)
            if effect.relative_interval is not None:
                assert excludes_zero(effect.relative_interval) == (effect.p_value < 0.05)
    assert contradictions > 0, "no count reaches the contradiction, so this test would prove nothing"


def test_a_wald_interval_breaks_the_one_verdict() -> None:
    """The law can fail: the unpooled interval of these counts leaves out 0 although p > alpha."""
    effect = proportions((1000, 3), (9000, 79), 0.05)
    assert effect.p_value is not None
    assert effect.p_value > 0.05
    p0, p1 = 3 / 1000, 79 / 9000
    reach = normal_critical_value(0.05) * math.sqrt(p0 * (1 - p0) / 1000 + p1 * (1 - p1) / 9000)
    assert excludes_zero(Interval(p1 - p0 - reach, p1 - p0 + reach))


@given(means, means, levels)
def test_means_give_one_verdict(control: Moments, treatment: Moments, alpha: float) -> None:
    """Welch's interval and Fieller's interval leave out 0 exactly when p < alpha."""
    effect = compare_means(control, treatment, alpha)
    assume(effect.status == "ok")
    assert_one_verdict(effect, alpha)


def test_a_delta_method_lift_breaks_the_one_verdict() -> None:
    """The law can fail: with a noisy baseline the delta interval keeps 0 although p < alpha."""
    control, treatment = Moments(200, 1.0, 199 * 4.0), Moments(200, 1.45, 199 * 6.0)
    effect = compare_means(control, treatment, 0.05)
    assert effect.p_value is not None
    assert effect.p_value < 0.05
    assert excludes_zero(effect.relative_interval)
    reach = 1.9665 * math.sqrt(6.0 / 200 + 4.0 / 200 * 1.45**2)
    assert not excludes_zero(Interval(0.45 - reach, 0.45 + reach))


@given(counts(), counts(), levels)
def test_swapping_proportions_flips_the_sign_only(left: Counts, right: Counts, alpha: float) -> None:
    """With the arms swapped the difference and z change sign, p stays, the interval is mirrored."""
    effect, swapped = proportions(left, right, alpha), proportions(right, left, alpha)
    assume(effect.status == "ok")
    assert swapped.p_value == effect.p_value
    assert swapped.statistic == -(effect.statistic or 0.0)
    assert swapped.absolute_interval == mirrored(effect.absolute_interval)


@given(means, means, levels)
def test_swapping_means_flips_the_sign_only(left: Moments, right: Moments, alpha: float) -> None:
    """With the arms swapped the difference and t change sign and p stays."""
    effect, swapped = compare_means(left, right, alpha), compare_means(right, left, alpha)
    assert effect.statistic is not None
    assert swapped.statistic == -effect.statistic
    assert swapped.p_value == pytest.approx(effect.p_value, rel=1e-9, abs=1e-300)


@given(means, means, st.floats(1e-3, 1e3), st.booleans())
def test_the_unit_does_not_matter(control: Moments, treatment: Moments, unit: float, strata: bool) -> None:  # noqa: FBT001
    """Values in another unit give the same statistic, p-value and lift, and a scaled difference."""

    def scaled(moments: Moments) -> Moments:
        return Moments(moments.n, moments.mean * unit, moments.m2 * unit * unit)

    def compare(one: Moments, other: Moments) -> Effect:
        return compare_strata([(one, other)], 0.05) if strata else compare_means(one, other, 0.05)

    plain, other = compare(control, treatment), compare(scaled(control), scaled(treatment))
    assert plain.statistic is not None
    assert plain.absolute_difference is not None
    noise = 1e-9 * (1 + abs(plain.statistic) / max(abs(plain.absolute_difference), 1e-6))
    assert other.statistic == pytest.approx(plain.statistic, rel=1e-6, abs=noise)
    assert other.absolute_difference == pytest.approx(plain.absolute_difference * unit, rel=1e-6, abs=1e-9)
    if plain.lift_status == other.lift_status == "ok":
        assert other.relative_lift == pytest.approx(plain.relative_lift, rel=1e-6, abs=1e-9)


def test_a_negative_baseline_keeps_the_direction() -> None:
    """A rise over a negative control mean is a positive lift, with an interval that contains it."""
    effect = compare_means(Moments(500, -10.0, 499 * 4.0), Moments(500, -9.0, 499 * 4.0), 0.05)
    assert effect.relative_lift == pytest.approx(0.1)
    assert effect.relative_interval is not None
    assert effect.relative_interval.lower is not None
    assert effect.relative_interval.upper is not None
    assert 0 < effect.relative_interval.lower < 0.1 < effect.relative_interval.upper


@given(counts(400), counts(400), st.floats(0.5, 20))
@example((201, 201), (324, 2), 9.0)
def test_a_difference_bound_is_where_the_score_test_turns(control: Counts, treatment: Counts, threshold: float) -> None:
    """Each bound within (-1, 1) has the squared score statistic ``threshold``, by an independent search."""
    interval = score_difference_interval(control, treatment, threshold)
    estimate = treatment[1] / treatment[0] - control[1] / control[0]
    assert interval.lower is not None
    assert interval.upper is not None
    assert -1 <= interval.lower <= estimate + 1e-12
    assert estimate - 1e-12 <= interval.upper <= 1
    for bound in (interval.lower, interval.upper):
        if abs(bound) < 1 - 1e-9 and abs(bound - estimate) > 1e-9:
            assert squared_score(control, treatment, bound) == pytest.approx(threshold, rel=1e-5)
            assert squared_score(control, treatment, 0.9 * bound + 0.1 * estimate) < threshold


@given(counts(400), counts(400), st.floats(0.5, 20))
def test_a_ratio_bound_is_where_the_score_test_turns(control: Counts, treatment: Counts, threshold: float) -> None:
    """Each finite positive bound has the squared score statistic ``threshold`` by the published quadratic."""
    interval = score_ratio_interval(control, treatment, threshold)
    assert (interval.upper is None) == (control[1] == 0)
    assert (interval.lower == 0) == (treatment[1] == 0)
    for bound in (interval.lower, interval.upper):
        if bound:
            assert squared_ratio_score(control, treatment, bound) == pytest.approx(threshold, rel=1e-5)


def squared_score(control: Counts, treatment: Counts, difference: float) -> float:
    """The squared score statistic of a difference, its restricted estimate by bisection of the score."""
    (n0, x0), (n1, x1) = control, treatment

    def slope(p0: float) -> float:
        p1 = p0 + difference
        gain = (x0 / p0 if x0 else 0.0) + (x1 / p1 if x1 else 0.0)
        return gain - ((n0 - x0) / (1 - p0) if n0 > x0 else 0.0) - ((n1 - x1) / (1 - p1) if n1 > x1 else 0.0)

    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    p0, p1 = low, low + difference
    distance = x1 / n1 - x0 / n0 - difference
    return distance**2 / (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)


def squared_ratio_score(control: Counts, treatment: Counts, ratio: float) -> float:
    """The squared score statistic of a ratio, its restricted estimate from the published quadratic."""
    (n0, x0), (n1, x1) = control, treatment
    a, b, c = (n0 + n1) * ratio, -(n1 * ratio + x1 + n0 + x0 * ratio), x0 + x1
    p0 = 2 * c / (-b + math.sqrt(max(b * b - 4 * a * c, 0.0)))
    p1 = p0 * ratio
    spread = p1 * (1 - p1) / n1 + ratio * ratio * p0 * (1 - p0) / n0
    return (x1 / n1 - ratio * x0 / n0) ** 2 / spread


@given(means, means)
def test_one_stratum_is_the_plain_comparison(control: Moments, treatment: Moments) -> None:
    """A single phase gives the same difference and error as the means alone."""
    plain, single = compare_means(control, treatment, 0.05), compare_strata([(control, treatment)], 0.05)
    assert single.absolute_difference == plain.absolute_difference
    assert single.standard_error == pytest.approx(plain.standard_error, rel=1e-12)
    assert single.degrees_of_freedom is None


def test_phases_with_other_allocations_are_not_pooled() -> None:
    """Two phases without any effect show none, where the pooled counts would invent one."""
    phases = [
        (Moments.binomial(9000, 900), Moments.binomial(1000, 100)),
        (Moments.binomial(1000, 300), Moments.binomial(1000, 300)),
    ]
    assert compare_strata(phases, 0.05).absolute_difference == pytest.approx(0.0, abs=1e-12)
    pooled = compare_proportions(phases[0][0] + phases[1][0], phases[0][1] + phases[1][1], 0.05)
    assert pooled.p_value is not None
    assert pooled.p_value < 1e-6
