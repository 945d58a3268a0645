"""Group-sequential looks: frozen boundaries of rpact, laws of looks, and null experiments with broken variants."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from upshot.statistics.calibration import binomial_band
from upshot.statistics.groupsequential import (
    SMALLEST_STEP,
    Spending,
    boundaries,
    chance_to_cross,
    equivalent_critical_value,
    expected_share,
    inflation_factor,
    looks_up_to,
    nominal_levels,
    spent,
)
from upshot.statistics.tails import normal_critical_value

Case = dict[str, Any]
Fractions = tuple[float, ...]

COVERED = {
    "test_boundaries_equal_the_oracle": ("group_sequential",),
    "test_the_oracle_catches_looks_taken_for_independent": ("group_sequential",),
    "test_the_price_of_a_plan_equals_the_oracle": ("group_sequential_sample_size",),
    "test_the_oracle_catches_a_price_paid_at_each_look": ("group_sequential_sample_size",),
}
FAMILY = {"asOF": Spending.OBRIEN_FLEMING, "asP": Spending.POCOCK, "asKD": Spending.KIM_DEMETS}
RUNS, ALPHA = 2_000, 0.05
BAND = binomial_band(RUNS, ALPHA)
DAILY = tuple(day / 28 for day in range(1, 29))

families = st.sampled_from(list(Spending))
schedules = st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True).map(
    lambda percents: tuple(percent / 100 for percent in sorted(percents))
)


def close(expected: float | list[float]) -> Any:
    """Equality within the relative 1e-7 that the vectors promise for group-sequential numbers."""
    return pytest.approx(expected, rel=1e-7, abs=0)


def plan_of(case: Case) -> tuple[Fractions, float, Spending]:
    """Fractions, level and spending family of a case."""
    params = case["params"]
    return tuple(case["inputs"]["information_fractions"]), params["alpha"], FAMILY[params["spending"]]


def assert_boundaries(case: Case, critical_values: Fractions) -> None:
    """Critical values and the levels they stand for equal the oracle's."""
    assert list(critical_values) == close(case["expected"]["critical_values"])
    assert list(nominal_levels(critical_values)) == close(case["expected"]["nominal_p"])


def test_boundaries_equal_the_oracle(case: Case) -> None:
    """Critical values, nominal levels and the alpha spent equal rpact's, also at unequal and very early looks."""
    fractions, alpha, family = plan_of(case)
    assert_boundaries(case, boundaries(fractions, alpha, family))
    assert [spent(t, alpha, family) for t in fractions] == close(case["expected"]["cumulative_alpha"])


def independent(fractions: Fractions, alpha: float, family: Spending) -> Fractions:
    """The broken variant: each look spends its increment as though the looks before had not been."""
    totals = [0.0, *(spent(t, alpha, family) for t in fractions)]
    return tuple(-float(ndtri((new - old) / 2)) for old, new in pairwise(totals))


def test_the_oracle_catches_looks_taken_for_independent(case: Case) -> None:
    """Without the recursion every case fails."""
    with pytest.raises(AssertionError):
        assert_boundaries(case, independent(*plan_of(case)))


def assert_price(case: Case, inflation: float, average: float) -> None:
    """Largest and average sample equal rpact's; its drift is found to about 1e-9."""
    assert inflation == close(case["expected"]["inflation_factor"])
    assert average == close(case["expected"]["average_sample_fraction_h1"])


def test_the_price_of_a_plan_equals_the_oracle(case: Case) -> None:
    """The largest sample against a single look, and the average one when the effect is there."""
    fractions, alpha, family = plan_of(case)
    power = case["params"]["power"]
    inflation = inflation_factor(fractions, alpha, power, family)
    assert_price(case, inflation, inflation * expected_share(fractions, alpha, power, family))


