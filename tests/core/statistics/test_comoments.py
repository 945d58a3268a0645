"""Laws of sufficient statistics of several quantities: merging, padding, combining, and what they refuse."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.statistics.comoments import Comoments
from upshot.statistics.moments import Moments

Rows = list[tuple[float, ...]]

numbers = st.floats(-1e3, 1e3)
rows = st.lists(st.tuples(numbers, numbers, numbers), max_size=20)
weights = st.tuples(*[st.floats(-10, 10)] * 3)


def assert_same(left: Comoments, right: Comoments, scale: float = 1e3) -> None:
    """Equal up to the rounding of sums of values up to ``scale``."""
    assert left.n == right.n
    assert left.means == pytest.approx(right.means, rel=1e-9, abs=1e-9 * scale)
    for ours, theirs in zip(left.m2, right.m2, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * scale * scale)


def assert_same_moments(left: Moments, right: Moments, scale: float = 1e5) -> None:
    """Equal up to the rounding of sums of values up to ``scale``."""
    assert left.n == right.n
    assert left.mean == pytest.approx(right.mean, rel=1e-9, abs=1e-9 * scale)
    assert left.m2 == pytest.approx(right.m2, rel=1e-9, abs=1e-9 * scale * scale)


def of(sample: Rows) -> Comoments:
    """Comoments of rows of three quantities, also of no row."""
    return Comoments.of(sample) + Comoments.empty(3)


@given(rows, rows)
def test_merging_is_concatenation(left: Rows, right: Rows) -> None:
    """The sum of two samples' comoments is the comoments of the samples laid end to end."""
    assert_same(of(left) + of(right), of(left + right))


def test_a_merge_that_forgets_the_shift_is_caught() -> None:
    """Adding products of deviations without the distance of the means is not concatenation."""
    left, right = Comoments.of([(1.0, 2.0), (2.0, 5.0)]), Comoments.of([(5.0, 3.0), (6.0, 8.0)])
    merged = left + right
    products = tuple(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(left.m2, right.m2, strict=True))
    with pytest.raises(AssertionError):
        assert_same(Comoments(4, merged.means, products), Comoments.of([(1, 2), (2, 5), (5, 3), (6, 8)]), scale=1.0)


@given(rows, rows, rows)
def test_merging_is_associative_and_commutative(a: Rows, b: Rows, c: Rows) -> None:
    """Neither grouping nor order of the parts changes a merge beyond rounding."""
    x, y, z = of(a), of(b), of(c)
    assert_same((x + y) + z, x + (y + z))
    assert_same(x + y, y + x)


@given(rows)
def test_the_empty_sample_changes_nothing(sample: Rows) -> None:
    """Merging with the empty sample of any dimension on either side returns the very same comoments."""
    comoments = of(sample)
    assert comoments + Comoments() == Comoments() + comoments == comoments
    if sample:
        assert comoments + Comoments.empty(5) == Comoments.empty(5) + comoments == comoments


@given(rows, st.integers(0, 50))
def test_padding_is_adding_users_with_zeros(sample: Rows, missing: int) -> None:
    """Users without an event count as zero in every quantity, exactly as if zeros stood in the sample."""
    n = len(sample) + missing
    assert_same(of(sample).padded(n), of([*sample, *[(0.0, 0.0, 0.0)] * missing]))


def test_padding_needs_a_dimension_and_no_fewer_users() -> None:
    """A denominator below the users with events is a fault; so is padding nobody knows with how many zeros."""
    with pytest.raises(ValueError, match="cannot pad 2 users down to 1"):
        Comoments.of([(1.0, 2.0), (3.0, 4.0)]).padded(1)
    with pytest.raises(ValueError, match="1 to 8 quantities"):
        Comoments().padded(3)
    assert Comoments.empty(2).padded(3) == Comoments(3, (0.0, 0.0), ((0.0, 0.0), (0.0, 0.0)))


@given(rows)
def test_each_quantity_alone_has_its_moments(sample: Rows) -> None:
    """The marginals are the moments of the columns, and the covariance of a quantity with itself their variance."""
    comoments = of(sample)
    for place in range(3):
        alone = comoments.marginal(place)
        assert_same_moments(alone, Moments.of([row[place] for row in sample]))
        assert comoments.covariance(place, place) == alone.variance


def test_a_covariance_has_one_degree_of_freedom_less_than_users() -> None:
    """Three users: the products of deviations 2 + 0 + 1 over 2; over 3 they would be another number."""
    comoments = Comoments.of([(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)])
    assert comoments.covariance(0, 1) == comoments.covariance(1, 0) == pytest.approx(0.5)
    assert comoments.m2[0][1] / comoments.n != pytest.approx(0.5)
    assert Comoments.of([(1.0, 1.0)]).covariance(0, 1) is None
    assert Comoments().marginal(0) == Moments()


@given(rows, weights, numbers)
def test_a_linear_combination_is_that_of_every_user(sample: Rows, weight: Sequence[float], offset: float) -> None:
    """The moments of a combination equal those of the combined values; nobody has none."""
    values = [offset + math.fsum(w * value for w, value in zip(weight, row, strict=True)) for row in sample]
    combination = of(sample).linear(weight, offset)
    assert combination.m2 >= 0
    assert_same_moments(combination, Moments.of(values))


def test_a_combination_without_the_covariances_is_caught() -> None:
    """x - y of equal columns does not vary; the variances alone would give 2."""
    twins = Comoments.of([(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)])
    assert twins.linear((1.0, -1.0), 7.0) == Moments(3, 7.0, 0.0)
    assert twins.m2[0][0] + twins.m2[1][1] != pytest.approx(0.0)


def test_the_rounding_of_a_constant_combination_is_no_variance() -> None:
    """10x - y is 0 for every user; summed in parts, only rounding is left of its squared deviations."""
    merged = Comoments()
    for place in range(1000):
        merged += Comoments.of([(0.1 * place, 1.0 * place), (0.7 * place, 7.0 * place)])
    assert merged.linear((10.0, -1.0)).m2 == 0.0
    assert merged.linear((10.0, -1.001)).m2 > 0.0


def test_a_variance_beside_large_means_survives() -> None:
    """Covariances near 1 beside means of 1e9 keep their digits; raw sums of products lose them."""
    sample = [(1e9 + place % 2, 1e9 - place % 2) for place in range(1000)]
    comoments = Comoments.of(sample)
    assert comoments.m2 == ((250.0, -250.0), (-250.0, 250.0))
    raw = sum(a * b for a, b in sample) - sum(a for a, _ in sample) * sum(b for _, b in sample) / 1000
    assert raw != pytest.approx(-250.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    """One value that is no number would silently void every sum it enters."""
    with pytest.raises(ValueError, match="finite"):
        Comoments.of([(1.0, 2.0), (1.0, bad)])


def test_shapes_that_disagree_are_refused() -> None:
    """Rows, matrices, merges and weights of another length than the means raise."""
    pair = Comoments.of([(1.0, 2.0), (3.0, 4.0)])
    for call in (
        lambda: Comoments.of([(1.0,), (1.0, 2.0)]),
        lambda: Comoments(1, (1.0,), ()),
        lambda: Comoments(1, (1.0, 1.0), ((0.0, 0.0), (0.0,))),
        lambda: pair + Comoments.of([(1.0,)]),
        lambda: pair.linear((1.0,)),
        lambda: Comoments.empty(9),
    ):
        with pytest.raises(ValueError, match=r"quantities|matrix"):
            call()
