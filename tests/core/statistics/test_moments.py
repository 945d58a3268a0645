"""Laws of sufficient statistics: merging, padding, and what they refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.statistics.moments import Moments

values = st.lists(st.floats(-1e6, 1e6), max_size=30)


def assert_same(left: Moments, right: Moments, scale: float = 1e6) -> None:
    """Equal up to the rounding of sums of values up to ``scale``."""
    assert left.n == right.n
    assert left.mean == pytest.approx(right.mean, rel=1e-9, abs=1e-9 * scale)
    assert left.m2 == pytest.approx(right.m2, rel=1e-9, abs=1e-9 * scale * scale)


@given(values, values)
def test_merging_is_concatenation(left: list[float], right: list[float]) -> None:
    """The sum of two samples' moments is the moments of the samples laid end to end."""
    assert_same(Moments.of(left) + Moments.of(right), Moments.of(left + right))


def test_a_merge_that_forgets_the_shift_is_caught() -> None:
    """Adding squared deviations without the distance of the means is not concatenation."""
    left, right = Moments.of([1.0, 2.0]), Moments.of([5.0, 6.0])
    broken = Moments(4, (left + right).mean, left.m2 + right.m2)
    with pytest.raises(AssertionError):
        assert_same(broken, Moments.of([1.0, 2.0, 5.0, 6.0]), scale=1.0)


@given(values, values, values)
def test_merging_is_associative_and_commutative(a: list[float], b: list[float], c: list[float]) -> None:
    """Neither grouping nor order of the parts changes a merge beyond rounding."""
    x, y, z = Moments.of(a), Moments.of(b), Moments.of(c)
    assert_same((x + y) + z, x + (y + z))
    assert_same(x + y, y + x)


@given(values)
def test_the_empty_sample_changes_nothing(sample: list[float]) -> None:
    """Merging with the empty sample on either side returns the very same moments."""
    moments = Moments.of(sample)
    assert moments + Moments() == Moments() + moments == moments


@given(values, st.integers(0, 50))
def test_padding_is_adding_users_with_zero(sample: list[float], missing: int) -> None:
    """Users without an event count as zero, exactly as if zeros stood in the sample."""
    n = len(sample) + missing
    assert_same(Moments.of(sample).padded(n), Moments.of([*sample, *[0.0] * missing]))


def test_padding_below_the_counted_users_is_refused() -> None:
    """A denominator smaller than the users with events is a fault, not a number."""
    with pytest.raises(ValueError, match="cannot pad 2 users down to 1"):
        Moments.of([1.0, 2.0]).padded(1)


@given(st.integers(0, 60), st.data())
def test_binomial_moments_are_those_of_ones_and_zeros(n: int, data: st.DataObject) -> None:
    """Counts give the moments of the 0/1 sample they stand for."""
    successes = data.draw(st.integers(0, n))
    ones = [1.0] * successes + [0.0] * (n - successes)
    assert_same(Moments.binomial(n, successes), Moments.of(ones), scale=1e-3)


@pytest.mark.parametrize(("n", "successes"), [(3, 4), (3, -1), (-1, 0)])
def test_impossible_counts_are_refused(n: int, successes: int) -> None:
    """More successes than users, or negative counts, raise."""
    with pytest.raises(ValueError, match="successes among"):
        Moments.binomial(n, successes)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    """One value that is no number would silently void every sum it enters."""
    with pytest.raises(ValueError, match="finite"):
        Moments.of([1.0, bad])


def test_a_variance_needs_two_users() -> None:
    """No user and one user have no variance; two have."""
    assert Moments().variance is None
    assert Moments.of([3.0]).variance is None
    assert Moments.of([3.0, 5.0]).variance == 2.0


def test_the_total_is_the_sum() -> None:
    """The total is in the unit of the values and 0 for nobody."""
    assert Moments.of([3.0, 5.0]).total == 8.0
    assert Moments().total == 0.0
