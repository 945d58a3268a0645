"""Beta posteriors and the posterior of a lift: frozen quadratures, closed forms of others, and laws."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln, ndtr

from upshot.statistics.bayesian import Posterior, credible_interval, flat_prior, relative_posterior
from upshot.statistics.betabinomial import (
    Beta,
    BetaComparison,
    beta_interval,
    beta_posterior,
    chance_to_beat,
    compare_beta,
    difference_quantile,
    lift_quantile,
    logit_rule,
)
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments

Case = dict[str, Any]

COVERED = {
    "test_a_beta_comparison_equals_the_oracle": ("bayes_beta_binomial",),
    "test_the_oracle_catches_the_normal_posterior": ("bayes_beta_binomial",),
    "test_a_posterior_of_the_lift_equals_the_oracle": ("bayes_normal",),
}

counts = st.floats(0.5, 2e3)
shares = st.builds(Beta, counts, counts)


def close(expected: Any, tolerance: float = 1e-7) -> Any:
    """Equality within the relative 1e-7 that the vectors promise for quadratures; a lift of 0 is 0 to 1e-12."""
    return pytest.approx(expected, rel=tolerance, abs=1e-12)


def bounds(*intervals: Interval) -> list[float]:
    """The bounds of intervals that have two."""
    values = [bound for interval in intervals for bound in (interval.lower, interval.upper)]
    return [bound for bound in values if bound is not None]


def posteriors_of(case: Case) -> tuple[Beta, Beta]:
    """Control's and treatment's posterior of a case."""
    params, inputs = case["params"], case["inputs"]
    prior = Beta(params["prior_alpha"], params["prior_beta"])
    control, treatment = (
        beta_posterior(inputs[arm]["n"], inputs[arm]["conversions"], prior) for arm in ("control", "treatment")
    )
    return control, treatment


def assert_comparison(case: Case, result: BetaComparison) -> None:
    """Every number of the case but the median lift."""
    expected = case["expected"]
    assert result.chance_to_beat_control == close(expected["chance_to_beat"])
    assert result.expected_loss_treatment == close(expected["expected_loss_treatment"])
    assert result.expected_loss_control == close(expected["expected_loss_control"])
    assert result.mean_difference == close(expected["mean_diff"])
    assert bounds(result.control_interval) == close(expected["ci_control"])
    assert bounds(result.treatment_interval) == close(expected["ci_treatment"])
    if "lift_quantiles_025_50_975" in expected:
        lower, _, upper = expected["lift_quantiles_025_50_975"]
        assert bounds(result.lift_interval) == close([lower, upper])


def test_a_beta_comparison_equals_the_oracle(case: Case) -> None:
    """Chance, losses, difference, intervals and quantiles of the lift, also without conversions or without data."""
    control, treatment = posteriors_of(case)
    assert_comparison(case, compare_beta(control, treatment, 1 - case["params"]["cred"]))
    if "lift_quantiles_025_50_975" in case["expected"]:
        _, median, _ = case["expected"]["lift_quantiles_025_50_975"]
        assert lift_quantile(control, treatment, 0.5) == close(median)


def test_the_oracle_catches_the_normal_posterior(case: Case) -> None:
    """A normal posterior of the difference, with the same means and variances, fails every case."""
    control, treatment = posteriors_of(case)
    exact = compare_beta(control, treatment, 0.05)
    error = math.sqrt(sum(arm.mean * (1 - arm.mean) / (arm.a + arm.b + 1) for arm in (control, treatment)))
    normal = flat_prior(exact.mean_difference, error)
    broken = BetaComparison(
        normal.chance_to_beat_control,
        normal.expected_loss_treatment,
        normal.expected_loss_control,
        *(exact.mean_difference, exact.control_interval, exact.treatment_interval),
        *(exact.difference_interval, exact.lift_interval),
    )
    with pytest.raises(AssertionError):
        assert_comparison(case, broken)


def miller(control: Beta, treatment: Beta) -> float:
    """Evan Miller's sum for a whole number of successes in treatment."""
    a, b = control.a, control.b
    terms = (
        betaln(a + i, treatment.b + b) - math.log(treatment.b + i) - betaln(1 + i, treatment.b) - betaln(a, b)
        for i in range(round(treatment.a))
    )
    return math.fsum(math.exp(float(term)) for term in terms)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 5_000), st.integers(1, 200), st.integers(1, 5_000))
