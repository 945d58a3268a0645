"""Every event store counts what was lost of numbered events as the plain reference does, and costs nothing where none is."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests import reference
from tests.contract.test_eventstore import BOUGHT, END, HOUR, PERIODS, START, Fresh, fresh, store

from upshot import eventstore
from upshot.aggregation import AggregationPlan, Cell, Delivery
from upshot.events import SEQUENCES, Event, Exposure
from upshot.eventstore import EventStore, sql
from upshot.eventstore.keys import Keys
from upshot.eventstore.sql import sampling

__all__ = ["fresh", "store"]

PLAN = AggregationPlan(1, (BOUGHT,), None, END, delivery=True)
PLANS = {
    "whole": PLAN,
    "another experiment": replace(PLAN, experiment=2),
    "the past": replace(PLAN, end=START + 50 * HOUR),
    "a later start changes nothing": replace(PLAN, start=START + 60 * HOUR),
    "no metric": replace(PLAN, metrics=()),
    "no such experiment": replace(PLAN, experiment=9),
}
SILENT = (
    replace(PLAN, delivery=False),
    replace(PLAN, periods=PERIODS),
    replace(PLAN, segments=("country",)),
    replace(PLAN, beside=2),
    replace(PLAN, entry=("buy",)),
)


class World:
    """Users of two clients with the same ids, whose sessions begin before, with and after exposures and lose events, the last
    ones of a session, too; with repeats, unnumbered events, and clocks that are set back."""

    def __init__(self, seed: int, users: int = 60) -> None:
        chance = random.Random(seed)
        self.exposures = [
            Exposure(client, experiment, f"u{n}", chance.randrange(3), 1 + chance.randrange(2),
                     START + chance.randrange(80) * HOUR, "{}")
            for client in ("one", "two") for experiment in (1, 2) for n in range(users) if chance.random() < 0.8
        ]  # fmt: skip
        exposed = {(e.client, e.user_id): e.exposed_at for e in self.exposures}
        self.events: list[tuple[str, Event]] = []
        for client in ("one", "two"):
            for n in range(users):
                for session in chance.sample(range(40), chance.randrange(4)):
                    begins = exposed.get((client, f"u{n}"), START) + chance.choice([-30, -2, 0, 1, 20]) * HOUR
                    self._session(chance, client, f"u{n}", session, begins)
                self.events += [(client, self._event(f"u{n}", START + chance.randrange(99) * HOUR)) for _ in range(3)]
        self.sent = [item for item in self.events for _ in range(chance.choice([1, 1, 2, 4]))]
        chance.shuffle(self.sent)

    def _session(self, chance: random.Random, client: str, user: str, session: int, begins: int) -> None:
        lossy = chance.random() < 0.6
        for sequence in range(1, 1 + chance.randrange(1, 12)):
            when = begins + (sequence - 1) * HOUR // 2 - (chance.random() < 0.05) * 20 * HOUR
            if not (lossy and chance.random() < 0.3):
                ordinal = (session * 104_729_111 % 2**32) * SEQUENCES + sequence
                self.events.append((client, self._event(user, when, ordinal)))

    def _event(self, user: str, when: int, ordinal: int | None = None) -> Event:
        number = len(self.events)
        kind = ("buy", "view", "other")[number % 3]
        return Event(f"e{number}-{when}", user, kind, when, when, None, "{}", None, 0, number, ordinal)

    async def fill(self, store: EventStore, order: int) -> None:
        """Append everything in an order of its own, in parts, many at once; half of the exposures come after the events."""
        chance = random.Random(order)
        shuffled = chance.sample(self.sent, len(self.sent))
        parts = [shuffled[start : start + 90] for start in range(0, len(shuffled), 90)]
        await store.expose(self.exposures[::2])
        await asyncio.gather(
            *(store.append(client, [event for owner, event in part if owner == client])
              for part in parts for client in ("one", "two"))
        )  # fmt: skip
        await store.expose(self.exposures)

    def expected(self, client: str = "one", plan: AggregationPlan = PLAN, **rules: Any) -> dict[Cell, Delivery]:
        """What the reference says."""
        return reference.delivery(client, plan, self.exposures, self.events, **rules)


def same(found: Mapping[Cell, Delivery], expected: Mapping[Cell, Delivery]) -> bool:
    """Counts equal, moments equal up to rounding."""
    return found.keys() == expected.keys() and all(
        (found[cell].losing, found[cell].moments.n) == (part.losing, part.moments.n)
        and found[cell].moments.means == pytest.approx(part.moments.means, rel=1e-9)
        and all(
            ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)
            for ours, theirs in zip(found[cell].moments.m2, part.moments.m2, strict=True)
        )
        for cell, part in expected.items()
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_was_lost_equals_the_reference(store: EventStore, seed: int) -> None:
    """Duplicates, shuffling, late exposures and two clients with the same users and sessions change nothing."""
    world = World(seed)
    await world.fill(store, order=seed)

    for name, plan in PLANS.items():
        for client in ("one", "two"):
            assert same((await store.aggregate(client, plan)).delivery, world.expected(client, plan)), name
    assert sum(part.losing for part in world.expected().values()) > 10
    for plan in SILENT:
        assert (await store.aggregate("one", plan)).delivery == {}


async def test_wrong_rules_of_loss_are_told_from_the_right_one(store: EventStore) -> None:
    """The comparison catches forgetting what came before the exposure, exclusive times, counting duplicates as received, taking
    sessions for one, and lost events of a user whose exposure is not looked at."""
    world = World(3)
    await world.fill(store, order=3)
    found = (await store.aggregate("one", PLAN)).delivery

    assert same(found, world.expected())
    assert not same(found, world.expected(from_the_start=True))
    assert not same(found, world.expected(one_session=True))
    assert not same(found, world.expected(counts=lambda event, exposure: event.occurred_at > exposure.exposed_at))
    assert not same(found, world.expected(counts=lambda *_: True))
    again = [(client, event._replace(event_id=f"{event.event_id}-{n}")) for n, (client, event) in enumerate(world.sent)]
    assert not same(found, reference.delivery("one", PLAN, world.exposures, again))


async def test_of_many_users_a_sample_is_looked_at(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in four by their keys: exactly what the reference says of these users alone, and not of others."""
    world = World(4, users=200)
    await world.fill(store, order=4)
    monkeypatch.setattr(sampling, "SAMPLED", 30)

    found = (await store.aggregate("one", PLAN)).delivery

    assert {part.one_in for part in found.values()} == {4}
    keys = Keys("one")
    numbers = {e.user_id: int.from_bytes(keys.user(e.user_id), "big", signed=True) for e in world.exposures}
    parts = [[e for e in world.exposures if numbers[e.user_id] % 4 == rest] for rest in (0, 1)]
    looked_at, others = (reference.delivery("one", PLAN, part, world.events) for part in parts)
    assert same(found, looked_at)
    assert not same(found, others)


