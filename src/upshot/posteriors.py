"""What to believe of a comparison: the chance to beat control, expected losses and credible intervals, under stated priors.

The default prior is flat: normal posteriors, or, for shares of so few users that those would mislead, exact posteriors of uniform
shares. The plan may state another prior, on the lift. None of it protects against looking often; p-values do that.
"""

from collections.abc import Iterable
from typing import NamedTuple

from upshot import statistics
from upshot.arms import Arms, Strata
from upshot.metrics import Direction, Metric
from upshot.report import Informed
from upshot.statistics import Beta, Effect, Interval, Moments

Counts = tuple[int, int]  # users, and those who converted

FLAT = "flat"
UNIFORM_SHARES = "uniform_shares"

FEW = 100
"""Of fewer users in an arm who did, or did not, convert, the posterior of a share is not near enough to a normal one."""

_UNIFORM = Beta(1.0, 1.0)


class Belief(NamedTuple):
    """What the data say under a prior without opinion; losses and intervals in the unit of the metric, the last one in lifts."""

    prior: str
    chance_to_beat_control: float
    expected_loss: float
    expected_loss_of_control: float
    interval: Interval | None
    relative_interval: Interval | None


def belief(strata: Strata, metric: Metric, effect: Effect, alpha: float, *, exact: bool) -> Belief | None:
    """What to believe of an effect; None where it has no test.

    `exact` asks for posteriors of shares where few users did or did not convert; their intervals take milliseconds.
    """
    if effect.standard_error is None or effect.absolute_difference is None:
        return None
    lower_is_better = metric.direction is Direction.DECREASE
    if exact and effect.method == "two_proportion_z" and len(strata) == 1:
        control, treatment = (_counts(arm or Moments()) for arm in strata[0])
        if _are_few((control, treatment)):
            return _of_shares(control, treatment, alpha, lower_is_better=lower_is_better)
    return _normal(effect, alpha, lower_is_better=lower_is_better)


def _normal(effect: Effect, alpha: float, *, lower_is_better: bool) -> Belief:
    """Under a flat prior credible intervals are confidence intervals of a normal test: of the lift, Fieller's."""
    difference, error = effect.absolute_difference or 0.0, effect.standard_error or 0.0
    posterior = statistics.flat_prior(-difference if lower_is_better else difference, error)
    critical, arms, lift = statistics.normal_critical_value(alpha), effect.arms, None
    reach = critical * error
    if arms is not None and effect.relative_lift is not None:
        lift = statistics.fieller_interval(*arms, critical)
    return Belief(
        FLAT,
        posterior.chance_to_beat_control,
        posterior.expected_loss_treatment,
        posterior.expected_loss_control,
        Interval(difference - reach, difference + reach),
        lift,
    )


def _of_shares(control: Counts, treatment: Counts, alpha: float, *, lower_is_better: bool) -> Belief:
    shares = [statistics.beta_posterior(*arm, _UNIFORM) for arm in (control, treatment)]
    found = statistics.compare_beta(shares[0], shares[1], alpha)
    chance, losses = found.chance_to_beat_control, (found.expected_loss_treatment, found.expected_loss_control)
    if lower_is_better:
        chance, losses = 1.0 - chance, losses[::-1]
    return Belief(UNIFORM_SHARES, chance, *losses, found.difference_interval, found.lift_interval)


def informed(metric: Metric, effect: Effect, alpha: float, deviation: float | None) -> Informed | None:
    """The same under the plan's prior, N(0, `deviation`²) on the lift; None without one, or without a lift."""
    if deviation is None or effect.arms is None or effect.relative_lift is None:
        return None
    sign = -1.0 if metric.direction is Direction.DECREASE else 1.0
    control, treatment = ((sign * mean, variance) for mean, variance in effect.arms)
    posterior = statistics.relative_posterior(control, treatment, prior_sd=deviation)
    if posterior is None:
        return None
    interval = statistics.credible_interval(posterior, alpha)
    low, high = sorted((sign * (interval.lower or 0.0), sign * (interval.upper or 0.0)))
    return Informed(
        prior_lift_sd=deviation,
        lift=sign * posterior.mean,
        chance_to_beat_control=posterior.chance_to_beat_control,
        expected_loss=posterior.expected_loss_treatment,
        expected_loss_of_control=posterior.expected_loss_control,
        credible_interval=Interval(low, high),
        confidence=statistics.word(statistics.p_value_of_chance(posterior.chance_to_beat_control), alpha),
    )


def chances_to_be_best(arms: Arms, metric: Metric) -> dict[int, float]:
    """The chance of every variant (by position) to be the best of all in a metric; empty where an arm has no variance yet.

    Over several phases, an arm's mean is that over the shares which the phases have of all users.
    """
    variants, lower_is_better = arms.experiment.variants, metric.direction is Direction.DECREASE
    if metric.is_share and len(arms.phases) == 1:
        counts = [_counts(arms.moments(variant, arms.phases[0], metric) or Moments()) for variant in variants]
        if all(users for users, _ in counts) and _are_few(counts):
            chances = statistics.chance_to_be_best_beta(counts, _UNIFORM, lower_is_better=lower_is_better)
            return {variant.position: chance for variant, chance in zip(variants, chances, strict=True)}
    known = [arms.overall(variant, metric) for variant in variants]
    guesses = [guess for guess in known if guess is not None]
    if len(guesses) < len(known):
        return {}
    means, variances = zip(*guesses, strict=True)
    chances = statistics.chance_to_be_best_normal(means, variances, lower_is_better=lower_is_better)
    return {variant.position: chance for variant, chance in zip(variants, chances, strict=True)}


def _counts(arm: Moments) -> Counts:
    return arm.n, round(arm.total)


def _are_few(arms: Iterable[Counts]) -> bool:
    return any(min(converted, users - converted) < FEW for users, converted in arms)
