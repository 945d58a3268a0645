"""Planning: frozen sample sizes, the prices of arms and looks, and the power that simulated experiments have."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upshot.statistics.calibration import binomial_band
from upshot.statistics.power import (
    adjusted_variance,
    always_valid_inflation,
    days_needed,
    drift_of,
    drift_of_proportion,
    inflation_of,
    minimum_detectable_change,
    minimum_detectable_effect,
    power_of,
    users_needed,
    users_needed_non_inferiority,
    users_needed_proportion,
    users_per_arm,
)
from upshot.statistics.sequential import always_valid_critical_value
from upshot.statistics.tails import normal_critical_value

Case = dict[str, Any]

COVERED = {
    "test_an_adjustment_saves_the_users_of_the_oracle": ("power_cuped",),
    "test_the_price_of_always_valid_looks_equals_the_oracle": ("power_sequential",),
    "test_users_for_a_proportion_equal_the_oracles_of_both_variances": ("power_two_proportions",),
    "test_users_for_a_mean_have_the_power_of_the_oracle": ("power_means",),
    "test_a_detectable_effect_has_the_power_of_the_oracle": ("mde",),
}
RUNS = 2_000
Z_SUM_SQUARE = (1.959963984540054 + 0.8416212335729143) ** 2


def close(expected: float) -> Any:
    """Equality within the relative 1e-5 that the vectors promise for power."""
    return pytest.approx(expected, rel=1e-5, abs=0)


def test_an_adjustment_saves_the_users_of_the_oracle(case: Case) -> None:
    """Users follow the variance left, 1 - rho²; one less the correlation itself would save far too many."""
    without, correlation = case["inputs"]["n_without"], case["inputs"]["correlation"]
    effect = math.sqrt(4 * Z_SUM_SQUARE / without)
    assert users_needed(1.0, effect) == pytest.approx(without, abs=2)
    oracle = pytest.approx(case["expected"]["n_with"], abs=2)
    assert users_needed(adjusted_variance(1.0, correlation), effect) == oracle
    assert users_needed(adjusted_variance(1.0, -correlation), effect) == oracle
    assert users_needed(1.0 - correlation, effect) != oracle


def test_the_price_of_always_valid_looks_equals_the_oracle(case: Case) -> None:
    """1.91 times the users at the planned end; the square of the critical values' ratio overstates it."""
    alpha, power = case["params"]["alpha"], case["params"]["power"]
    oracle = pytest.approx(case["expected"]["sample_size_inflation"], rel=1e-9)
    assert always_valid_inflation(alpha, power) == oracle
    critical = always_valid_critical_value(10_000, alpha, 10_000)
    assert critical == pytest.approx(case["expected"]["critical_value_at_n_star"], rel=1e-9)
    assert (critical / normal_critical_value(alpha)) ** 2 != oracle


def test_users_for_a_proportion_equal_the_oracles_of_both_variances(case: Case) -> None:
    """The proportion's formula is the pooled one; the mean's, given both arms' own variances, the unpooled."""
    inputs, params, expected = case["inputs"], case["params"], case["expected"]
    before = inputs["baseline"]
    effect = before * inputs["relative_mde"]
    after = before + effect
    pooled = users_needed_proportion(before, effect, params["alpha"], params["power"])
    assert (
        pooled == 2 * math.ceil(expected["n_per_arm_pooled_null"]) == 2 * math.ceil(expected["n_per_arm_statsmodels"])
    )
    own = (before * (1 - before) + after * (1 - after)) / 2
    assert users_needed(own, effect, params["alpha"], params["power"]) == 2 * math.ceil(expected["n_per_arm_unpooled"])
    assert pooled != 2 * math.ceil(expected["n_per_arm_unpooled"])
    unpooled = users_needed_proportion(before, effect, params["alpha"], params["power"], pooled=False)
    assert unpooled == 2 * math.ceil(expected["n_per_arm_unpooled"])


