"""Correcting p-values for the number of questions asked at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; each is in [raw, 1] and controls the family-wise error.

    None marks a question without an answer: it stays None and does not count. Raises ValueError for a value
    outside [0, 1]. Source: Holm (1979): the i-th smallest of m becomes the maximum over j <= i of
    min(1, (m-j+1) p_j).
    """
    ascending = _ascending(p_values)
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(ascending):
        floor = max(floor, min(1.0, (len(ascending) - rank) * p))
        adjusted[index] = floor
    return adjusted


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini & Hochberg's adjusted p-values, in the order given; each is in [raw, 1], none above Holm's.

    Calling those <= q a discovery keeps the expected share of false ones among them at q or below, for questions that
    are independent or positively related. None stays None and does not count. Raises ValueError for a value outside
    [0, 1]. Source: Benjamini & Hochberg (1995): the i-th smallest of m becomes the minimum over j >= i of m p_j / j.
    """
    ascending = _ascending(p_values)
    adjusted: list[float | None] = [None] * len(p_values)
    ceiling = 1.0
    for rank in range(len(ascending), 0, -1):
        p, index = ascending[rank - 1]
        # Divided last, so that the largest p-value, of rank m, stays what it is.
        ceiling = min(ceiling, max(len(ascending) * p / rank, p))
        adjusted[index] = ceiling
    return adjusted


def _ascending(p_values: Sequence[float | None]) -> list[tuple[float, int]]:
    answered = [(p, index) for index, p in enumerate(p_values) if p is not None]
    if not all(0.0 <= p <= 1.0 for p, _ in answered):
        raise ValueError("a p-value lies between 0 and 1")
    return sorted(answered)
