"""Every frozen oracle number the room covers, and broken variants the oracle must catch."""

import math
from typing import Any

import pytest

from upshot.statistics.bayesian import Posterior, credible_interval, flat_prior
from upshot.statistics.comparison import Effect, compare_means, compare_proportions
from upshot.statistics.confidence import p_value_of_chance, word
from upshot.statistics.interval import Interval
from upshot.statistics.lift import fieller_interval
from upshot.statistics.moments import Moments
from upshot.statistics.multiplicity import holm
from upshot.statistics.power import minimum_detectable_effect, users_needed, users_needed_proportion
from upshot.statistics.score import score_ratio_interval
from upshot.statistics.sequential import (
    always_valid_critical_value,
    always_valid_p_value,
    mixture_variance,
)
from upshot.statistics.srm import sample_ratio
from upshot.statistics.strata import compare_strata
from upshot.statistics.tails import log10_p_value, normal_critical_value

Case = dict[str, Any]

COVERED = {
    "test_a_proportion_comparison_equals_the_oracle": ("two_proportion_z",),
    "test_a_mean_comparison_equals_the_oracle": ("welch_t",),
    "test_a_lift_equals_the_oracle": ("relative_lift",),
    "test_a_sample_ratio_equals_the_oracle": ("srm",),
    "test_holm_equals_the_oracle": ("multiple_comparisons",),
    "test_an_always_valid_result_equals_the_oracle": ("sequential_asympcs",),
    "test_a_normal_posterior_equals_the_oracle": ("bayes_normal",),
    "test_a_detectable_effect_equals_the_oracle": ("mde",),
    "test_users_needed_for_a_mean_equal_the_oracle": ("power_means",),
    "test_users_needed_for_a_proportion_equal_the_oracle": ("power_two_proportions",),
    "test_a_confidence_word_equals_the_oracle": ("confidence_word", "confidence_word_bayes"),
    "test_a_stratified_comparison_equals_the_oracle": ("post_stratification",),
    "test_the_variance_of_large_means_survives": ("moments",),
    "test_the_price_of_always_valid_looks_equals_the_oracle": ("power_sequential",),
    "test_the_mixture_variance_equals_the_oracle": ("sequential_rho",),
}
STATUS = {"no_variance": {"zero_variance"}, "insufficient_data": {"no_users", "one_user"}}


def close(expected: float | list[float]) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def bounds(interval: Interval | None) -> list[float]:
    """Both bounds as a list, an unbounded upper side as infinity."""
    assert interval is not None
    assert interval.lower is not None
    return [interval.lower, math.inf if interval.upper is None else interval.upper]


def proportion(arm: Case) -> Moments:
    """0/1 moments of an arm given as users and conversions."""
    return Moments.binomial(arm["n"], arm["conversions"])


def mean(arm: Case) -> Moments:
    """Moments of an arm given as mean and variance, or as raw sums."""
    if "var" in arm:
        return Moments(arm["n"], arm["mean"], arm["var"] * (arm["n"] - 1))
    return Moments(arm["n"], arm["sum"] / arm["n"], arm["sum_squares"] - arm["sum"] ** 2 / arm["n"])


def arms(case: Case) -> tuple[Moments, Moments]:
    """Control and treatment of a case of means."""
    return mean(case["inputs"]["control"]), mean(case["inputs"]["treatment"])


def assert_untested(effect: Effect, status: str) -> None:
    """A comparison without a test has no number that only a test can give, and says why."""
    assert effect.status in STATUS[status]
    assert (effect.absolute_interval, effect.relative_interval) == (None, None)
    assert (effect.statistic, effect.p_value) == (None, None)
    assert (effect.standard_error, effect.degrees_of_freedom) == (None, None)


