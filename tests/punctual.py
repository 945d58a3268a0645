"""Bounds on time, judged by the best of three tries: a busy machine lets any one of them wait, and makes none shorter."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

TRIES = 3

Test = TypeVar("Test", bound=Callable[..., Any])


class Late(AssertionError):
    """Something took longer than it may."""


def in_time(took: float, most: float, least: float = 0.0) -> None:
    """That something took fewer seconds than it may, and more than the least.

    Raises:
        Late: it took longer.
    """
    assert took > least
    if took >= most:
        raise Late(f"{took:.2f} s, and it may take {most:g} s")


def punctual(test: Test) -> Test:
    """A test whose `in_time` may fail twice."""

    @functools.wraps(test)
    def tried(*arguments: Any, **named: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return cast("None", test(*arguments, **named))
            except Late:
                pass
        return cast("None", test(*arguments, **named))

    @functools.wraps(test)
    async def tried_async(*arguments: Any, **named: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return cast("None", await test(*arguments, **named))
            except Late:
                pass
        return cast("None", await test(*arguments, **named))

    return cast("Test", tried_async if inspect.iscoroutinefunction(test) else tried)
