"""Normal posterior of an effect: the chance to beat control and what a wrong choice is expected to cost.

These numbers do not protect against peeking: stopping at a chance of 95 %, watched daily, declares a winner
in nearly half of all experiments without any effect.
"""

import math
from dataclasses import dataclass

import scipy

from upshot.statistics.interval import Interval
from upshot.statistics.lift import relative_lift
from upshot.statistics.tails import normal_critical_value

_SQRT_HALF = math.sqrt(0.5)


@dataclass(frozen=True, slots=True)
class Posterior:
    """A normal posterior of the effect, higher is better; all but the chance are in the unit of the effect.

    ``chance_to_beat_control`` lies in [0, 1]. An expected loss (>= 0) is what choosing that arm forgoes on
    average where the other is better.
    """

    mean: float
    standard_deviation: float
    chance_to_beat_control: float
    expected_loss_treatment: float
    expected_loss_control: float


def flat_prior(
    difference: float, standard_error: float, *, prior_mean: float = 0.0, prior_sd: float | None = None
) -> Posterior:
    """Posterior of a normal effect estimate under a flat prior, or under N(prior_mean, prior_sd²) when given.

    Negate ``difference`` where lower is better. Raises ValueError unless ``standard_error`` and ``prior_sd``
    are positive and finite. Source: conjugate normal update; with s the posterior deviation and k = mean/s:
    chance Phi(k), losses s phi(k) - mean Phi(-k) for treatment and s phi(k) + mean Phi(k) for control.
    """
    _require_positive("standard error", standard_error)
    mean, deviation = difference, standard_error
    if prior_sd is not None:
        _require_positive("prior's standard deviation", prior_sd)
        total = math.hypot(standard_error, prior_sd)
        trust = (prior_sd / total) ** 2
        mean = difference * trust + prior_mean * (standard_error / total) ** 2
        deviation = standard_error * (prior_sd / total)
    k = mean / deviation
    return Posterior(
        mean,
        deviation,
        0.5 * math.erfc(-k * _SQRT_HALF),
        deviation * _unit_loss(k),
        deviation * _unit_loss(-k),
    )


def relative_posterior(
    control: tuple[float, float],
    treatment: tuple[float, float],
    *,
    prior_mean: float = 0.0,
    prior_sd: float | None = None,
) -> Posterior | None:
    """Posterior of the lift, a fraction of |control mean|, under a flat prior or N(prior_mean, prior_sd²) on the lift.

    Each arm is (mean, variance of that mean); negate both means where lower is better, which turns the lift's sign.
    None where there is no lift or no error. The lift is taken for normal, which a baseline hardly told from 0 is not:
    where Fieller's interval is unbounded this posterior means nothing. Source: conjugate update of `flat_prior` with
    the delta-method error sqrt(V1 + (m1/m0)² V0) / |m0|, as GrowthBook and Eppo use it. Raises ValueError as there.
    """
    (m0, v0), (m1, v1) = control, treatment
    lift = relative_lift(m0, m1)
    if lift is None:
        return None
    error = math.hypot(math.sqrt(v1), m1 / m0 * math.sqrt(v0)) / abs(m0)
    if not 0.0 < error < math.inf:
        return None
    return flat_prior(lift, error, prior_mean=prior_mean, prior_sd=prior_sd)


def credible_interval(posterior: Posterior, alpha: float) -> Interval:
    """Central interval holding 1 - ``alpha`` of the posterior; ValueError unless 0 < alpha < 1."""
    reach = normal_critical_value(alpha) * posterior.standard_deviation
    return Interval(posterior.mean - reach, posterior.mean + reach)


def _unit_loss(k: float) -> float:
    # phi(k) - k Phi(-k); for k > 0 both terms share the factor phi(k), which keeps the remainder's digits.
    density = math.exp(-0.5 * k * k) / math.sqrt(2.0 * math.pi)
    if k <= 0.0:
        return density - k * 0.5 * math.erfc(k * _SQRT_HALF)
    return density * max(1.0 - k * math.sqrt(0.5 * math.pi) * float(scipy.special.erfcx(k * _SQRT_HALF)), 0.0)


def _require_positive(name: str, value: float) -> None:
    if not (value > 0.0 and math.isfinite(value)):
        raise ValueError(f"the {name} must be positive and finite, not {value}")