def test_a_proportion_comparison_equals_the_oracle(case: Case) -> None:
    """z, p and both score intervals equal the oracle; without variance or users there is no number."""
    control, treatment = proportion(case["inputs"]["control"]), proportion(case["inputs"]["treatment"])
    expected, alpha = case["expected"], case["params"]["alpha"]
    effect = compare_proportions(control, treatment, alpha)
    if case["status"] != "ok":
        assert_untested(effect, case["status"])
        return
    assert effect.status == "ok"
    assert effect.statistic == close(expected["z_pooled"])
    assert effect.p_value == close(expected["p_value_pooled"])
    assert effect.absolute_difference == close(expected["diff"])
    assert bounds(effect.absolute_interval) == close(expected["ci_miettinen_nurminen"])
    assert log10_p_value(effect.statistic or 0.0) == close(expected["log10_p_pooled"])
    total = control.n + treatment.n
    ratios = score_ratio_interval(
        (control.n, round(control.total)),
        (treatment.n, round(treatment.total)),
        normal_critical_value(alpha) ** 2 * total / (total - 1),
    )
    oracle = [float(bound) for bound in expected["ci_ratio_score"]]
    assert bounds(ratios) == close(oracle)
    if effect.lift_status == "ok":
        assert [1 + bound for bound in bounds(effect.relative_interval)] == close(oracle)
    else:
        assert (effect.lift_status, effect.relative_interval) == ("zero_baseline", None)


def test_the_oracle_catches_the_unpooled_z() -> None:
    """The oracle tells the pooled z-test from its unpooled variant, so the case above can fail."""
    se_unpooled = math.sqrt(0.03 * 0.97 / 100 + 0.09 * 0.91 / 100)
    effect = compare_proportions(Moments.binomial(100, 3), Moments.binomial(100, 9), 0.05)
    assert effect.statistic == close(1.7864740025262411)
    assert 0.06 / se_unpooled != pytest.approx(effect.statistic)


def test_a_mean_comparison_equals_the_oracle(case: Case) -> None:
    """Welch's t, degrees of freedom, p and interval equal the oracle; one user or no variance: no number."""
    effect = compare_means(*arms(case), case["params"]["alpha"])
    expected = case["expected"]
    if case["status"] != "ok":
        assert_untested(effect, case["status"])
        return
    assert effect.absolute_difference == close(expected["diff"])
    assert effect.standard_error == close(expected["se"])
    assert effect.degrees_of_freedom == close(expected["df"])
    assert effect.statistic == close(expected["t"])
    assert effect.p_value == close(expected["p_value"])
    assert bounds(effect.absolute_interval) == close(expected["ci"])
    assert log10_p_value(expected["t"], expected["df"]) == close(expected["log10_p"])


def test_the_oracle_catches_pooled_degrees_of_freedom() -> None:
    """Student's n0+n1-2 degrees of freedom differ from Welch's in the small case."""
    effect = compare_means(Moments(12, 5.1, 1.44 * 11), Moments(15, 6.0, 2.25 * 14), 0.05)
    assert effect.degrees_of_freedom == close(24.99799598199397)
    assert close(24.99799598199397) != 12 + 15 - 2


def test_a_lift_equals_the_oracle(case: Case) -> None:
    """Lift and Fieller's interval (normal critical value) equal the oracle; zero baseline: no lift."""
    expected, inputs = case["expected"], case["inputs"]
    if case["status"] == "lift_undefined":
        effect = compare_proportions(proportion(inputs["control"]), proportion(inputs["treatment"]), 0.05)
        assert (effect.relative_lift, effect.relative_interval) == (expected["lift"], expected["lift_ci"])
        assert (effect.status, effect.lift_status) == ("ok", "zero_baseline")
        assert effect.absolute_difference == close(expected["diff"])
        assert effect.p_value == close(expected["p_value_pooled"])
        return
    control, treatment = arms(case)
    assert compare_means(control, treatment, 0.05).relative_lift == close(expected["lift"])
    pairs = [(arm.mean, (arm.variance or 0.0) / arm.n) for arm in (control, treatment)]
    fieller = fieller_interval(pairs[0], pairs[1], normal_critical_value(case["params"]["alpha"]))
    assert bounds(fieller) == close(expected["ci_fieller_z"])
    assert bounds(fieller) != close(expected["ci_delta_t"])