def test_the_chance_equals_the_closed_form(a0: int, b0: int, a1: int, b1: int) -> None:
    """Miller's sum over whole counts gives the same chance, and with it Stucchio's the same losses."""
    control, treatment = Beta(a0, b0), Beta(a1, b1)
    result = compare_beta(control, treatment, 0.05)
    assert result.chance_to_beat_control == pytest.approx(miller(control, treatment), rel=1e-8, abs=1e-12)
    lost = control.mean * (1 - miller(Beta(a0 + 1, b0), treatment))
    lost -= treatment.mean * (1 - miller(control, Beta(a1 + 1, b1)))
    assert result.expected_loss_treatment == pytest.approx(lost, abs=1e-10)


@settings(max_examples=12, deadline=None)
@given(shares, shares)
def test_chance_and_losses_fit_together(control: Beta, treatment: Beta) -> None:
    """Swapping arms complements the chance and swaps the losses, which differ by the difference of the means."""
    result, swapped = compare_beta(control, treatment, 0.05), compare_beta(treatment, control, 0.05)
    assert result.chance_to_beat_control + swapped.chance_to_beat_control == pytest.approx(1, abs=1e-10)
    assert result.expected_loss_control == pytest.approx(swapped.expected_loss_treatment, abs=1e-10)
    gap = result.expected_loss_control - result.expected_loss_treatment
    assert gap == pytest.approx(result.mean_difference, abs=1e-10)
    assert min(result.expected_loss_control, result.expected_loss_treatment) >= 0


@settings(max_examples=12, deadline=None)
@given(shares, shares, st.floats(0.001, 0.999))
def test_quantiles_of_the_lift_mirror(control: Beta, treatment: Beta, probability: float) -> None:
    """The ratio's quantile is one over that of the other ratio at the other end, and they ascend."""
    ratio = 1 + lift_quantile(control, treatment, probability)
    assert ratio > 0
    assert ratio * (1 + lift_quantile(treatment, control, 1 - probability)) == pytest.approx(1, rel=1e-6)
    found = [lift_quantile(control, treatment, level) for level in (0.1, 0.5, 0.9)]
    assert all(low < high for low, high in pairwise(found))


@settings(max_examples=25, deadline=None)
@given(shares, shares)
def test_the_lift_is_positive_as_often_as_treatment_wins(control: Beta, treatment: Beta) -> None:
    """The lift at the chance to lose is 0."""
    chance = chance_to_beat(control, treatment)
    if 0.001 < chance < 0.999:
        assert lift_quantile(control, treatment, 1 - chance) == pytest.approx(0, abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(shares, shares, st.floats(0.001, 0.999))
def test_quantiles_of_the_difference_mirror(control: Beta, treatment: Beta, probability: float) -> None:
    """Swapped arms give the other end with the other sign, so do shares of failures; and they ascend."""
    difference = difference_quantile(control, treatment, probability)
    assert -1 < difference < 1
    assert difference_quantile(treatment, control, 1 - probability) == pytest.approx(-difference, abs=1e-7)
    failures = difference_quantile(control.mirrored, treatment.mirrored, 1 - probability)
    assert failures == pytest.approx(-difference, abs=1e-7)
    found = [difference_quantile(control, treatment, level) for level in (0.1, 0.5, 0.9)]
    assert all(low < high for low, high in pairwise(found))


@settings(max_examples=25, deadline=None)
@given(shares, shares)
def test_the_difference_is_positive_as_often_as_treatment_wins(control: Beta, treatment: Beta) -> None:
    """The difference at the chance to lose is 0, which that at twice the chance is not."""
    chance = chance_to_beat(control, treatment)
    if 0.001 < chance < 0.999:
        assert difference_quantile(control, treatment, 1 - chance) == pytest.approx(0, abs=1e-6)
        assert abs(difference_quantile(control, treatment, (1 - chance) / 2)) > 1e-6


def test_few_conversions_are_not_normal() -> None:
    """3 of 100 against none of 100: the exact interval, by another quadrature over both shares, is not the normal one."""
    control, treatment = Beta(1, 101), Beta(4, 98)
    rng = np.random.default_rng(7)
    drawn = rng.beta(4, 98, 400_000) - rng.beta(1, 101, 400_000)

    lower, upper = bounds(compare_beta(control, treatment, 0.05).difference_interval)

    assert [lower, upper] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=3e-4)
    error = math.hypot(control.deviation, treatment.deviation)
    normal = bounds(credible_interval(flat_prior(treatment.mean - control.mean, error), 0.05))
    assert abs(normal[1] - upper) > 3e-3


