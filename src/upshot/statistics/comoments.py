"""Sufficient statistics of several quantities per user: their means, and how they vary together.

What ``Moments`` is for one quantity, ``Comoments`` is for a few: a ratio's numerator and denominator, an outcome and
its covariates. Sums of products are kept centred, for the reason given in ``moments``.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from upshot.statistics.moments import Moments

MOST_QUANTITIES = 8
"""More quantities than a ratio with three covariates of its own would need."""

ROUNDING_OF_A_COMBINATION = 2.0**-40
"""Squared deviations of a combination below this share of the terms they were summed from are rounding."""


@dataclass(frozen=True, slots=True)
class Comoments:
    """Count, means and centred sums of products of d quantities per user; the default is the empty sample.

    ``n`` is the number of users (>= 0), ``means`` has d entries in the units of the quantities, and ``m2`` is the
    symmetric d x d matrix of sums of (x_i - mean_i)(x_j - mean_j). Raises ValueError unless the shapes agree, d is at
    most 8, and d is at least 1 where there are users.
    """

    n: int = 0
    means: tuple[float, ...] = ()
    m2: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        d = len(self.means)
        if len(self.m2) != d or any(len(row) != d for row in self.m2):
            raise ValueError(f"{d} means need a {d} x {d} matrix of sums of products")
        if d > MOST_QUANTITIES or (self.n > 0 and d == 0):
            raise ValueError(f"a sample has 1 to {MOST_QUANTITIES} quantities per user, not {d}")

    def __add__(self, other: "Comoments") -> "Comoments":
        """Comoments of the two samples laid end to end; the empty sample of any dimension is the identity.

        Associative and commutative up to rounding. Raises ValueError when two samples that both have users differ in
        dimension. Source: Chan, Golub & LeVeque (1983), pairwise update.
        """
        if other.n == 0 and (self.means or not other.means):
            return self
        if self.n == 0:
            return other
        if len(self.means) != len(other.means):
            raise ValueError(f"samples of {len(self.means)} and {len(other.means)} quantities do not merge")
        n = self.n + other.n
        share = other.n / n
        weight = self.n * share
        shifts = [theirs - ours for ours, theirs in zip(self.means, other.means, strict=True)]
        return Comoments(
            n,
            tuple(mean + shift * share for mean, shift in zip(self.means, shifts, strict=True)),
            tuple(
                tuple(a + b + shift * across * weight for a, b, across in zip(ours, theirs, shifts, strict=True))
                for ours, theirs, shift in zip(self.m2, other.m2, shifts, strict=True)
            ),
        )

    def padded(self, n: int) -> "Comoments":
        """The same users plus users whose every quantity is zero, ``n`` users in all.

        Raises ValueError when ``n`` is smaller than the number of users already counted, and for an empty sample of
        unknown dimension (see ``empty``).
        """
        if n < self.n:
            raise ValueError(f"cannot pad {self.n} users down to {n}")
        nobody = Comoments.empty(len(self.means))
        return self + Comoments(n - self.n, nobody.means, nobody.m2)

    def marginal(self, i: int) -> Moments:
        """Moments of quantity ``i`` alone, counted from 0; those of nobody for the empty sample."""
        return Moments(self.n, self.means[i], self.m2[i][i]) if self.n else Moments()

    def covariance(self, i: int, j: int) -> float | None:
        """Sample covariance (ddof = 1) of two quantities, the variance where i = j; None below two users."""
        return self.m2[i][j] / (self.n - 1) if self.n >= 2 else None

    def combined(self, rows: Sequence[Sequence[float]]) -> "Comoments":
        """Comoments of new quantities, each the sum of w_i x_i over its row of d weights.

        A combination whose squared deviations are lost in the rounding of their terms has none: a remainder of
        rounding would be taken for a variance. Raises ValueError when a row has another length than d.
        """
        if any(len(row) != len(self.means) for row in rows):
            raise ValueError(f"a combination of {len(self.means)} quantities needs as many weights")
        means = tuple(math.fsum(w * mean for w, mean in zip(row, self.means, strict=True)) for row in rows)
        sums = [[self._product(left, right) for right in rows[place:]] for place, left in enumerate(rows)]
        # Only the triangle from the diagonal on was summed: sums[i][j - i] is the product of rows i and j.
        places = range(len(rows))
        m2 = tuple(tuple(sums[min(i, j)][abs(i - j)] for j in places) for i in places)
        return Comoments(self.n, means, m2)

    def linear(self, weights: Sequence[float], offset: float = 0.0) -> Moments:
        """Moments of the single quantity ``offset`` + sum of w_i x_i; its squared deviations are never negative.

        Errors and the treatment of rounding as in ``combined``; the moments of nobody for the empty sample.
        """
        if self.n == 0:
            return Moments()
        single = self.combined([weights])
        return Moments(self.n, single.means[0] + offset, single.m2[0][0])

    def _product(self, left: Sequence[float], right: Sequence[float]) -> float:
        terms = [a * b * term for a, row in zip(left, self.m2, strict=True) for b, term in zip(right, row, strict=True)]
        total = math.fsum(terms)
        if left is not right:
            return total
        return total if total > ROUNDING_OF_A_COMBINATION * math.fsum(map(abs, terms)) else 0.0

    @classmethod
    def empty(cls, dimensions: int) -> "Comoments":
        """The empty sample of a known number of quantities, which unlike the default can be padded."""
        zeros = (0.0,) * dimensions
        return cls(0, zeros, (zeros,) * dimensions)

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> "Comoments":
        """Comoments of the quantities of single users, one row per user, correctly summed in any order.

        Raises ValueError when a value is not finite or rows have different lengths.
        Source: two-pass sums, Chan et al. (1983).
        """
        sample = [tuple(map(float, row)) for row in rows]
        n = len(sample)
        if n == 0:
            return cls()
        if not all(math.isfinite(value) for row in sample for value in row):
            raise ValueError("every value must be a finite number")
        if len({len(row) for row in sample}) > 1:
            raise ValueError("every user must have the same number of quantities")
        means = tuple(math.fsum(column) / n for column in zip(*sample, strict=True))
        centred = [
            [value - mean for value in column] for column, mean in zip(zip(*sample, strict=True), means, strict=True)
        ]
        m2 = tuple(
            tuple(math.fsum(a * b for a, b in zip(left, right, strict=True)) for right in centred) for left in centred
        )
        return cls(n, means, m2)
