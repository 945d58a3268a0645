"""Numbers, shares and moments as people read them. What does not exist is a dash."""

from datetime import UTC, datetime, timedelta
from typing import Any

from upshot.events import SECOND
from upshot.metrics.model import SHARES

NOTHING = "–"
_MINUS = str.maketrans("-", "−")


def count(number: float | None) -> str:
    """A whole number with its thousands set apart."""
    return NOTHING if number is None else f"{number:,.0f}".translate(_MINUS)


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share of 1 in percent, with as many digits as it needs to be told from its neighbours."""
    if share is None:
        return NOTHING
    size = abs(share)
    digits = 0 if size >= 1 or size == 0 else 1 if size >= 0.01 else 2 if size >= 0.001 else 3
    return f"{share:{'+' if signed and share else ''}.{digits}%}".replace("%", "\u00a0%").translate(_MINUS)


def value(number: float | None, kind: str) -> str:
    """The value of a metric: a share in percent, anything else as a number."""
    if number is None:
        return NOTHING
    if kind in SHARES:
        return f"{number:.2%}".replace("%", "\u00a0%")
    return f"{number:,.4g}" if abs(number) < 1_000 else f"{number:,.0f}"


def p_value(number: float | None) -> str:
    """A p-value; very small ones are only said to be so."""
    if number is None:
        return NOTHING
    return "< 0.0001" if number < 0.0001 else f"{number:.4f}" if number < 0.1 else f"{number:.2f}"


def number(figure: float | None) -> str:
    """Any number, to six digits: sufficient statistics are there to be computed with."""
    return NOTHING if figure is None else f"{figure:,.6g}".translate(_MINUS)


def day(moment: datetime) -> str:
    """A day, such as 26 Nov."""
    return f"{moment.day} {moment:%b}"


def hour(moment: datetime) -> str:
    """An hour of a day, such as 26 Nov 14:00."""
    return f"{day(moment)} {moment:%H}:00"


def of_micros(micros: int) -> datetime:
    """The moment of microseconds since 1970, UTC."""
    return datetime.fromtimestamp(micros / SECOND, UTC)


def moment(when: datetime | None) -> str:
    """A moment to the minute, in UTC."""
    return NOTHING if when is None else f"{when.day} {when:%b %Y, %H:%M} UTC"


def ago(when: datetime | None, now: datetime) -> str:
    """How long ago, in its largest unit."""
    if when is None:
        return "never"
    gone = max(now - when, timedelta())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        many = int(gone.total_seconds() // length)
        if many:
            return f"{many} {unit}{'s' if many > 1 else ''} ago"
    return "just now"


def days(length: float | None) -> str:
    """A number of days, with a decimal while there are few."""
    if length is None:
        return NOTHING
    return f"{length:.1f} days" if length < 10 else f"{length:.0f} days"


def words(code: Any) -> str:
    """A code as words: keep_running is keep running."""
    return str(code).replace("_", " ")


def plain(text: str, most: int) -> str:
    """A text that is not longer than `most`."""
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
