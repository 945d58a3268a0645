"""The relative lift of one mean over another, and Fieller's interval for it.

The lift is (treatment - control) / |control|: with a negative control mean a rise still counts as positive.
"""

import math

from upshot.statistics.interval import Interval


def relative_lift(control_mean: float, treatment_mean: float) -> float | None:
    """(treatment - control) / |control|, a fraction; None when the control mean is 0 or too near it."""
    if control_mean == 0.0:
        return None
    lift = (treatment_mean - control_mean) / abs(control_mean)
    return lift if math.isfinite(lift) else None


def fieller_interval(
    control: tuple[float, float], treatment: tuple[float, float], critical_value: float
) -> Interval | None:
    """Confidence interval of the lift; each arm is (mean, variance of that mean), variances >= 0.

    It leaves out 0 exactly when |difference| / standard error exceeds ``critical_value``. None when it is
    unbounded: the control mean is itself not told apart from 0 (g >= 1). Source: Fieller (1954); with c the
    critical value, r = m1/m0 and g = c² V0/m0²: (r ± c sqrt((1-g) V1 + r² V0)/|m0|) / (1-g) - 1.
    """
    m0, v0 = control
    m1, v1 = treatment
    if m0 == 0.0:
        return None
    noise = critical_value * math.sqrt(v0) / m0
    g = noise * noise
    ratio = m1 / m0
    if not g < 1.0 or not math.isfinite(ratio):
        return None
    reach = critical_value * math.sqrt((1.0 - g) * v1 + ratio * ratio * v0) / abs(m0)
    # r - 1 + g is formed from the difference of the means: r - 1 would cancel for small lifts.
    centre = (m1 - m0) / m0 + g
    low, high = (centre - reach) / (1.0 - g), (centre + reach) / (1.0 - g)
    return Interval(low, high) if m0 > 0.0 else Interval(-high, -low)
