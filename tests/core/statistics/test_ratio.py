"""Ratio metrics: the frozen oracle numbers, the laws of a ratio, and broken variants that both must catch."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upshot.statistics.comoments import Comoments
from upshot.statistics.comparison import Effect, compare_means, untested
from upshot.statistics.interval import Interval
from upshot.statistics.lift import fieller_interval
from upshot.statistics.moments import Moments
from upshot.statistics.ratio import compare_ratio_arms, compare_ratios, linearised, ratio_arm
from upshot.statistics.tails import normal_p_value, student_critical_value

Case = dict[str, Any]
Rows = list[tuple[float, float]]

COVERED = {"test_a_ratio_comparison_equals_the_oracle": ("ratio_delta",)}

# Whole numbers, as ratios of values near 1e-300 would be tests of underflow; and two users whose ratios differ.
samples = st.lists(st.tuples(st.integers(-50, 50).map(float), st.integers(1, 20).map(float)), max_size=15).map(
    lambda rows: [*rows, (1.0, 2.0), (4.0, 1.0)]
)


def close(expected: float | list[float]) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def bounds(interval: Interval | None) -> list[float]:
    """Both bounds as a list."""
    assert interval is not None
    assert interval.lower is not None
    assert interval.upper is not None
    return [interval.lower, interval.upper]


def arm(sums: dict[str, float]) -> Comoments:
    """(numerator, denominator) of an arm given as raw sums."""
    n, m, d = int(sums["n"]), sums["sum_m"], sums["sum_d"]
    across = sums["sum_md"] - m * d / n
    products = ((sums["sum_m2"] - m * m / n, across), (across, sums["sum_d2"] - d * d / n))
    return Comoments(n, (m / n, d / n), products)


def test_a_ratio_comparison_equals_the_oracle(case: Case) -> None:
    """Ratio, variance, difference, error, p, interval and lift equal the oracle; a zero denominator has none of them.

    The oracle's intervals of the lift are of the delta and log methods; ours is Fieller's, the inversion of the test.
    """
    control, treatment = arm(case["inputs"]["control"]), arm(case["inputs"]["treatment"])
    expected, alpha = case["expected"], case["params"]["alpha"]
    effect = compare_ratios(control, treatment, alpha)
    if case["status"] != "ok":
        absent = untested("zero_denominator", "delta_welch_t")
        assert {getattr(absent, field.name) for field in fields(Effect)} == {
            "zero_denominator",
            "delta_welch_t",
            None,
        }
        assert effect == absent
        assert compare_ratios(treatment, control, alpha) == absent
        return
    ratio, other = ratio_arm(control), ratio_arm(treatment)
    assert ratio is not None
    assert other is not None
    assert (effect.status, effect.method) == ("ok", "delta_welch_t")
    assert ratio.mean == close(expected["ratio_control"])
    assert ratio.variance == close(expected["var_control"])
    assert effect.absolute_difference == close(expected["diff"])
    assert effect.standard_error == close(expected["se"])
    assert effect.p_value == close(expected["p_value"])
    assert bounds(effect.absolute_interval) == close(expected["ci"])
    assert effect.relative_lift == close(expected["lift"])
    critical = student_critical_value(alpha, effect.degrees_of_freedom or 0.0)
    pairs = [(one.mean, (one.variance or 0.0) / one.n) for one in (ratio, other)]
    assert effect.relative_interval == fieller_interval(pairs[0], pairs[1], critical)
    if "ci_lift_delta_t" in expected:
        assert bounds(effect.relative_interval) != close(expected["ci_lift_delta_t"])


CTR = (
    arm({"n": 3000, "sum_m": 1479, "sum_m2": 2165, "sum_d": 14908, "sum_d2": 86298, "sum_md": 8511}),
    arm({"n": 3000, "sum_m": 1699, "sum_m2": 2579, "sum_d": 14921, "sum_d2": 85987, "sum_md": 9722}),
)


def test_the_oracle_catches_sessions_counted_as_independent() -> None:
    """The pooled z-test of clicks over sessions, which are not randomised, has another p-value."""
    clicks, sessions = (1479, 1699), (14908, 14921)
    pooled = sum(clicks) / sum(sessions)
    error = math.sqrt(pooled * (1 - pooled) * sum(1 / n for n in sessions))
    p_value = normal_p_value((clicks[1] / sessions[1] - clicks[0] / sessions[0]) / error)
    assert compare_ratios(*CTR, 0.05).p_value == close(3.728508535823885e-05)
    assert p_value != close(3.728508535823885e-05)


def test_the_oracle_catches_a_variance_without_the_covariance() -> None:
    """Numerator and denominator vary together; without their covariance the variance is another."""
    control = CTR[0]
    oracle = close(0.017900074622222286)
    arm_of_ratio = ratio_arm(control)
    assert arm_of_ratio is not None
    assert arm_of_ratio.variance == oracle
    ratio, divisor = arm_of_ratio.mean, control.means[1] ** 2
    apart = ((control.covariance(0, 0) or 0.0) + ratio**2 * (control.covariance(1, 1) or 0.0)) / divisor
    assert apart != oracle
    assert arm_of_ratio.m2 / arm_of_ratio.n != oracle


def test_the_oracle_catches_a_mean_of_each_users_own_ratio() -> None:
    """A ratio of sums is not the mean of ratios: users with many sessions weigh more."""
    ratio = ratio_arm(Comoments.of([(1.0, 1.0), (2.0, 8.0), (0.0, 1.0)]))
    assert ratio is not None
    assert ratio.mean == close(0.3)
    assert close(0.3) != (1.0 + 0.25 + 0.0) / 3


@given(samples)
def test_linearised_values_have_the_moments_of_the_delta_method(sample: Rows) -> None:
    """The moments equal those of (m - R d)/mD over users, moved to the mean R."""
    moments = ratio_arm(Comoments.of(sample))
    ratio, divisor = sum(m for m, _ in sample) / sum(d for _, d in sample), sum(d for _, d in sample) / len(sample)
    direct = Moments.of([(m - ratio * d) / divisor for m, d in sample])
    assert moments is not None
    assert moments.mean == pytest.approx(ratio, rel=1e-9, abs=1e-9)
    assert moments.m2 == pytest.approx(direct.m2, rel=1e-9, abs=1e-9)


@given(samples, samples)
def test_a_denominator_of_one_is_the_mean(left: Rows, right: Rows) -> None:
    """With one session per user the ratio is the mean per user, method aside."""
    control, treatment = ([m for m, _ in rows] for rows in (left, right))
    ratios = compare_ratios(Comoments.of((m, 1.0) for m in control), Comoments.of((m, 1.0) for m in treatment), 0.05)
    means = compare_means(Moments.of(control), Moments.of(treatment), 0.05, method="delta_welch_t")
    assert ratios.status == means.status
    assert (ratios.relative_lift is None) == (means.relative_lift is None)
    for name in ("absolute_difference", "statistic", "p_value", "standard_error"):
        assert getattr(ratios, name) == pytest.approx(getattr(means, name), rel=1e-9, abs=1e-12)


@given(samples, samples, st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_units_do_not_matter(left: Rows, right: Rows, unit: float, other: float) -> None:
    """Cents and minutes give the same statistic, p-value and lift as euros and hours, and a scaled difference."""
    plain = compare_ratios(Comoments.of(left), Comoments.of(right), 0.05)
    control, treatment = (Comoments.of([(m * unit, d * other) for m, d in rows]) for rows in (left, right))
    effect = compare_ratios(control, treatment, 0.05)
    assert plain.absolute_difference is not None
    assert effect.statistic == pytest.approx(plain.statistic, rel=1e-6, abs=1e-9)
    assert effect.p_value == pytest.approx(plain.p_value, rel=1e-6, abs=1e-12)
    assert effect.absolute_difference == pytest.approx(plain.absolute_difference * unit / other, rel=1e-6, abs=1e-9)
    if plain.lift_status == effect.lift_status == "ok":
        assert effect.relative_lift == pytest.approx(plain.relative_lift, rel=1e-6, abs=1e-9)


@given(samples, samples)
def test_swapping_arms_flips_the_sign_only(left: Rows, right: Rows) -> None:
    """With the arms swapped the difference and t change sign and p stays."""
    one, two = Comoments.of(left), Comoments.of(right)
    effect, swapped = compare_ratios(one, two, 0.05), compare_ratios(two, one, 0.05)
    assert effect.statistic is not None
    assert swapped.statistic == -effect.statistic
    assert swapped.p_value == pytest.approx(effect.p_value, rel=1e-9, abs=1e-300)


@given(samples, samples)
def test_parts_may_be_merged_first(left: Rows, right: Rows) -> None:
    """The ratio of a sample put together from parts is that of the whole; ratios of parts do not add up to it."""
    whole, merged = ratio_arm(Comoments.of(left + right)), ratio_arm(Comoments.of(left) + Comoments.of(right))
    assert whole is not None
    assert merged is not None
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
    assert merged.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-9)


def test_ratios_of_parts_do_not_add_up() -> None:
    """The law can fail: adding the parts' linearised moments gives another ratio than merging first."""
    parts = Comoments.of([(1.0, 1.0), (3.0, 2.0)]), Comoments.of([(1.0, 9.0), (2.0, 8.0)])
    arms = [ratio_arm(part) or Moments() for part in parts]
    whole = ratio_arm(parts[0] + parts[1])
    assert whole is not None
    assert whole.mean == close(7 / 20)
    assert (arms[0] + arms[1]).mean != close(7 / 20)