def test_a_sample_ratio_equals_the_oracle(case: Case) -> None:
    """Chi-squared and its p equal the oracle, also with a closed arm."""
    ratio = sample_ratio(case["inputs"]["observed"], case["inputs"]["weights"])
    assert ratio.p_value == close(case["expected"]["p_value"])
    assert ratio.status == "ok"
    if "chi2" in case["expected"]:
        assert ratio.chi2 == close(case["expected"]["chi2"])


def test_holm_equals_the_oracle(case: Case) -> None:
    """Holm's adjusted p-values equal the oracle; other corrections of the same p-values do not pass."""
    adjusted = holm(case["inputs"]["p_values"])
    oracle = close(case["expected"]["p_adjusted"])
    if case["params"]["correction"] == "holm" or len(adjusted) == 1:
        assert adjusted == oracle
    else:
        assert adjusted != oracle


def test_an_always_valid_result_equals_the_oracle(case: Case) -> None:
    """Critical value, p and interval of the confidence sequence equal the oracle; the fixed p does not."""
    control, treatment = arms(case)
    expected, alpha, planned = case["expected"], case["params"]["alpha"], case["params"]["n_star"]
    n = control.n + treatment.n
    effect = compare_means(control, treatment, alpha)
    assert effect.statistic == close(expected["z"])
    critical = always_valid_critical_value(n, alpha, planned)
    assert critical == close(expected["critical_value"])
    assert always_valid_p_value(expected["z"], n, alpha, planned) == close(expected["always_valid_p"])
    reach = critical * (effect.standard_error or 0.0)
    difference = effect.absolute_difference or 0.0
    assert [difference - reach, difference + reach] == close(expected["ci"])
    if expected["always_valid_p"] < 1:
        assert effect.p_value != close(expected["always_valid_p"])


def test_a_normal_posterior_equals_the_oracle(case: Case) -> None:
    """Chance to beat control, losses and interval equal the oracle, under the flat and the proper prior.

    Relative cases start from the delta-method deviation of the lift. The oracle's library leaves the losses
    as they were when lower is better; only the chance is compared there.
    """
    params, expected = case["params"], case["expected"]
    effect = compare_means(*arms(case), 0.05)
    estimate, error = effect.absolute_difference or 0.0, effect.standard_error or 0.0
    if params["difference"] == "relative":
        estimate, error = 0.05, 0.020988091861815356
    prior_sd = params["prior"]["sd"] if params["prior"]["proper"] else None
    if params["inverse"]:
        assert flat_prior(-estimate, error).chance_to_beat_control == close(expected["chance_to_beat"])
        return
    posterior = flat_prior(estimate, error, prior_mean=params["prior"]["mean"], prior_sd=prior_sd)
    assert posterior == Posterior(
        close(expected["posterior_mean"]),
        close(expected["posterior_sd"]),
        close(expected["chance_to_beat"]),
        close(expected["risk_treatment"]),
        close(expected["risk_control"]),
    )
    assert bounds(credible_interval(posterior, 0.05)) == close(expected["ci"])


def test_a_detectable_effect_equals_the_oracle(case: Case) -> None:
    """The detectable effect at an unequal split equals the oracle; forgetting the split does not."""
    inputs = case["inputs"]
    treated = round(inputs["n_total"] * inputs["treatment_share"])
    oracle = close(case["expected"]["mde_absolute"])
    assert minimum_detectable_effect(inputs["sd"] ** 2, inputs["n_total"] - treated, treated) == oracle
    half = inputs["n_total"] // 2
    assert minimum_detectable_effect(inputs["sd"] ** 2, half, half) != oracle


