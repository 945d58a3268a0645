"""Laws of always-valid p-values, posteriors, sample ratio, Holm, planning, tails and words."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from upshot.statistics.bayesian import flat_prior
from upshot.statistics.comparison import compare_means, compare_proportions
from upshot.statistics.confidence import p_value_of_chance, word
from upshot.statistics.moments import Moments
from upshot.statistics.multiplicity import holm
from upshot.statistics.power import minimum_detectable_effect, users_needed, users_needed_proportion
from upshot.statistics.sequential import (
    always_valid_critical_value,
    always_valid_p_value,
    mixture_variance,
)
from upshot.statistics.srm import SampleRatio, sample_ratio
from upshot.statistics.tails import log10_p_value, normal_critical_value, normal_p_value, student_p_value

sizes = st.integers(1, 10**9)
levels = st.floats(0.001, 0.5)


@given(st.floats(-50, 50), sizes, levels, sizes)
def test_an_always_valid_p_value_is_never_below_the_fixed_one(z: float, n: int, alpha: float, planned: int) -> None:
    """The freedom to look at any time costs evidence at every single look."""
    p_value = always_valid_p_value(z, n, alpha, planned)
    assert normal_p_value(z) <= p_value <= 1


@given(st.floats(0, 30), sizes, st.floats(0.001, 0.3), sizes)
def test_the_always_valid_critical_value_and_p_value_agree(z: float, n: int, alpha: float, planned: int) -> None:
    """|z| reaches the critical value exactly when the p-value falls to alpha."""
    critical = always_valid_critical_value(n, alpha, planned)
    if abs(z - critical) > 1e-9 * critical:
        assert (z > critical) == (always_valid_p_value(z, n, alpha, planned) < alpha)
    assert critical > normal_critical_value(alpha)


def test_intervals_of_the_sequence_say_what_its_p_value_says() -> None:
    """Of the difference and of the lift, of shares and of means of few and many users: 0 is left out exactly when the
    always-valid p-value is small. Intervals at the ordinary level leave it out more often."""
    critical = always_valid_critical_value(20_000, 0.05, 10_000)
    early = []
    for successes in range(500, 700, 5):
        shares = Moments.binomial(10_000, 500), Moments.binomial(10_000, successes)
        means = Moments(20, 5.0, 19 * 0.01), Moments(20, 5.0 + (successes - 500) / 1_000, 19 * 0.01)
        for effect in (compare_proportions(*shares, 0.05), compare_means(*means, 0.05)):
            p_value = always_valid_p_value(effect.statistic or 0.0, 20_000)
            for interval in effect.intervals(critical):
                assert interval is not None
                assert interval.lower is not None
                assert (interval.lower > 0) == (p_value < 0.05)
            assert effect.absolute_interval is not None
            early.append((effect.absolute_interval.lower or 0.0) > 0 and p_value > 0.05)
    assert any(early)


@pytest.mark.parametrize(("z", "n", "alpha", "planned"), [(math.nan, 9, 0.05, 9), (1.0, 0, 0.05, 9)])
def test_a_look_without_data_is_refused(z: float, n: int, alpha: float, planned: int) -> None:
    """No users or no statistic is no look."""
    with pytest.raises(ValueError, match=r"finite number|at least one user"):
        always_valid_p_value(z, n, alpha, planned)


@pytest.mark.parametrize(("alpha", "planned"), [(0.05, 0), (0.0, 10), (1.0, 10)])
def test_an_impossible_plan_is_refused(alpha: float, planned: int) -> None:
    """A plan needs users and a level within (0, 1)."""
    with pytest.raises(ValueError, match=r"planned|level"):
        mixture_variance(alpha, planned)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_losses_and_chance_of_a_flat_prior_fit_together(difference: float, error: float) -> None:
    """The losses differ by the effect, swapping arms swaps them, and the chance stands for the p-value."""
    posterior, swapped = flat_prior(difference, error), flat_prior(-difference, error)
    gap = posterior.expected_loss_control - posterior.expected_loss_treatment
    assert gap == pytest.approx(difference, rel=1e-9, abs=1e-9 * error)
    assert min(posterior.expected_loss_control, posterior.expected_loss_treatment) >= 0
    assert swapped.expected_loss_control == posterior.expected_loss_treatment
    p_value = p_value_of_chance(posterior.chance_to_beat_control)
    assert p_value == pytest.approx(normal_p_value(difference / error), abs=1e-12)


def test_a_small_loss_keeps_its_digits() -> None:
    """Ten errors ahead, the loss of treatment is 7.4746e-25 errors; the plain difference gets it wrong."""
    oracle = pytest.approx(7.474560254589328e-25, rel=1e-9, abs=0)
    assert flat_prior(10.0, 1.0).expected_loss_treatment == oracle
    density = math.exp(-50.0) / math.sqrt(2 * math.pi)
    assert density - 10.0 * (1.0 - 0.5 * math.erfc(-10.0 / math.sqrt(2))) != oracle


@given(st.floats(-10, 10), st.floats(0.01, 10), st.floats(-10, 10))
def test_a_vague_prior_is_the_flat_one_and_a_firm_one_wins(estimate: float, error: float, prior: float) -> None:
    """The proper prior moves the posterior from the estimate to its own mean as it firms up."""
    vague = flat_prior(estimate, error, prior_mean=prior, prior_sd=1e9)
    assert vague.mean == pytest.approx(estimate, rel=1e-6, abs=1e-6)
    assert vague.standard_deviation == pytest.approx(error, rel=1e-6)
    firm = flat_prior(estimate, error, prior_mean=prior, prior_sd=1e-9)
    assert firm.mean == pytest.approx(prior, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("error", "prior_sd"), [(0.0, None), (math.nan, None), (1.0, 0.0), (1.0, math.inf)])
def test_a_posterior_needs_an_error(error: float, prior_sd: float | None) -> None:
    """An error or prior deviation of zero, or none, has no posterior."""
    with pytest.raises(ValueError, match="positive and finite"):
        flat_prior(1.0, error, prior_sd=prior_sd)


@pytest.mark.parametrize(
    ("observed", "weights", "status"),
    [
        ([], [], "too_few"),
        ([0, 0], [1.0, 1.0], "too_few"),
        ([50], [1.0], "too_few"),
        ([50, 0], [1.0, 0.0], "too_few"),
        ([50, 2], [1.0, 0.0], "users_in_closed_arm"),
    ],
)
def test_a_split_without_a_test_has_no_p_value(observed: list[int], weights: list[float], status: str) -> None:
    """No users or fewer than two open arms: nothing to test; users in a closed arm are reported first."""
    assert sample_ratio(observed, weights) == SampleRatio(None, None, None, status)


def test_users_in_a_closed_arm_are_reported() -> None:
    """The p-value comes from the open arms; the closed one gives the status and no degree of freedom."""
    ratio, clean = sample_ratio([5010, 4990, 3], [1, 1, 0]), sample_ratio([5010, 4990, 0], [1, 1, 0])
    assert (ratio.status, clean.status) == ("users_in_closed_arm", "ok")
    assert ratio.p_value == clean.p_value == pytest.approx(0.841480581121794)
    assert ratio.degrees_of_freedom == 1
    broken_with_two_degrees = math.exp(-(ratio.chi2 or 0.0) / 2)
    assert broken_with_two_degrees != pytest.approx(0.841480581121794)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6), st.floats(1e-3, 1e3))
def test_the_scale_of_the_weights_does_not_matter(observed: list[int], scale: float) -> None:
    """Expected counts, shares and plain weights give the same answer."""
    plain, scaled = (
        sample_ratio(observed, [1.0] * len(observed)),
        sample_ratio(observed, [scale] * len(observed)),
    )
    assert scaled.status == plain.status
    if plain.p_value is not None:
        assert scaled.p_value == pytest.approx(plain.p_value, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(
    ("observed", "weights"),
    [([1, 2], [1.0]), ([-1, 2], [1.0, 1.0]), ([1, 2], [1.0, -1.0]), ([1, 2], [1.0, math.nan])],
)
def test_an_impossible_split_is_refused(observed: list[int], weights: list[float]) -> None:
    """Arms that do not match, negative users and weights that are no weights raise."""
    with pytest.raises(ValueError, match=r"observed|expected"):
        sample_ratio(observed, weights)


p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)


def assert_step_down(raw: list[float | None], adjusted: list[float | None]) -> None:
    """Adjusted values are not below the raw ones, keep their order, and skip absent questions."""
    assert [p is None for p in raw] == [p is None for p in adjusted]
    pairs = sorted((p, a) for p, a in zip(raw, adjusted, strict=True) if p is not None and a is not None)
    assert all(p <= a <= 1 for p, a in pairs)
    assert all(left[1] <= right[1] for left, right in pairwise(pairs))


@given(p_values)
def test_holm_is_monotone_and_never_below_the_raw_value(raw: list[float | None]) -> None:
    """Adjustment keeps the order of the p-values, never lowers one, and leaves absent ones absent."""
    adjusted = holm(raw)
    assert_step_down(raw, adjusted)
    present = [p for p in raw if p is not None]
    assert [a for a in adjusted if a is not None] == holm(present)
    if present:
        assert min(a for a in adjusted if a is not None) == min(1.0, len(present) * min(present))


def test_holm_without_the_running_maximum_is_caught() -> None:
    """Multiplying alone can reverse the order of two p-values."""
    with pytest.raises(AssertionError):
        assert_step_down([0.01, 0.012], [2 * 0.01, 1 * 0.012])


def test_holm_refuses_what_is_no_p_value() -> None:
    """Values outside [0, 1] raise."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


