"""The ends and the forks of a process: what waits is sent at the end, and a child begins with nothing of its parent's."""

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

AT_EXIT = 2.0
"""Seconds that the end of a process may take for what waits, whatever the number of clients."""

_lives: list[tuple[WeakMethod[Callable[[float], None]], WeakMethod[Callable[[], None]]]] = []


def register(end: Callable[[float], None], abandon: Callable[[], None]) -> None:
    """A client was made.

    Args:
        end: sends what waits within so many seconds, and ends the client; a method.
        abandon: lets go of what is the parent's, in a child; a method.
    """
    _lives[:] = [life for life in _lives if life[0]() is not None]
    _lives.append((WeakMethod(end), WeakMethod(abandon)))


def begun(end: Callable[[float], None]) -> None:
    """A client begins to work in this process. Children of `multiprocessing` end without the ordinary end of a process."""
    found: Any = sys.modules.get("multiprocessing.process")
    if found is not None and found.parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415 - it is loaded where there are such children

        Finalize(None, end, args=(AT_EXIT,), exitpriority=100)


def _at_exit() -> None:
    deadline = time.monotonic() + AT_EXIT
    for end, _ in _lives:
        if (method := end()) is not None:
            method(max(0.0, deadline - time.monotonic()))


def _in_child() -> None:
    for _, abandon in _lives:
        if (method := abandon()) is not None:
            method()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
