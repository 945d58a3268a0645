"""How much a caller may do, and how a setting says it: `1000/s burst 5000`, `10/s burst 50`, `5/min`, `10/h`, `off`."""

import re
from dataclasses import dataclass
from functools import cached_property

NANOSECONDS = 1_000_000_000

_UNITS = {"s": 1, "min": 60, "h": 3_600}
_QUOTA = re.compile(r"([1-9][0-9]{0,5})/(s|min|h)(?: burst ([1-9][0-9]{0,6}))?")


@dataclass(frozen=True)
class Quota:
    """A bucket of `burst` tokens that fills by `rate` tokens per second. Both are positive.

    `closed`: rather nobody than everybody, while a shared bucket cannot be asked.
    """

    name: str
    rate: float
    burst: int
    closed: bool = False

    @cached_property
    def interval(self) -> int:
        """Nanoseconds until one more token is there. They are integers, so that no rounding adds up in a bucket."""
        return round(NANOSECONDS / self.rate)

    @cached_property
    def window(self) -> int:
        """Nanoseconds in which an empty bucket fills."""
        return self.burst * self.interval


def quota_of(name: str, text: str, *, closed: bool = False) -> Quota | None:
    """The quota that a setting's text means, or None for `off`. Without a burst it is the number of the rate.

    Raises:
        ValueError: the text is neither; it is not repeated.
    """
    words = " ".join(text.lower().split())
    if words == "off":
        return None
    found = _QUOTA.fullmatch(words)
    if found is None:
        raise ValueError("must be a number per s, min or h, such as `10/s`, `5/min` or `1000/s burst 5000`; or `off`")
    number, unit, burst = found.groups()
    return Quota(name, int(number) / _UNITS[unit], int(burst or number), closed)