def test_users_needed_for_a_mean_equal_the_oracle(case: Case) -> None:
    """Both arms of the normal formula, each rounded up to whole users."""
    inputs, params = case["inputs"], case["params"]
    effect = inputs["mean"] * inputs["relative_mde"]
    users = users_needed(inputs["sd"] ** 2, effect, params["alpha"], params["power"])
    assert users == 2 * math.ceil(case["expected"]["n_per_arm_normal"])


def test_users_needed_for_a_proportion_equal_the_oracle(case: Case) -> None:
    """Both arms of the pooled-null formula rounded up; the unpooled formula would need fewer users."""
    inputs, params, expected = case["inputs"], case["params"], case["expected"]
    effect = inputs["baseline"] * inputs["relative_mde"]
    users = users_needed_proportion(inputs["baseline"], effect, params["alpha"], params["power"])
    assert users == 2 * math.ceil(expected["n_per_arm_pooled_null"])
    assert users != 2 * math.ceil(expected["n_per_arm_unpooled"])


def test_a_confidence_word_equals_the_oracle(case: Case) -> None:
    """The word of a p-value, and of the p-value a chance to beat control stands for, equal the oracle."""
    inputs, alpha = case["inputs"], case["params"]["alpha"]
    p_value = inputs.get("p_value")
    if p_value is None:
        p_value = p_value_of_chance(inputs["chance_to_beat"])
        assert p_value == close(case["expected"]["equivalent_two_sided_p"])
    assert word(p_value, alpha) == case["expected"]["word"]


def test_a_stratified_comparison_equals_the_oracle(case: Case) -> None:
    """The post-stratified difference and its fixed-strata error equal the oracle; pooling does not."""
    cells = [(mean(cell["control"]), mean(cell["treatment"])) for cell in case["inputs"]["cells"]]
    effect = compare_strata(cells, 0.05)
    oracle = close(case["expected"]["se_fixed_strata"])
    assert effect.absolute_difference == close(case["expected"]["diff"])
    assert effect.standard_error == oracle
    pooled = compare_means(cells[0][0] + cells[1][0], cells[0][1] + cells[1][1], 0.05)
    assert pooled.standard_error != oracle


def test_the_variance_of_large_means_survives(case: Case) -> None:
    """A variance near 1 beside a mean of 1e9 keeps its digits; the raw sum of squares loses them all."""
    values = [1e9 + index % 2 for index in range(case["inputs"]["n"])]
    oracle = close(case["expected"]["variance"])
    assert Moments.of(values).variance == oracle
    merged = Moments()
    for value in values:
        merged += Moments(1, value)
    assert merged.variance == pytest.approx(case["expected"]["variance"], rel=1e-8)
    n, total, squares = len(values), case["inputs"]["sum"], case["inputs"]["sum_squares"]
    assert (squares - total * total / n) / (n - 1) != oracle


def test_the_price_of_always_valid_looks_equals_the_oracle(case: Case) -> None:
    """At the planned size the always-valid test needs 1.91 times the users for equal power."""
    planned, expected = 10_000, case["expected"]
    alpha, power = case["params"]["alpha"], case["params"]["power"]
    critical = always_valid_critical_value(planned, alpha, planned)
    assert critical == close(expected["critical_value_at_n_star"])
    for_power = normal_critical_value(2 * (1 - power))
    inflation = ((critical + for_power) / (normal_critical_value(alpha) + for_power)) ** 2
    assert inflation == close(expected["sample_size_inflation"])


def test_the_mixture_variance_equals_the_oracle(case: Case) -> None:
    """The closed form of rho² equals the oracle and is told from the exact optimum it approximates."""
    rho_square = mixture_variance(case["params"]["alpha"], case["params"]["n_star"])
    assert rho_square == close(case["expected"]["rho2_approx"])
    assert rho_square != close(case["expected"]["rho2_exact"])
