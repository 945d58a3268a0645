"""A result broken down: by period of time, and by the context that users had when they were assigned."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from upshot.aggregation import Aggregates, Cell, Period
from upshot.arms import Arms
from upshot.comparisons import compare, correct
from upshot.errors import Fault, Invalid
from upshot.events import SECOND, micros
from upshot.experiments import Experiment
from upshot.metrics import Metric
from upshot.report import Point, SegmentReport
from upshot.variants import Variant

GRANULARITIES = ("hour", "day", "week")
MOST_PERIODS = {"hour": 31 * 24, "day": 400, "week": 400}
SEGMENTS = 20
VALUES = 20
OTHERS = "(other)"


def periods(start: datetime, end: datetime, granularity: str, zone: ZoneInfo) -> tuple[Period, ...]:
    """The hours, days or weeks (from Monday) of a time zone that cover [start, end); a day of 23 or 25 hours is one day.

    Raises:
        Invalid: there would be more than 31 days of hours, or more than 400 days or weeks.
    """
    local = start.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if granularity != "hour":
        local = local.replace(hour=0)
    if granularity == "week":
        local -= timedelta(days=local.weekday())
    step = timedelta(days=7 if granularity == "week" else 1)
    found: list[Period] = []
    while micros(local) < micros(end):
        if len(found) == MOST_PERIODS[granularity]:
            most = "31 days of hours" if granularity == "hour" else f"{MOST_PERIODS[granularity]} {granularity}s"
            raise Invalid.of(Fault("/query/granularity", "too_many_periods", f"a time series holds at most {most}"))
        # An hour is added in UTC: local clocks repeat or skip one when summer time changes.
        following = (
            (local.astimezone(UTC) + timedelta(hours=1)).astimezone(zone) if granularity == "hour" else local + step
        )
        found.append(Period(micros(local), micros(following)))
        local = following
    return tuple(found)


def series(
    experiment: Experiment,
    metrics: Sequence[Metric],
    alpha: float,
    spans: Sequence[Period],
    aggregates: Aggregates,
) -> list[Point]:
    """One point per period, variant and metric; a point's value is per user assigned by the end of its period."""
    return [
        _point(arms, variant, metric, alpha, span, _new_users(aggregates, variant, index))
        for index, span in enumerate(spans)
        for arms in [Arms(experiment, _until(aggregates, index))]
        for metric in metrics
        for variant in experiment.variants
    ]


def _point(arms: Arms, variant: Variant, metric: Metric, alpha: float, span: Period, new_users: int) -> Point:
    value = arms.value(variant, metric, alpha)
    return Point(
        period=datetime.fromtimestamp(span.start / SECOND, UTC),
        variant=variant.name,
        metric=metric.key,
        users=value.sample_size,
        new_users=new_users,
        users_with_events=value.users_with_events,
        events=value.events,
        value=value.value,
        interval=value.interval,
    )


def _new_users(aggregates: Aggregates, variant: Variant, period: int) -> int:
    return sum(n for c, n in aggregates.exposed.items() if (c.variant, c.period) == (variant.position, period))


def segments(
    experiment: Experiment,
    metrics: Sequence[Metric],
    alpha: float,
    attribute: str,
    values: Sequence[str],
    aggregates: Aggregates,
) -> list[SegmentReport]:
    """The same analysis for each value of a context attribute: the values named, all others together, and none.

    P-values are corrected over all cells of the attribute: with many cells some differ by chance.
    """
    named = frozenset(values)
    groups: list[tuple[str | None, Callable[[Cell], bool]]] = [(value, _equals(value)) for value in values]
    groups.append((OTHERS, lambda cell: cell.segment is not None and cell.segment not in named))
    groups.append((None, lambda cell: cell.segment is None))
    arms = [(value, Arms(experiment, aggregates, keep)) for value, keep in groups]
    present = [(value, arm) for value, arm in arms if any(arm.users(variant) for variant in experiment.variants)]
    compared = correct([c for _, arm in present for c in compare(arm, metrics, alpha)], alpha)
    width = len(compared) // len(present) if present else 0
    return [
        SegmentReport(
            attribute=attribute,
            value=value,
            users=sum(arm.users(variant) for variant in experiment.variants),
            variants={v.name: {m.key: arm.value(v, m, alpha) for m in metrics} for v in experiment.variants},
            comparisons=compared[place * width : (place + 1) * width],
        )
        for place, (value, arm) in enumerate(present)
    ]


def _until(aggregates: Aggregates, period: int) -> Aggregates:
    """Everybody who was assigned by the end of a period, and the events of that period alone."""
    exposed: dict[Cell, int] = {}
    for cell, users in aggregates.exposed.items():
        if cell.period is not None and cell.period <= period:
            key = Cell(cell.variant, cell.phase)
            exposed[key] = exposed.get(key, 0) + users
    measured = {
        (Cell(cell.variant, cell.phase), metric): found
        for (cell, metric), found in aggregates.measured.items()
        if cell.period == period
    }
    return Aggregates(exposed=exposed, measured=measured)


def _equals(value: str) -> Callable[[Cell], bool]:
    return lambda cell: cell.segment == value