@given(st.floats(0.01, 1e4), st.floats(0.01, 10), st.floats(0.05, 0.95), st.sampled_from([0.5, 0.8, 0.95]))
def test_users_needed_and_detectable_effect_are_inverse(
    variance: float, effect: float, share: float, power: float
) -> None:
    """With the users needed the effect is detectable, and with fewer by two in each arm it is not."""
    users = users_needed(variance, effect, power=power, treatment_share=share)
    treated = math.ceil(users * share)
    detectable = minimum_detectable_effect(variance, users - treated + 1, treated + 1, power=power)
    assert detectable is not None
    assert detectable <= effect * (1 + 1e-9)
    fewer = minimum_detectable_effect(variance, users - treated - 2, treated - 2, power=power)
    assert fewer is None or fewer > effect


def test_an_unequal_split_needs_more_users() -> None:
    """At every other share than one half, more users are needed for the same effect on a proportion."""
    users = [users_needed_proportion(0.05, 0.005, treatment_share=share) for share in (0.1, 0.3, 0.5)]
    assert users == sorted(users, reverse=True)
    assert users_needed_proportion(0.05, 0.005) < users_needed_proportion(0.05, 0.004)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_users_needed_for_a_proportion_reach_the_power_and_not_before(share: float) -> None:
    """From the counts per arm: pooled critical value plus unpooled power reach just fit the effect."""
    before, after = 0.1, 0.15

    def reach(users: float) -> float:
        n0, n1 = users * (1 - share), users * share
        pooled = (n0 * before + n1 * after) / users
        under_null = math.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))
        under_effect = math.sqrt(before * (1 - before) / n0 + after * (1 - after) / n1)
        return 1.959963984540054 * under_null + 0.8416212335729143 * under_effect

    users = users_needed_proportion(before, after - before, treatment_share=share)
    assert reach(users) <= after - before < reach(users - 2.01)