def test_two_unknown_shares_have_a_known_ratio() -> None:
    """Without data P(ratio <= r) is r/2 below 1 and 1 - 1/(2r) above: 2.5 % at .05, 97.5 % at 20. The difference is
    triangular: P(difference <= d) = (1 + d)^2 / 2 below 0."""
    flat = Beta(1, 1)
    assert difference_quantile(flat, flat, 0.02) == pytest.approx(-0.8, rel=1e-3)
    assert difference_quantile(flat, flat, 0.98) == pytest.approx(0.8, rel=1e-3)
    assert 1 + lift_quantile(flat, flat, 0.025) == pytest.approx(0.05, rel=1e-9)
    assert 1 + lift_quantile(flat, flat, 0.975) == pytest.approx(20, rel=1e-9)


def test_many_users_make_the_posterior_normal() -> None:
    """With a million users a share and its interval follow the normal posterior of the difference."""
    control, treatment = Beta(50_000, 950_000), Beta(50_500, 949_500)
    result = compare_beta(control, treatment, 0.05)
    error = math.sqrt(sum(arm.mean * (1 - arm.mean) / 1e6 for arm in (control, treatment)))
    normal = flat_prior(0.0005, error)
    assert result.chance_to_beat_control == pytest.approx(normal.chance_to_beat_control, rel=1e-3)
    assert result.expected_loss_treatment == pytest.approx(normal.expected_loss_treatment, rel=1e-2)


@settings(max_examples=60)
@given(st.floats(0.1, 1e9), st.floats(0.1, 1e9))
def test_the_rule_integrates_a_beta(a: float, b: float) -> None:
    """Its weights sum to 1 and give the first two moments, from piled-up shares to a billion users."""
    x, weights = logit_rule(Beta(a, b), 1.0)
    assert weights.sum() == pytest.approx(1)
    assert float(weights @ x) == pytest.approx(a / (a + b), rel=1e-8)
    assert float(weights @ (x * x)) == pytest.approx(a / (a + b) * (a + 1) / (a + b + 1), rel=1e-8)
    assert ((x >= 0) & (x <= 1)).all()


def test_unequal_arms_keep_their_digits() -> None:
    """A starved arm beside a narrow one: the chance is the one that the wide arm alone gives at the narrow share."""
    control, treatment = Beta(1, 1), Beta(3e8, 9e8)
    assert chance_to_beat(control, treatment) == pytest.approx(0.25, rel=1e-8)
    assert chance_to_beat(treatment, control) == pytest.approx(0.75, rel=1e-8)
    assert 1 + lift_quantile(control, treatment, 0.5) == pytest.approx(0.5, rel=1e-4)


def test_what_is_no_posterior_is_refused() -> None:
    """Counts near zero or without end, impossible successes, and levels that are none raise."""
    flat = Beta(1, 1)
    for call in (
        lambda: Beta(0.01, 1),
        lambda: Beta(1, math.inf),
        lambda: Beta(math.nan, 1),
        lambda: beta_posterior(5, 6, flat),
        lambda: beta_interval(flat, 0.0),
        lambda: lift_quantile(flat, flat, 1.0),
        lambda: difference_quantile(flat, flat, 0.0),
    ):
        with pytest.raises(ValueError, match=r"Beta|successes|level"):
            call()


