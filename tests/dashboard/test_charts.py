"""Charts say what the numbers say: places, bounds, what lies beyond, and no text becomes markup."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.dashboard import charts, figures
from upshot.dashboard.charts import Line, Scale
from upshot.statistics import Interval

START = datetime(2026, 3, 1, tzinfo=UTC)
lifts = st.floats(-3, 3).map(lambda share: round(share, 6))


def drawn(picture: str) -> ET.Element:
    """The picture as XML: it is well-formed."""
    return ET.fromstring(picture)  # noqa: S314 - our own


@given(st.lists(st.tuples(lifts, lifts, lifts), min_size=1, max_size=8))
def test_a_scale_shows_zero_and_every_lift(rows: list[tuple[float, float, float]]) -> None:
    """Whatever the numbers: zero is inside, places are inside, and their order is kept."""
    intervals = [Interval(min(row), max(row)) for row in rows]
    scale = charts.lift_scale(intervals, [sorted(row)[1] for row in rows])

    assert scale.lower < 0 < scale.upper
    places = [scale(sorted(row)[1]) for row in rows]
    assert all(scale.start <= place <= scale.start + scale.length for place in places)
    ordered = sorted(sorted(row)[1] for row in rows)
    assert [scale(lift) for lift in ordered] == sorted(places)
    assert all(scale.lower <= tick <= scale.upper for tick in scale.ticks())
    assert 0.0 in scale.ticks()


def test_a_forest_row_shows_its_interval() -> None:
    """The line reaches from bound to bound; the mark is at the lift; the sentence for those who cannot see says both."""
    scale = Scale(-0.2, 0.2, 0, 400)
    row = drawn(charts.forest_row(scale, 0.1, Interval(0.05, 0.15), "better"))
    line = next(part for part in row if part.get("class") == "interval better" and part.get("y1") == part.get("y2"))

    assert (float(line.get("x1") or 0), float(line.get("x2") or 0)) == (250, 350)
    assert row.get("aria-label") == "lift +10.0 %, interval +5.0 % … +15.0 %".replace(" %", "\u00a0%")


@pytest.mark.parametrize(
    ("interval", "arrows"),
    [(Interval(-0.1, 0.1), 0), (Interval(None, 0.1), 1), (Interval(None, None), 2), (Interval(-5.0, 0.1), 1)],
)
def test_what_goes_on_beyond_has_an_arrow(interval: Interval, arrows: int) -> None:
    """Open and cut bounds do not look like ends."""
    row = charts.forest_row(Scale(-0.2, 0.2, 0, 400), 0.0, interval, "unclear")

    assert row.count('class="arrow') == arrows


def test_nothing_is_drawn_of_nothing() -> None:
    """No point, no bar, no picture; a lift that is not known has no mark."""
    assert charts.over_time([], relative=True, label="none") == ""
    assert charts.bars([], label="none") == ""
    assert charts.curve([], label="none", unit="users") == ""
    assert 'class="mark' not in charts.forest_row(Scale(-1, 1, 0, 10), None, None, "unclear")


def test_early_bands_do_not_hide_later_ones() -> None:
    """The first days know nothing: the scale is that of the days that do."""
    points = [
        (START + timedelta(days=day), 0.1, 0.1 - 5 / (day + 1) ** 2, 0.1 + 5 / (day + 1) ** 2) for day in range(20)
    ]
    picture = charts.over_time([Line("new", 1, points)], relative=True, label="lift")
    labels = [float(text.replace("−", "-")) for text in re.findall(r">\+?([−\d.]+)\s%<", picture)]

    assert max(labels) < 100
    assert picture.count('class="dot v1"') == 20


@pytest.mark.parametrize(("step", "label"), [(timedelta(hours=1), "1 Mar 05:00"), (timedelta(days=1), "6 Mar")])
def test_hours_are_told_from_days(step: timedelta, label: str) -> None:
    """Five points of one day are five hours."""
    points = [(START + step * place, 0.1, None, None) for place in range(6)]
    picture = charts.over_time([Line("new", 1, points)], relative=True, label="lift")

    assert f">{label}<" in picture
    assert f"new, {label}:" in picture


def test_no_name_becomes_markup() -> None:
    """Names of variants and metrics are texts, in tips, labels and sentences."""
    name = '"><script>alert(1)</script>'
    line = Line(name, 0, [(START, 0.1, 0.0, 0.2), (START + timedelta(days=1), 0.2, 0.1, 0.3)])
    pictures = (
        charts.over_time([line], relative=True, label=name),
        charts.shares([(name, 0.5), ("b", 0.5)]),
        charts.bars([(name, 3.0)], label=name),
        charts.spark([1.0, 2.0], label=name),
    )

    for picture in pictures:
        assert "<script" not in picture
        drawn(picture)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0 %"), (0.123456, "12.3 %"), (1.0, "100 %"), (-0.0012, "−0.12 %"), (0.00031, "0.031 %"), (None, "–")],
)
def test_percent(share: float | None, shown: str) -> None:
    """As many digits as are needed; a true minus; a dash for what is not there."""
    shown = shown.replace(" %", "\u00a0%")
    assert figures.percent(share) == shown
    assert share is None or share <= 0 or figures.percent(share, signed=True) == f"+{shown}"


def test_moments() -> None:
    """In UTC, and how long ago."""
    assert figures.moment(START) == "1 Mar 2026, 00:00 UTC"
    assert figures.ago(START, START + timedelta(hours=30)) == "1 day ago"
    assert figures.ago(START, START + timedelta(minutes=2)) == "2 minutes ago"
    assert figures.ago(START, START - timedelta(minutes=2)) == "just now"
    assert figures.ago(None, START) == "never"
