"""Non-inferiority: whether a guardrail metric is shown to be harmed, shown to be safe, or neither.

A difference that is not significant shows no safety: an experiment too small to see harm would pass every guardrail.
Safe means that the confidence bound of the harm lies within a margin that was set beforehand.
"""

import math
from dataclasses import dataclass

import scipy

from upshot.statistics.comparison import all_alike
from upshot.statistics.lift import fieller_interval
from upshot.statistics.moments import Moments
from upshot.statistics.tails import normal_critical_value


@dataclass(frozen=True, slots=True)
class Guardrail:
    """The verdict on a guardrail, "harmed", "safe" or "inconclusive"; every number is None where there is no test.

    ``status`` is "ok", "no_users", "one_user", "zero_variance" or, for a relative margin, "zero_baseline". ``z`` and
    ``p_value``, one-sided in [0, 1], test the hypothesis that the harm reaches the margin. ``bound`` is the one-sided
    confidence bound of the change on the side of harm, a lower bound where higher is better and an upper one
    otherwise, in the unit of the margin: a difference, or a fraction of |control mean|. It is None too where a lift
    is unbounded.
    """

    verdict: str | None
    z: float | None
    p_value: float | None
    bound: float | None
    status: str


def non_inferiority(
    control: Moments,
    treatment: Moments,
    *,
    alpha: float,
    margin_absolute: float | None = None,
    margin_relative: float | None = None,
    higher_is_better: bool = True,
    proportions: bool = False,
    harm_critical: float | None = None,
) -> Guardrail:
    """Test whether treatment is worse than control by less than a margin, at the one-sided level ``alpha``.

    "harmed": the difference is to the worse by more than ``harm_critical`` standard errors, by default the two-sided
    critical value at alpha, for a result that is watched a sequential one; whatever the margin. Else "safe": p < alpha,
    that is, the bound lies within the margin. Else "inconclusive". The margin is an absolute difference, or a fraction
    in [0, 1) of |control mean|, tested by the linear contrast m1 - (1 - margin) m0 without a delta method. Variances
    are those of each arm, of a share p with ``proportions`` (values of 0 and 1) p(1-p)/n. Raises ValueError unless
    0 < alpha < .5, exactly one margin is given and is not negative, and harm_critical is positive.
    Source: Wald's test of a shifted hypothesis; for relative margins Fieller (1954) at the ratio 1 - margin.
    """
    critical = _one_sided_critical_value(alpha)
    harm_limit = normal_critical_value(alpha) if harm_critical is None else harm_critical
    _require(margin_absolute, margin_relative, harm_limit)
    if control.n == 0 or treatment.n == 0:
        return _unjudged("no_users")
    arm0, arm1 = _mean_and_variance(control, proportions), _mean_and_variance(treatment, proportions)
    if arm0 is None or arm1 is None:
        return _unjudged("one_user")
    if all_alike(arm0, arm1):
        return _unjudged("zero_variance")
    direction = 1.0 if higher_is_better else -1.0
    (m0, v0), (m1, v1) = arm0, arm1
    difference, error = m1 - m0, math.sqrt(v0 + v1)
    if margin_relative is None:
        z = (direction * difference + (margin_absolute or 0.0)) / error
        bound: float | None = difference - direction * critical * error
    elif m0 == 0.0:
        return _unjudged("zero_baseline")
    else:
        kept = 1.0 - direction * math.copysign(margin_relative, m0)
        z = direction * (m1 - kept * m0) / math.sqrt(v1 + kept * kept * v0)
        lifts = fieller_interval(arm0, arm1, critical)
        bound = None if lifts is None else lifts.lower if higher_is_better else lifts.upper
    harmed = direction * difference < -harm_limit * error
    verdict = "harmed" if harmed else "safe" if z > critical else "inconclusive"
    return Guardrail(verdict, z, float(scipy.special.ndtr(-z)), bound, "ok")


def _one_sided_critical_value(alpha: float) -> float:
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"a one-sided significance level lies between 0 and .5, not {alpha}")
    return normal_critical_value(2.0 * alpha)


def _require(margin_absolute: float | None, margin_relative: float | None, harm_limit: float) -> None:
    if (margin_absolute is None) == (margin_relative is None):
        raise ValueError("a guardrail needs either an absolute or a relative margin")
    if margin_absolute is not None and not 0.0 <= margin_absolute < math.inf:
        raise ValueError(f"an absolute margin is finite and not negative, not {margin_absolute}")
    if margin_relative is not None and not 0.0 <= margin_relative < 1.0:
        raise ValueError(f"a relative margin lies in [0, 1), not {margin_relative}")
    if not harm_limit > 0.0:
        raise ValueError(f"a critical value must be positive, not {harm_limit}")


def _mean_and_variance(arm: Moments, proportions: bool) -> tuple[float, float] | None:  # noqa: FBT001
    if proportions:
        return arm.mean, arm.mean * (1.0 - arm.mean) / arm.n
    variance = arm.variance
    return None if variance is None else (arm.mean, variance / arm.n)


def _unjudged(status: str) -> Guardrail:
    return Guardrail(None, None, None, None, status)
