"""Whether an effect differs between groups of users: the levels of a dimension, or the arms of another experiment.

Only what was known before the assignment may make the groups. The effects of single levels are exploratory as long as
the test over all of them finds no difference: among twenty levels one is "significant" without any effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import scipy

from upshot.statistics.comparison import all_alike
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments
from upshot.statistics.tails import normal_critical_value, normal_p_value


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Cochran's test that the effects of all levels are the same. ``status`` is "ok" or "too_few" (then all None).

    ``pooled`` is the effect common to the levels and ``pooled_se`` its standard error, in the unit of the effects;
    ``q`` >= 0 has a chi-squared distribution with ``degrees_of_freedom`` when they are the same, ``p_value`` in [0, 1]
    is its tail, and ``i_squared`` in [0, 1) the share of Q beyond what chance alone would give.
    """

    pooled: float | None
    pooled_se: float | None
    q: float | None
    degrees_of_freedom: int | None
    p_value: float | None
    i_squared: float | None
    status: str


@dataclass(frozen=True, slots=True)
class Interaction:
    """How much the effect of one experiment changes with the arm of another.

    ``estimate``, ``standard_error`` and ``interval`` are in the unit of the quantity, ``statistic`` is z and
    ``p_value`` two-sided in [0, 1]. ``status`` is "ok", "no_users", "one_user" or "zero_variance"; then there is no
    test, without users not even an estimate.
    """

    estimate: float | None
    standard_error: float | None
    statistic: float | None
    p_value: float | None
    interval: Interval | None
    status: str


def heterogeneity(effects: Sequence[float | None], standard_errors: Sequence[float | None]) -> Heterogeneity:
    """Test whether the effects of independent levels, with these standard errors in the same unit, are the same.

    Levels without an effect, or whose standard error is None or not positive and finite, are left out; with fewer than two left
    the status is "too_few". Raises ValueError for lengths that differ. Source: Cochran (1954), Q = sum w (d - pooled)²
    with w = 1/se² and k - 1 degrees of freedom; Higgins & Thompson (2002), I² = max(0, 1 - (k-1)/Q).
    """
    pairs = zip(effects, standard_errors, strict=True)
    levels = [(effect, error) for effect, error in pairs if effect is not None and error and 0.0 < error < math.inf]
    if len(levels) < 2:
        return Heterogeneity(None, None, None, None, None, None, "too_few")
    # Weights relative to the most precise level, as 1/se² of very small errors would overflow.
    smallest = min(error for _, error in levels)
    weights = [(smallest / error) ** 2 for _, error in levels]
    total = math.fsum(weights)
    pooled = math.fsum(weight * effect for weight, (effect, _) in zip(weights, levels, strict=True)) / total
    q = math.fsum(((effect - pooled) / error) ** 2 for effect, error in levels)
    freedom = len(levels) - 1
    return Heterogeneity(
        pooled,
        smallest / math.sqrt(total),
        q,
        freedom,
        float(scipy.special.chdtrc(freedom, q)),
        1.0 - freedom / q if q > freedom else 0.0,
        "ok",
    )


def interaction(cells: Mapping[tuple[int, int], Moments], alpha: float = 0.05) -> Interaction:
    """Difference of differences of two experiments over the same users, with its normal interval at 1 - ``alpha``.

    ``cells`` has the moments of the users by arm of the first and arm of the second experiment, 0 control and 1
    treatment; a missing cell has no users. The estimate (m11 - m10) - (m01 - m00) is the effect of the second under
    the first's treatment less that under its control, and the same with the experiments swapped. Its variance is the
    sum of the four cells' variances of the mean. Raises ValueError unless 0 < alpha < 1.
    Source: the interaction contrast of a 2 x 2 factorial design with unequal variances.
    """
    critical = normal_critical_value(alpha)
    signs = {(1, 1): 1.0, (1, 0): -1.0, (0, 1): -1.0, (0, 0): 1.0}
    found = [cells.get(key, Moments()) for key in signs]
    if any(cell.n == 0 for cell in found):
        return Interaction(None, None, None, None, None, "no_users")
    estimate = math.fsum(sign * cell.mean for sign, cell in zip(signs.values(), found, strict=True))
    variances = [cell.variance for cell in found]
    means = [
        (cell.mean, variance / cell.n) for cell, variance in zip(found, variances, strict=True) if variance is not None
    ]
    if len(means) < len(found):
        return Interaction(estimate, None, None, None, None, "one_user")
    if all_alike(*means):
        return Interaction(estimate, None, None, None, None, "zero_variance")
    error = math.sqrt(math.fsum(variance for _, variance in means))
    z, reach = estimate / error, critical * error
    return Interaction(estimate, error, z, normal_p_value(z), Interval(estimate - reach, estimate + reach), "ok")
