"""Planning: how small an effect a sample can show, how many users an effect needs, and how long they take to come.

A variance is always one per user: that of the value; for a ratio of two quantities that of its linearised value; with
an adjustment for data from before the experiment, what `adjusted_variance` leaves of it. Several treatments share
alpha, and looks have their price in users: `users_per_arm` takes both into account.

Where a ``critical_value`` can be given it is that of the analysis, by default that of a single look at ``alpha``: B of
an always-valid test at its planned end, `groupsequential.equivalent_critical_value` of planned looks.
"""

import math
from collections.abc import Callable, Sequence

import scipy

from upshot.statistics.roots import bracketed_root
from upshot.statistics.sequential import always_valid_critical_value
from upshot.statistics.tails import normal_critical_value, require_level


def minimum_detectable_effect(
    control_variance: float,
    control_n: float,
    treatment_n: float,
    alpha: float = 0.05,
    power: float = 0.8,
    critical_value: float | None = None,
) -> float | None:
    """The smallest absolute effect (> 0) that a two-sided test at ``alpha`` shows with ``power``.

    In the unit of the quantity. Source: (z_alpha/2 + z_power) · sqrt(variance (1/n0 + 1/n1)). None when an
    arm has no user or the variance (squared units) is not positive. Raises ValueError unless
    0 < alpha < power < 1.
    """
    reach = sum(_quantiles(alpha, power, critical_value))
    if control_n < 1 or treatment_n < 1 or not control_variance > 0.0:
        return None
    return reach * math.sqrt(control_variance / control_n + control_variance / treatment_n)


def minimum_detectable_change(
    baseline: float,
    control_n: float,
    treatment_n: float,
    alpha: float = 0.05,
    power: float = 0.8,
    critical_value: float | None = None,
    *,
    pooled: bool = True,
    rising: bool = True,
) -> float | None:
    """The smallest absolute change of a share, below 0 unless ``rising``, that a two-sided test shows with ``power``.

    The inverse of ``users_needed_proportion``, with the same ``pooled``. None when an arm has no user, the baseline
    is 0 or 1, or not even a change to 0 or 1 would be shown. Raises ValueError unless 0 < alpha < power < 1 and the
    baseline lies in [0, 1].
    """
    for_level, for_power = _quantiles(alpha, power, critical_value)
    if not 0.0 <= baseline <= 1.0:
        raise ValueError(f"a share lies between 0 and 1, not {baseline}")
    sign, furthest = (1.0, 1.0 - baseline) if rising else (-1.0, baseline)
    if control_n < 1 or treatment_n < 1 or not 0.0 < baseline < 1.0:
        return None

    def missing(size: float) -> float:
        # Concave in the size and positive at 0, hence with one root at most.
        errors = _errors_of_shares(baseline, sign * size, control_n, treatment_n, pooled=pooled)
        return for_level * errors[0] + for_power * errors[1] - size

    return sign * bracketed_root(missing, 0.0, furthest) if missing(furthest) < 0.0 else None


def users_needed(
    baseline_variance: float,
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    treatment_share: float = 0.5,
    critical_value: float | None = None,
) -> int:
    """Users of two arms together, each rounded up, that show an absolute ``effect`` on a mean with ``power``.

    Source: (z_alpha/2 + z_power)² variance (1/w + 1/(1-w)) / effect². Raises ValueError unless the variance
    is positive, ``effect`` is not 0, 0 < alpha < power < 1 and 0 < treatment_share < 1.
    """
    spread = _spread(baseline_variance, effect, treatment_share)
    return _whole_users(sum(_quantiles(alpha, power, critical_value)) * spread / effect, treatment_share)


def users_needed_proportion(
    baseline: float,
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    treatment_share: float = 0.5,
    critical_value: float | None = None,
    *,
    pooled: bool = True,
) -> int:
    """Users of two arms together that show an absolute change ``effect`` of a share with ``power``.

    Each arm is rounded up. Source: Fleiss, Levin & Paik (2003), pooled variance under the null:
    [z_alpha/2 sqrt(pq (1/w + 1/(1-w))) + z_power sqrt(p1 q1/w + p0 q0/(1-w))]² / effect², p the mean share. Without
    ``pooled``, the second root in place of the first as well: for a test with the arms' own variances, as that of
    adjusted shares. Raises ValueError unless baseline and baseline + effect lie in (0, 1), and as users_needed.
    """
    changed = baseline + effect
    if not (0.0 < baseline < 1.0 and 0.0 < changed < 1.0):
        raise ValueError(f"both shares must lie between 0 and 1, not {baseline} and {changed}")
    _require_design(effect, treatment_share)
    for_level, for_power = _quantiles(alpha, power, critical_value)
    under_null, under_effect = _errors_of_shares(
        baseline, effect, 1.0 - treatment_share, treatment_share, pooled=pooled
    )
    return _whole_users((for_level * under_null + for_power * under_effect) / effect, treatment_share)


