"""A result broken down: by period of time, and by the context that users had when they were assigned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from upshot import statistics
from upshot.aggregation import Aggregates, Cell, Period
from upshot.arms import Arms
from upshot.comparisons import Judgement, compare, correct, uncorrected
from upshot.errors import Fault, Invalid
from upshot.events import SECOND, micros
from upshot.experiments import Experiment
from upshot.metrics import Metric
from upshot.report import Comparison, CumulativePoint, InteractionReport, Point, SegmentDifference, SegmentReport
from upshot.statistics import Moments
from upshot.variants import Variant

GRANULARITIES = ("hour", "day", "week")
MOST_PERIODS = {"hour": 31 * 24, "day": 400, "week": 400}
SEGMENTS = 20
VALUES = 20
OTHERS = "(other)"
CROSS = "*"
CROSSED = 2  # attributes at once

Label = tuple[str | None, ...]


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


def cumulative(
    experiment: Experiment,
    metrics: Sequence[Metric],
    judgement: Judgement,
    spans: Sequence[Period],
    aggregates: Aggregates,
) -> list[CumulativePoint]:
    """One point per period, variant that is not the control and metric: the comparison as it stood at the end of the period."""
    return [
        _cumulative_point(arms, comparison, metric, span)
        for index, span in enumerate(spans)
        for arms in [Arms(experiment, _at(aggregates, index))]
        for metric in metrics
        for comparison in compare(arms, [metric], judgement)
    ]


def _cumulative_point(arms: Arms, comparison: Comparison, metric: Metric, span: Period) -> CumulativePoint:
    variant = arms.experiment.variant_called(comparison.variant_id)
    value = arms.value(variant, metric, 0.05).value if variant else None
    return CumulativePoint(
        period=datetime.fromtimestamp(span.start / SECOND, UTC),
        variant=comparison.variant,
        metric=comparison.metric,
        users=arms.users(variant) if variant else 0,
        value=value,
        absolute_difference=comparison.absolute_difference,
        relative_lift=comparison.relative_lift,
        interval=comparison.always_valid_interval,
        relative_interval=comparison.always_valid_relative_interval,
        p_value=comparison.always_valid_p_value,
        reason=comparison.reason,
    )


def _at(aggregates: Aggregates, period: int) -> Aggregates:
    """What had accumulated by the end of a period."""
    return Aggregates(
        exposed={
            cell._replace(period=None): n for cell, n in aggregates.exposed.items() if cell.period == period and n
        },
        measured={
            (cell._replace(period=None), key): found
            for (cell, key), found in aggregates.measured.items()
            if cell.period == period
        },
    )


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
    judgement: Judgement,
    attributes: Sequence[str],
    known: Mapping[str, Sequence[str]],
    aggregates: Aggregates,
) -> list[SegmentReport]:
    """The same analysis for each value of a context attribute, or each pair of values of two: those known, all others
    together, and none. The commonest come first, and no more than 20.

    P-values are corrected over all cells: with many cells some differ by chance.
    """
    users: dict[Label, int] = {}
    for cell, number in aggregates.exposed.items():
        label = _label(cell, attributes, known)
        users[label] = users.get(label, 0) + number
    ranked = sorted(users, key=lambda label: (_is_rest(label), -users[label], str(label)))
    shown, rest = ranked[: SEGMENTS + 1], frozenset(ranked[SEGMENTS + 1 :])
    others: Label = (OTHERS,) * len(attributes)
    if rest and others not in shown:
        shown.append(others)
    arms = [(label, Arms(experiment, aggregates, _belongs(label, rest, attributes, known))) for label in shown]
    compared = correct(
        [c for _, arm in arms for c in uncorrected(arm, metrics, judgement)], judgement, experiment.control.name
    )
    width = len(compared) // len(arms) if arms else 0
    return [
        SegmentReport(
            attribute=CROSS.join(attributes),
            value=_named(label),
            users=arm.everyone,
            variants={v.name: {m.key: arm.value(v, m, judgement.alpha) for m in metrics} for v in experiment.variants},
            comparisons=compared[place * width : (place + 1) * width],
            values=list(label),
        )
        for place, (label, arm) in enumerate(arms)
    ]


def differences(reports: Sequence[SegmentReport], alpha: float) -> list[SegmentDifference]:
    """For each attribute, metric and variant whether the effect differs between the segments, corrected over the attributes
    (Benjamini-Hochberg)."""
    effects: dict[tuple[str, str, str], list[tuple[float | None, float | None]]] = {}
    for segment in reports:
        for c in segment.comparisons:
            key = (segment.attribute, c.metric, c.variant)
            effects.setdefault(key, []).append((c.absolute_difference, c.standard_error))
    found = {key: statistics.heterogeneity(*map(list, zip(*pairs, strict=True))) for key, pairs in effects.items()}
    adjusted = statistics.benjamini_hochberg([test.p_value for test in found.values()])
    return [
        SegmentDifference(
            *key, test.q, test.degrees_of_freedom, test.p_value, p, test.i_squared, None if p is None else p <= alpha
        )
        for (key, test), p in zip(found.items(), adjusted, strict=True)
    ]


def interactions(
    experiment: Experiment, other: Experiment, metrics: Sequence[Metric], alpha: float, aggregates: Aggregates
) -> list[InteractionReport]:
    """For each variant of both experiments and each metric the difference of the differences, corrected over all (Holm)."""
    found: list[InteractionReport] = []
    groups = {v.position: Arms(experiment, aggregates, _beside(v.position)) for v in other.variants}
    for metric in metrics:
        for variant in (v for v in experiment.variants if not v.is_control):
            for theirs in (v for v in other.variants if not v.is_control):
                pairs = ((0, other.control), (1, theirs))
                arms = ((0, experiment.control), (1, variant))
                cells = {
                    (mine, side): groups[beside.position].whole(arm, metric) or Moments()
                    for side, beside in pairs
                    for mine, arm in arms
                }
                test = statistics.interaction(cells, alpha)
                found.append(
                    InteractionReport(
                        experiment=other.key,
                        variant=variant.name,
                        other_variant=theirs.name,
                        metric=metric.key,
                        users=sum(cell.n for cell in cells.values()),
                        estimate=test.estimate,
                        interval=test.interval,
                        statistic=test.statistic,
                        p_value=test.p_value,
                        adjusted_p_value=None,
                        interacts=None,
                        reason=None if test.status == "ok" else test.status,
                    )
                )
    adjusted = statistics.holm([part.p_value for part in found])
    return [
        replace(part, adjusted_p_value=p, interacts=None if p is None else p <= alpha)
        for part, p in zip(found, adjusted, strict=True)
    ]


def _beside(position: int) -> Callable[[Cell], bool]:
    return lambda cell: cell.beside == position


def _label(cell: Cell, attributes: Sequence[str], known: Mapping[str, Sequence[str]]) -> Label:
    """The values of a user's attributes: known ones, others, or none."""
    pairs = zip(cell.segment, attributes, strict=True)
    return tuple(value if value is None or value in known.get(name, ()) else OTHERS for value, name in pairs)


