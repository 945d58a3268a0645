"""The lift that a planned size shows, and the power that a lift has there: the planning formulas, solved the other way round."""

from collections.abc import Callable

from upshot.metrics import Metric
from upshot.statistics import Moments, users_needed, users_needed_proportion

POWER = 0.8
_STEPS = 60
_LARGEST = 100.0


def lift_shown(metric: Metric, control: Moments, users: int, treatment_share: float, alpha: float) -> float:
    """The lift (a fraction > 0) that ``users`` of both arms find in 80 % of experiments; ``control`` is per user.

    Raises ValueError where no lift, or only one that nobody ever saw, is found with so few.
    """
    largest = _LARGEST
    if metric.is_share:
        largest = min(largest, (1.0 - control.mean) / control.mean * (1.0 - 1e-6))
    variance = control.variance
    if not variance or not control.mean:
        raise ValueError(f"{metric.key} has no variance or no value to lift")

    def enough(lift: float) -> bool:
        effect = lift * control.mean
        treated = Moments(control.n, control.mean + effect, control.m2 * (1.0 + lift) ** 2)
        return users_of(metric, control, treated, treatment_share, alpha, POWER) <= users

    if not enough(largest):
        raise ValueError(f"{users} users are too few to find any lift of {metric.key}")
    return _threshold(enough, 0.0, largest)


def power_at(
    metric: Metric, control: Moments, treatment: Moments, users: int, treatment_share: float, alpha: float
) -> float:
    """The chance that ``users`` of both arms find the difference of the two arms, whose moments are per user."""
    return _threshold(
        lambda power: users_of(metric, control, treatment, treatment_share, alpha, power) >= users, alpha, 1.0
    )


def users_of(
    metric: Metric, control: Moments, treatment: Moments, treatment_share: float, alpha: float, power: float
) -> int:
    """Users of both arms that find their difference with ``power``; of means by the variances of both arms."""
    effect = treatment.mean - control.mean
    if metric.is_share:
        return users_needed_proportion(control.mean, effect, alpha, power, treatment_share)
    share = treatment_share
    s0, s1 = control.variance or 0.0, treatment.variance or 0.0
    # The variance that, common to both arms, gives the difference the variance that it has.
    common = (s1 / share + s0 / (1.0 - share)) / (1.0 / share + 1.0 / (1.0 - share))
    return users_needed(common, effect, alpha, power, share)


def _threshold(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``holds`` begins to be true, between ``low``, where it is not, and ``high``, where it is; neither is asked."""
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