@given(samples, samples, st.sampled_from([0.01, 0.05, 0.3]))
def test_p_value_and_intervals_give_one_verdict(left: Rows, right: Rows, alpha: float) -> None:
    """The intervals of difference and lift leave out 0 exactly when p < alpha."""
    effect = compare_ratios(Comoments.of(left), Comoments.of(right), alpha)
    assume(effect.p_value is not None and abs(effect.p_value - alpha) > 1e-9)
    significant = (effect.p_value or 0.0) < alpha
    lower, upper = bounds(effect.absolute_interval)
    assert (lower > 0 or upper < 0) == significant
    if effect.relative_interval is not None:
        lower, upper = bounds(effect.relative_interval)
        assert (lower > 0 or upper < 0) == significant


def test_arms_without_a_ratio_have_no_number() -> None:
    """Nobody, a single user, and a denominator that is 0 on average each have their status."""
    some = Comoments.of([(1.0, 2.0), (3.0, 4.0), (1.0, 1.0)])
    for nobody in (Comoments(), Comoments.empty(2)):
        assert ratio_arm(nobody) == Moments()
        assert compare_ratios(nobody, some, 0.05).status == "no_users"
    assert compare_ratios(some, Comoments.of([(1.0, 2.0)]), 0.05).status == "one_user"
    for zero in (Comoments.of([(1.0, -2.0), (1.0, 2.0)]), Comoments.empty(2).padded(9)):
        assert ratio_arm(zero) is None
        assert compare_ratios(some, zero, 0.05).status == "zero_denominator"
    assert ratio_arm(Comoments.of([(1.0, 1e-200), (2.0, 1e-200)])) is None
    with pytest.raises(ValueError, match="significance level"):
        compare_ratio_arms(None, None, 1.0)


