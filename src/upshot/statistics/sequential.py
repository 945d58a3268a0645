"""Always-valid inference: p-values and critical values that stay right however often a result is looked at.

The asymptotic confidence sequence of the normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas,
Annals of Statistics 2024). With k = n rho², n the users of both arms, the boundary is tightest near
``planned_n`` users; that number must be fixed before the first look. A rho² that shrinks with n as the data grow,
as some platforms document it, turns the boundary into a constant, which no finite number of looks respects.

Beside it the exact confidence sequence of a single arm's share, for guardrails that have no control.
"""

import math

import scipy

from upshot.statistics.interval import Interval
from upshot.statistics.roots import bracketed_root
from upshot.statistics.tails import require_level


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


def always_valid_one_sided_p_value(statistic_z: float, n: int, alpha: float = 0.05, planned_n: int = 10_000) -> float:
    """Always-valid p-value, in [0, 1], of "treatment is not higher"; its running minimum over looks is valid too.

    Negate ``statistic_z`` to ask for lower. p <= alpha exactly when z reaches the one-sided critical value, and so
    for every other level with the boundary tuned to ``alpha``: with u = z²/2 · k/(k+1) for z > 0,
    p = min(1, sqrt(k+1) / (2 (e^u - 1))), the inverse of that boundary in its level; 1 for z <= 0. Arguments as in
    always_valid_p_value, and its errors, but ``alpha`` lies in (0, 1/2).
    """
    if not math.isfinite(statistic_z):
        raise ValueError("the statistic must be a finite number")
    k = _information(n, 2.0 * alpha, planned_n)
    evidence = 0.5 * statistic_z * statistic_z * k / (k + 1.0)
    if statistic_z <= 0.0 or evidence == 0.0:
        return 1.0
    log_p_value = 0.5 * math.log1p(k) - math.log(2.0) - evidence - math.log(-math.expm1(-evidence))
    return math.exp(min(log_p_value, 0.0))


def always_valid_one_sided_critical_value(n: int, alpha: float, planned_n: int) -> float:
    """The B with which difference - B · standard error is a lower bound at all looks at once, probability 1 - alpha.

    B = sqrt(2 (k+1)/k · ln(1 + sqrt(k+1)/(2 alpha))), with rho² from 2 alpha (Waudby-Smith et al. 2024, one-sided).
    It bounds the half-normal mixture 2/sqrt(k+1) · e^u Phi(sqrt(2u)), u = B²/2 · k/(k+1), by 1 - Phi(x) <= e^(-x²/2)/2.
    Arguments and errors as in always_valid_one_sided_p_value.
    """
    k = _information(n, 2.0 * alpha, planned_n)
    return math.sqrt(2.0 * (k + 1.0) / k * math.log1p(math.sqrt(k + 1.0) / (2.0 * alpha)))


def bernoulli_confidence_sequence(n: int, successes: int, alpha: float, planned_n: int) -> Interval:
    """The shares, in [0, 1], that a single arm's count leaves at this look; right at all looks at once, exactly.

    ``n`` >= 1 users of that arm of whom ``successes`` converted; tightest near ``planned_n`` users of the arm. Source:
    Howard, Ramdas, McAuliffe & Sekhon (2021), two-sided beta-binomial mixture: a share m is left out where
    B(a+x, b+n-x) / (B(a, b) m^x (1-m)^(n-x)) reaches 1/alpha, with a = r/(1-m), b = r/m and
    r = (1/rho² - 1) m(1-m), rho² that of the normal mixture. Raises ValueError unless 0 <= successes <= n, and as
    mixture_variance.
    """
    # r/(m(1-m)), the users that the prior counts for, is the same for every m: a and b are its shares m and 1-m.
    prior = max(1.0 / mixture_variance(alpha, planned_n) - 1.0, 1e-3)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} users")
    failures = n - successes

    def surplus(share: float) -> float:
        a, b = prior * share, prior * (1.0 - share)
        kept = scipy.special.xlogy(successes, share) + scipy.special.xlog1py(failures, -share)
        return float(scipy.special.betaln(a + successes, b + failures) - scipy.special.betaln(a, b) - kept) + math.log(
            alpha
        )

    edge = 2.0**-50
    observed = min(max(successes / n, edge), 1.0 - edge)
    lower = bracketed_root(surplus, edge, observed) if successes > 0 and surplus(edge) > 0.0 else 0.0
    upper = bracketed_root(surplus, observed, 1.0 - edge) if successes < n and surplus(1.0 - edge) > 0.0 else 1.0
    return Interval(lower, upper)


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
