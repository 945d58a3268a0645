"""Intervals, and the confidence interval of the value of a single arm."""

import math
from dataclasses import dataclass

from upshot.statistics.moments import ROUNDING_OF_A_MEAN, Moments
from upshot.statistics.tails import normal_critical_value, student_critical_value


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval in the unit of its quantity; None means unbounded on that side."""

    lower: float | None
    upper: float | None


def proportion_interval(moments: Moments, alpha: float) -> Interval | None:
    """Wilson score interval at level 1 - ``alpha`` of the share of ones in 0/1 data, within [0, 1].

    None for an arm without users; ValueError unless 0 < alpha < 1. Source: Wilson (1927).
    """
    critical = normal_critical_value(alpha)
    n = moments.n
    if n == 0:
        return None
    successes = round(moments.total)
    square = critical * critical
    centre = successes + square / 2.0
    reach = critical * math.sqrt(successes * (n - successes) / n + square / 4.0)
    lower = (centre - reach) / (n + square) if successes > 0 else 0.0
    upper = (centre + reach) / (n + square) if successes < n else 1.0
    return Interval(max(lower, 0.0), min(upper, 1.0))


def mean_interval(moments: Moments, alpha: float) -> Interval | None:
    """Student t interval at level 1 - ``alpha`` of a mean per user, in the unit of the quantity.

    None for fewer than two users or users who are all alike: an interval of no width would claim certainty.
    ValueError unless 0 < alpha < 1.
    """
    critical = student_critical_value(alpha, max(moments.n - 1, 1))
    variance = moments.variance
    if variance is None:
        return None
    standard_error = math.sqrt(variance / moments.n)
    if standard_error <= ROUNDING_OF_A_MEAN * abs(moments.mean):
        return None
    reach = critical * standard_error
    return Interval(moments.mean - reach, moments.mean + reach)
