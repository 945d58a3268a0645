"""Correcting p-values for the number of questions asked at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; each is in [raw, 1] and controls the family-wise error.

    None marks a question without an answer: it stays None and does not count. Raises ValueError for a value
    outside [0, 1]. Source: Holm (1979): the i-th smallest of m becomes the maximum over j <= i of
    min(1, (m-j+1) p_j).
    """
    answered = [(p, index) for index, p in enumerate(p_values) if p is not None]
    if not all(0.0 <= p <= 1.0 for p, _ in answered):
        raise ValueError("a p-value lies between 0 and 1")
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(sorted(answered)):
        floor = max(floor, min(1.0, (len(answered) - rank) * p))
        adjusted[index] = floor
    return adjusted