def test_a_beta_interval_holds_what_it_says() -> None:
    """In experiments drawn from the prior the 90 % interval of an arm misses the truth in 10 %."""
    rng = np.random.default_rng(15)
    truth = rng.beta(2, 8, 5_000)
    seen = rng.binomial(40, truth)
    table = {x: bounds(beta_interval(beta_posterior(40, x, Beta(2, 8)), 0.1)) for x in set(seen.tolist())}
    wrong = {x: bounds(beta_interval(beta_posterior(40, x, Beta(1, 1)), 0.1)) for x in set(seen.tolist())}
    missed, missed_wrong = (
        sum(not t[x][0] <= p <= t[x][1] for x, p in zip(seen.tolist(), truth.tolist(), strict=True))
        for t in (table, wrong)
    )
    assert 431 <= missed <= 571
    assert missed_wrong != missed


def lift_moments(arm: Case) -> Moments:
    """Moments of an arm given as raw sums."""
    return Moments(arm["n"], arm["sum"] / arm["n"], arm["sum_squares"] - arm["sum"] ** 2 / arm["n"])


def assert_posterior(case: Case, posterior: Posterior | None) -> None:
    """Mean, deviation, chance, losses and interval of the case."""
    assert posterior is not None
    expected = case["expected"]
    assert posterior == Posterior(
        close(expected["posterior_mean"], 1e-9),
        close(expected["posterior_sd"], 1e-9),
        close(expected["chance_to_beat"], 1e-9),
        close(expected["risk_treatment"], 1e-9),
        close(expected["risk_control"], 1e-9),
    )
    assert bounds(credible_interval(posterior, 0.05)) == close(expected["ci"], 1e-9)


def test_a_posterior_of_the_lift_equals_the_oracle(case: Case) -> None:
    """From the arms' moments, under the flat and both proper priors; forgetting the baseline's noise fails.

    Where lower is better only the chance is compared, as the oracle's library leaves the losses unturned.
    """
    params = case["params"]
    if params["difference"] != "relative":
        return
    arms = [lift_moments(case["inputs"][arm]) for arm in ("control", "treatment")]
    (m0, v0), (m1, v1) = ((arm.mean, (arm.variance or 0.0) / arm.n) for arm in arms)
    if params["inverse"]:
        flipped = relative_posterior((-m0, v0), (-m1, v1))
        assert flipped is not None
        assert flipped.chance_to_beat_control == close(case["expected"]["chance_to_beat"], 1e-9)
        assert flipped.mean == close(-case["expected"]["posterior_mean"], 1e-9)
        return
    prior_sd = params["prior"]["sd"] if params["prior"]["proper"] else None
    prior_mean = params["prior"]["mean"]
    assert_posterior(case, relative_posterior((m0, v0), (m1, v1), prior_mean=prior_mean, prior_sd=prior_sd))
    with pytest.raises(AssertionError):
        assert_posterior(case, relative_posterior((m0, 0.0), (m1, v1), prior_mean=prior_mean, prior_sd=prior_sd))


def test_a_lift_without_a_baseline_or_an_error_has_no_posterior() -> None:
    """A control mean of 0 and arms without variance give none; a prior without spread is refused."""
    assert relative_posterior((0.0, 1.0), (1.0, 1.0)) is None
    assert relative_posterior((1.0, 0.0), (2.0, 0.0)) is None
    with pytest.raises(ValueError, match="positive and finite"):
        relative_posterior((1.0, 1.0), (2.0, 1.0), prior_sd=0.0)


def test_a_prior_draws_the_lift_to_itself() -> None:
    """Half the trust each: the posterior lies midway, and its chance is that of the narrower normal."""
    posterior = relative_posterior((10.0, 0.0), (11.0, 1.0), prior_sd=0.1)
    assert posterior is not None
    assert posterior.mean == pytest.approx(0.05)
    assert posterior.standard_deviation == pytest.approx(0.1 / math.sqrt(2))
    assert posterior.chance_to_beat_control == pytest.approx(float(ndtr(0.05 / (0.1 / math.sqrt(2)))))
