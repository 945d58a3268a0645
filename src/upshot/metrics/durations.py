"""Durations in definitions: 30s, 45m, 12h, 7d."""

import re

_SECOND = 1_000_000
_UNITS = {"s": _SECOND, "m": 60 * _SECOND, "h": 3_600 * _SECOND, "d": 86_400 * _SECOND}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")
LONGEST = 400 * 86_400_000_000


def micros_of(text: object) -> int | None:
    """The duration in µs; None where the text is none, or more than 400 days."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) * _UNITS[found[2]] > LONGEST:
        return None
    return int(found[1]) * _UNITS[found[2]]


def written(micros: int) -> str:
    """The text of a duration in µs, in its largest unit."""
    unit = next(name for name in ("d", "h", "m", "s") if micros % _UNITS[name] == 0)
    return f"{micros // _UNITS[unit]}{unit}"