def test_there_is_no_detectable_effect_without_users_or_variance() -> None:
    """An empty arm or a constant detects nothing, which is not the same as detecting everything."""
    assert minimum_detectable_effect(1.0, 0, 10) is None
    assert minimum_detectable_effect(0.0, 10, 10) is None


def test_an_impossible_plan_of_users_is_refused() -> None:
    """No variance, no effect, no power, a share of everything, or a proportion above 1 raise."""
    for call in (
        lambda: users_needed(0.0, 1.0),
        lambda: users_needed(1.0, 0.0),
        lambda: users_needed(1.0, 1e-200),
        lambda: users_needed(1.0, 1.0, power=0.01),
        lambda: users_needed(1.0, 1.0, treatment_share=1.0),
        lambda: users_needed_proportion(0.9, 0.2),
        lambda: minimum_detectable_effect(1.0, 10, 10, power=1.0),
    ):
        with pytest.raises(ValueError, match=r"must|effect"):
            call()


def test_a_p_value_far_below_the_smallest_double_keeps_its_logarithm() -> None:
    """The far t tail follows its leading term, where the p-value itself underflows to nothing."""
    t, freedom = 1e160, 3.0
    assert student_p_value(t, freedom) == 0.0
    leading = -3.0 * math.log(t) + 1.5 * math.log(3.0) - math.log(1.5) - float(betaln(1.5, 0.5))
    assert log10_p_value(t / 1e40, freedom) == pytest.approx((leading + 120 * math.log(10)) / math.log(10))


@given(st.floats(36.5, 38), st.floats(5e4, 1e6))
def test_the_two_branches_of_the_t_logarithm_meet(t: float, freedom: float) -> None:
    """Around the switch to the continued fraction the logarithm follows the plain p-value."""
    p_value = student_p_value(t, freedom)
    if p_value > 1e-305:
        assert log10_p_value(t, freedom) == pytest.approx(math.log10(p_value), rel=1e-9)


def test_no_p_value_has_no_word() -> None:
    """Without a p-value there is no word, and what is no p-value or chance is refused."""
    assert word(None) is None
    for call in (lambda: word(math.nan), lambda: word(-0.1), lambda: p_value_of_chance(1.1)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()
    assert word(0.03, alpha=0.01) == "high"
