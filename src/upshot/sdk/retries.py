"""When to try again: after a random part of a growing wait, within a budget, and never before the server allows it.

Randomness is an argument: `part` is a random number of at least 0 and less than 1. Times are in seconds.
"""

import math
from datetime import datetime
from email.utils import parsedate_to_datetime

FIRST = 0.1
LONGEST = 30.0
LOCKED_OUT = 60.0
"""The longest wait of a key that the server refuses."""
MOST_OBEYED = 300.0
"""The longest Retry-After that is believed."""
SHARE = 0.1
RESERVE = 10.0


class Backoff:
    """Waits whose bound doubles from 100 ms to `longest`, of which a random part is waited ("full jitter")."""

    def __init__(self, longest: float = LONGEST) -> None:
        self._longest = longest
        self._failures = 0

    def wait(self, part: float) -> float:
        """How long to wait after one more failure."""
        bound = min(self._longest, FIRST * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return bound * part

    def end(self) -> None:
        """Something succeeded: begin anew."""
        self._failures = 0


class Budget:
    """One early retry for every ten successes, and ten that are there from the start.

    Without it, many clients that fail at once would ask a server that comes back several times as often as it is used to.
    """

    def __init__(self) -> None:
        self._left = RESERVE

    def earn(self) -> None:
        """Something succeeded."""
        self._left = min(RESERVE, self._left + SHARE)

    def spend(self) -> bool:
        """Whether one may be tried again before the longest wait is over."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Retries:
    """The waits of one kind of request."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self._refusals = Backoff(LOCKED_OUT)
        self._budget = Budget()

    def wait(self, part: float, ordered: float = 0.0) -> float:
        """How long to wait after a failure; at least what the server ordered."""
        wait = self._backoff.wait(part)
        if not self._budget.spend():
            wait = LONGEST * (1 + part) / 2
        return max(wait, ordered)

    def wait_locked_out(self, part: float) -> float:
        """How long to wait after the server refused the key."""
        return max(FIRST, self._refusals.wait(part))

    def end(self) -> None:
        """Something succeeded."""
        self._backoff.end()
        self._refusals.end()
        self._budget.earn()


def ordered(retry_after: str | None, now: datetime) -> float:
    """The seconds that a Retry-After says, as a number or as a date; 0 where it says nothing that can be read."""
    if not retry_after:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return min(MOST_OBEYED, max(0.0, seconds)) if math.isfinite(seconds) else 0.0
