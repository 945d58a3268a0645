"""Charts as SVG, drawn from numbers: no script, no library, one file for both themes and for print.

Colours and strokes are classes of the stylesheet; variants differ by dashes and marks as well, so that no chart needs colour.
What a mark stands for is in its `data-tip`, which the page shows on hover and on focus; beside each chart stands its table.
Coordinates are those of the view box: a chart grows and shrinks with the page.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from markupsafe import Markup

from upshot.dashboard.figures import day, hour, percent, plain
from upshot.statistics import Interval

ROW_WIDTH, ROW_HEIGHT, NARROW = 320, 28, 480
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 900, 260, 70, 24, 30, 12
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

_Point: TypeAlias = tuple[datetime, float | None, float | None, float | None]
_When: TypeAlias = Callable[[datetime], str]


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers `lower` to `upper` on a line of `length` from `start`; what lies beyond is drawn at the end."""

    lower: float
    upper: float
    start: float
    length: float

    def __call__(self, value: float) -> float:
        """The place of a number."""
        share = (value - self.lower) / (self.upper - self.lower)
        return round(self.start + min(1.0, max(0.0, share)) * self.length, 2)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers inside, at most `most` of them."""
        rough = (self.upper - self.lower) / most
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(magnitude * factor for factor in _STEPS if magnitude * factor >= rough * (1 - 1e-9))
        first = math.ceil(self.lower / step - 1e-9)
        count = math.floor(self.upper / step + 1e-9) - first + 1
        return [round((first + place) * step, 12) + 0.0 for place in range(count)]


@dataclass(frozen=True, slots=True)
class Line:
    """One variant over time: (moment, value, lower, upper), None where there is no number; `style` picks dashes and colour."""

    name: str
    style: int
    points: Sequence[_Point]


def spread(values: Iterable[float | None], *, zero: bool = True) -> tuple[float, float]:
    """The ends of a scale that shows the numbers with some air, and zero if wanted."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    known += [0.0] if zero or not known else []
    lower, upper = min(known), max(known)
    air = (upper - lower) * 0.06 or abs(upper) * 0.1 or 0.01
    return (lower if lower == 0 else max(0.0, lower - air) if lower > 0 else lower - air), upper + air


def lift_scale(intervals: Iterable[Interval | None], lifts: Iterable[float | None]) -> Scale:
    """One scale for all rows of a forest plot. Bounds far beyond the lifts would squeeze the others: they are cut at ±2."""
    bounds = [bound for interval in intervals if interval for bound in (interval.lower, interval.upper)]
    shown = [min(2.0, max(-2.0, value)) for value in (*bounds, *lifts) if value is not None]
    widest = max((abs(value) for value in shown), default=0.01) * 1.08 or 0.01
    lower = -widest if min(shown, default=-1.0) < -widest / 4 else -widest / 4
    upper = widest if max(shown, default=1.0) > widest / 4 else widest / 4
    return Scale(lower, upper, 8, ROW_WIDTH - 16)


def forest_row(scale: Scale, lift: float | None, interval: Interval | None, tone: str) -> Markup:
    """One lift with its interval against zero. `tone`: better, worse (a filled mark) or unclear (a hollow one)."""
    zero, middle = scale(0.0), ROW_HEIGHT / 2
    parts = [_tag("line", x1=zero, x2=zero, y1=0, y2=ROW_HEIGHT, class_="zero")]
    if interval is not None:
        left = scale(scale.lower if interval.lower is None else interval.lower)
        right = scale(scale.upper if interval.upper is None else interval.upper)
        parts.append(_tag("line", x1=left, x2=right, y1=middle, y2=middle, class_=f"interval {tone}"))
        for bound, place, turn in ((interval.lower, left, 1), (interval.upper, right, -1)):
            beyond = bound is None or not scale.lower <= bound <= scale.upper
            parts.append(_arrow(place, middle, turn, tone) if beyond else _end(place, middle, tone))
    if lift is not None:
        mark = {"x": scale(lift) - 4.5, "y": middle - 4.5, "width": 9, "height": 9}
        turned = f"rotate(45 {scale(lift)} {middle})"
        parts.append(_tag("rect", **mark, rx=1, transform=turned, class_=f"mark {tone}"))
    label = f"lift {percent(lift, signed=True)}" + (f", interval {bounds(interval)}" if interval else "")
    return _picture(ROW_WIDTH, ROW_HEIGHT, parts, label, "forest")


def forest_axis(scale: Scale) -> Markup:
    """The numbers under a forest plot."""
    parts = [
        Markup("").join((
            _tag("line", x1=scale(tick), x2=scale(tick), y1=0, y2=4, class_="tick"),
            _tag("text", percent(tick, signed=True), x=scale(tick), y=16, class_="label middle"),
        ))
        for tick in scale.ticks(4)
    ]  # fmt: skip
    return _picture(ROW_WIDTH, 20, parts, None, "forest")


