"""Sample ratio: whether users arrived in the arms in the shares the allocation promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy

ALERT = 0.001
"""p-values below this mean the split itself is broken and no result may be trusted."""

SCALES = (100.0, 1_000.0, 10_000.0)
"""Numbers of users at which the sequential test is most sensitive."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Chi-squared test of the split. ``status`` is "ok", "too_few" or "users_in_closed_arm".

    ``p_value`` in [0, 1], ``chi2`` >= 0 and ``degrees_of_freedom`` >= 1 are None when there is no test.
    """

    p_value: float | None
    chi2: float | None
    degrees_of_freedom: int | None
    status: str


@dataclass(frozen=True, slots=True)
class SequentialSampleRatio:
    """Sample-ratio test for a split that is watched. ``status`` is "ok", "too_few" or "users_in_closed_arm".

    ``p_value`` in [0, 1] is that of this look, and its running minimum over looks is valid too.
    ``log_bayes_factor`` (natural logarithm) is positive where the counts speak against the promised shares. Both are
    None when there is no test.
    """

    p_value: float | None
    log_bayes_factor: float | None
    status: str


def sample_ratio(observed: Sequence[int], expected: Sequence[float]) -> SampleRatio:
    """Test ``observed`` users per arm against ``expected`` counts or weights per arm (any positive scale).

    Arms of weight 0 are closed: they take no degree of freedom, and users found in one set the status
    "users_in_closed_arm" while p comes from the open arms. "too_few": no users, or fewer than two open arms.
    Raises ValueError for lengths that differ, or negative or non-finite entries.
    Source: Pearson's chi² = sum (O-E)²/E with (open arms - 1) degrees of freedom.
    """
    arms, status = _open_arms(observed, expected)
    if not arms:
        return SampleRatio(None, None, None, status)
    scale = sum(users for users, _ in arms) / math.fsum(weight for _, weight in arms)
    chi2 = math.fsum((users - weight * scale) ** 2 / (weight * scale) for users, weight in arms)
    freedom = len(arms) - 1
    return SampleRatio(float(scipy.special.chdtrc(freedom, chi2)), chi2, freedom, status)


def sequential_sample_ratio(
    observed: Sequence[int], expected: Sequence[float], concentrations: Sequence[float] = SCALES
) -> SequentialSampleRatio:
    """Test the split as `sample_ratio` does, at any number of looks: p < ALERT at some look in at most .1 % of them.

    Each of the ``concentrations`` k > 0 is about the number of users at which a test is most sensitive; the average of
    their Bayes factors is a Bayes factor again, and sensitive at all of them. They are to be fixed before the first look.
    Closed arms, statuses and errors as in `sample_ratio`; ValueError also unless there is a k and all are finite.
    Source: Lindon & Malek (2022), p = min(1, 1/BF): with theta the promised shares, n the users and x theirs per arm,
    BF = Gamma(k)/Gamma(k+n) · prod Gamma(k theta + x)/Gamma(k theta) / theta^x, on the log scale.
    """
    if not concentrations or not all(0.0 < k < math.inf for k in concentrations):
        raise ValueError(f"concentrations must be positive and finite, not {list(concentrations)}")
    arms, status = _open_arms(observed, expected)
    if not arms:
        return SequentialSampleRatio(None, None, status)
    total = math.fsum(weight for _, weight in arms)
    arrived = sum(users for users, _ in arms)
    factors = [
        math.fsum(_log_rising(k * (weight / total), users) for users, weight in arms) - _log_rising(k, arrived)
        for k in concentrations
    ]
    largest = max(factors)
    log_bayes_factor = largest + math.log(math.fsum(math.exp(one - largest) for one in factors) / len(factors))
    return SequentialSampleRatio(math.exp(min(-log_bayes_factor, 0.0)), log_bayes_factor, status)


def _log_rising(start: float, steps: int) -> float:
    # The product of 1 + j/start for j < steps: theta^x and k^n are in it, which leaves smaller terms to cancel.
    return math.lgamma(start + steps) - math.lgamma(start) - steps * math.log(start)


def _open_arms(observed: Sequence[int], expected: Sequence[float]) -> tuple[list[tuple[int, float]], str]:
    """Users and weight of each open arm, and the status; without arms where there is nothing to test."""
    _require_matching(observed, expected)
    arms = [(users, weight) for users, weight in zip(observed, expected, strict=True) if weight > 0]
    users_in_open = sum(users for users, _ in arms)
    status = "users_in_closed_arm" if sum(observed) > users_in_open else "ok"
    if len(arms) < 2 or users_in_open == 0:
        return [], status if status != "ok" else "too_few"
    return arms, status


def _require_matching(observed: Sequence[int], expected: Sequence[float]) -> None:
    if len(observed) != len(expected):
        raise ValueError(f"{len(observed)} arms observed, {len(expected)} expected")
    if any(users < 0 for users in observed):
        raise ValueError("observed users must not be negative")
    if not all(0.0 <= weight < math.inf for weight in expected):
        raise ValueError("expected weights must be finite and not negative")