def _is_rest(label: Label) -> int:
    """Named values come first, then all others, then those without a value."""
    return 2 if None in label else 1 if OTHERS in label else 0


def _belongs(
    label: Label, rest: frozenset[Label], attributes: Sequence[str], known: Mapping[str, Sequence[str]]
) -> Callable[[Cell], bool]:
    mine = rest | {label} if set(label) == {OTHERS} else {label}
    return lambda cell: _label(cell, attributes, known) in mine


def _named(label: Label) -> str | None:
    if label == (None,) * len(label):
        return None
    return CROSS.join("(none)" if value is None else value for value in label)


def _until(aggregates: Aggregates, period: int) -> Aggregates:
    """Everybody who was assigned by the end of a period, and the events of that period alone."""
    exposed: dict[Cell, int] = {}
    for cell, users in aggregates.exposed.items():
        if cell.period is not None and cell.period <= period:
            key = Cell(cell.variant, cell.phase)
            exposed[key] = exposed.get(key, 0) + users
    eligible: dict[tuple[Cell, str], int] = {}
    for (cell, metric), users in aggregates.eligible.items():
        if cell.period is not None and cell.period <= period:
            place = (Cell(cell.variant, cell.phase), metric)
            eligible[place] = eligible.get(place, 0) + users
    measured = {
        (Cell(cell.variant, cell.phase), metric): found
        for (cell, metric), found in aggregates.measured.items()
        if cell.period == period
    }
    return Aggregates(exposed=exposed, eligible=eligible, measured=measured)
