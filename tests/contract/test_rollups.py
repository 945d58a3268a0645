"""Rolled-up periods answer what counting answers, whatever comes late; and they are really used."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import pytest
from tests import reference
from tests.contract.test_eventstore import ANY, BOUGHT, HOUR, SEEN, SPENT, START, Fresh, World, fresh, same, store

from upshot import eventstore
from upshot.aggregation import AggregationPlan, Period
from upshot.events import CROSSOVER, OVERRIDE, Event, Exposure, Withdrawal
from upshot.eventstore import EventStore, linking, rollups, sql
from upshot.metrics import Kind, Metric

__all__ = ["fresh", "store"]

DAY = 24 * HOUR
FIRST = START - START % DAY
HOURS = tuple(Period(FIRST + n * HOUR, FIRST + (n + 1) * HOUR) for n in range(132))
DAYS = tuple(Period(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(6))
END = FIRST + 7 * DAY
REFUNDED = Metric("refunded", Kind.SUM, ("refund",))
PLANS = {
    "hours": AggregationPlan(1, (BOUGHT, SEEN, REFUNDED), None, END, HOURS),
    "days": AggregationPlan(1, (BOUGHT, REFUNDED), None, END, DAYS),
    "a metric of two types": AggregationPlan(1, (SPENT, BOUGHT), None, END, DAYS),
    "a metric of all types": AggregationPlan(2, (ANY,), None, END, DAYS),
    "a window inside": AggregationPlan(1, (BOUGHT,), FIRST + 30 * HOUR, FIRST + 61 * HOUR + 7, HOURS[30:62]),
    "a type never seen": AggregationPlan(1, (Metric("none", Kind.SUM, ("nothing",)), BOUGHT), None, END, DAYS),
    "other stretches": AggregationPlan(2, (BOUGHT,), None, END, (*HOURS[5:9], Period(FIRST + DAY, END))),
    "segment": AggregationPlan(1, (BOUGHT,), None, END, DAYS, ("country",)),
}


async def wrong(store: EventStore, world: World) -> list[str]:
    """The plans that are not answered as the reference answers them."""
    return [
        f"{name} of {client}"
        for name, plan in PLANS.items()
        for client in ("one", "two")
        if not same(await store.aggregate(client, plan), expected(world, client, name))
    ]


@lru_cache(len(PLANS) * 2 * 2)
def expected(world: World, client: str, name: str) -> reference.Expected:
    """What the reference says, once for every world that is not changed any more."""
    return reference.aggregate(
        client, PLANS[name], world.exposures, world.events, world.contexts, identities=world.identities
    )


@cache
def early_and_late() -> tuple[World, list[tuple[str, Event]], list[Exposure], World]:
    """A world, what comes later of events and of exposures, and the world with both."""
    world, more, both = World(11, events=600), World(12, events=200), World(11, events=600)
    known = {exposure.user_id for exposure in world.exposures}
    events = [(client, event._replace(event_id=f"late-{event.event_id}")) for client, event in more.events]
    exposures = [replace(e, user_id=f"new-{e.user_id}") for e in more.exposures[:40] if e.user_id in known]
    both.events = world.events + events
    both.exposures = world.exposures + exposures
    both.contexts |= {f"new-{user}": more.contexts[user] for user in more.contexts}
    return world, events, exposures, both


async def test_rolled_up_answers_equal_counted_ones(store: EventStore) -> None:
    """Before a refresh, after it, after more and late data, and after the next refresh; a second refresh has nothing to do."""
    world, events, exposures, both = early_and_late()
    await world.fill(store, order=1)
    assert await wrong(store, world) == []

    assert await store.refresh() > 0
    assert await store.refresh() == 0
    assert await wrong(store, world) == []

    for place in range(0, len(events), 20):
        await asyncio.gather(*(store.append(client, [event]) for client, event in events[place : place + 20]))
    await store.expose(exposures)
    assert await wrong(store, both) == []

    assert await store.refresh() > 0
    assert await wrong(store, both) == []


async def test_rollups_are_used_and_marks_are_needed(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refresh nothing is counted again; without marks, data that comes later would be missed, and that is seen."""
    world = World(13, events=300)
    await world.fill(store, order=1)
    await store.refresh()
    with monkeypatch.context() as patch:
        patch.setattr(sql, "moments", lambda _: pytest.fail("it was counted again"))
        await store.aggregate("one", PLANS["hours"])

    if "ClickHouse" in type(store).__name__:
        return  # there a materialized view leaves the marks
    monkeypatch.setattr(rollups.Marker, "marks", lambda *_: [])
    _, event = world.events[0]
    exposed = next(e for e in world.exposures if e.client == "one" and e.experiment == 1)
    unmarked = event._replace(
        event_id="x", user_id=exposed.user_id, event_type="buy", occurred_at=exposed.exposed_at + 1
    )
    await store.append("one", [unmarked])
    world.events.append(("one", unmarked))
    assert await wrong(store, world) != []


