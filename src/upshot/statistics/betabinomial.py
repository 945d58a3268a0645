"""Shares of users under Beta posteriors: chance to beat control, expected losses, credible intervals of difference and lift.

Exact for counts of any size, where the normal posterior of `bayesian` needs many conversions. Nothing is drawn at
random: the same counts always give the same answer. As there, none of it protects against peeking.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from upshot.statistics.interval import Interval
from upshot.statistics.roots import bracketed_root
from upshot.statistics.tails import require_level

SMALLEST_COUNT = 0.1
"""Below this a Beta distribution piles up so closely at 0 or 1 that doubles cannot tell its shares from them."""

_NEGLIGIBLE = 1e-17
_LOG_NEGLIGIBLE = -42.0
_MOST_NODES = 8192
_DIGITS = 1e-10  # of a distribution's width: beyond the accuracy of the quadrature


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution of a share: ``a`` counts for successes, ``b`` for failures, both at least SMALLEST_COUNT."""

    a: float
    b: float

    def __post_init__(self) -> None:
        """Raise ValueError unless both counts are finite and large enough."""
        if not (SMALLEST_COUNT <= self.a < math.inf and SMALLEST_COUNT <= self.b < math.inf):
            raise ValueError(f"the counts of a Beta are finite and at least {SMALLEST_COUNT}, not {self.a}, {self.b}")

    @property
    def mean(self) -> float:
        """The mean share, in (0, 1)."""
        return self.a / (self.a + self.b)

    @property
    def deviation(self) -> float:
        """The standard deviation of the share."""
        total = self.a + self.b
        return math.sqrt(self.a * self.b / (total + 1.0)) / total

    @property
    def logit_deviation(self) -> float:
        """The scale of the share's logit: at most its standard deviation, and near it for large counts."""
        return math.sqrt(1.0 / self.a + 1.0 / self.b)

    @property
    def mirrored(self) -> "Beta":
        """The distribution of the share of failures."""
        return Beta(self.b, self.a)


@dataclass(frozen=True, slots=True)
class BetaComparison:
    """Treatment against control, higher is better; all but the chance and the lifts in the unit of the share.

    An expected loss (>= 0) is what choosing that arm forgoes on average where the other is better. ``mean_difference``
    is treatment less control. The lift is treatment / control - 1. Intervals are central. Where lower is better, the
    chance is one less this one and the two losses change places.
    """

    chance_to_beat_control: float
    expected_loss_treatment: float
    expected_loss_control: float
    mean_difference: float
    control_interval: Interval
    treatment_interval: Interval
    difference_interval: Interval
    lift_interval: Interval


def beta_posterior(n: int, successes: int, prior: Beta) -> Beta:
    """Posterior of an arm's share after ``successes`` among ``n`` users; ValueError unless 0 <= successes <= n.

    Source: conjugate update, Beta(a + successes, b + n - successes). Beta(1, 1) is the flat prior.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} users")
    return Beta(prior.a + successes, prior.b + n - successes)


def compare_beta(control: Beta, treatment: Beta, alpha: float) -> BetaComparison:
    """Everything the two posteriors say, with central intervals that hold 1 - ``alpha`` of them.

    ValueError unless 0 < alpha < 1. Sources: P(T > C) = E[F_C(T)]; E[max(C - T, 0)] = E[mean_C S_C+(T) - T S_C(T)]
    with C+ = Beta(a+1, b) (the closed forms of Miller and of Stucchio sum the same integrals); quantiles of T-C and
    T/C as roots of their distribution functions. Integrals by the trapezoidal rule over the logit, which converges faster than
    any power of the step for such densities.
    """
    loss_treatment, loss_control = _expected_losses(control, treatment)
    return BetaComparison(
        chance_to_beat(control, treatment),
        loss_treatment,
        loss_control,
        _difference(control, treatment),
        beta_interval(control, alpha),
        beta_interval(treatment, alpha),
        Interval(*(difference_quantile(control, treatment, p) for p in (alpha / 2.0, 1.0 - alpha / 2.0))),
        Interval(*(lift_quantile(control, treatment, p) for p in (alpha / 2.0, 1.0 - alpha / 2.0))),
    )


def beta_interval(share: Beta, alpha: float) -> Interval:
    """Central interval holding 1 - ``alpha`` of a share's posterior, in [0, 1]; ValueError unless 0 < alpha < 1."""
    require_level(alpha)
    upper = 1.0 - float(scipy.special.betaincinv(share.b, share.a, alpha / 2.0))
    return Interval(float(scipy.special.betaincinv(share.a, share.b, alpha / 2.0)), upper)


def chance_to_beat(control: Beta, treatment: Beta) -> float:
    """P(treatment's share > control's), in [0, 1]."""
    if _narrower(treatment, control):
        x, weights = logit_rule(treatment, treatment.logit_deviation)
        return float(weights @ scipy.special.betainc(control.a, control.b, x))
    x, weights = logit_rule(control, control.logit_deviation)
    return float(weights @ scipy.special.betaincc(treatment.a, treatment.b, x))


def lift_quantile(control: Beta, treatment: Beta, probability: float) -> float:
    """The lift, a fraction > -1, that treatment / control - 1 stays below with ``probability`` in (0, 1)."""
    require_level(probability)
    guess = math.log(treatment.mean) - math.log(control.mean)
    width = math.hypot(control.deviation / control.mean, treatment.deviation / treatment.mean)
    below = _ratio_below(control, treatment)
    return math.expm1(_quantile(lambda x: below(math.exp(x)) - probability, guess, 3.0 * width))