def users_needed_non_inferiority(
    variance: float, margin: float, alpha: float = 0.05, power: float = 0.8, treatment_share: float = 0.5
) -> int:
    """Users of two arms that show with ``power`` that nothing is lost beyond ``margin``, when nothing is lost at all.

    ``margin`` > 0 is absolute, in the unit of the quantity; ``alpha`` is one-sided. Each arm is rounded up. Source:
    (z_alpha + z_power)² variance (1/w + 1/(1-w)) / margin². Raises ValueError unless alpha < 1/2, the margin is
    positive, and as users_needed.
    """
    if not margin > 0.0:
        raise ValueError(f"the margin must be positive, not {margin}")
    require_level(2.0 * alpha)
    if not alpha < power < 1.0:
        raise ValueError(f"the power must lie between the level {alpha} and 1, not {power}")
    reach = -float(scipy.special.ndtri(alpha)) + float(scipy.special.ndtri(power))
    return _whole_users(reach * _spread(variance, margin, treatment_share) / margin, treatment_share)


def users_per_arm(
    shares: Sequence[float],
    users_of_pair: Callable[[float, float], int],
    alpha: float = 0.05,
    inflation: float = 1.0,
) -> tuple[int, ...]:
    """Users of control and of every treatment, each rounded up, for every comparison to have its power.

    ``shares`` are those of the arms, control's first, positive on any scale. ``users_of_pair`` gives the users that
    control and one treatment need together at (level, treatment's share of the two), such as ``users_needed`` with
    all else filled in. The level is Bonferroni's alpha / treatments. ``inflation`` >= 1 is the price of looks where
    ``users_of_pair`` counts those of a single one: `always_valid_inflation`, `inflation_factor` of a group-sequential
    plan. Raises ValueError for fewer than two arms, shares that are not positive, and an inflation below 1.
    """
    if len(shares) < 2 or not all(0.0 < share < math.inf for share in shares):
        raise ValueError(f"two or more arms with positive shares, not {list(shares)}")
    if not 1.0 <= inflation < math.inf:
        raise ValueError(f"looking can only cost users; the inflation is {inflation}")
    control, treatments = shares[0], shares[1:]
    total = math.fsum(shares)
    level = alpha / len(treatments)
    pairs = ((share + control, users_of_pair(level, share / (share + control))) for share in treatments)
    users = max(needed * inflation * total / pair for pair, needed in pairs)
    # Less a rounding error, which would cost a user where the numbers are whole.
    return tuple(math.ceil(users * share / total * (1.0 - 1e-12)) for share in shares)


def adjusted_variance(variance: float, correlation: float) -> float:
    """The variance per user left after adjusting for a covariate, in squared units: variance · (1 - correlation²).

    Users needed shrink by the same factor. Source: Deng, Xu, Kohavi & Walker (2013). Raises ValueError unless the
    correlation lies within (-1, 1).
    """
    if not -1.0 < correlation < 1.0:
        raise ValueError(f"a correlation lies between -1 and 1, not {correlation}")
    return variance * (1.0 - correlation * correlation)


