"""What a row of the protocol is, how large it is, and the tests of `upshot.statistics` on arrays of experiments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upshot.calibration import Check, exactly
from upshot.statistics import Moments, compare_means, compare_proportions
from upshot.statistics.tails import normal_critical_value

Array = NDArray[np.float64]
Verdicts = NDArray[np.bool_]

ALPHA = 0.05
CRITICAL = normal_critical_value(ALPHA)
COMPARED = 200  # experiments on which arrays are held against our functions


@dataclass(frozen=True, slots=True)
class Row:
    """A check of the protocol; a ``control`` is a broken variant, which has to lie outside."""

    check: Check
    control: bool = False

    @property
    def holds(self) -> bool:
        """Whether a promise was kept, or a broken one seen to break."""
        return self.check.inside is not self.control

    def __str__(self) -> str:
        check = self.check
        verdict = (
            ("outside, as it must" if self.holds else "INSIDE")
            if self.control
            else "inside"
            if self.holds
            else "OUTSIDE"
        )
        counts = f"{check.runs:,} | {check.count:,} | {check.rate:.2%} | {check.low:,}–{check.high:,}"
        return f"| {check.subject} | {check.name} | {counts} | {verdict} |"


@dataclass(frozen=True, slots=True)
class Size:
    """How many experiments are simulated: as many as the protocol names, but no more than ``most``."""

    most: int = 1_000_000

    def runs(self, named: int) -> int:
        """As many as the protocol names, or fewer."""
        return min(named, self.most)

    @property
    def is_full(self) -> bool:
        """Whether these are the sizes of the protocol."""
        return self.most >= 40_000


Protocol = Callable[[Size], Iterator[Row]]


def within(subject: str, name: str, count: int, runs: int, low: float, high: float) -> Check:
    """Something that happens at a rate from ``low`` to ``high``, widened by what chance explains beyond either."""
    lower = exactly(subject, name, count, runs, low).low
    return Check(subject, name, count, runs, low, lower, exactly(subject, name, count, runs, high).high)


def close(ours: Any, arrays: Any, tolerance: float = 1e-12) -> None:
    """Our functions and the arrays' form agree."""
    np.testing.assert_allclose(np.asarray(ours, dtype=float), arrays, rtol=tolerance, atol=tolerance)


def pooled_z(n0: Any, x0: Any, n1: Any, x1: Any) -> Array:
    """z of `compare_proportions` for many experiments; 0 where nobody or everybody converted."""
    total, successes = n0 + n1, x0 + x1
    error = np.sqrt(successes * (total - successes) / (total * (n0 * 1.0 * n1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (x1 * n0 - x0 * n1) / (n0 * 1.0 * n1) / error
    return np.asarray(np.nan_to_num(z, posinf=0.0, neginf=0.0))


def unpooled_z(n0: Any, x0: Any, n1: Any, x1: Any) -> Array:
    """The broken variant: each arm's own variance."""
    p0, p1 = x0 / n0, x1 / n1
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (p1 - p0) / np.sqrt(p0 * (1 - p0) / n0 + p1 * (1 - p1) / n1)
    return np.asarray(np.nan_to_num(z, posinf=0.0, neginf=0.0))


def assert_pooled(n0: int, x0: Array, n1: int, x1: Array, z: Array) -> None:
    """z is that of our test, and so is the verdict."""
    pairs = zip(x0[:COMPARED].tolist(), x1[:COMPARED].tolist(), strict=True)
    ours = [compare_proportions(Moments.binomial(n0, a), Moments.binomial(n1, b), ALPHA) for a, b in pairs]
    close([effect.statistic or 0.0 for effect in ours], z[:COMPARED])
    verdicts = [effect.p_value is not None and effect.p_value <= ALPHA for effect in ours]
    assert verdicts == (np.abs(z[:COMPARED]) >= CRITICAL).tolist()


def welch(n0: Any, s0: Any, q0: Any, n1: Any, s1: Any, q1: Any) -> tuple[Array, Array]:
    """t and degrees of freedom of `compare_means`, from sums and sums of squares; 0 without variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        v0, v1 = ((q - s * s / n) / (n - 1) / n for n, s, q in ((n0, s0, q0), (n1, s1, q1)))
        t = (s1 / n1 - s0 / n0) / np.sqrt(v0 + v1)
        freedom = (v0 + v1) ** 2 / (v0**2 / (n0 - 1) + v1**2 / (n1 - 1))
    return np.nan_to_num(t, posinf=0.0, neginf=0.0), np.nan_to_num(freedom, nan=1.0)


def assert_welch(n0: int, n1: int, sums: Array, t: Array, freedom: Array) -> None:
    """t and its degrees of freedom are those of our test; `sums` are (arm, S or Q, run)."""
    for run in range(min(COMPARED, sums.shape[2])):
        arms = [Moments(n, s / n, q - s * s / n) for n, (s, q) in zip((n0, n1), sums[:, :, run].tolist(), strict=True)]
        effect = compare_means(arms[0], arms[1], ALPHA)
        if effect.statistic is not None:
            close([effect.statistic, effect.degrees_of_freedom], [t[run], freedom[run]], 1e-9)