@pytest.mark.parametrize(
    ("users", "step"), [(0, 1), (99_999, 1), (100_000, 2), (199_999, 2), (200_000, 4), (10**9, 16_384)]
)
def test_a_sample_never_grows_beyond_twice_its_size(users: int, step: int) -> None:
    """Nor below its size."""
    assert sampling.one_in(users) == step
    assert step == 1 or sampling.SAMPLED <= users / step < 2 * sampling.SAMPLED


async def test_where_nobody_numbers_events_nothing_is_counted(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at the store is enough; a single numbered event, even another client's, is the end of that."""
    counted: list[Any] = []
    delivery = sql.delivery

    def noting(*asked: Any) -> Any:
        counted.append(asked)
        return delivery(*asked)

    monkeypatch.setattr(sql, "delivery", noting)
    await store.expose([Exposure("one", 1, "u", 0, 1, START, "{}")])
    event = Event("id", "u", "buy", START, START, None, "{}", None, 0, 7)
    await store.append("one", [event])

    assert (await store.aggregate("one", PLAN)).delivery == {}
    assert counted == []
    await store.append("two", [event._replace(ordinal=SEQUENCES + 1)])
    assert (await store.aggregate("one", PLAN)).delivery == {}
    assert len(counted) == 1


async def test_the_largest_session_and_number_are_kept_as_they_are(store: EventStore) -> None:
    """63 bits, in every engine; the same event with another number is a duplicate and no conflict."""
    largest = 2**32 * SEQUENCES - 1
    event = Event("id", "u", "buy", START, START, None, "{}", None, 0, 7, largest)
    await store.expose([Exposure("one", 1, "u", 0, 1, START, "{}")])

    assert await store.append("one", [event]) == [eventstore.Verdict.ACCEPTED]
    assert await store.append("one", [event._replace(ordinal=largest - 5)]) == [eventstore.Verdict.DUPLICATE]
    assert await store.append("one", [event._replace(ordinal=None)]) == [eventstore.Verdict.DUPLICATE]

    [found] = (await store.aggregate("one", PLAN)).delivery.values()
    assert (found.moments.n, found.moments.means) == (1, (SEQUENCES - 2, SEQUENCES - 1))


async def test_what_was_lost_survives_reopening(fresh: Fresh) -> None:
    """Ordinals are kept like the rest of an event."""
    world, url = World(4), fresh()
    for _ in range(2):
        opened = await eventstore.connect(url)
        await world.fill(opened, order=4)
        found = (await opened.aggregate("one", PLAN)).delivery
        await opened.close()

    assert same(found, world.expected())
