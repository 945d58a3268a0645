"""What was promised, what happened, and whether chance explains the difference.

Bounds are the exact binomial ones of 99.9 %: a promise that is kept lies outside once in a thousand checks.
"""

from dataclasses import dataclass

from upshot.statistics.calibration import binomial_band


@dataclass(frozen=True, slots=True)
class Check:
    """How many of ``runs`` simulated experiments something happened in, and the counts, with both ends, that keep the promise.

    ``subject`` is the metric or whatever else ``name`` is said of.
    ``promise`` is the rate that was promised, or where ``is_limit`` the highest one; None, as the bounds, where nothing was
    promised and the count is a warning.
    """

    subject: str
    name: str
    count: int
    runs: int
    promise: float | None
    low: int | None
    high: int | None
    is_limit: bool = False

    @property
    def rate(self) -> float:
        """The share of runs in which it happened."""
        return self.count / self.runs

    @property
    def inside(self) -> bool | None:
        """Whether the count lies within its bounds; None without bounds."""
        return None if self.low is None or self.high is None else self.low <= self.count <= self.high


def exactly(subject: str, name: str, count: int, runs: int, rate: float) -> Check:
    """Something that happens at a rate, neither more nor less; ValueError unless 0 < rate < 1 and runs >= 1."""
    band = binomial_band(runs, rate)
    return Check(subject, name, count, runs, rate, band.count_low, band.count_high)


def at_most(subject: str, name: str, count: int, runs: int, rate: float) -> Check:
    """Something that happens at a rate at most, as alarms that hold at every look; errors as in `exactly`."""
    return Check(subject, name, count, runs, rate, 0, binomial_band(runs, rate).count_high, is_limit=True)


def unpromised(subject: str, name: str, count: int, runs: int) -> Check:
    """Something that nobody promises, shown for comparison."""
    return Check(subject, name, count, runs, None, None, None)