def test_the_oracle_catches_a_price_paid_at_each_look(case: Case) -> None:
    """The last critical value alone, which forgets that earlier looks also find the effect, costs too much."""
    fractions, alpha, family = plan_of(case)
    for_power = float(ndtri(case["params"]["power"]))
    last = boundaries(fractions, alpha, family)[-1]
    inflation = ((last + for_power) / (normal_critical_value(alpha) + for_power)) ** 2
    assert inflation > inflation_factor(fractions, alpha, case["params"]["power"], family)
    with pytest.raises(AssertionError):
        assert_price(case, inflation, case["expected"]["average_sample_fraction_h1"])


def test_a_single_look_is_the_fixed_test() -> None:
    """One look at the end costs nothing: the ordinary critical value, inflation 1 and the whole sample."""
    for family in Spending:
        assert boundaries((1.0,), 0.05, family)[0] == pytest.approx(normal_critical_value(0.05), rel=1e-12)
        assert inflation_factor((1.0,), 0.05, 0.8, family) == pytest.approx(1.0, rel=1e-9)
        fixed = normal_critical_value(0.05)
        assert equivalent_critical_value((1.0,), 0.05, 0.8, family) == pytest.approx(fixed, rel=1e-9)
        assert chance_to_cross((1.0,), 0.05, 2.5, family) == pytest.approx(float(ndtr(2.5 - fixed)), rel=1e-9)
        assert expected_share((1.0,), 0.05, 0.8, family) == pytest.approx(1.0, rel=1e-9)
    assert boundaries((), 0.05) == ()


@given(families, st.floats(0.001, 0.3), st.floats(0, 3), st.floats(0, 3))
def test_alpha_is_spent_by_the_end_and_never_given_back(family: Spending, alpha: float, t: float, later: float) -> None:
    """Spending grows with information from 0 to alpha, which it reaches at 1 and keeps."""
    first, second = sorted((t, later))
    assert 0 <= spent(first, alpha, family) <= spent(second, alpha, family) <= alpha * (1 + 1e-9)
    assert spent(0.0, alpha, family) == 0.0
    assert spent(1.0, alpha, family) == spent(2.5, alpha, family) == pytest.approx(alpha)


def test_the_exponent_sets_the_pace() -> None:
    """Kim & DeMets spend alpha t^rho: evenly at 1, a quarter at half the information at 2."""
    assert spent(0.3, 0.05, Spending.KIM_DEMETS, 1.0) == pytest.approx(0.015)
    assert spent(0.5, 0.05, Spending.KIM_DEMETS) == pytest.approx(0.0125)
    early, late = (boundaries((0.5, 1.0), 0.05, Spending.KIM_DEMETS, rho) for rho in (1.0, 3.0))
    assert early[0] < late[0]
    assert early[1] > late[1]


@settings(max_examples=25, deadline=None)
@given(schedules, schedules, families)
def test_boundaries_do_not_depend_on_looks_to_come(seen: Fractions, extra: Fractions, family: Spending) -> None:
    """Whatever looks follow, those already taken keep their critical values to the last digit."""
    later = tuple(t for t in extra if t > seen[-1])
    assert boundaries((*seen, *later, 1.0), ALPHA, family)[: len(seen)] == boundaries(seen, ALPHA, family)


@settings(max_examples=25, deadline=None)
@given(schedules, families, st.floats(0.005, 0.2))
def test_a_look_is_dearer_than_the_fixed_test_and_cheaper_than_an_independent_one(
    fractions: Fractions, family: Spending, alpha: float
) -> None:
    """Each critical value lies between those of the whole alpha and of its own increment alone."""
    fractions = (*fractions, 1.0)
    values, alone = boundaries(fractions, alpha, family), independent(fractions, alpha, family)
    assert all(
        normal_critical_value(alpha) * (1 - 1e-9) <= value <= most * (1 + 1e-9)
        for value, most in zip(values, alone, strict=True)
    )
    assert inflation_factor(fractions, alpha, 0.8, family) >= 1 - 1e-9


def test_very_early_and_very_many_looks_have_finite_boundaries() -> None:
    """Where no alpha can be spent yet the value is 37; looks as close as can be still fall from look to look."""
    looks = (*(step / 500 for step in range(1, 151)), 1.0)
    values = boundaries(looks, ALPHA)
    assert values[0] == 37.0
    assert 1.96 < values[-1] < 2.0
    assert list(values) == sorted(values, reverse=True)
    assert all(0 < level < ALPHA for level in nominal_levels(values))
    tiny = (0.01, 0.0125, 1.0)
    assert boundaries(tiny, 1e-12)[:2] == (37.0, 37.0)


