"""Differences between groups of users: the frozen oracle numbers, the laws, and variants that must be caught."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upshot.statistics.heterogeneity import Heterogeneity, Interaction, heterogeneity, interaction
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments
from upshot.statistics.tails import normal_critical_value, normal_p_value

Case = dict[str, Any]
Levels = list[tuple[float, float]]
Cells = dict[tuple[int, int], Moments]

COVERED = {"test_heterogeneity_equals_the_oracle": ("heterogeneity_by_dimension",)}
NOTHING = Heterogeneity(None, None, None, None, None, None, "too_few")

levels = st.lists(st.tuples(st.floats(-10, 10).map(lambda d: round(d, 3)), st.floats(0.01, 10)), min_size=2, max_size=8)
means = st.builds(
    lambda n, mean, deviation: Moments(n, mean, deviation * deviation * (n - 1)),
    st.integers(2, 10_000),
    st.floats(-100, 100).map(lambda mean: round(mean, 3)),
    st.floats(0.01, 100),
)
tables = st.fixed_dictionaries({(a, b): means for a in (0, 1) for b in (0, 1)})


def close(expected: float) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_heterogeneity_equals_the_oracle(case: Case) -> None:
    """Pooled effect, Q, p and I² equal the oracle; weights 1/se and k degrees of freedom do not."""
    effects, errors, expected = case["inputs"]["effects"], case["inputs"]["se"], case["expected"]
    found = heterogeneity(effects, errors)
    assert (found.status, found.degrees_of_freedom) == ("ok", len(effects) - 1)
    assert found.pooled == close(expected["pooled"])
    assert found.pooled_se == close(1 / math.sqrt(sum(1 / error**2 for error in errors)))
    assert found.q == close(expected["q"])
    assert found.p_value == close(expected["q_p_value"])
    assert found.i_squared == close(expected["i2"])
    assert np.average(effects, weights=[1 / error for error in errors]) != close(expected["pooled"])
    if len(effects) == 3:
        by_k = math.erfc(math.sqrt(expected["q"] / 2)) + math.sqrt(2 * expected["q"] / math.pi) * math.exp(
            -expected["q"] / 2
        )
        assert by_k != close(expected["q_p_value"])
    unweighted = sum((effect - np.mean(effects)) ** 2 / error**2 for effect, error in zip(effects, errors, strict=True))
    assert unweighted != close(expected["q"])


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 10), st.floats(0.01, 10))
def test_two_levels_are_the_z_test_of_their_difference(one: float, two: float, error: float, other: float) -> None:
    """With two levels Q is z² of their difference, and its p-value the two-sided one."""
    found = heterogeneity([one, two], [error, other])
    z = (one - two) / math.hypot(error, other)
    assert found.q == pytest.approx(z * z, rel=1e-6, abs=1e-12)
    assert found.p_value == pytest.approx(normal_p_value(z), rel=1e-6, abs=1e-12)


@given(levels, st.floats(0.01, 100), st.floats(-10, 10))
def test_neither_unit_nor_origin_nor_order_matters(sample: Levels, unit: float, shift: float) -> None:
    """Effects in another unit, all larger by the same, or in another order are as different as before."""
    plain = heterogeneity(*zip(*sample, strict=True))
    moved = heterogeneity(*zip(*((unit * (d + shift), unit * error) for d, error in reversed(sample)), strict=True))
    assert plain.pooled is not None
    assert moved.pooled == pytest.approx(unit * (plain.pooled + shift), rel=1e-6, abs=1e-6)
    assert moved.pooled_se == pytest.approx(unit * (plain.pooled_se or 0.0), rel=1e-9)
    assert moved.q == pytest.approx(plain.q, rel=1e-6, abs=1e-6)
    assert moved.p_value == pytest.approx(plain.p_value, rel=1e-5, abs=1e-6)


@given(levels)
def test_the_share_beyond_chance_starts_where_q_passes_its_mean(sample: Levels) -> None:
    """I² is in [0, 1), 0 up to k - 1, and the pooled effect lies among the effects."""
    found = heterogeneity(*zip(*sample, strict=True))
    assert found.q is not None
    assert found.i_squared is not None
    assert found.pooled is not None
    assert 0 <= found.i_squared < 1
    assert (found.i_squared > 0) == (found.q > len(sample) - 1)
    effects = [effect for effect, _ in sample]
    assert min(effects) - 1e-9 <= found.pooled <= max(effects) + 1e-9
    assert (found.pooled_se or 0.0) <= min(error for _, error in sample)


def test_levels_without_an_effect_are_left_out() -> None:
    """Levels without users or variance change nothing; with fewer than two others there is no test."""
    full = heterogeneity([0.05, 0.01], [0.012, 0.011])
    assert heterogeneity([0.05, None, 0.3, 0.01, 0.2, 0.1], [0.012, 0.1, 0.0, 0.011, None, math.inf]) == full
    assert heterogeneity([0.05, 0.3, 0.2], [0.012, 0.0, math.nan]) == NOTHING
    assert heterogeneity([], []) == NOTHING
    with pytest.raises(ValueError, match="zip"):
        heterogeneity([0.05], [])


def test_very_small_errors_do_not_overflow() -> None:
    """Errors of 1e-200 have weights beyond the largest double; their ratios have not."""
    found = heterogeneity([1e-200, 3e-200], [1e-200, 1e-200])
    assert (found.pooled, found.q) == (close(2e-200), close(2.0))
    with pytest.raises(OverflowError):
        (1.0 / 1e-200) ** 2


def test_an_interaction_is_the_difference_of_differences() -> None:
    """By hand: effects 3 and 1.2 of the second experiment differ by 1.8, variances of the means .01 to .04 add up."""
    cells = {
        (0, 0): Moments(100, 10.0, 99 * 1.0),
        (0, 1): Moments(100, 11.2, 99 * 2.0),
        (1, 0): Moments(100, 10.5, 99 * 3.0),
        (1, 1): Moments(100, 13.5, 99 * 4.0),
    }
    found = interaction(cells)
    error = math.sqrt(0.1)
    reach = normal_critical_value(0.05) * error
    assert found == Interaction(
        close(1.8),
        close(error),
        close(1.8 / error),
        close(normal_p_value(1.8 / error)),
        Interval(close(1.8 - reach), close(1.8 + reach)),
        "ok",
    )
    # Mutants: the plain effect of the second experiment, the effect of both together, and ddof 0.
    assert close(found.estimate or 0.0) != (13.5 + 11.2) / 2 - (10.5 + 10.0) / 2
    assert close(found.estimate or 0.0) != 13.5 - 10.0
    assert math.sqrt(sum(cell.m2 / cell.n**2 for cell in cells.values())) != close(error)


@given(tables, st.floats(0.01, 100), st.floats(-100, 100))
def test_which_experiment_comes_first_does_not_matter(cells: Cells, unit: float, shift: float) -> None:
    """Swapped experiments give the same answer, swapped arms the opposite one; unit and origin do not count."""
    found = interaction(cells)
    assert found.estimate is not None
    swapped = interaction({(b, a): cell for (a, b), cell in cells.items()})
    opposite = interaction({(1 - a, b): cell for (a, b), cell in cells.items()})
    assert swapped.estimate == found.estimate
    assert swapped.p_value == pytest.approx(found.p_value, rel=1e-9)
    assert opposite.estimate == -found.estimate
    assert opposite.p_value == pytest.approx(found.p_value, rel=1e-9)
    moved = {key: Moments(cell.n, unit * (cell.mean + shift), cell.m2 * unit * unit) for key, cell in cells.items()}
    scale = 1e-12 * unit * (400 + 4 * abs(shift))
    assert interaction(moved).estimate == pytest.approx(unit * found.estimate, rel=1e-9, abs=scale)
    assert interaction(moved).standard_error == pytest.approx(unit * (found.standard_error or 0.0), rel=1e-9)


@given(tables, st.sampled_from([0.01, 0.05, 0.3]))
def test_an_interaction_gives_one_verdict(cells: Cells, alpha: float) -> None:
    """The interval leaves out 0 exactly when p < alpha."""
    found = interaction(cells, alpha)
    assert found.p_value is not None
    assert found.interval is not None
    assert found.interval.lower is not None
    assert found.interval.upper is not None
    assume(abs(found.p_value - alpha) > 1e-9)
    assert (found.interval.lower > 0 or found.interval.upper < 0) == (found.p_value < alpha)


def test_a_table_without_a_test_has_no_number() -> None:
    """An empty or missing cell, a single user, and users all alike each have their status."""
    some = Moments.of([1.0, 2.0, 4.0])
    full = {(a, b): some for a in (0, 1) for b in (0, 1)}
    missing = {key: cell for key, cell in full.items() if key != (0, 1)}
    for cells in ({}, missing, {**full, (1, 1): Moments()}):
        assert interaction(cells) == Interaction(None, None, None, None, None, "no_users")
    single = interaction({**full, (1, 1): Moments.of([3.0])})
    assert single == Interaction(close(3.0 - 7 / 3), None, None, None, None, "one_user")
    alike = interaction(dict.fromkeys(full, Moments.of([2.0, 2.0])))
    assert alike == Interaction(0.0, None, None, None, None, "zero_variance")
    with pytest.raises(ValueError, match="significance level"):
        interaction({}, 0.0)


def test_levels_without_a_difference_alarm_at_the_level() -> None:
    """Over 2000 experiments with the same effect in five levels, Q alarms in the 99.9 % band; five z-tests do not."""
    rng, alarms, any_level, band = np.random.default_rng(5), 0, 0, range(69, 134)
    errors = [0.5, 1.0, 1.0, 2.0, 3.0]
    for _ in range(2000):
        effects = rng.normal(0.0, errors).tolist()
        found = heterogeneity(effects, errors)
        assert found.p_value is not None
        alarms += found.p_value <= 0.05
        any_level += any(normal_p_value(d / error) <= 0.05 for d, error in zip(effects, errors, strict=True))
    assert alarms in band
    assert any_level > band[-1]
