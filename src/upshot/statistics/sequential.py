"""Always-valid inference: p-values and critical values that stay right however often a result is looked at.

The asymptotic confidence sequence of the normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
Annals of Statistics 2024). With k = n rho², n the users of both arms, the boundary is tightest near
``planned_n`` users; that number must be fixed before the first look.
"""

import math

from upshot.statistics.tails import normal_p_value, require_level


def always_valid_p_value(statistic_z: float, n: int, alpha: float = 0.05, planned_n: int = 10_000) -> float:
    """Always-valid two-sided p-value at this look, in [0, 1]; its running minimum over looks is valid too.

    ``statistic_z`` is difference / standard error (pooled for proportions), ``n`` >= 1 the users of both
    arms, ``alpha`` only tunes the boundary. p = min(1, 1/E), E = exp(z²/2 · k/(k+1)) / sqrt(1+k). Raises
    ValueError for n < 1, planned_n < 1, a statistic that is not finite, or alpha outside (0, 1).
    """
    if not math.isfinite(statistic_z):
        raise ValueError("the statistic must be a finite number")
    k = _information(n, alpha, planned_n)
    log_evidence = 0.5 * (statistic_z * statistic_z * k / (k + 1.0) - math.log1p(k))
    return math.exp(-max(log_evidence, 0.0))


def always_valid_critical_value(n: int, alpha: float, planned_n: int) -> float:
    """The B with which difference ± B · standard error holds at all looks at once with probability 1 - alpha.

    B = sqrt((k+1)/k · (ln(k+1) - 2 ln alpha)); |z| >= B exactly when the always-valid p-value is <= alpha.
    Arguments and errors as in always_valid_p_value.
    """
    k = _information(n, alpha, planned_n)
    return math.sqrt((k + 1.0) / k * (math.log1p(k) - 2.0 * math.log(alpha)))


def always_valid_level(n: int, alpha: float, planned_n: int) -> float:
    """The ordinary level, in (0, alpha), that makes a normal test of this look the always-valid one.

    A comparison called with it returns intervals of the confidence sequence. Arguments and errors as in
    always_valid_p_value. Small looks far below ``planned_n`` may underflow: never below the smallest normal.
    """
    return max(normal_p_value(always_valid_critical_value(n, alpha, planned_n)), 2.0**-1022)


def mixture_variance(alpha: float, planned_n: int) -> float:
    """rho², per user, of the mixture that is tightest near ``planned_n`` users.

    rho² = (-2 ln alpha + ln(1 - 2 ln alpha)) / planned_n; ValueError unless planned_n >= 1 and 0 < alpha < 1.
    """
    require_level(alpha)
    if planned_n < 1:
        raise ValueError(f"the planned number of users must be positive, not {planned_n}")
    width = -2.0 * math.log(alpha)
    return (width + math.log1p(width)) / planned_n


def _information(n: int, alpha: float, planned_n: int) -> float:
    if n < 1:
        raise ValueError(f"a look needs at least one user, not {n}")
    return n * mixture_variance(alpha, planned_n)