def identities_of(world: World) -> reference.Identities:
    """Every third user of the client "one" is another one's second id, every fifth is withdrawn, and a variant is left by all."""
    links = [("one", f"u{n}", f"u{n + 1}") for n in range(0, 120, 3)]
    withdrawals = [("one", Withdrawal(1 + n % 2, f"u{n}", OVERRIDE)) for n in range(0, 120, 5)]
    everyone = {e.user_id for e in world.exposures if (e.client, e.experiment, e.variant) == ("one", 1, 2)}
    return reference.Identities(
        links, [*withdrawals, *(("one", Withdrawal(1, u, CROSSOVER)) for u in sorted(everyone))]
    )


async def identify(store: EventStore, world: World) -> None:
    """Tell a store who is one user, and who is out."""
    world.identities = identities_of(world)
    await store.link("one", [(alias, user) for _, alias, user in world.identities.links])
    await store.withdraw("one", [withdrawal for _, withdrawal in world.identities.withdrawals])


async def test_rolled_up_answers_follow_links_and_withdrawals(store: EventStore) -> None:
    """What was rolled up before is counted until it is rolled up again, and then the same; cells that all have left are gone."""
    world = World(17, events=600)
    await world.fill(store, order=1)
    assert await store.refresh() > 0

    await identify(store, world)
    assert await wrong(store, world) == []

    assert await store.refresh() > 0
    assert await store.refresh() == 0
    assert await wrong(store, world) == []


async def test_links_that_leave_no_marks_are_noticed(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see a store that goes on answering what it rolled up before."""
    world = World(17, events=600)
    await world.fill(store, order=1)
    await store.refresh()
    monkeypatch.setattr(linking, "touched", lambda *_: [])

    await identify(store, world)

    assert await wrong(store, world) != []


@pytest.mark.slow
async def test_refreshes_at_once_and_during_appends_are_safe(fresh: Fresh) -> None:
    """Two stores of one database refresh while a third appends and links, where several may open it; the last answer is right."""
    url = fresh()
    several = url.partition(":")[0] in {"postgresql", "mysql", "clickhouse"}
    stores = [await eventstore.connect(url) for _ in range(3 if several else 1)]
    world = World(14, events=400)
    chance = random.Random(1)

    async def refreshing(opened: EventStore) -> None:
        for _ in range(6):
            await opened.refresh()
            await asyncio.sleep(chance.random() / 20)

    async def filling() -> None:
        await world.fill(stores[0], order=2)
        await identify(stores[-1], world)

    await asyncio.gather(filling(), *(refreshing(opened) for opened in stores))
    await stores[-1].refresh()

    found = await wrong(stores[-1], world)
    for opened in stores:
        await opened.close()
    assert found == []


async def test_retention_drops_events_and_keeps_what_was_rolled_up(store: EventStore) -> None:
    """Events from before are gone; hours and days that were rolled up still answer."""

    world = World(15, events=300)
    await world.fill(store, order=1)
    await store.refresh()
    before = await store.aggregate("one", PLANS["days"])
    now = datetime.fromtimestamp((END + 70 * DAY) / 1_000_000, UTC)

    assert await store.maintain(now, None) is not None
    assert any("dropped" in done for done in await store.maintain(now, now))

    assert await store.event_types("one") == []
    after: Any = await store.aggregate("one", PLANS["days"])
    assert after.measured == before.measured
    assert (await store.aggregate("one", AggregationPlan(1, (BOUGHT,), None, END))).measured == {}


async def test_retention_forgets_no_mark_of_what_it_keeps(store: EventStore) -> None:
    """A user who is exposed in what is dropped still changes what is kept."""
    world = World(16, events=300)
    await world.fill(store, order=1)
    await store.refresh()
    kept_from = FIRST + 100 * DAY  # of another month, on every engine
    sold = world.events[0][1]._replace(event_id="kept", user_id="u-new", event_type="buy", occurred_at=kept_from + HOUR)
    await store.append("one", [sold])
    await store.refresh()
    await store.expose([Exposure("one", 1, "u-new", 0, 1, FIRST, "{}")])
    now = datetime.fromtimestamp((kept_from + HOUR) / 1_000_000, UTC)
    await store.maintain(now, now)

    plan = AggregationPlan(1, (BOUGHT,), None, kept_from + DAY, (Period(kept_from, kept_from + DAY),))
    found = await store.aggregate("one", plan)

    assert [measured.users for measured in found.measured.values()] == [1]
