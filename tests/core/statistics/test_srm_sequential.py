"""The sample-ratio test for a watched split: frozen cases, laws, and false alarms over 28 looks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import chdtrc, gammaln

from upshot.statistics.calibration import binomial_band
from upshot.statistics.srm import ALERT, SequentialSampleRatio, sample_ratio, sequential_sample_ratio

Case = dict[str, Any]

COVERED = {
    "test_both_sample_ratios_equal_the_oracle": ("srm",),
    "test_the_oracle_catches_the_best_fitting_shares": ("srm",),
}
RUNS = 2_000


def close(expected: float) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=0)


def assert_ratio(case: Case, ratio: SequentialSampleRatio) -> None:
    """Bayes factor and p-value equal the oracle's."""
    assert ratio.status == "ok"
    assert ratio.log_bayes_factor == close(case["expected"]["log_bayes_factor"])
    assert ratio.p_value == close(case["expected"]["sequential_p_this_look"])


def test_both_sample_ratios_equal_the_oracle(case: Case) -> None:
    """Every number of a case, of the fixed and of the watched test; a closed arm changes neither."""
    observed, weights, expected = case["inputs"]["observed"], case["inputs"]["weights"], case["expected"]
    fixed = sample_ratio(observed, weights)
    assert fixed.p_value == close(expected["p_value"])
    if "chi2" in expected:
        assert fixed.chi2 == close(expected["chi2"])
        assert_ratio(case, sequential_sample_ratio(observed, weights, [case["params"]["k"]]))
    else:
        kept = [users for users, weight in zip(observed, weights, strict=True) if weight]
        assert sequential_sample_ratio(observed, weights) == sequential_sample_ratio(kept, [1] * len(kept))


def best_fitting(observed: Sequence[int], weights: Sequence[float]) -> SequentialSampleRatio:
    """The broken variant: the likelihood of the shares that fit best, instead of an average over shares."""
    total, whole = sum(observed), sum(weights)
    pairs = zip(observed, weights, strict=True)
    gain = math.fsum(x * math.log(x * whole / (total * weight)) for x, weight in pairs if x)
    return SequentialSampleRatio(math.exp(min(-gain, 0.0)), gain, "ok")


def test_the_oracle_catches_the_best_fitting_shares(case: Case) -> None:
    """Without the mixture every case fails."""
    if "log_bayes_factor" not in case["expected"]:
        return
    with pytest.raises(AssertionError):
        assert_ratio(case, best_fitting(case["inputs"]["observed"], case["inputs"]["weights"]))


def test_the_bayes_factor_is_the_mean_likelihood_over_the_prior() -> None:
    """For two arms, a sum over a grid of shares under the Beta prior gives the same number."""
    observed, theta, k = [130, 90], 0.5, 40.0
    grid = (np.arange(200_000) + 0.5) / 200_000
    log_prior = (k * theta - 1) * (np.log(grid) + np.log1p(-grid)) + gammaln(k) - 2 * gammaln(k * theta)
    log_ratio = observed[0] * np.log(grid / theta) + observed[1] * np.log((1 - grid) / (1 - theta))
    mean = float(np.exp(log_prior + log_ratio).mean())
    ratio = sequential_sample_ratio(observed, [1, 1], [k])
    assert ratio.log_bayes_factor == pytest.approx(math.log(mean), rel=1e-9)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=5), st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_neither_the_scale_of_weights_nor_the_order_of_arms_matters(
    observed: list[int], scale: float, rng: Any
) -> None:
    """Weights are shares on any scale, and arms may be listed in any order."""
    weights = [1.0 + arm for arm in range(len(observed))]
    plain = sequential_sample_ratio(observed, weights)
    order = list(range(len(observed)))
    rng.shuffle(order)
    other = sequential_sample_ratio([observed[arm] for arm in order], [scale * weights[arm] for arm in order])
    assert other.status == plain.status
    if plain.log_bayes_factor is not None:
        assert other.log_bayes_factor == pytest.approx(plain.log_bayes_factor, rel=1e-6, abs=1e-6)


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
def test_a_split_without_a_test_has_no_numbers(observed: list[int], weights: list[float], status: str) -> None:
    """As in the fixed test: nothing to test, or users where there should be none."""
    assert sequential_sample_ratio(observed, weights) == SequentialSampleRatio(None, None, status)


def test_users_in_a_closed_arm_are_reported() -> None:
    """The open arms are tested, the closed one gives the status."""
    ratio, clean = (sequential_sample_ratio([5010, 4990, users], [1, 1, 0]) for users in (3, 0))
    assert (ratio.status, clean.status) == ("users_in_closed_arm", "ok")
    assert ratio.p_value == clean.p_value == 1.0


def test_an_impossible_split_is_refused() -> None:
    """Arms that do not match, and a concentration that is none, raise."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: sequential_sample_ratio([1, 2], [1.0]),
        lambda: sequential_sample_ratio([1, -2], [1.0, 1.0]),
        lambda: sequential_sample_ratio([1, 2], [1.0, 1.0], [100.0, 0.0]),
        lambda: sequential_sample_ratio([1, 2], [1.0, 1.0], [math.inf]),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"observed|concentration"):
            call()


def daily_counts(shares: list[float], per_day: int, runs: int) -> Any:
    """Users per arm after each of 28 days, shape (runs, days, arms)."""
    return np.random.default_rng(9).multinomial(per_day, shares, (runs, 28)).cumsum(axis=1)


def test_a_sound_split_may_be_watched_every_day() -> None:
    """Over 28 days the watched test stays below its level, .1 % and 5 %; chi-squared at 5 % alarms in a quarter.

    Nor does the test of the best-fitting shares, which is no average, stay below.
    """
    shares = [0.5, 0.3, 0.2]
    counts = daily_counts(shares, 500, RUNS)
    p_values = np.array(
        [[sequential_sample_ratio(look, shares).p_value for look in run] for run in counts.tolist()], dtype=float
    )
    smallest = p_values.min(axis=1)
    assert int((smallest < ALERT).sum()) <= binomial_band(RUNS, ALERT).count_high
    limit = binomial_band(RUNS, 0.05).count_high
    assert int((smallest <= 0.05).sum()) <= limit
    expected = counts.sum(axis=2, keepdims=True) * np.array(shares)
    chi2 = ((counts - expected) ** 2 / expected).sum(axis=2)
    assert int((chdtrc(2, chi2) <= 0.05).any(axis=1).sum()) > 0.2 * RUNS
    fitted = np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / expected), 0.0).sum(axis=2)
    assert int((np.exp(-fitted) <= 0.05).any(axis=1).sum()) > limit


def test_a_broken_split_is_found() -> None:
    """51 to 49 at 4000 users a day is found within four weeks in nearly every run, and not on the first day."""
    runs = 200
    counts = daily_counts([0.51, 0.49], 4_000, runs).tolist()

    def found(day: int) -> int:
        ratios = [sequential_sample_ratio(run[day], [1, 1]) for run in counts]
        return sum(ratio.p_value is not None and ratio.p_value < ALERT for ratio in ratios)

    assert found(27) >= 0.95 * runs
    assert found(0) <= 0.05 * runs
