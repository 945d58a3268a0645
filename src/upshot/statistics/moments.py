"""Sufficient statistics of one per-user quantity: the only form in which values enter this room.

Sums are kept centred (count, mean, sum of squared deviations). Raw sums of squares lose every digit once
mean²/variance passes about 1e12, and then yield negative variances.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

ROUNDING_OF_A_MEAN = 4.0 * 2.0**-52
"""A standard error below this share of the mean is rounding: constants merged from parts differ that much."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of one value per user; the default is the empty sample.

    ``n`` is the number of users (>= 0), ``mean`` carries the unit of the quantity, ``m2`` its square (>= 0).
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of the two samples laid end to end; the empty sample is the identity.

        Associative and commutative up to rounding. Source: Chan, Golub & LeVeque (1983), pairwise update.
        """
        if self.n == 0:
            return other
        if other.n == 0:
            return self
        n = self.n + other.n
        shift = other.mean - self.mean
        share = other.n / n
        m2 = self.m2 + other.m2 + shift * shift * self.n * share
        return Moments(n, self.mean + shift * share, m2)

    @property
    def variance(self) -> float | None:
        """Sample variance (ddof = 1) in squared units; None for fewer than two users."""
        return self.m2 / (self.n - 1) if self.n >= 2 else None

    @property
    def total(self) -> float:
        """Sum over all users in the unit of the quantity; 0 for the empty sample."""
        return self.n * self.mean

    def padded(self, n: int) -> "Moments":
        """The same users plus users whose value is zero, ``n`` users in all.

        Raises ValueError when ``n`` is smaller than the number of users already counted.
        """
        if n < self.n:
            raise ValueError(f"cannot pad {self.n} users down to {n}")
        return self + Moments(n - self.n)

    @classmethod
    def of(cls, values: Iterable[float]) -> "Moments":
        """Moments of the values of single users, correctly summed in any order.

        Raises ValueError when a value is not finite. Source: two-pass sum, Chan et al. (1983).
        """
        sample = [float(value) for value in values]
        n = len(sample)
        if n == 0:
            return cls()
        if not all(map(math.isfinite, sample)):
            raise ValueError("every value must be a finite number")
        mean = math.fsum(sample) / n
        return cls(n, mean, math.fsum((value - mean) * (value - mean) for value in sample))

    @classmethod
    def binomial(cls, n: int, successes: int) -> "Moments":
        """Moments of ``n`` users of whom ``successes`` have the value 1 and the others 0.

        Raises ValueError unless 0 <= successes <= n.
        """
        if not 0 <= successes <= n:
            raise ValueError(f"{successes} successes among {n} users")
        if n == 0:
            return cls()
        return cls(n, successes / n, successes * (n - successes) / n)
