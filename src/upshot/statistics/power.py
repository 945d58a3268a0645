"""Planning: how small an effect a sample can show, and how many users an effect needs."""

import math

from scipy.special import ndtri

from upshot.statistics.tails import normal_critical_value


def minimum_detectable_effect(
    control_variance: float, control_n: int, treatment_n: int, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest absolute effect (> 0) that a two-sided test at ``alpha`` shows with ``power``.

    In the unit of the quantity. Source: (z_alpha/2 + z_power) · sqrt(variance (1/n0 + 1/n1)). None when an
    arm has no user or the variance (squared units) is not positive. Raises ValueError unless
    0 < alpha < power < 1.
    """
    reach = sum(_quantiles(alpha, power))
    if control_n < 1 or treatment_n < 1 or not control_variance > 0.0:
        return None
    return reach * math.sqrt(control_variance / control_n + control_variance / treatment_n)


def users_needed(
    baseline_variance: float,
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    treatment_share: float = 0.5,
) -> int:
    """Users of two arms together, each rounded up, that show an absolute ``effect`` on a mean with ``power``.

    Source: (z_alpha/2 + z_power)² variance (1/w + 1/(1-w)) / effect². Raises ValueError unless the variance
    is positive, ``effect`` is not 0, 0 < alpha < power < 1 and 0 < treatment_share < 1.
    """
    if not baseline_variance > 0.0:
        raise ValueError(f"the variance must be positive, not {baseline_variance}")
    _require_design(effect, treatment_share)
    spread = math.sqrt(baseline_variance * (1.0 / treatment_share + 1.0 / (1.0 - treatment_share)))
    return _whole_users(sum(_quantiles(alpha, power)) * spread / effect, treatment_share)


def users_needed_proportion(
    baseline: float, effect: float, alpha: float = 0.05, power: float = 0.8, treatment_share: float = 0.5
) -> int:
    """Users of two arms together that show an absolute change ``effect`` of a share with ``power``.

    Each arm is rounded up. Source: Fleiss, Levin & Paik (2003), pooled variance under the null:
    [z_alpha/2 sqrt(pq (1/w + 1/(1-w))) + z_power sqrt(p1 q1/w + p0 q0/(1-w))]² / effect², p the mean share.
    Raises ValueError unless baseline and baseline + effect lie in (0, 1), and as users_needed.
    """
    changed = baseline + effect
    if not (0.0 < baseline < 1.0 and 0.0 < changed < 1.0):
        raise ValueError(f"both shares must lie between 0 and 1, not {baseline} and {changed}")
    _require_design(effect, treatment_share)
    for_level, for_power = _quantiles(alpha, power)
    kept = 1.0 - treatment_share
    pooled = kept * baseline + treatment_share * changed
    under_null = math.sqrt(pooled * (1.0 - pooled) * (1.0 / treatment_share + 1.0 / kept))
    under_effect = math.sqrt(changed * (1.0 - changed) / treatment_share + baseline * (1.0 - baseline) / kept)
    return _whole_users((for_level * under_null + for_power * under_effect) / effect, treatment_share)


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    if not alpha < power < 1.0:
        raise ValueError(f"the power must lie between the level {alpha} and 1, not {power}")
    return normal_critical_value(alpha), float(ndtri(power))


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