def test_users_for_a_mean_have_the_power_of_the_oracle(case: Case) -> None:
    """At the oracle's users per arm the power is the one asked for, and a tenth fewer have less."""
    inputs, params = case["inputs"], case["params"]
    effect, per_arm = inputs["mean"] * inputs["relative_mde"], case["expected"]["n_per_arm_normal"]
    users = users_needed(inputs["sd"] ** 2, effect, params["alpha"], params["power"])
    assert users == 2 * math.ceil(per_arm)
    # The variance is scaled to the oracle's fraction of a user.
    half = users // 2
    scaled = inputs["sd"] ** 2 * half / per_arm
    assert power_of(effect, scaled, half, half) == close(params["power"])
    assert power_of(effect, scaled, half - half // 10, half - half // 10) != close(params["power"])


def test_a_detectable_effect_has_the_power_of_the_oracle(case: Case) -> None:
    """The oracle's effect at its unequal split is found with the power asked for; at an equal split more often."""
    inputs, effect = case["inputs"], case["expected"]["mde_absolute"]
    treated = round(inputs["n_total"] * inputs["treatment_share"])
    control = inputs["n_total"] - treated
    assert minimum_detectable_effect(inputs["sd"] ** 2, control, treated) == close(effect)
    assert power_of(effect, inputs["sd"] ** 2, control, treated) == close(case["params"]["power"])
    half = inputs["n_total"] // 2
    assert power_of(effect, inputs["sd"] ** 2, half, half) != close(case["params"]["power"])


@given(st.floats(0.01, 100), st.floats(0.01, 10), st.integers(1, 10**6), st.integers(1, 10**6))
def test_power_is_a_chance_that_grows_with_effect_and_users(variance: float, effect: float, n0: int, n1: int) -> None:
    """Without an effect it is the level; the sign does not matter; a dearer critical value costs power."""
    power = power_of(effect, variance, n0, n1)
    assert power is not None
    assert 0.05 - 1e-12 <= power <= 1
    assert power_of(0.0, variance, n0, n1) == pytest.approx(0.05)
    assert power_of(-effect, variance, n0, n1) == power
    larger, more, dearer = (
        power_of(2 * effect, variance, n0, n1),
        power_of(effect, variance, 2 * n0, 2 * n1),
        power_of(effect, variance, n0, n1, critical_value=3.0),
    )
    assert larger is not None
    assert more is not None
    assert dearer is not None
    assert dearer <= power <= min(larger, more) + 1e-12


@given(
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
    st.floats(0.1, 0.9),
    st.floats(1.9, 4.0),
    st.booleans(),
)
def test_the_users_for_a_change_of_a_share_can_show_that_change(
    before: float,
    after: float,
    share: float,
    critical: float,
    pooled: bool,  # noqa: FBT001
) -> None:
    """The detectable change is the inverse of the users needed, in either direction, and has the drift c + z_power."""
    effect = after - before
    assume(abs(effect) > 1e-3)
    users = users_needed_proportion(before, effect, 0.05, 0.8, share, critical, pooled=pooled)
    control, treatment = (1 - share) * users, share * users
    assume(min(control, treatment) >= 5)

    found = minimum_detectable_change(before, control, treatment, 0.05, 0.8, critical, pooled=pooled, rising=effect > 0)
    drift = drift_of_proportion(before, effect, control, treatment, critical, pooled=pooled)

    assert found is not None
    # Rounding up to whole users makes a slightly smaller change visible, and never a larger one necessary.
    assert 0 < found / effect <= 1 + 1e-9
    assert found == pytest.approx(effect, rel=2 / min(control, treatment))
    assert drift is not None
    assert critical + 0.8416212335729143 - 1e-9 <= drift
    assert drift == pytest.approx(critical + 0.8416212335729143, rel=2 / min(control, treatment))


def test_a_share_cannot_change_beyond_its_bounds() -> None:
    """Too few users to show even a change to 0 or 1 have no detectable one; a baseline at a bound has none either."""
    assert minimum_detectable_change(0.5, 2, 2) is None
    assert minimum_detectable_change(0.05, 40, 40, rising=False) is None
    assert minimum_detectable_change(0.05, 40, 40) is not None
    assert minimum_detectable_change(0.0, 1e6, 1e6) is None
    assert minimum_detectable_change(0.5, 0, 10) is None
    assert drift_of_proportion(1.0, -0.1, 10, 10, 1.96) is None
    assert drift_of_proportion(0.5, 0.1, 0, 10, 1.96) is None


def test_the_drift_of_a_mean_is_its_effect_in_standard_errors() -> None:
    """Which power_of compares with the critical value; the pooled drift of a share is not that of a mean."""
    assert drift_of(-0.5, 4.0, 100, 100) == pytest.approx(0.5 / math.sqrt(0.08))
    assert drift_of(0.5, 0.0, 100, 100) is None
    mean = drift_of(0.05, 0.05 * 0.95, 900, 100)
    assert drift_of_proportion(0.05, 0.05, 900, 100, 1.96) != pytest.approx(mean, rel=0.05)


def test_a_dearer_critical_value_costs_the_users_of_its_inflation() -> None:
    """The same as multiplying the users of a single look, and detectable effects grow by its root."""
    critical = always_valid_critical_value(10, 0.05, 10)
    assert inflation_of(critical) == pytest.approx(always_valid_inflation())
    assert inflation_of(normal_critical_value(0.05)) == pytest.approx(1)
    dearer = users_needed(4.0, 0.1, critical_value=critical)
    assert dearer == pytest.approx(users_needed(4.0, 0.1) * inflation_of(critical), rel=1e-3)
    plain, larger = (minimum_detectable_effect(4.0, 500, 500, critical_value=c) for c in (None, critical))
    assert plain is not None
    assert larger == pytest.approx(plain * math.sqrt(inflation_of(critical)))


def test_there_is_no_power_without_users_or_variance() -> None:
    """None, as for the detectable effect; an effect without end is refused."""
    assert power_of(1.0, 1.0, 0, 10) is None
    assert power_of(1.0, 0.0, 10, 10) is None
    with pytest.raises(ValueError, match="effect"):
        power_of(math.inf, 1.0, 10, 10)


def test_treatments_share_alpha_and_looks_cost_users() -> None:
    """Two arms alike are the plain plan; a second treatment adds an arm and halves the level; looks multiply."""
    variance, effect = 4.0, 0.1

    def pair(level: float, share: float) -> int:
        return users_needed(variance, effect, level, 0.8, share)

    assert sum(users_per_arm((0.5, 0.5), pair)) == users_needed(variance, effect)
    three = sum(users_per_arm((1, 1, 1), pair))
    assert three == pytest.approx(1.5 * users_needed(variance, effect, 0.025), abs=3)
    assert three > 1.5 * users_needed(variance, effect) + 3
    dearer = sum(users_per_arm((1, 1), pair, inflation=always_valid_inflation()))
    assert dearer == pytest.approx(1.9149 * users_needed(variance, effect), rel=1e-4)


def test_the_smallest_treatment_decides() -> None:
    """Control 80, treatments 15 and 5 %: the smallest pair needs the most users, and each has then its power."""
    variance, effect, shares = 4.0, 0.1, (0.8, 0.15, 0.05)
    arms = users_per_arm(shares, lambda level, share: users_needed(variance, effect, level, 0.8, share))
    total = sum(arms)
    powers = [
        power_of(effect, variance, round(0.8 * total), round(share * total), normal_critical_value(0.025))
        for share in shares[1:]
    ]
    assert powers[0] is not None
    assert powers[0] > 0.95
    assert powers[1] == pytest.approx(0.8, abs=1e-3)
    assert arms == pytest.approx([share * total for share in shares], abs=1)


def test_non_inferiority_needs_the_users_of_its_formula() -> None:
    """(z_.05 + z_.2)² · 2 s²/M² per arm, one-sided: 1237 for a tenth of a deviation; two-sided needs 1570."""
    assert users_needed_non_inferiority(1.0, 0.1) == 2 * math.ceil((1.6448536269514722 + 0.8416212335729143) ** 2 * 200)
    assert users_needed_non_inferiority(1.0, 0.1) == 2 * 1237
    assert users_needed(1.0, 0.1) == 2 * 1570
    assert users_needed_non_inferiority(1.0, 0.1, treatment_share=0.2) > 2 * 1237


@pytest.mark.parametrize("inferior", [False, True])
def test_non_inferior_arms_are_found_so(inferior: bool) -> None:  # noqa: FBT001
    """An arm as good as control passes in 80 % of runs, one worse by the whole margin in 5 %."""
    per_arm, margin = users_needed_non_inferiority(1.0, 0.1) // 2, 0.1
    error = math.sqrt(2 / per_arm)
    differences = np.random.default_rng(13).normal(-margin if inferior else 0.0, error, RUNS)
    passed = int((differences - 1.6448536269514722 * error > -margin).sum())
    assert passed in binomial_band(RUNS, 0.05 if inferior else 0.8)
    careless = int((differences > -margin).sum())
    assert careless not in binomial_band(RUNS, 0.05 if inferior else 0.8)


def test_planned_experiments_have_their_power() -> None:
    """At the planned users 80 % of runs find the effect, of a conversion and of the always-valid plan's last look."""
    users = users_needed_proportion(0.05, 0.01) // 2
    rng = np.random.default_rng(14)
    x0, x1 = rng.binomial(users, 0.05, RUNS), rng.binomial(users, 0.06, RUNS)
    pooled = (x0 + x1) / (2 * users)
    z = (x1 - x0) / users / np.sqrt(pooled * (1 - pooled) * 2 / users)
    assert int((np.abs(z) >= normal_critical_value(0.05)).sum()) in binomial_band(RUNS, 0.8)
    dearer = sum(
        users_per_arm((1, 1), lambda level, share: users_needed(1.0, 0.1, level, 0.8, share), inflation=1.9149)
    )
    critical = always_valid_critical_value(dearer, 0.05, dearer)
    noise = rng.normal(size=RUNS)
    found = [int((noise + 0.1 * math.sqrt(n / 4) >= critical).sum()) for n in (dearer, users_needed(1.0, 0.1))]
    assert found[0] in binomial_band(RUNS, 0.8)
    assert found[1] < binomial_band(RUNS, 0.8).count_low


def test_days_are_rounded_up_and_to_whole_weeks() -> None:
    """A day begun is a day, a week begun a week, one week at least."""
    assert days_needed(1_000, 100) == 14
    assert days_needed(1_000, 100, whole_weeks=False) == 10
    assert days_needed(1_001, 100, whole_weeks=False) == 11
    assert days_needed(1_400, 100) == 14
    assert days_needed(1_401, 100) == 21
    assert days_needed(1, 1e6) == 7
    assert days_needed(1, 1e6, whole_weeks=False) == 1


def test_an_impossible_plan_is_refused() -> None:
    """No margin, no arms, no users, prices below 1, perfect correlations and impossible levels raise."""

    def pair(level: float, share: float) -> int:
        return users_needed(1.0, 1.0, level, 0.8, share)

    for call in (
        lambda: users_needed_non_inferiority(1.0, 0.0),
        lambda: users_needed_non_inferiority(1.0, -0.1),
        lambda: users_needed_non_inferiority(0.0, 0.1),
        lambda: users_needed_non_inferiority(1.0, 0.1, alpha=0.5),
        lambda: users_needed_non_inferiority(1.0, 0.1, power=0.01),
        lambda: users_per_arm((1.0,), pair),
        lambda: users_per_arm((1.0, 0.0), pair),
        lambda: users_per_arm((1.0, 1.0), pair, inflation=0.9),
        lambda: adjusted_variance(1.0, 1.0),
        lambda: always_valid_inflation(0.05, 0.01),
        lambda: days_needed(0, 10),
        lambda: days_needed(10, 0.0),
        lambda: minimum_detectable_change(0.1, 10, 10, alpha=0.9),
        lambda: minimum_detectable_change(1.1, 10, 10),
        lambda: drift_of_proportion(0.5, 0.6, 10, 10, 1.96),
        lambda: inflation_of(1.96, 0.05, 0.01),
    ):
        with pytest.raises(ValueError, match=r"must|level|arms|inflation|correlation|never|lie"):
            call()
