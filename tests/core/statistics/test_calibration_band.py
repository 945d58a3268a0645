"""The band of alarms that chance explains: frozen quantiles, and what a band promises."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from upshot.statistics.calibration import Band, binomial_band

Case = dict[str, Any]

COVERED = {
    "test_a_band_equals_the_oracle": ("calibration_band",),
    "test_the_oracle_catches_the_normal_band": ("calibration_band",),
}


def assert_band(case: Case, band: Band) -> None:
    """Counts are equal, rates too."""
    expected = case["expected"]
    assert (band.count_low, band.count_high) == (expected["count_low"], expected["count_high"])
    assert (band.rate_low, band.rate_high) == pytest.approx((expected["rate_low"], expected["rate_high"]), rel=1e-9)


def test_a_band_equals_the_oracle(case: Case) -> None:
    """Both counts are the binomial's quantiles."""
    inputs = case["inputs"]
    assert_band(case, binomial_band(inputs["simulations"], inputs["true_rate"], case["params"]["confidence"]))


def test_the_oracle_catches_the_normal_band(case: Case) -> None:
    """The normal approximation is off by a count or more in every case."""
    runs, rate = case["inputs"]["simulations"], case["inputs"]["true_rate"]
    reach = -float(ndtri((1 - case["params"]["confidence"]) / 2)) * math.sqrt(runs * rate * (1 - rate))
    low, high = round(runs * rate - reach), round(runs * rate + reach)
    with pytest.raises(AssertionError):
        assert_band(case, Band(low, high, low / runs, high / runs))


def mass(runs: int, rate: float, counts: range) -> float:
    """Probability of these counts, from single binomial terms."""
    return math.fsum(math.comb(runs, count) * rate**count * (1 - rate) ** (runs - count) for count in counts)


@settings(max_examples=50)
@given(st.integers(1, 150), st.floats(0.01, 0.99), st.floats(0.5, 0.999))
def test_a_band_leaves_out_no_more_than_it_says(runs: int, rate: float, confidence: float) -> None:
    """Either tail beyond the band has at most its half of the rest, and a band narrower by one count has more."""
    band = binomial_band(runs, rate, confidence)
    outside = (1 - confidence) / 2
    assert mass(runs, rate, range(band.count_low)) <= outside + 1e-12
    assert mass(runs, rate, range(band.count_high + 1, runs + 1)) <= outside + 1e-12
    assert mass(runs, rate, range(band.count_low + 1)) >= outside - 1e-12
    assert mass(runs, rate, range(band.count_high, runs + 1)) >= outside - 1e-12


def test_a_count_is_in_the_band_or_not() -> None:
    """Both ends belong to it."""
    band = binomial_band(2_000, 0.05)
    assert all(count in band for count in (69, 100, 133))
    assert not any(count in band for count in (68, 134, "100"))


@pytest.mark.parametrize(("runs", "rate", "confidence"), [(0, 0.5, 0.9), (9, 0.0, 0.9), (9, 0.5, 1.0)])
def test_an_impossible_band_is_refused(runs: int, rate: float, confidence: float) -> None:
    """No runs, a rate without chance, or certainty raise."""
    with pytest.raises(ValueError, match="no band"):
        binomial_band(runs, rate, confidence)
