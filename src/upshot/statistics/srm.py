"""Sample ratio: whether users arrived in the arms in the shares the allocation promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import chdtrc

ALERT = 0.001
"""p-values below this mean the split itself is broken and no result may be trusted."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Chi-squared test of the split. ``status`` is "ok", "too_few" or "users_in_closed_arm".

    ``p_value`` in [0, 1], ``chi2`` >= 0 and ``degrees_of_freedom`` >= 1 are None when there is no test.
    """

    p_value: float | None
    chi2: float | None
    degrees_of_freedom: int | None
    status: str


def sample_ratio(observed: Sequence[int], expected: Sequence[float]) -> SampleRatio:
    """Test ``observed`` users per arm against ``expected`` counts or weights per arm (any positive scale).

    Arms of weight 0 are closed: they take no degree of freedom, and users found in one set the status
    "users_in_closed_arm" while p comes from the open arms. "too_few": no users, or fewer than two open arms.
    Raises ValueError for lengths that differ, or negative or non-finite entries.
    Source: Pearson's chi² = sum (O-E)²/E with (open arms - 1) degrees of freedom.
    """
    _require_matching(observed, expected)
    arms = [(users, weight) for users, weight in zip(observed, expected, strict=True) if weight > 0]
    users_in_open = sum(users for users, _ in arms)
    intruders = sum(observed) - users_in_open
    status = "users_in_closed_arm" if intruders else "ok"
    if len(arms) < 2 or users_in_open == 0:
        return SampleRatio(None, None, None, status if intruders else "too_few")
    scale = users_in_open / math.fsum(weight for _, weight in arms)
    chi2 = math.fsum((users - weight * scale) ** 2 / (weight * scale) for users, weight in arms)
    freedom = len(arms) - 1
    return SampleRatio(float(chdtrc(freedom, chi2)), chi2, freedom, status)


def _require_matching(observed: Sequence[int], expected: Sequence[float]) -> None:
    if len(observed) != len(expected):
        raise ValueError(f"{len(observed)} arms observed, {len(expected)} expected")
    if any(users < 0 for users in observed):
        raise ValueError("observed users must not be negative")
    if not all(0.0 <= weight < math.inf for weight in expected):
        raise ValueError("expected weights must be finite and not negative")
