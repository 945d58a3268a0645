"""Thompson's allocation: users go to each arm with the chance that it is the best, as far as anyone can know.

The chances come from quadrature, never from draws: the same data always give the same weights. An arm's users must be
analysed per period of constant weights (`compare_strata`): pooled over changing weights they mislead.
"""

import math
from collections.abc import Sequence
from itertools import compress

import numpy as np
import scipy

from upshot.statistics.betabinomial import Beta, beta_posterior, logit_rule

MINIMUM_USERS = 100
"""Users that every arm must have before the shares move at all."""

_REACH = 9.0
_MOST_NODES = 8192


def chance_to_be_best_normal(
    means: Sequence[float], variances: Sequence[float], *, lower_is_better: bool = False
) -> list[float]:
    """The chance of each arm, summing to 1, that its mean is the best under independent normal posteriors.

    Raises ValueError unless there are two arms or more, with finite means and positive variances, as many of either.
    Source: int phi_i(x) prod_j Phi_j(x) dx over j other than i, by the trapezoidal rule within 9 deviations. Its step
    follows the narrowest arm: a starved arm is many times wider than the others, whose edges fixed Gauss-Hermite
    nodes over it would miss.
    """
    if len(means) != len(variances) or len(means) < 2:
        raise ValueError(f"two arms or more, not {len(means)} means and {len(variances)} variances")
    if not all(map(math.isfinite, means)) or not all(0.0 < variance < math.inf for variance in variances):
        raise ValueError("means must be finite, variances positive and finite")
    centres = -np.asarray(means) if lower_is_better else np.asarray(means)
    deviations = np.sqrt(np.asarray(variances))
    chances = []
    for arm, (centre, deviation) in enumerate(zip(centres, deviations, strict=True)):
        count = math.ceil(2.0 * _REACH * float(deviation / deviations.min()) / 0.4)
        u = np.linspace(-_REACH, _REACH, min(count, _MOST_NODES) + 1)
        weights = np.exp(-0.5 * u * u)
        below = scipy.special.ndtr((centre + deviation * u - centres[:, None]) / deviations[:, None])
        below[arm] = 1.0
        chances.append(float(weights @ below.prod(axis=0) / weights.sum()))
    return _summing_to_one(chances)


def chance_to_be_best_beta(
    arms: Sequence[tuple[int, int]], prior: Beta, *, lower_is_better: bool = False
) -> list[float]:
    """The chance of each arm, summing to 1, that its share is the best under Beta posteriors from a common ``prior``.

    Each arm is (users, successes), 0 <= successes <= users; ValueError otherwise, or for fewer than two arms. Source:
    E[prod_j F_j(X_i)] over j other than i, by the trapezoidal rule over the logit.
    """
    if len(arms) < 2:
        raise ValueError(f"two arms or more, not {len(arms)}")
    shares = [beta_posterior(users, successes, prior) for users, successes in arms]
    if lower_is_better:
        shares = [share.mirrored for share in shares]
    sharpest = min(share.logit_deviation for share in shares)
    chances = []
    for share in shares:
        x, weights = logit_rule(share, sharpest)
        below = np.ones_like(x)
        for other in shares:
            if other is not share:
                below *= scipy.special.betainc(other.a, other.b, x)
        chances.append(float(weights @ below))
    return _summing_to_one(chances)


def allocation(chances: Sequence[float], floor: float = 0.01) -> list[float]:
    """The share of new users each arm gets, summing to 1: ``floor`` and, of what is left, its chance to be best.

    Source: f + (1 - K f) p, the additive floor that keeps every one of K arms measured. Raises ValueError unless
    0 <= K f <= 1 and the chances are not negative and sum to 1.
    """
    _require_shares(chances)
    left = 1.0 - len(chances) * floor
    if not (floor >= 0.0 and left >= 0.0):
        raise ValueError(f"a floor of {floor} does not fit {len(chances)} arms")
    if abs(math.fsum(chances) - 1.0) > 1e-9:
        raise ValueError(f"the chances must sum to 1, not {math.fsum(chances)}")
    return [floor + left * chance for chance in chances]


def next_allocation(chances: Sequence[float], users: Sequence[int], floor: float = 0.01) -> list[float] | None:
    """`allocation`, or None while any arm has fewer than MINIMUM_USERS users: then the shares stay as they are.

    A posterior of a few users moves far by chance, and what it starves cannot recover quickly. Raises ValueError when
    chances and users differ in length, and as `allocation`.
    """
    if len(chances) != len(users):
        raise ValueError(f"{len(chances)} chances for {len(users)} arms")
    shares = allocation(chances, floor)
    return shares if min(users) >= MINIMUM_USERS else None


def integer_weights(shares: Sequence[float], total: int = 10_000) -> list[int]:
    """Whole weights, each >= 1, that sum to ``total`` and follow ``shares`` (>= 0, any scale with a positive sum).

    Deterministic, ties to the earlier arm. Raises ValueError for shares that are none, or more arms than ``total``.
    Source: largest remainder (Hamilton), after arms whose quota is below 1 have got their 1.
    """
    _require_shares(shares)
    largest = max(shares)
    if largest == 0.0 or len(shares) > total:
        raise ValueError(f"a weight of {total} cannot be shared out over {len(shares)} arms, the largest {largest}")
    parts = [share / largest for share in shares]
    raised = [False] * len(parts)
    while True:
        scale = (total - sum(raised)) / math.fsum(compress(parts, [not up for up in raised]))
        quotas = [1.0 if up else part * scale for part, up in zip(parts, raised, strict=True)]
        if min(quotas) >= 1.0:
            break
        raised = [up or quota < 1.0 for up, quota in zip(raised, quotas, strict=True)]
    weights = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda arm: weights[arm] - quotas[arm])
    for arm in by_remainder[: total - sum(weights)]:
        weights[arm] += 1
    return weights


def _require_shares(shares: Sequence[float]) -> None:
    if not shares or not all(0.0 <= share < math.inf for share in shares):
        raise ValueError(f"shares are finite and not negative: {list(shares)}")


def _summing_to_one(chances: list[float]) -> list[float]:
    total = math.fsum(chances)
    return [chance / total for chance in chances]
