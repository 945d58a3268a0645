"""Chances to be the best arm and the allocation that follows them: frozen quadratures, laws, whole weights."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from upshot.statistics.bayesian import flat_prior
from upshot.statistics.betabinomial import Beta, chance_to_beat
from upshot.statistics.calibration import binomial_band
from upshot.statistics.moments import Moments
from upshot.statistics.thompson import (
    MINIMUM_USERS,
    allocation,
    chance_to_be_best_beta,
    chance_to_be_best_normal,
    integer_weights,
    next_allocation,
)

Case = dict[str, Any]

COVERED = {
    "test_the_chances_of_normal_arms_equal_the_oracle": ("thompson_normal",),
    "test_the_chances_of_beta_arms_equal_the_oracle": ("thompson_beta",),
}

normal_arms = st.lists(st.tuples(st.floats(-3, 3), st.floats(0.03, 3)), min_size=2, max_size=6)
beta_arms = st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=2, max_size=5).map(
    lambda arms: [(users, round(users * share)) for users, share in arms]
)


def close(expected: list[float]) -> Any:
    """Equality within the relative 1e-7 that the vectors promise for quadratures."""
    return pytest.approx(expected, rel=1e-7, abs=0)


def test_the_chances_of_normal_arms_equal_the_oracle(case: Case) -> None:
    """Posteriors, chances and floored weights equal the oracle; a prior that weighs, or the best mean alone, does not."""
    arms = [
        Moments(arm["n"], arm["sum"] / arm["n"], arm["sum_squares"] - arm["sum"] ** 2 / arm["n"])
        for arm in case["inputs"]["arms"]
    ]
    params, oracle = case["params"], close(case["expected"]["p_best"])

    def chances(prior_variance: float) -> list[float]:
        prior = {"prior_mean": params["prior_mean"], "prior_sd": math.sqrt(prior_variance)}
        found = [flat_prior(arm.mean, math.sqrt((arm.variance or 0.0) / arm.n), **prior) for arm in arms]
        return chance_to_be_best_normal([each.mean for each in found], [each.standard_deviation**2 for each in found])

    assert chances(params["prior_var"]) == oracle
    assert allocation(chances(params["prior_var"]), params["floor"]) == close(case["expected"]["weights_with_floor"])
    assert chances(0.01) != oracle
    greedy = [float(arm.mean == max(other.mean for other in arms)) for arm in arms]
    assert greedy != oracle


def test_the_chances_of_beta_arms_equal_the_oracle(case: Case) -> None:
    """From counts and the flat prior; the normal approximation of the posteriors does not pass."""
    arms = [(arm["n"], arm["conversions"]) for arm in case["inputs"]["arms"]]
    a, b = case["params"]["prior"]
    oracle = close(case["expected"]["p_best"])
    assert chance_to_be_best_beta(arms, Beta(a, b)) == oracle
    means = [(x + a) / (n + a + b) for n, x in arms]
    variances = [p * (1 - p) / (n + a + b + 1) for p, (n, _) in zip(means, arms, strict=True)]
    assert chance_to_be_best_normal(means, variances) != oracle


@given(normal_arms, st.randoms(use_true_random=False))
def test_chances_of_normal_arms_sum_to_one_wherever_an_arm_stands(arms: list[tuple[float, float]], rng: Any) -> None:
    """Each is a chance, listing the arms in another order moves the chances along, and two arms have a closed form."""
    order = list(range(len(arms)))
    rng.shuffle(order)
    means, variances = [mean for mean, _ in arms], [deviation**2 for _, deviation in arms]
    chances = chance_to_be_best_normal(means, variances)
    assert math.fsum(chances) == pytest.approx(1, abs=1e-12)
    assert all(0 <= chance <= 1 for chance in chances)
    moved = chance_to_be_best_normal([means[arm] for arm in order], [variances[arm] for arm in order])
    assert moved == pytest.approx([chances[arm] for arm in order], abs=1e-12)
    pair = chance_to_be_best_normal(means[:2], variances[:2])
    known = float(ndtr((means[0] - means[1]) / math.sqrt(variances[0] + variances[1])))
    assert pair[0] == pytest.approx(known, abs=1e-10)


@settings(max_examples=50, deadline=None)
@given(beta_arms, st.randoms(use_true_random=False))
def test_chances_of_beta_arms_sum_to_one_wherever_an_arm_stands(arms: list[tuple[int, int]], rng: Any) -> None:
    """As for normal arms; two arms have the chance to beat, and counting failures turns the question round."""
    order = list(range(len(arms)))
    rng.shuffle(order)
    prior = Beta(1, 2)
    chances = chance_to_be_best_beta(arms, prior)
    assert math.fsum(chances) == pytest.approx(1, abs=1e-12)
    assert chance_to_be_best_beta([arms[arm] for arm in order], prior) == pytest.approx(
        [chances[arm] for arm in order], abs=1e-9
    )
    first, second = (Beta(1 + x, 2 + n - x) for n, x in arms[:2])
    assert chance_to_be_best_beta(arms[:2], prior)[0] == pytest.approx(chance_to_beat(second, first), abs=1e-9)
    failures = [(n, n - x) for n, x in arms]
    assert chance_to_be_best_beta(failures, Beta(2, 1), lower_is_better=True) == pytest.approx(chances, abs=1e-9)


def test_lower_is_better_turns_the_ranking_round() -> None:
    """The lowest mean has the best chance; unturned it would have the worst."""
    means, variances = [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]
    turned = chance_to_be_best_normal(means, variances, lower_is_better=True)
    assert turned == sorted(turned, reverse=True)
    assert turned == pytest.approx(chance_to_be_best_normal(means, variances)[::-1])


def hermite(means: list[float], variances: list[float]) -> list[float]:
    """The variant with 200 fixed Gauss-Hermite nodes over each arm, whatever the widths of the others."""
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    chances = []
    for arm, (mean, variance) in enumerate(zip(means, variances, strict=True)):
        x = mean + math.sqrt(2 * variance) * nodes
        others = [
            ndtr((x - m) / math.sqrt(v)) for j, (m, v) in enumerate(zip(means, variances, strict=True)) if j != arm
        ]
        chances.append(float(weights @ np.prod(others, axis=0) / weights.sum()))
    return chances


def test_a_starved_arm_is_no_trouble() -> None:
    """With arms of like width fixed nodes agree; with one thirty times wider they are off, and the chances here not."""
    alike = [0.0, 0.3, 0.1], [1.0, 2.0, 0.5]
    assert hermite(*alike) == pytest.approx(chance_to_be_best_normal(*alike), abs=1e-12)
    means, variances = [0.5, 0.0], [900.0, 1.0]
    known = float(ndtr(0.5 / math.sqrt(901)))
    assert chance_to_be_best_normal(means, variances)[0] == pytest.approx(known, abs=1e-12)
    assert hermite(means, variances)[0] != pytest.approx(known, abs=1e-3)


def test_the_chances_are_the_shares_of_draws() -> None:
    """Of twenty thousand draws each of four arms wins as often as its chance says; taken for alike in width, it does not."""
    means, deviations = np.array([0.0, 0.2, 0.1, -3.0]), np.array([1.0, 0.1, 0.5, 10.0])
    draws = np.random.default_rng(2).normal(means, deviations, (20_000, 4))
    wins = np.bincount(draws.argmax(axis=1), minlength=4).tolist()
    chances = chance_to_be_best_normal(means.tolist(), (deviations**2).tolist())
    assert all(win in binomial_band(20_000, chance) for win, chance in zip(wins, chances, strict=True))
    alike = chance_to_be_best_normal(means.tolist(), [1.0] * 4)
    assert not any(win in binomial_band(20_000, chance) for win, chance in zip(wins, alike, strict=True))


def test_the_floor_keeps_every_arm_measured() -> None:
    """Each arm gets the floor and its chance of the rest; a full floor shares alike."""
    assert allocation([0.0, 1.0]) == pytest.approx([0.01, 0.99])
    assert allocation([0.2, 0.3, 0.5], 0.1) == pytest.approx([0.24, 0.31, 0.45])
    assert allocation([0.0, 1.0], 0.5) == pytest.approx([0.5, 0.5])
    assert sum(allocation([0.2, 0.3, 0.5], 0.1)) == pytest.approx(1)


def test_no_share_moves_before_every_arm_has_its_users() -> None:
    """One user short in one arm, and nothing moves."""
    chances = [0.3, 0.7]
    assert next_allocation(chances, [MINIMUM_USERS - 1, 10**6]) is None
    assert next_allocation(chances, [MINIMUM_USERS, 10**6]) == allocation(chances)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=8).filter(lambda shares: max(shares) > 0), st.integers(8, 10_000)
)
def test_whole_weights_sum_to_the_total_and_follow_the_shares(shares: list[float], total: int) -> None:
    """Every arm has one at least, larger shares no smaller weights, and none is off by more than the raised arms."""
    weights = integer_weights(shares, total)
    assert sum(weights) == total
    assert min(weights) >= 1
    ranked = sorted(zip(shares, weights, strict=True))
    assert all(left[1] <= right[1] + 1 for left, right in pairwise(ranked))
    whole = math.fsum(shares)
    if all(share / whole * total >= 1 for share in shares):
        assert all(abs(w - share / whole * total) < 1 for share, w in zip(shares, weights, strict=True))


def test_whole_weights_are_the_known_ones() -> None:
    """Thirds, an arm without a share, the smallest of numbers, and as many arms as there are weights."""
    assert integer_weights([1, 1, 1]) == [3334, 3333, 3333]
    assert integer_weights([0.99, 0.01]) == [9900, 100]
    assert integer_weights([0.9999999, 1e-9, 0]) == [9998, 1, 1]
    assert integer_weights([1e-320, 1e-320]) == [5000, 5000]
    assert integer_weights([1e308, 1e308, 1e308], 3) == [1, 1, 1]
    assert integer_weights([0.7, 0.3], 2) == [1, 1]
    rounded = [round(share * 10_000) for share in (1 / 3, 1 / 3, 1 / 3)]
    assert sum(rounded) != 10_000


def test_what_is_no_allocation_is_refused() -> None:
    """One arm, lists that do not match, chances that are none, floors too high, and weights too few raise."""
    for call in (
        lambda: chance_to_be_best_normal([1.0], [1.0]),
        lambda: chance_to_be_best_normal([1.0, 2.0], [1.0]),
        lambda: chance_to_be_best_normal([1.0, math.nan], [1.0, 1.0]),
        lambda: chance_to_be_best_normal([1.0, 2.0], [1.0, 0.0]),
        lambda: chance_to_be_best_beta([(5, 1)], Beta(1, 1)),
        lambda: allocation([0.5, 0.4]),
        lambda: allocation([0.5, 0.5], 0.6),
        lambda: allocation([0.5, 0.5], -0.1),
        lambda: allocation([1.5, -0.5]),
        lambda: next_allocation([0.5, 0.5], [100]),
        lambda: integer_weights([]),
        lambda: integer_weights([0.0, 0.0]),
        lambda: integer_weights([1.0, 1.0], 1),
        lambda: integer_weights([1.0, math.inf]),
    ):
        with pytest.raises(ValueError, match=r"arms|means|chances|shares"):
            call()