@pytest.mark.parametrize(
    "fractions",
    [
        (0.0, 1.0),
        (0.5, 0.5),
        (0.6, 0.4),
        (0.5, 0.5005),
        (-0.1,),
        (math.nan,),
        (0.5, math.inf),
        (1.0, 1.1),
        (0.4, 1.2, 2),
    ],
)
def test_impossible_looks_are_refused(fractions: Fractions) -> None:
    """Looks at nothing, backwards, too close, without end, or after the end raise."""
    with pytest.raises(ValueError, match="information"):
        boundaries(fractions, ALPHA)


@given(families, schedules.map(lambda early: (*early, 1.0)), st.floats(0.5, 0.95), st.floats(0, 3))
@settings(max_examples=25)
def test_looks_cross_with_their_power_at_the_drift_that_they_need(
    family: Spending, fractions: Fractions, power: float, less: float
) -> None:
    """The drift c + z_power of the equivalent critical value c has just that power; less drift has less, none half the level."""
    drift = equivalent_critical_value(fractions, ALPHA, power, family) + float(ndtri(power))
    assert chance_to_cross(fractions, ALPHA, drift, family) == pytest.approx(power, rel=1e-9)
    assert chance_to_cross(fractions, ALPHA, max(drift - less, 0.0), family) <= power + 1e-9
    assert chance_to_cross(fractions, ALPHA, 0.0, family) == pytest.approx(ALPHA / 2, rel=1e-6)
    assert chance_to_cross(fractions, ALPHA, 1e6, family) == pytest.approx(1, abs=1e-4)


def test_impossible_plans_are_refused() -> None:
    """A level, an exponent, an end or a power that makes no sense raises."""
    for call in (
        lambda: boundaries((1.0,), 1.5),
        lambda: spent(0.5, 0.05, Spending.KIM_DEMETS, 0.0),
        lambda: spent(-0.5, 0.05),
        lambda: inflation_factor((0.5,), 0.05, 0.8),
        lambda: inflation_factor((), 0.05, 0.8),
        lambda: inflation_factor((0.5, 1.0), 0.05, 0.04),
        lambda: chance_to_cross((0.5, 1.0), 0.05, -0.1),
        lambda: chance_to_cross((0.5, 0.4), 0.05, 1.0),
        lambda: equivalent_critical_value((0.5,), 0.05, 0.8),
        lambda: looks_up_to((), -0.1),
        lambda: looks_up_to((), math.inf),
    ):
        with pytest.raises(ValueError, match=r"level|exponent|fraction|end at|drift"):
            call()


def test_looks_are_taken_until_the_information_is_complete() -> None:
    """Looks too close together are one, the first at or after 1 is the last, and it always happens."""
    seen: Fractions = ()
    for now in (0.0, SMALLEST_STEP / 2, 0.3, 0.3001, 0.9, 1.2, 1.5, 9.0):
        seen = looks_up_to(seen, now)
        assert len(boundaries(seen, ALPHA)) == len(seen)
    assert seen == (0.3, 0.9, 1.2)
    assert looks_up_to((0.9995,), 1.0) == (0.9995, 0.9995 + SMALLEST_STEP)


def two_look_error(first: float, second: float, correlation: float) -> float:
    """P(|Z1| >= first or |Z2| >= second), by a sum over a fine grid of Z1."""
    grid = np.linspace(-first, first, 20_001)
    rest = math.sqrt(1 - correlation**2)
    tail = ndtr((correlation * grid - second) / rest) + ndtr((-correlation * grid - second) / rest)
    density = np.exp(-0.5 * grid * grid) / math.sqrt(2 * math.pi) * tail
    return float(np.trapezoid(density, grid)) + 2 * float(ndtr(-first))


