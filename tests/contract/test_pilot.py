"""Covariates that a sample of the users finds to be idle are not read of the others; those that help are, in full."""

from dataclasses import replace
from typing import Any

import pytest
from tests.contract.test_eventstore import END, HOUR, START, fresh, store

from upshot.aggregation import Aggregates, AggregationPlan
from upshot.events import Event, Exposure
from upshot.eventstore import EventStore, pilot
from upshot.eventstore.sql import sampling
from upshot.metrics import Kind, Metric

__all__ = ["fresh", "store"]

USERS = 400
STEADY = Metric("steady", Kind.SUM, ("steady",))
FICKLE = Metric("fickle", Kind.COUNT, ("fickle",))
RARE = Metric("rare", Kind.CONVERSION, ("rare",))
PLAN = AggregationPlan(1, (STEADY, FICKLE, RARE), None, END, covariates=True)


def caused(user: int, name: str, when: int, value: float | None = None) -> Event:
    """An event of a user."""
    return Event(f"{name}-{user}-{when}", f"u{user}", name, when, when, value, "{}", None, 0, 1)


async def filled(store: EventStore) -> None:
    """Users who spend afterwards what they spent before, and do something else by turns; nobody did the third thing before."""
    exposed = START + 10 * HOUR
    await store.expose([Exposure("one", 1, f"u{n}", n % 2, 1, exposed, "{}") for n in range(USERS)])
    events = []
    for n in range(USERS):
        events += [caused(n, "steady", exposed + sign * HOUR, float(n % 17)) for sign in (-1, 1)]
        events += [caused(n, "fickle", exposed - HOUR)] * (n % 3 == 0) + [caused(n, "fickle", exposed + HOUR)] * (
            n % 7 < 3
        )
        events += [caused(n, "rare", exposed + HOUR)] * (n % 5 == 0)
    await store.append("one", events)


def read(found: Aggregates) -> dict[str, int]:
    """How many numbers of a user were read of each metric."""
    return {key: len(part.joint.means) if part.joint else 1 for (_, key), part in found.measured.items()}


async def test_only_covariates_that_help_are_read(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many users as a sample needs; what they help with is measured as ever, and the rest, too."""
    await filled(store)
    everything = await store.aggregate("one", PLAN)
    monkeypatch.setattr(sampling, "SAMPLED", 50)

    found = await store.aggregate("one", PLAN)

    assert read(everything) == {"steady": 2, "fickle": 2, "rare": 2}
    assert (read(found), found.unadjusted) == ({"steady": 2, "fickle": 1, "rare": 1}, frozenset({"fickle", "rare"}))
    for place, part in everything.measured.items():
        again = found.measured[place]
        assert again.moments.mean == pytest.approx(part.moments.mean)
        assert (again.users, again.events, again.total) == (part.users, part.events, part.total)
        if place[1] == "steady":
            assert again.joint is not None
            assert part.joint is not None
            assert again.joint.means == pytest.approx(part.joint.means)
    told = (await store.aggregate("one", replace(PLAN, unadjusted=found.unadjusted))).measured
    assert told.keys() == found.measured.keys()
    for place, part in found.measured.items():  # but for the order in which an engine's threads add up
        again = told[place]
        assert (again.users, again.events, again.joint is None) == (part.users, part.events, part.joint is None)
        assert (again.moments.mean, again.moments.m2) == pytest.approx((part.moments.mean, part.moments.m2))


async def test_a_pilot_that_looks_at_the_wrong_number_is_caught(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes every covariate for useful reads them all; one that takes none for useful reads none."""
    await filled(store)
    monkeypatch.setattr(sampling, "SAMPLED", 50)

    for helps, expected in ((-1.0, set[str]()), (2.1, {"steady", "fickle", "rare"})):
        monkeypatch.setattr(pilot, "HELPS", helps)
        assert (await store.aggregate("one", PLAN)).unadjusted == expected


async def test_parts_are_read_as_they_are_asked_for(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments follow the whole: what it found idle they are told, and look at no sample of their own."""
    await filled(store)
    monkeypatch.setattr(sampling, "SAMPLED", 50)
    asked: list[Any] = []

    def noting(*call: Any) -> float:
        asked.append(call)
        return 1.0

    monkeypatch.setattr(pilot, "_reduction", noting)

    await store.aggregate("one", replace(PLAN, segments=("country",)))

    assert asked == []