def over_time(lines: Sequence[Line], *, relative: bool, label: str, zero: bool = True) -> Markup:
    """Values over time, each with its band. `relative`: numbers are shares, shown in percent; `zero`: they are changes, so that
    zero is shown, and a sign."""
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    moments = [point[0].timestamp() for point in points]
    values = [number for point in points for number in point[1:]]
    if zero and relative:  # the first days know nothing: their bands would hide the later ones
        middle = sorted(moments)[len(moments) // 2]
        settled = [abs(number) for point in points for number in point[1:] if number and point[0].timestamp() >= middle]
        most = 1.3 * max(settled, default=0.02)
        values = [min(most, max(-most, value)) for value in values if value is not None]
    lower, upper = spread(values, zero=zero)
    down = Scale(lower, upper, HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT)
    first, last = min(moments), max(moments)
    across = Scale(first, last if last > first else first + 1, LEFT, WIDTH - LEFT - RIGHT)
    when = hour if any(point[0].hour for point in points) else day
    parts = [*_grid(down, relative=relative, signed=zero), *_moments(across, points, when)]
    if lower < 0 < upper:
        parts.append(_tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down(0), y2=down(0), class_="zero"))
    for line in lines:
        parts += _band(line, across, down)
    for line in lines:
        parts += _line(line, across, down, when, relative=relative, signed=zero)
    return _picture(WIDTH, HEIGHT, parts, label, "time")