def always_valid_inflation(alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the users (> 1) an always-valid test tuned to its planned end needs there for equal power.

    Source: `inflation_of` B, the always-valid critical value at the planned number of users, which is the same for
    every such number; looks before the end only add to the power. Raises ValueError unless 0 < alpha < power < 1.
    """
    return inflation_of(always_valid_critical_value(1_000_000, alpha, 1_000_000), alpha, power)


def inflation_of(critical_value: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the users of a single look at ``alpha`` a test of a mean with this critical value needs.

    Source: ((critical value + z_power) / (z_alpha/2 + z_power))². Raises ValueError unless 0 < alpha < power < 1.
    """
    for_level, for_power = _quantiles(alpha, power)
    return ((critical_value + for_power) / (for_level + for_power)) ** 2


def power_of(
    effect: float, variance: float, control_n: float, treatment_n: float, critical_value: float | None = None
) -> float | None:
    """The chance, in [0, 1], that a two-sided z-test of these users calls an absolute ``effect`` on a mean different.

    ``critical_value`` is by default the 1.96 of a single look at .05. Source: with d = effect / standard error,
    Phi(d - c) + Phi(-d - c). None when an arm has no user or the variance is not positive. Raises
    ValueError when the effect is not finite.
    """
    drift = drift_of(effect, variance, control_n, treatment_n)
    critical = normal_critical_value(0.05) if critical_value is None else critical_value
    return None if drift is None else chance_to_find(drift, critical) + chance_to_find(-drift, critical)


def chance_to_find(drift: float, critical_value: float) -> float:
    """The chance, in [0, 1], that a statistic with mean ``drift`` and variance 1 exceeds the critical value (on its side)."""
    return float(scipy.special.ndtr(drift - critical_value))


def drift_of(effect: float, variance: float, control_n: float, treatment_n: float) -> float | None:
    """How many standard errors (>= 0) these users put between an absolute ``effect`` on a mean and no effect.

    What `power_of` compares with the critical value, and `groupsequential.chance_to_cross` takes. None and errors as
    `power_of`.
    """
    if not math.isfinite(effect):
        raise ValueError(f"the effect must be finite, not {effect}")
    if control_n < 1 or treatment_n < 1 or not variance > 0.0:
        return None
    return abs(effect) / math.sqrt(variance / control_n + variance / treatment_n)


def drift_of_proportion(
    baseline: float,
    effect: float,
    control_n: float,
    treatment_n: float,
    critical_value: float,
    *,
    pooled: bool = True,
) -> float | None:
    """The drift at which a mean would be found as often as these users find an absolute change ``effect`` of a share.

    With c the critical value and s0, s1 the standard errors under no effect and under this one, a share is found when
    it exceeds c s0, which happens with chance Phi((effect - c s0) / s1): the drift is c + (effect - c s0) / s1. Source:
    as `users_needed_proportion`, whose users have the drift c + z_power. None when an arm has no user or the baseline
    is 0 or 1; raises ValueError unless baseline and baseline + effect lie in [0, 1].
    """
    if not (0.0 <= baseline <= 1.0 and 0.0 <= baseline + effect <= 1.0):
        raise ValueError(f"both shares must lie between 0 and 1, not {baseline} and {baseline + effect}")
    if control_n < 1 or treatment_n < 1 or not 0.0 < baseline < 1.0:
        return None
    under_null, under_effect = _errors_of_shares(baseline, effect, control_n, treatment_n, pooled=pooled)
    return critical_value + (abs(effect) - critical_value * under_null) / under_effect


def days_needed(users: int, per_day: float, *, whole_weeks: bool = True) -> int:
    """Days (>= 1) until ``users`` have come at ``per_day`` > 0 a day, rounded up, and to whole weeks (>= 7) as well.

    Whole weeks hold each weekday equally often. Raises ValueError unless users > 0 and per_day is positive and finite.
    """
    if users < 1 or not 0.0 < per_day < math.inf:
        raise ValueError(f"{users} users at {per_day} a day never come or never end")
    days = math.ceil(users / per_day)
    return 7 * math.ceil(days / 7) if whole_weeks else days


def _spread(variance: float, effect: float, treatment_share: float) -> float:
    if not variance > 0.0:
        raise ValueError(f"the variance must be positive, not {variance}")
    _require_design(effect, treatment_share)
    return math.sqrt(variance * (1.0 / treatment_share + 1.0 / (1.0 - treatment_share)))


def _quantiles(alpha: float, power: float, critical_value: float | None = None) -> tuple[float, float]:
    if not alpha < power < 1.0:
        raise ValueError(f"the power must lie between the level {alpha} and 1, not {power}")
    return normal_critical_value(alpha) if critical_value is None else critical_value, float(scipy.special.ndtri(power))


def _errors_of_shares(
    baseline: float, effect: float, control_n: float, treatment_n: float, *, pooled: bool
) -> tuple[float, float]:
    """Standard errors of the difference of two shares: as a test without effect sees it, and under the effect."""
    changed = baseline + effect
    under_effect = math.sqrt(changed * (1.0 - changed) / treatment_n + baseline * (1.0 - baseline) / control_n)
    if not pooled:
        return under_effect, under_effect
    together = (control_n * baseline + treatment_n * changed) / (control_n + treatment_n)
    return math.sqrt(together * (1.0 - together) * (1.0 / treatment_n + 1.0 / control_n)), under_effect


def _require_design(effect: float, treatment_share: float) -> None:
    if effect == 0.0 or not math.isfinite(effect):
        raise ValueError(f"the effect must be finite and not zero, not {effect}")
    if not 0.0 < treatment_share < 1.0:
        raise ValueError(f"the treatment's share must lie between 0 and 1, not {treatment_share}")


def _whole_users(root: float, treatment_share: float) -> int:
    users = root * root
    if not math.isfinite(users):
        raise ValueError("the effect is too small for any number of users")
    return math.ceil(users * treatment_share) + math.ceil(users * (1.0 - treatment_share))
