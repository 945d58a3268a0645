"""How lopsided the values of users are, and how many users a mean of such values wants.

A test of means treats the mean as normal, which the mean of few skewed values is not.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from upshot.statistics.moments import Moments

KOHAVI = 355
"""Users per arm for each square of the skewness: with them the 95 % interval of one mean misses 2.5 % on either side, within a
quarter of a percent. Sources: Boos & Hughes-Oliver (2000); Kohavi, Deng, Longbotham & Xu (2014), rule 7."""

ROUNDING_OF_A_CUBE = 2.0**-20
"""A standard deviation below this share of the mean has no skewness: engines make m3 of y² and y, whose rounding is worth about
2^-52 (mean / standard deviation)² of skewness."""


@dataclass(frozen=True, slots=True)
class ThirdMoments:
    """Moments of one value per user with the sum of cubed deviations ``m3`` from the mean, in the cube of the value's unit.

    The default is the empty sample; with ``m3`` = 0 it is one in which every user has the same value.
    """

    moments: Moments = field(default_factory=Moments)
    m3: float = 0.0

    def __add__(self, other: "ThirdMoments") -> "ThirdMoments":
        """Third moments of the two samples laid end to end; the empty sample is the identity.

        Associative and commutative up to rounding. Source: Pébay (2008), equation 2.1 with p = 3.
        """
        ours, theirs = self.moments, other.moments
        n = ours.n + theirs.n
        if n == 0:
            return self
        shift = theirs.mean - ours.mean
        share, rest = theirs.n / n, ours.n / n
        m3 = (
            self.m3
            + other.m3
            + shift * shift * shift * ours.n * share * (rest - share)
            + 3.0 * shift * (rest * theirs.m2 - share * ours.m2)
        )
        return ThirdMoments(ours + theirs, m3)

    @property
    def skewness(self) -> float | None:
        """The skewness g₁ = (m3/n) / (m2/n)^1.5, without unit; 0 of what is symmetric, positive where few values are large.

        None for fewer than three users and where all values are alike.
        """
        n, mean, m2 = self.moments.n, self.moments.mean, self.moments.m2
        deviation = math.sqrt(m2 / n) if n >= 3 else 0.0
        if deviation <= ROUNDING_OF_A_CUBE * abs(mean):
            return None
        skewness = self.m3 / n / deviation / deviation / deviation
        return skewness if math.isfinite(skewness) else None

    @classmethod
    def of(cls, values: Iterable[float]) -> "ThirdMoments":
        """Third moments of the values of single users, correctly summed in any order.

        Raises ValueError when a value is not finite.
        """
        sample = [float(value) for value in values]
        moments = Moments.of(sample)
        return cls(moments, math.fsum((value - moments.mean) ** 3 for value in sample))


def users_for_skewness(skewness: float) -> int:
    """How many users an arm wants before the mean of values of that skewness is near to normal: 355 g₁², rounded up."""
    return math.ceil(KOHAVI * skewness * skewness)