def curve(points: Sequence[tuple[float, float | None]], *, label: str, unit: str) -> Markup:
    """One number over another: (place in `unit`, share of 1)."""
    known = [(place, share) for place, share in points if share is not None]
    if not known:
        return Markup("")
    _, upper = spread(min(share, 4 * sorted(s for _, s in known)[len(known) // 2]) for _, share in known)
    down = Scale(0, upper, HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT)
    across = Scale(0, max(place for place, _ in known), LEFT, NARROW - LEFT - RIGHT)
    parts = _grid(down, relative=True, width=NARROW)
    parts += [
        _tag("text", f"{tick:,.0f}", x=across(tick), y=HEIGHT - 8, class_="label middle") for tick in across.ticks(4)
    ]
    parts.append(_tag("polyline", points=_points((across(x), down(y)) for x, y in known), class_="line v1"))
    for place, share in known:
        tip = f"{place:,.0f} {unit}: {percent(share)}"
        parts.append(_tag("circle", cx=across(place), cy=down(share), r=3.5, class_="dot v1", data_tip=tip))
    return _picture(NARROW, HEIGHT, parts, label, "curve")


def shares(parts: Sequence[tuple[str, float]]) -> Markup:
    """A bar that is split as users are: (name, share of 1)."""
    drawn, place = [], 0.0
    for style, (name, share) in enumerate(parts):
        width = round(share * WIDTH, 2)
        bar = {"x": round(place, 2), "y": 0, "width": max(0.0, width - 2), "height": 28, "rx": 3}
        drawn.append(_tag("rect", **bar, class_=f"fill v{style % 8}", data_tip=f"{name}: {percent(share)}"))
        if width > 60:
            text = plain(name, int(width / 9))
            drawn.append(_tag("text", text, x=round(place + width / 2, 2), y=19, class_="label middle on-fill"))
        place += width
    return _picture(WIDTH, 28, drawn, ", ".join(f"{name} {percent(share)}" for name, share in parts), "split")


def bars(counts: Sequence[tuple[str, float]], *, label: str, style: int = 0) -> Markup:
    """One bar per period or step: (name, number)."""
    if not counts:
        return Markup("")
    _, upper = spread([number for _, number in counts])
    down = Scale(0, upper, HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT)
    parts = _grid(down, relative=False)
    room = (WIDTH - LEFT - RIGHT) / len(counts)
    every = math.ceil(len(counts) / 8)
    for place, (name, number) in enumerate(counts):
        left, top = LEFT + place * room, down(number)
        bar = {"x": round(left + room * 0.12, 2), "width": round(room * 0.76, 2), "y": top}
        tip = f"{name}: {number:,.0f}"
        parts.append(_tag("rect", **bar, height=round(HEIGHT - BOTTOM - top, 2), class_=f"fill v{style}", data_tip=tip))
        if place % every == 0:
            parts.append(_tag("text", name, x=round(left + room / 2, 2), y=HEIGHT - 8, class_="label middle"))
    return _picture(WIDTH, HEIGHT, parts, label, "bars")


def spark(counts: Sequence[float], *, label: str) -> Markup:
    """A line without axes, for a cell of a table."""
    width, height = 120.0, 24.0
    down = Scale(0, max(counts, default=0) or 1, height - 2, 4 - height)
    step = width / max(1, len(counts) - 1)
    path = _points((round(place * step, 2), down(number)) for place, number in enumerate(counts))
    return _picture(width, height, [_tag("polyline", points=path, class_="line v1")], label, "spark")


def belief(scale: Scale, mean: float, deviation: float) -> Markup:
    """How plausible each lift is: a normal density around `mean`, the part above zero filled, the part below hatched."""
    height, steps = 44, 80
    places = [scale.lower + (scale.upper - scale.lower) * step / steps for step in range(steps + 1)]
    heights = [math.exp(-0.5 * ((place - mean) / deviation) ** 2) * (height - 4) for place in places]
    parts = []
    for side, sign in (("below", -1), ("above", 1)):
        corner = [(scale(x), height - tall) for x, tall in zip(places, heights, strict=True) if x * sign >= 0]
        if len(corner) > 1:
            path = [(corner[0][0], height), *corner, (corner[-1][0], height)]
            parts.append(_tag("polygon", points=_points(path), class_=f"belief {side}"))
    parts.append(_tag("line", x1=scale(0.0), x2=scale(0.0), y1=0, y2=height, class_="zero"))
    return _picture(ROW_WIDTH, height, parts, f"most plausible lift {percent(mean, signed=True)}", "belief")


def bounds(interval: Interval | None) -> str:
    """An interval of lifts in words; an open side is infinite."""
    if interval is None:
        return "–"
    lower = "−∞" if interval.lower is None else percent(interval.lower, signed=True)
    upper = "+∞" if interval.upper is None else percent(interval.upper, signed=True)
    return f"{lower} … {upper}"


def _grid(down: Scale, *, relative: bool, signed: bool = False, width: float = WIDTH) -> list[Markup]:
    parts = []
    for tick in down.ticks():
        parts.append(_tag("line", x1=LEFT, x2=width - RIGHT, y1=down(tick), y2=down(tick), class_="grid"))
        text = percent(tick, signed=signed) if relative else f"{tick:,.6g}"
        parts.append(_tag("text", text, x=LEFT - 8, y=down(tick) + 4, class_="label end"))
    return parts


def _moments(across: Scale, points: Sequence[_Point], when: _When) -> list[Markup]:
    moments = sorted({point[0] for point in points})
    every = math.ceil(len(moments) / 7)
    return [
        _tag("text", when(moment), x=across(moment.timestamp()), y=HEIGHT - 8, class_="label middle")
        for moment in moments[::every]
    ]


def _band(line: Line, across: Scale, down: Scale) -> list[Markup]:
    known = [
        (across(at.timestamp()), low, high) for at, _, low, high in line.points if low is not None and high is not None
    ]
    if len(known) < 2:
        return []
    edge = [(x, down(high)) for x, _, high in known] + [(x, down(low)) for x, low, _ in reversed(known)]
    return [_tag("polygon", points=_points(edge), class_=f"band v{line.style % 8}")]


def _line(line: Line, across: Scale, down: Scale, when: _When, *, relative: bool, signed: bool) -> list[Markup]:
    known = [(across(at.timestamp()), down(value), at, value, low, high)
             for at, value, low, high in line.points if value is not None]  # fmt: skip
    path = _points([(x, y) for x, y, *_ in known])
    parts = [_tag("polyline", points=path, class_=f"line v{line.style % 8}")]

    def shown(number: float | None) -> str:
        return percent(number, signed=signed) if relative else ("–" if number is None else f"{number:,.4g}")

    for x, y, at, value, low, high in known:
        tip = f"{line.name}, {when(at)}: {shown(value)}"
        tip += f" ({shown(low)} … {shown(high)})" if low is not None or high is not None else ""
        parts.append(_tag("circle", cx=x, cy=y, r=3.5, class_=f"dot v{line.style % 8}", data_tip=tip, tabindex=0))
    return parts


def _end(place: float, middle: float, tone: str) -> Markup:
    return _tag("line", x1=place, x2=place, y1=middle - 4, y2=middle + 4, class_=f"interval {tone}")


def _arrow(place: float, middle: float, turn: int, tone: str) -> Markup:
    """The interval goes on beyond the picture."""
    head = [(place, middle), (place + 6 * turn, middle - 4), (place + 6 * turn, middle + 4)]
    return _tag("polygon", points=_points(head), class_=f"arrow {tone}")


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)


def _tag(name: str, text: str | None = None, /, **attributes: object) -> Markup:
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    return (
        Markup("<{}{}/>").format(name, written)
        if text is None
        else Markup("<{0}{1}>{2}</{0}>").format(name, written, text)
    )


def _picture(width: float, height: float, parts: Iterable[Markup], label: str | None, kind: str) -> Markup:
    named = Markup(' role="img" aria-label="{}"').format(label) if label else Markup(' aria-hidden="true"')
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}"{}>{}</svg>').format(
        kind, width, height, named, Markup("").join(parts)
    )
