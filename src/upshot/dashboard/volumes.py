"""How many events came on each day, as pictures and tables."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup

from upshot.dashboard import charts, figures


def events_of_days(
    types: Sequence[str], volumes: Iterable[tuple[str, int, int]], now: datetime, days: int
) -> dict[str, Any]:
    """All events of each of the last days as bars, and each type's as a small line.

    Args:
        types: the event types that are shown.
        volumes: type, beginning of a day (µs since 1970 UTC), events.
        now: the moment of the page.
        days: how many days are shown, today's included.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    shown = [today - timedelta(days=days - 1 - place) for place in range(days)]
    counts: dict[str, dict[datetime, int]] = {name: {} for name in types}
    for name, starts, number in volumes:
        counts.setdefault(name, {})[figures.of_micros(starts)] = number
    whole = [(figures.day(day), float(sum(own.get(day, 0) for own in counts.values()))) for day in shown]
    lines: dict[str, Markup] = {
        name: charts.spark([float(own.get(day, 0)) for day in shown], label=f"{name} per day")
        for name, own in counts.items()
    }
    return {"picture": charts.bars(whole, label="Events per day", style=1), "whole": whole, "lines": lines}
