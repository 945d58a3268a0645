"""Periods of a time zone: disjoint, complete, and of the length that the zone's clocks give them."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import breakdowns
from upshot.errors import Invalid
from upshot.events import micros

HOUR = 3_600_000_000
ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def hours(start: str, end: str, granularity: str, zone: str) -> list[float]:
    """The lengths of the periods, in hours."""
    found = breakdowns.periods(datetime.fromisoformat(start), datetime.fromisoformat(end), granularity, ZoneInfo(zone))
    return [(period.end - period.start) / HOUR for period in found]


def test_a_day_is_as_long_as_the_clocks_say() -> None:
    """23 hours when summer time begins, 25 when it ends, in New York."""
    assert hours("2026-03-07T12:00:00Z", "2026-03-10T12:00:00Z", "day", "America/New_York") == [24, 23, 24, 24]
    assert hours("2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z", "day", "America/New_York") == [24, 25, 24]
    assert hours("2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z", "hour", "America/New_York") == [1] * 24
    assert hours("2026-03-05T00:00:00Z", "2026-03-09T12:00:00Z", "week", "America/New_York") == [167, 168]


@given(moments, st.integers(1, 24 * 20), st.sampled_from(breakdowns.GRANULARITIES), st.sampled_from(ZONES))
def test_periods_are_disjoint_and_complete(start: datetime, length: int, granularity: str, zone: str) -> None:
    """They begin at or before the start, end at or after the end, and each begins where the last one ended."""
    end = start + timedelta(hours=length)

    found = breakdowns.periods(start, end, granularity, ZoneInfo(zone))

    assert found[0].start <= micros(start)
    assert found[-1].start < micros(end) <= found[-1].end
    assert all(one.end == other.start for one, other in itertools.pairwise(found))
    assert all(period.start < period.end for period in found)


@pytest.mark.parametrize(("granularity", "days"), [("hour", 32), ("day", 401), ("week", 7 * 401)])
def test_a_series_is_bounded(granularity: str, days: int) -> None:
    """More than 31 days of hours, or 400 days or weeks, is refused."""
    start = datetime(2020, 1, 1, tzinfo=UTC)

    with pytest.raises(Invalid):
        breakdowns.periods(start, start + timedelta(days=days), granularity, ZoneInfo("UTC"))
