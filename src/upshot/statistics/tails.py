"""Tail probabilities and critical values of the normal and Student's t distribution.

Every tail is computed as a lower tail of -|x|: one minus a distribution function has no digits below 1e-16.
"""

import math
from functools import lru_cache

import scipy

_SQRT_HALF = math.sqrt(0.5)
SMALLEST_TRUSTED_P = 1e-290


def require_level(alpha: float) -> None:
    """Raise ValueError unless ``alpha`` is a probability strictly between 0 and 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"a significance level lies between 0 and 1, not {alpha}")


@lru_cache(maxsize=1024)
def normal_critical_value(alpha: float) -> float:
    """The c > 0 with P(|Z| > c) = ``alpha`` for a standard normal Z; ValueError unless 0 < alpha < 1."""
    require_level(alpha)
    return -float(scipy.special.ndtri(alpha / 2.0))


def normal_p_value(z: float) -> float:
    """Two-sided p-value 2 Phi(-|z|), in [0, 1]; 0 only where a double underflows (|z| > 38)."""
    return math.erfc(abs(z) * _SQRT_HALF)


def student_critical_value(alpha: float, degrees_of_freedom: float) -> float:
    """The c > 0 with P(|T| > c) = ``alpha``; ``degrees_of_freedom`` > 0; ValueError unless 0 < alpha < 1."""
    require_level(alpha)
    return -float(scipy.special.stdtrit(degrees_of_freedom, alpha / 2.0))


def student_p_value(t: float, degrees_of_freedom: float) -> float:
    """Two-sided p-value 2 T(-|t|) for ``degrees_of_freedom`` > 0, in [0, 1]."""
    return 2.0 * float(scipy.special.stdtr(degrees_of_freedom, -abs(t)))


def log10_p_value(statistic: float, degrees_of_freedom: float | None = None) -> float:
    """Decimal logarithm of the two-sided p-value, finite far below the smallest double.

    ``degrees_of_freedom`` None means the normal distribution, otherwise Student's t (> 0). Source for the far
    t tail: P(|T| > t) = I_x(v/2, 1/2), x = v/(v+t²), and its continued fraction (DLMF 8.17.22).
    """
    if degrees_of_freedom is None:
        return (math.log(2.0) + float(scipy.special.log_ndtr(-abs(statistic)))) / math.log(10.0)
    p_value = student_p_value(statistic, degrees_of_freedom)
    if p_value > SMALLEST_TRUSTED_P:
        return math.log10(p_value)
    a, b = degrees_of_freedom / 2.0, 0.5
    ratio = statistic * statistic / degrees_of_freedom
    log_front = -a * math.log1p(ratio) + b * (math.log(ratio) - math.log1p(ratio)) - math.log(a)
    fraction = _beta_fraction(a, b, 1.0 / (1.0 + ratio))
    return (log_front - float(scipy.special.betaln(a, b)) - math.log(fraction)) / math.log(10.0)


def _beta_fraction(a: float, b: float, x: float) -> float:
    # Evaluated from the tail: the depth is fixed because x lies well below (a+1)/(a+b+2) in the far tail.
    value = 1.0
    for m in range(100, -1, -1):
        even = (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        value = 1.0 + odd / (1.0 + even / value)
    return value
