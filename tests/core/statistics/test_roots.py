"""The bracketed solver finds what it is asked for, also where interpolation alone goes astray."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.statistics.roots import bracketed_root


@given(st.floats(-100, 100), st.floats(0.01, 10), st.sampled_from([1, 3, 5]))
def test_the_root_of_a_monotone_function_is_found(root: float, slope: float, degree: int) -> None:
    """Of a line and of powers that are flat at their root, in either direction."""
    near = pytest.approx(root, abs=1e-12 if degree == 1 else 1e-3)
    assert bracketed_root(lambda x: slope * (x - root) ** degree, -150, 170) == near
    assert bracketed_root(lambda x: -slope * (x - root) ** degree, -150, 170) == near


def test_few_evaluations_are_needed() -> None:
    """A smooth root takes a handful of steps, a step function no more than bisection."""

    def evaluations(function: Callable[[float], float]) -> int:
        seen: list[float] = []

        def counted(x: float) -> float:
            seen.append(x)
            return function(x)

        bracketed_root(counted, -10.0, 10.0)
        return len(seen)

    assert evaluations(lambda x: math.exp(x) - 5.0) < 20
    assert evaluations(lambda x: math.copysign(1.0, x - math.pi)) < 70


def test_the_ends_may_be_the_root() -> None:
    """A root at an end is returned as it is."""
    assert bracketed_root(lambda x: x, 0.0, 1.0) == 0.0
    assert bracketed_root(lambda x: x - 1.0, 0.0, 1.0) == 1.0


def test_an_interval_without_a_root_is_refused() -> None:
    """Equal signs, or no number at all, raise."""
    for shift in (2.0, math.nan):
        with pytest.raises(ValueError, match="change of sign"):
            bracketed_root(shift.__add__, 0.0, 1.0)