def test_a_last_look_beyond_the_plan_keeps_its_information() -> None:
    """At twice the planned users alpha is still exact; declared to be at the plan's end, it is exceeded."""
    correlation = math.sqrt(0.5 / 2.0)
    first, second = boundaries((0.5, 2.0), ALPHA, Spending.POCOCK)
    assert two_look_error(first, second, correlation) == close(ALPHA)
    first, second = boundaries((0.5, 1.0), ALPHA, Spending.POCOCK)
    assert two_look_error(first, second, correlation) > 1.08 * ALPHA


def null_statistics(seed: int, days: int = 28) -> NDArray[np.float64]:
    """|z| of null experiments on each day, shape (runs, days): conversions at 5 %, 1000 users per arm and day."""
    rng = np.random.default_rng(seed)
    counts = rng.binomial(1_000, 0.05, (2, RUNS, days)).cumsum(axis=2)
    users = 1_000 * np.arange(1, days + 1)
    pooled = counts.sum(axis=0) / (2 * users)
    z: NDArray[np.float64] = np.abs(counts[1] - counts[0]) / users / np.sqrt(pooled * (1 - pooled) * 2 / users)
    return z


def alarms(statistics: NDArray[np.float64], critical_values: Fractions) -> int:
    """How many runs reach the critical value of any look."""
    return int((statistics >= np.array(critical_values)).any(axis=1).sum())


@pytest.mark.parametrize("family", list(Spending))
def test_daily_looks_alarm_at_the_level(family: Spending) -> None:
    """Looked at on 28 days, alarms stay within the band; the fixed test's alarm in a quarter of the runs."""
    statistics = null_statistics(5)
    assert alarms(statistics, boundaries(DAILY, ALPHA, family)) in BAND
    assert alarms(statistics, (normal_critical_value(ALPHA),) * 28) > 0.2 * RUNS
    assert alarms(statistics, independent(DAILY, ALPHA, family)) < BAND.count_low


def test_looks_after_the_planned_end_change_nothing() -> None:
    """Planned for 14 days and looked at on 28: as many alarms as in 14, where re-scaling the time doubles them."""
    statistics = null_statistics(6)
    seen: Fractions = ()
    tested = []
    for day in range(1, 29):
        grown = looks_up_to(seen, day / 14)
        if grown != seen:
            tested.append(day - 1)
        seen = grown
    assert tested == list(range(14))
    assert alarms(statistics[:, tested], boundaries(seen, ALPHA)) in BAND
    planned = boundaries(tuple(day / 14 for day in range(1, 15)), ALPHA)
    assert boundaries(seen, ALPHA) == planned
    rescaled = [boundaries(tuple(day / end for day in range(1, end + 1)), ALPHA)[-1] for end in range(15, 29)]
    assert alarms(statistics, (*planned, *rescaled)) > 1.3 * BAND.count_high


@pytest.mark.parametrize("family", list(Spending))
def test_the_inflated_sample_has_the_power(family: Spending) -> None:
    """Experiments with the planned effect find it in 80 % of runs and stop as early as said; uninflated, fewer do."""
    fractions = (0.25, 0.5, 0.75, 1.0)
    inflation = inflation_factor(fractions, ALPHA, 0.8, family)
    values = np.array(boundaries(fractions, ALPHA, family))
    noise = np.random.default_rng(9).normal(0, 0.5, (RUNS, 4)).cumsum(axis=1)
    fixed = normal_critical_value(ALPHA) + float(ndtri(0.8))
    times = np.array(fractions)
    stopped = (noise + fixed * math.sqrt(inflation) * times) / np.sqrt(times) >= values
    assert int(stopped.any(axis=1).sum()) in binomial_band(RUNS, 0.8)
    end = np.where(stopped.any(axis=1), times[stopped.argmax(axis=1)], 1.0).mean()
    assert float(end) == pytest.approx(expected_share(fractions, ALPHA, 0.8, family), abs=0.025)
    if family is Spending.POCOCK:
        short = (noise + fixed * times) / np.sqrt(times) >= values
        assert int(short.any(axis=1).sum()) < binomial_band(RUNS, 0.8).count_low
