"""Roots of monotone functions: a bracketed solver, so that no optimiser is imported for a handful of roots."""

from collections.abc import Callable

_STEPS = 200
_TOLERANCE = 4.0 * 2.0**-52


def bracketed_root(function: Callable[[float], float], low: float, high: float, within: float = 0.0) -> float:
    """The x in [``low``, ``high``] where a continuous ``function`` changes sign, to a few units in the last digit, or
    to ``within`` (>= 0) if that is more.

    Raises ValueError when both ends have the same sign, or one of them is no number.
    Source: Chandrupatla (1997): inverse quadratic interpolation where it is safe, otherwise bisection.
    """
    a, b = high, low
    at_a, at_b = function(a), function(b)
    if not (at_a <= 0.0 <= at_b or at_b <= 0.0 <= at_a):
        raise ValueError(f"no change of sign between {low} and {high}")
    share = 0.5
    best = a if at_a == 0.0 else b
    if at_a == 0.0 or at_b == 0.0:
        return best
    for _ in range(_STEPS):
        x = a + share * (b - a)
        at_x = function(x)
        # The new point becomes a; b is the older end across the root, c the one that was dropped.
        if (at_x > 0.0) == (at_a > 0.0):
            c, at_c = a, at_a
        else:
            c, at_c, b, at_b = b, at_b, a, at_a
        a, at_a = x, at_x
        best, at_best = (a, at_a) if abs(at_a) < abs(at_b) else (b, at_b)
        least = max(_TOLERANCE * abs(best), within) / abs(b - a) if b != a else 1.0
        if at_best == 0.0 or least >= 0.5:
            return best
        share = min(max(_share((a, at_a), (b, at_b), (c, at_c)), least), 1.0 - least)
    return best


def _share(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    # Interpolating is safe where the three points lie on a curve without a turn between a and b.
    place = (a[0] - b[0]) / (c[0] - b[0])
    height = (a[1] - b[1]) / (c[1] - b[1])
    if not (height * height < place and (1.0 - height) ** 2 < 1.0 - place):
        return 0.5
    first = a[1] / (b[1] - a[1]) * c[1] / (b[1] - c[1])
    second = (c[0] - a[0]) / (b[0] - a[0]) * a[1] / (c[1] - a[1]) * b[1] / (c[1] - b[1])
    return first + second
