"""Group-sequential testing: looks at a planned sample while it grows, each with a critical value of its own.

A look happens at an information fraction t, users so far / users planned. A spending function says how much of
alpha may be spent up to t, and the critical values follow from the joint distribution of the looks: that of a
Brownian motion B(t), with z = B(t)/sqrt(t). Looks may come at any time, as long as their times do not depend on
the effect seen; the critical values of earlier looks do not depend on later ones.

Sources: Lan & DeMets (1983) for spending; Armitage, McPherson & Rowe (1969) for the recursion; Jennison &
Turnbull (2000) for power and the average sample.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from upshot.statistics.roots import bracketed_root
from upshot.statistics.tails import normal_critical_value, normal_p_value, require_level

SMALLEST_STEP = 0.002
"""Looks closer than this in information are one look: the recursion resolves no narrower step, nor is there need."""

_NODES = 200
_REACH = 12.0
_CERTAIN = 15.0
_HIGHEST = 37.0
_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)


class Spending(StrEnum):
    """How alpha is spent over the information: hardly at first, evenly per look, or by a power of it."""

    OBRIEN_FLEMING = "obrien_fleming"
    POCOCK = "pocock"
    KIM_DEMETS = "kim_demets"


@dataclass(frozen=True, slots=True)
class _Look:
    """Critical value of a look, and the density of B(t) over ``nodes`` > 0 where no look has stopped the test.

    ``mass`` is the density, which is even, times the quadrature's weights.
    """

    time: float
    critical_value: float
    nodes: NDArray[np.float64]
    mass: NDArray[np.float64]


def spent(t: float, alpha: float, family: Spending = Spending.OBRIEN_FLEMING, rho: float = 2.0) -> float:
    """Share of errors, in [0, alpha], that all looks up to information ``t`` >= 0 may make together; all from t = 1.

    Sources: Lan & DeMets (1983): 4 Phi(-z_{1-alpha/4}/sqrt t), either side spending as a one-sided O'Brien-Fleming
    (rpact's asOF), and alpha ln(1 + (e-1) t) for Pocock; Kim & DeMets (1987): alpha t^rho. Raises ValueError unless
    0 < alpha < 1, t >= 0 and rho > 0.
    """
    require_level(alpha)
    if not t >= 0.0:
        raise ValueError(f"an information fraction is not negative, as {t}")
    if not 0.0 < rho < math.inf:
        raise ValueError(f"the exponent must be positive and finite, not {rho}")
    t = min(t, 1.0)
    if t == 0.0:
        return 0.0
    if family == Spending.POCOCK:
        return alpha * math.log1p((math.e - 1.0) * t)
    if family == Spending.KIM_DEMETS:
        return alpha * math.pow(t, rho)
    return 2.0 * normal_p_value(normal_critical_value(alpha / 2.0) / math.sqrt(t))


def looks_up_to(seen: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The looks ``seen`` and, where it is one, the look at information ``now``: what `boundaries` is to be asked.

    A look nearer than SMALLEST_STEP to the last one is no look, and none follows the first at t >= 1: all of alpha
    is spent there. Where the answer is ``seen`` itself, the verdict of its last look stands and the data at ``now``
    are not tested. The look that ends the plan keeps the information it really has, also beyond 1: declared 1 it
    would count as more alike to the looks before than it is, and reject too often. Raises ValueError unless
    ``now`` is >= 0 and finite.
    """
    if not 0.0 <= now < math.inf:
        raise ValueError(f"an information fraction is finite and not negative, as {now}")
    last = seen[-1] if seen else 0.0
    if last >= 1.0:
        return seen
    if now >= 1.0:
        # An end just after a look is moved on by that step: less alike to the look before, so never too low a bound.
        return (*seen, max(now, last + SMALLEST_STEP))
    return (*seen, now) if now - last >= SMALLEST_STEP else seen


def boundaries(
    fractions: tuple[float, ...], alpha: float, family: Spending = Spending.OBRIEN_FLEMING, rho: float = 2.0
) -> tuple[float, ...]:
    """Critical |z| of each look at ``fractions``; |z| >= it at some look in a share ``alpha`` of null experiments.

    The repeated confidence interval at a look is difference ± critical value · standard error. ``fractions`` ascend
    in (0, 1]; only the last may lie beyond 1 (`looks_up_to` says why). Where less than 1e-299 is left to spend the
    value is 37. Raises ValueError unless the fractions ascend so, by SMALLEST_STEP or more each, and as `spent`.

    Source: Armitage, McPherson & Rowe (1969): with f the density of B at the last look where the test goes on, the
    chance to stop at this one is 2 int f(x) Phi(-(b sqrt t - x)/sqrt(t - t')) dx. Gauss-Legendre of 400 nodes, of
    which the even density needs half, within 12 standard deviations.
    """
    _require_ascending(fractions)
    looks = (_look(fractions[:count], alpha, family, rho) for count in range(1, len(fractions) + 1))
    return tuple(look.critical_value for look in looks)


def nominal_levels(critical_values: tuple[float, ...]) -> tuple[float, ...]:
    """The ordinary two-sided level 2 Phi(-b), in (0, 1), that each look's critical value b stands for.

    A comparison called with it returns the repeated confidence interval of that look.
    """
    return tuple(normal_p_value(value) for value in critical_values)


def inflation_factor(
    fractions: tuple[float, ...],
    alpha: float,
    power: float,
    family: Spending = Spending.OBRIEN_FLEMING,
    rho: float = 2.0,
) -> float:
    """How many times the users of a test with a single look (>= 1) a plan with these looks needs for equal power.

    ``fractions`` end at 1. Source: (drift / (z_{1-alpha/2} + z_power))², drift that of B(1) at which the plan stops
    for an effect in its own direction with chance ``power`` (Jennison & Turnbull 2000). Raises ValueError unless
    alpha < power < 1 and as `boundaries`.
    """
    drift = _drift(fractions, alpha, power, family, rho)
    return (drift / (normal_critical_value(alpha) + float(scipy.special.ndtri(power)))) ** 2


def equivalent_critical_value(
    fractions: tuple[float, ...],
    alpha: float,
    power: float,
    family: Spending = Spending.OBRIEN_FLEMING,
    rho: float = 2.0,
) -> float:
    """The critical value of a test with a single look that needs as many users for ``power`` as these looks do.

    The drift of `inflation_factor` less z_power; sample sizes computed with it are those of the looks. Arguments,
    source and errors as there.
    """
    return _drift(fractions, alpha, power, family, rho) - float(scipy.special.ndtri(power))


def chance_to_cross(
    fractions: tuple[float, ...],
    alpha: float,
    drift: float,
    family: Spending = Spending.OBRIEN_FLEMING,
    rho: float = 2.0,
) -> float:
    """The power of these looks, in [0, 1]: the chance to stop on the side of an effect.

    ``drift`` >= 0 is the effect in standard errors at information 1 (`power.drift_of`). Source: Jennison & Turnbull
    (2000). Beyond a drift of 15 it is that of 15: 1, but for early stops on the other side. Raises ValueError unless
    the drift is finite and not negative, and as `boundaries`.
    """
    _require_ascending(fractions)
    if not 0.0 <= drift < math.inf:
        raise ValueError(f"a drift is finite and not negative, as {drift}")
    # With much more drift the looks would cross where the recursion does not reach.
    return min(1.0, math.fsum(_stopping(fractions, alpha, family, rho, min(drift, _CERTAIN))[1]))


def expected_share(
    fractions: tuple[float, ...],
    alpha: float,
    power: float,
    family: Spending = Spending.OBRIEN_FLEMING,
    rho: float = 2.0,
) -> float:
    """The share of the planned users, in (0, 1], with which a plan ends on average when there is the effect that it
    finds with chance ``power``. Arguments, source and errors as in `inflation_factor`.
    """
    stops = _stopping(fractions, alpha, family, rho, _drift(fractions, alpha, power, family, rho))[0]
    return math.fsum(t * stop for t, stop in zip(fractions, stops, strict=True)) + 1.0 - math.fsum(stops)


def _require_ascending(fractions: tuple[float, ...]) -> None:
    # Compared with room for rounding: 0.3 - 0.298 is a little less than 0.002.
    steps = zip((0.0, *fractions), fractions, strict=False)
    if not all(later - earlier >= SMALLEST_STEP * (1.0 - 1e-9) for earlier, later in steps):
        raise ValueError(f"information fractions ascend by {SMALLEST_STEP} or more, from above 0: {fractions}")
    if not all(t < 1.0 for t in fractions[:-1]) or not all(map(math.isfinite, fractions)):
        raise ValueError(f"no look follows the first at information 1 or more: {fractions}")


@lru_cache(maxsize=2048)
def _look(fractions: tuple[float, ...], alpha: float, family: Spending, rho: float) -> _Look:
    # Cached by everything up to this look: a new look costs one step of the recursion, whatever came before.
    now = fractions[-1]
    if len(fractions) == 1:
        critical = _limited(-float(scipy.special.ndtri(spent(now, alpha, family, rho) / 2.0)))
        nodes, weights = _half_nodes(critical, now)
        density = np.exp(-0.5 * nodes * nodes / now) / (_ROOT_TWO_PI * math.sqrt(now))
        return _Look(now, critical, nodes, density * weights)
    before = _look(fractions[:-1], alpha, family, rho)
    to_spend = spent(now, alpha, family, rho) - spent(before.time, alpha, family, rho)
    critical = _stopping_value(before, now, to_spend)
    nodes, weights = _half_nodes(critical, now)
    deviation = math.sqrt(now - before.time)
    apart, across = (nodes[:, None] - before.nodes) / deviation, (nodes[:, None] + before.nodes) / deviation
    kernel = np.exp(-0.5 * apart * apart) + np.exp(-0.5 * across * across)
    return _Look(now, critical, nodes, kernel @ before.mass * (weights / (_ROOT_TWO_PI * deviation)))


def _stopping_value(before: _Look, now: float, to_spend: float) -> float:
    # The logarithm of the chance to stop is concave in the bound, as that of every sum of log-concave variables is:
    # Newton's steps from a bound too high, the one of a test without looks before, descend to the root. Logarithms
    # throughout, because far above the root the chance itself underflows.
    if to_spend <= 0.0:
        return _HIGHEST
    bound = _limited(-float(scipy.special.ndtri(to_spend / 2.0)))
    with np.errstate(divide="ignore"):
        log_mass = np.log(before.mass)
    log_target = math.log(to_spend / 2.0)
    root, deviation = math.sqrt(now), math.sqrt(now - before.time)
    both = np.concatenate((before.nodes, -before.nodes))
    log_mass = np.concatenate((log_mass, log_mass))
    for _ in range(100):
        distance = (both - bound * root) / deviation
        log_chance = float(scipy.special.logsumexp(log_mass + scipy.special.log_ndtr(distance)))
        log_slope = float(scipy.special.logsumexp(log_mass - 0.5 * distance * distance)) - math.log(_ROOT_TWO_PI)
        step = (log_chance - log_target) * math.exp(log_chance - log_slope) * deviation / root
        bound += step
        if abs(step) <= 1e-13 * bound:
            break
    return bound


def _half_nodes(critical: float, t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reach = min(critical, _REACH) * math.sqrt(t)
    nodes, weights = _legendre()
    return nodes * reach, weights * reach


@lru_cache(maxsize=1)
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(2 * _NODES)
    return nodes[_NODES:], weights[_NODES:]


def _limited(critical: float) -> float:
    return min(critical, _HIGHEST)


def _stopping(
    fractions: tuple[float, ...], alpha: float, family: Spending, rho: float, drift: float
) -> tuple[list[float], list[float]]:
    """The chance to stop at each look on either side, and on the effect's own, when B drifts by ``drift`` until t = 1.

    The density with a drift is that without, times exp(drift x - drift² t/2).
    """
    either, own = [], []
    before: _Look | None = None
    for count in range(1, len(fractions) + 1):
        look = _look(fractions[:count], alpha, family, rho)
        bound = look.critical_value * math.sqrt(look.time)
        at, mass, start = np.zeros(1), np.ones(1), 0.0
        if before is not None:
            start = before.time
            at = np.concatenate((before.nodes, -before.nodes))
            tilt = np.exp(drift * at - 0.5 * drift * drift * start)
            mass = np.concatenate((before.mass, before.mass)) * tilt
        deviation = math.sqrt(look.time - start)
        moved = at + drift * (look.time - start)
        own.append(float(mass @ scipy.special.ndtr((moved - bound) / deviation)))
        either.append(own[-1] + float(mass @ scipy.special.ndtr((-moved - bound) / deviation)))
        before = look
    return either, own


@lru_cache(maxsize=256)
def _drift(fractions: tuple[float, ...], alpha: float, power: float, family: Spending, rho: float) -> float:
    _require_ascending(fractions)
    if not fractions or fractions[-1] != 1.0:
        raise ValueError(f"a plan's looks end at information 1: {fractions}")
    if not alpha < power < 1.0:
        raise ValueError(f"the power must lie between the level {alpha} and 1, not {power}")
    fixed = normal_critical_value(alpha) + float(scipy.special.ndtri(power))
    return bracketed_root(
        lambda drift: math.fsum(_stopping(fractions, alpha, family, rho, drift)[1]) - power, 0.0, 4.0 * fixed
    )