def test_a_constant_ratio_has_no_variance() -> None:
    """Two clicks in every session of every user: only rounding differs, and that is no evidence."""
    rows = [(0.2 * sessions, 0.1 * sessions) for sessions in range(1, 40)]
    ratio = ratio_arm(Comoments.of(rows))
    assert ratio == Moments(39, close(2.0), 0.0)
    assert compare_ratios(Comoments.of(rows), Comoments.of(rows[:20]), 0.05).status == "zero_variance"


def test_several_ratios_keep_their_covariance() -> None:
    """Two linearised ratios have the covariance of their values over users, and a ratio to itself is a constant 1."""
    rng = np.random.default_rng(4)
    rows = rng.poisson((3, 4, 2, 5), (50, 4)).astype(float) + 1
    joint = linearised(Comoments.of(rows.tolist()), [(0, 1), (2, 3)])
    y, x = (
        (rows[:, i] - rows[:, i].mean() / rows[:, i + 1].mean() * rows[:, i + 1]) / rows[:, i + 1].mean()
        for i in (0, 2)
    )
    assert joint is not None
    assert joint.covariance(0, 1) == close(float(np.cov(y, x)[0, 1]))
    assert linearised(Comoments.of(rows.tolist()), [(1, 1)]) == Comoments(50, (1.0,), ((0.0,),))


def test_ratios_without_an_effect_alarm_at_the_level() -> None:
    """Over 2000 experiments of 200 users with correlated sessions, alarms stay in the 99.9 % band; by session they do not."""
    rng, alarms, alarms_by_session, band = np.random.default_rng(17), 0, 0, range(69, 134)
    for _ in range(2000):
        sessions = rng.poisson(4, (2, 100)) + 1
        clicks = rng.binomial(sessions, rng.beta(1, 4, (2, 100)))
        one, two = (Comoments.of(zip(clicks[a].tolist(), sessions[a].tolist(), strict=True)) for a in (0, 1))
        effect = compare_ratios(one, two, 0.05)
        assert effect.p_value is not None
        alarms += effect.p_value <= 0.05
        totals, events = sessions.sum(axis=1), clicks.sum(axis=1)
        pooled = events.sum() / totals.sum()
        error = math.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
        alarms_by_session += normal_p_value(float(events[1] / totals[1] - events[0] / totals[0]) / error) <= 0.05
    assert alarms in band
    assert alarms_by_session > band[-1]


def test_the_method_is_named_by_the_caller() -> None:
    """Arms that were adjusted before say so; nothing else changes."""
    effect = compare_ratio_arms(ratio_arm(CTR[0]), ratio_arm(CTR[1]), 0.05, method="cuped_delta_welch_t")
    assert replace(effect, method="delta_welch_t") == compare_ratios(*CTR, 0.05)