def difference_quantile(control: Beta, treatment: Beta, probability: float) -> float:
    """The difference, in (-1, 1), that treatment - control stays below with ``probability`` in (0, 1).

    Right to 1e-7, but where nothing is known of an arm, whose density does not vanish at 0 or 1, only to 1e-3.
    """
    require_level(probability)
    guess, width = treatment.mean - control.mean, math.hypot(control.deviation, treatment.deviation)
    below = _difference_below(control, treatment)
    return _quantile(lambda x: below(x) - probability, guess, 3.0 * width)


def _quantile(surplus: Callable[[float], float], guess: float, width: float) -> float:
    """Where an increasing function is 0, sought ever further from a guess."""
    low = high = width
    while surplus(guess - low) > 0.0:
        low *= 2.0
    while surplus(guess + high) < 0.0:
        high *= 2.0
    return bracketed_root(surplus, guess - low, guess + high, _DIGITS * width)


def logit_rule(share: Beta, sharpest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes x in (0, 1) and weights, summing to 1, such that weights @ g(x) is the mean of g under ``share``.

    ``sharpest`` is the scale, in the logit, of the steepest part of g; both arrays have one axis. The trapezoidal rule
    over t = logit x, from where the density exp(a log x + b log(1-x)) of t is 6e-19 of its peak.
    """
    centre = share.mean
    step = 0.3 * min(sharpest, share.logit_deviation, 1.0)
    low, high = -_edge(share.mirrored), _edge(share)
    count = min(math.ceil((high - low) / step), _MOST_NODES)
    moved = np.linspace(low, high, count + 1)
    # Both logarithms from the distance to the centre: a log x itself loses its digits for large counts.
    log_x = -np.log1p((1.0 - centre) * np.expm1(-moved))
    log_rest = -np.log1p(centre * np.expm1(moved))
    weights = np.exp(share.a * log_x + share.b * log_rest)
    return np.minimum(centre * np.exp(log_x), 1.0), weights / weights.sum()


def _edge(share: Beta) -> float:
    # How far above its centre the logit's density is negligible: Newton's steps, which a concave logarithm lets
    # descend from outside.
    centre = share.mean
    edge = math.sqrt(-2.0 * _LOG_NEGLIGIBLE) * share.logit_deviation
    for _ in range(60):
        grown = math.log1p(centre * math.expm1(edge))
        log_density = share.a * (edge - grown) - share.b * grown
        falls = (share.a + share.b) * centre * math.exp(edge - grown) - share.a
        moved = (log_density - _LOG_NEGLIGIBLE) / falls
        edge += moved
        if abs(moved) <= 0.01 * edge:
            break
    return edge


def _narrower(one: Beta, other: Beta) -> bool:
    return one.logit_deviation <= other.logit_deviation


def _difference(control: Beta, treatment: Beta) -> float:
    gap = treatment.a * control.b - control.a * treatment.b
    return gap / ((treatment.a + treatment.b) * (control.a + control.b))


def _expected_losses(control: Beta, treatment: Beta) -> tuple[float, float]:
    # The mean over the narrower arm of how far the wider one is expected beyond it, above or below.
    narrow, wide = (treatment, control) if _narrower(treatment, control) else (control, treatment)
    x, weights = logit_rule(narrow, narrow.logit_deviation)
    above = wide.mean * scipy.special.betaincc(wide.a + 1.0, wide.b, x) - x * scipy.special.betaincc(wide.a, wide.b, x)
    below = x * scipy.special.betainc(wide.a, wide.b, x) - wide.mean * scipy.special.betainc(wide.a + 1.0, wide.b, x)
    wide_above, wide_below = max(float(weights @ above), 0.0), max(float(weights @ below), 0.0)
    return (wide_above, wide_below) if narrow is treatment else (wide_below, wide_above)


def _ratio_below(control: Beta, treatment: Beta) -> Callable[[float], float]:
    # P(T <= ratio C), as a mean over the narrower arm. There the bound for the other one must stay inside (0, 1), as
    # its distribution function has a kink at 1; else over the arm for which it does, with nodes for the sharper edge.
    sharpest = min(control.logit_deviation, treatment.logit_deviation)
    treatment_is_narrower = _narrower(treatment, control)
    narrow = treatment if treatment_is_narrower else control
    of_control, of_treatment = logit_rule(control, sharpest), logit_rule(treatment, sharpest)

    def below(ratio: float) -> float:
        last = ratio if treatment_is_narrower else 1.0 / ratio
        kinked = last < 1.0 and float(scipy.special.betaincc(narrow.a, narrow.b, last)) > _NEGLIGIBLE
        if treatment_is_narrower is not kinked:
            x, weights = of_treatment
            return float(weights @ scipy.special.betaincc(control.a, control.b, np.minimum(x / ratio, 1.0)))
        x, weights = of_control
        return float(weights @ scipy.special.betainc(treatment.a, treatment.b, np.minimum(ratio * x, 1.0)))

    return below


def _difference_below(control: Beta, treatment: Beta) -> Callable[[float], float]:
    # P(T - C <= d). Of shares above a half, those of failures are compared instead: then neither bound comes near 1, where
    # the other arm's distribution function has a kink.
    if control.mean + treatment.mean > 1.0:
        control, treatment = treatment.mirrored, control.mirrored
    sharpest = min(control.logit_deviation, treatment.logit_deviation)
    of_control, of_treatment = logit_rule(control, sharpest), logit_rule(treatment, sharpest)

    def below(difference: float) -> float:
        if difference >= 0.0:
            x, weights = of_control
            return float(weights @ scipy.special.betainc(treatment.a, treatment.b, np.minimum(x + difference, 1.0)))
        x, weights = of_treatment
        return float(weights @ scipy.special.betaincc(control.a, control.b, np.minimum(x - difference, 1.0)))

    return below
