"""Calibration: how often a test that keeps its promises alarms in simulated experiments."""

from bisect import bisect_left
from dataclasses import dataclass

import scipy


@dataclass(frozen=True, slots=True)
class Band:
    """The counts, from ``count_low`` to ``count_high`` with both ends, that chance explains, and the same as rates."""

    count_low: int
    count_high: int
    rate_low: float
    rate_high: float

    def __contains__(self, count: object) -> bool:
        """Whether a count lies in the band."""
        return isinstance(count, int) and self.count_low <= count <= self.count_high


def binomial_band(simulations: int, rate: float, confidence: float = 0.999) -> Band:
    """Exact band of the alarms in ``simulations`` >= 1 independent runs that each alarm with probability ``rate``.

    A right test falls outside it, on either side, with probability (1 - ``confidence``)/2 at most. A test that only
    promises not to alarm too often is held to ``count_high`` alone. Source: the binomial's quantiles, as the smallest
    counts with P(X <= count) >= (1 - confidence)/2 and P(X > count) <= (1 - confidence)/2. Raises ValueError unless
    rate and confidence lie in (0, 1).
    """
    if simulations < 1 or not (0.0 < rate < 1.0 and 0.0 < confidence < 1.0):
        raise ValueError(f"no band for {simulations} simulations at {rate} with confidence {confidence}")
    outside = (1.0 - confidence) / 2.0
    counts = range(simulations + 1)
    low = bisect_left(counts, outside, key=lambda count: float(scipy.special.bdtr(count, simulations, rate)))
    high = bisect_left(counts, -outside, key=lambda count: -float(scipy.special.bdtrc(count, simulations, rate)))
    return Band(low, high, low / simulations, high / simulations)
