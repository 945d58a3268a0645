"""Laws of third moments and skewness, and the users that a mean of skewed values wants."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upshot.statistics import Moments, ThirdMoments, users_for_skewness

Merge = Callable[[ThirdMoments, ThirdMoments], ThirdMoments]

SCALE = 1e3
samples = st.lists(st.floats(-SCALE, SCALE), max_size=25)
spread = st.lists(st.integers(-1_000, 1_000), min_size=3, max_size=25).filter(lambda values: len(set(values)) > 1)


def assert_same(left: ThirdMoments, right: ThirdMoments) -> None:
    """Equal up to the rounding of sums of values up to 1,000."""
    assert left.moments.n == right.moments.n
    assert left.moments.mean == pytest.approx(right.moments.mean, rel=1e-9, abs=1e-9 * SCALE)
    assert left.moments.m2 == pytest.approx(right.moments.m2, rel=1e-9, abs=1e-9 * SCALE**2)
    assert left.m3 == pytest.approx(right.m3, rel=1e-9, abs=1e-9 * SCALE**3)


def skewness(values: list[float]) -> float:
    """That of values which differ."""
    found = ThirdMoments.of(values).skewness
    assert found is not None
    return found


@given(samples, samples)
def test_merging_third_moments_is_concatenation(left: list[float], right: list[float]) -> None:
    """The third moments of two samples laid end to end are those of the whole, whichever comes first."""
    whole = ThirdMoments.of(left + right)

    assert_same(ThirdMoments.of(left) + ThirdMoments.of(right), whole)
    assert_same(ThirdMoments.of(right) + ThirdMoments.of(left), whole)


@given(samples, st.integers(0, 500), st.sampled_from([0.0, 2.5, -40.0]))
def test_silent_users_are_a_constant_sample(values: list[float], silent: int, value: float) -> None:
    """Users without events count with zero, or with what zero was cut off to, exactly as if that stood in the sample."""
    whole = ThirdMoments.of([*values, *[value] * silent])

    assert_same(ThirdMoments.of(values) + ThirdMoments(Moments(silent, value)), whole)


def without_the_squares(left: ThirdMoments, right: ThirdMoments) -> ThirdMoments:
    """A merge without what the squared deviations of one sample are worth at the mean of both."""
    n, shift = left.moments.n + right.moments.n, right.moments.mean - left.moments.mean
    share, rest = right.moments.n / n, left.moments.n / n
    return ThirdMoments(
        left.moments + right.moments, left.m3 + right.m3 + shift**3 * left.moments.n * share * (rest - share)
    )


def summed(left: ThirdMoments, right: ThirdMoments) -> ThirdMoments:
    """A merge that adds the cubes, as if both samples had one mean."""
    return ThirdMoments(left.moments + right.moments, left.m3 + right.m3)


@pytest.mark.parametrize("merge", [without_the_squares, summed])
def test_a_merge_that_forgets_a_term_is_caught(merge: Merge) -> None:
    """The comparison with the whole sample tells each from the right one."""
    left, right = [1.0, 2.0, 6.0], [10.0, 10.5, 30.0, 31.0]

    with pytest.raises(AssertionError):
        assert_same(merge(ThirdMoments.of(left), ThirdMoments.of(right)), ThirdMoments.of(left + right))


@given(spread, st.integers(-1_000, 1_000), st.sampled_from([1e-6, 0.5, 3.0, 1e6]))
def test_skewness_has_no_unit_and_no_origin(values: list[int], shift: int, scale: float) -> None:
    """Another unit or another zero leaves it as it is, and values turned around turn its sign."""
    found = skewness([float(value) for value in values])

    assert skewness([float(value + shift) for value in values]) == pytest.approx(found, rel=1e-8, abs=1e-8)
    assert skewness([value * scale for value in values]) == pytest.approx(found, rel=1e-8, abs=1e-8)
    assert skewness([-float(value) for value in values]) == pytest.approx(-found, rel=1e-8, abs=1e-8)


@given(spread)
def test_skewness_is_that_of_scipy(values: list[int]) -> None:
    """g₁ = (m3/n) / (m2/n)^1.5, without a correction for small samples."""
    assert skewness([float(value) for value in values]) == pytest.approx(stats.skew(values), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [7.0] * 10, [0.0] * 3])
def test_there_is_no_skewness_of_two_or_of_a_constant(values: list[float]) -> None:
    """Fewer than three users, or users who are all alike."""
    assert ThirdMoments.of(values).skewness is None


def test_what_rounding_left_of_a_constant_has_no_skewness() -> None:
    """A constant that was merged from parts keeps a little variance and a little of a third moment."""
    parts = [ThirdMoments(Moments(3, 0.1), 0.0), ThirdMoments(Moments(7, 0.1 + 2**-56), 1e-50)]

    assert (parts[0] + parts[1]).skewness is None
    assert ThirdMoments(Moments(10, 1e9, 10.0), 1e6).skewness is None


@pytest.mark.parametrize(("skew", "users"), [(0.0, 0), (1.0, 355), (-2.0, 1_420), (0.1, 4), (1.5, 799)])
def test_users_grow_with_the_square_of_the_skewness(skew: float, users: int) -> None:
    """355 g₁², whatever its sign, rounded up."""
    assert users_for_skewness(skew) == users


def off(users: int, skew: float) -> float:
    """By how much the chance that the mean of so many gamma values lies 1.96 standard errors below its expectation differs
    from 2.5 %: exactly, as the sum of gamma values is one."""
    shape = 4 / skew**2
    bound = users * (shape - stats.norm.ppf(0.975) * math.sqrt(shape / users))
    return abs(float(stats.gamma.cdf(bound, users * shape)) - 0.025)


@pytest.mark.parametrize("skew", [2.0, 10.0, 30.0])
def test_with_the_users_of_the_rule_a_side_errs_as_often_as_it_should(skew: float) -> None:
    """Within the quarter of a percent that the rule promises."""
    assert off(users_for_skewness(skew), skew) <= 0.0025


def test_a_rule_without_the_square_is_caught() -> None:
    """Its users are too few where values are very skewed."""
    assert off(math.ceil(355 * 10.0), 10.0) > 0.0025
