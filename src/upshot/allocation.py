"""How users are divided among variants: percentages or weights as people write them, integer weights as we keep them.

What is written is read as exact decimals. Shares that are all equal become 1:1:1 whatever was written for a third (33.33,
33.3333, 1/3), so that thirds are exactly thirds and no false sample-ratio alarm comes from rounding.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import reduce

from upshot.errors import Fault, Invalid

WEIGHT_TOTAL = 1_000_000_000  # finer shares are rounded to billionths, so that any language can do the arithmetic
_EXACT = Decimal("1e-9")  # relative: what a binary float loses when it is written out
_THIRDS = Decimal("0.011")  # 33.33 × 3 = 99.99, 14.28 × 7 = 99.96, 11.1 × 9 = 99.9: equal shares may miss by this share


def weights_of(
    shares: Sequence[tuple[Decimal | None, Decimal | None]], *, allow_closed: bool = False
) -> tuple[int, ...]:
    """Integer weights from (percent, weight) pairs, one per variant, in order.

    All variants give a percentage (summing to 100), or all give a weight (summing to 1, or positive integers), or none
    gives anything (equal shares). With `allow_closed`, a share may be 0: that variant gets no new users.

    Raises:
        Invalid: a share is missing, negative or zero without `allow_closed`, or the sum is not what it must be.
    """
    percents = [percent for percent, _ in shares if percent is not None]
    weights = [weight for _, weight in shares if weight is not None]
    if not percents and not weights:
        return (1,) * len(shares)
    if percents and weights:
        raise _invalid("mixed_allocation", "give every variant a traffic_allocation, or every variant a weight")
    given = percents or weights
    if len(given) != len(shares):
        raise _invalid("missing_allocation", "give every variant a share, or none for equal shares")
    _check_signs(given, bool(percents), allow_closed=allow_closed)
    if len(set(given)) == 1 and _may_be_equal(given, Decimal(100) if percents else Decimal(1)):
        return (1,) * len(given)
    _check_sum(given, percent=bool(percents))
    return _integers(given)


def _check_signs(given: Sequence[Decimal], percent: bool, *, allow_closed: bool) -> None:  # noqa: FBT001
    field = "traffic_allocation" if percent else "weight"
    faults = [
        Fault(
            f"/variants/{index}/{field}",
            "bad_share",
            "must be zero or more" if allow_closed else "must be more than zero",
        )
        for index, share in enumerate(given)
        if share < 0 or (share == 0 and not allow_closed)
    ]
    if faults:
        raise Invalid.of(*faults)
    if sum(given) == 0:
        raise _invalid("all_closed", "at least one variant must get users")


def _may_be_equal(given: Sequence[Decimal], whole: Decimal) -> bool:
    total = sum(given)
    return abs(total - whole) <= whole * _THIRDS or all(share == share.to_integral_value() for share in given)


def _check_sum(given: Sequence[Decimal], *, percent: bool) -> None:
    total, whole = sum(given), Decimal(100 if percent else 1)
    if abs(total - whole) <= whole * _EXACT:
        return
    if percent:
        raise _invalid("sum_not_100", "the traffic allocations must sum to 100")
    if any(share != share.to_integral_value() for share in given):
        raise _invalid("sum_not_1", "weights must sum to 1, or be integers")


def _integers(given: Sequence[Decimal]) -> tuple[int, ...]:
    """The smallest integers in the same proportion, or billionths where those would be too large."""
    scale = Decimal(10) ** max(0, *(-int(share.normalize().as_tuple().exponent) for share in given))
    whole = [int(share * scale) for share in given]
    divisor = reduce(math.gcd, whole)
    whole = [part // divisor for part in whole]
    total = sum(whole)
    if total > WEIGHT_TOTAL:
        whole = [max(1, round(part * WEIGHT_TOTAL / total)) if part else 0 for part in whole]
    return tuple(whole)


def percent_of(weight: int, total: int) -> float:
    """The percentage that a weight stands for, as people read it."""
    return 100 * weight / total if total else 0.0


def _invalid(code: str, message: str) -> Invalid:
    return Invalid.of(Fault("/variants", code, message))
