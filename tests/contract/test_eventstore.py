"""Every event store answers what the plain reference answers, whatever is repeated, shuffled, late or sent at once."""

import asyncio
import itertools
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests import reference
from tests.contract.databases import patient

from upshot import eventstore
from upshot.aggregation import Aggregates, AggregationPlan, Cell, Measured, Period
from upshot.events import Event, Exposure
from upshot.eventstore import EventStore, Verdict
from upshot.eventstore.clickhouse import dialect, server
from upshot.eventstore.clickhouse import store as clickhouse
from upshot.eventstore.relational import store as relational
from upshot.metrics import Kind, Metric
from upshot.statistics import ThirdMoments

START = 1_760_000_000_000_000
HOUR = 3_600_000_000
END = START + 100 * HOUR
BOUGHT = Metric("bought", Kind.CONVERSION, ("buy",))
SPENT = Metric("spent", Kind.SUM, ("buy", "refund"))
SEEN = Metric("seen", Kind.COUNT, ("view",))
ANY = Metric("any", Kind.COUNT, ())
Fresh = Callable[[], str]
PERIODS = tuple(Period(START + n * 10 * HOUR, START + (n + 1) * 10 * HOUR) for n in range(10))


FILES = {
    "duckdb": "duckdb:///{folder}/events.db",
    "sqlite": "sqlite:///{folder}/events.db",
    "chdb": "chdb:///{folder}/events",
}
SERVERS = {
    "postgresql": "postgresql_server",
    "mariadb": "mariadb_server",
    "clickhouse": "clickhouse_server",
}


@pytest.fixture(params=[*FILES, *SERVERS])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """For each backend, a function that answers the URL of a new, empty store; its patience is the subject of other tests."""
    numbers = itertools.count()
    monkeypatch.setattr(relational, "PATIENCE", 60.0)
    monkeypatch.setattr(clickhouse, "APPEND_SECONDS", 60)
    for module in (relational, server):
        monkeypatch.setattr(module, "READ_SECONDS", 300)
    monkeypatch.setitem(dialect.READING, "max_execution_time", 300)
    patient(monkeypatch)

    def url() -> str:
        if request.param in FILES:
            return FILES[request.param].format(folder=tmp_path / str(next(numbers)))
        shared = request.getfixturevalue(SERVERS[request.param])
        return str(shared.database(f"events_{os.getpid()}_{next(numbers)}"))

    return url


@pytest.fixture
async def store(fresh: Fresh) -> AsyncIterator[EventStore]:
    """One store of each backend."""
    opened = await eventstore.connect(fresh())
    yield opened
    await opened.close()


class World:
    """Random exposures and events of two clients with the same ids, with repeats and events on the edge of rules."""

    identities = reference.Identities()

    def __init__(self, seed: int, users: int = 120, events: int = 1_500) -> None:
        chance = random.Random(seed)
        self.contexts: dict[str, dict[str, Any]] = {
            f"u{n}": {"country": chance.choice(["US", "DE", None, "é"]), "age": chance.randrange(3)}
            for n in range(users)
        }
        self.exposures = [
            Exposure(client, experiment, user, chance.randrange(3), 1 + chance.randrange(2),
                     START + chance.randrange(90) * HOUR, json.dumps(self.contexts[user]))
            for client in ("one", "two") for experiment in (1, 2) for user in self.contexts if chance.random() < 0.8
        ]  # fmt: skip
        self.events = [self._event(chance, number) for number in range(events)]
        self.sent = [item for item in self.events for _ in range(chance.choice([1, 1, 1, 2, 5]))]
        chance.shuffle(self.sent)

    def _event(self, chance: random.Random, number: int) -> tuple[str, Event]:
        user = f"u{chance.randrange(len(self.contexts))}"
        client = chance.choice(["one", "two"])
        when = START + chance.randrange(-5, 110) * HOUR
        exposed = [e.exposed_at for e in self.exposures if (e.client, e.user_id) == (client, user)]
        if exposed and chance.random() < 0.2:
            when = chance.choice(exposed) + chance.choice([-1, 0, 1])
        kind = chance.choice(["buy", "view", "refund", "other"])
        value = chance.choice([None, 0.0, 1.5, 1e9 + chance.random(), -3.25])
        event = Event(f"e{number}", user, kind, when, when, value, "{}", None, 0, number)
        return client, event

    async def fill(self, store: EventStore, order: int) -> None:
        """Append everything, in an order of its own, in batches, half of them at once."""
        chance = random.Random(order)
        exposures = self.exposures * 2
        chance.shuffle(exposures)
        batches = _cut(self.sent, chance)
        middle = len(exposures) // 2
        await store.expose(exposures[:middle])
        await asyncio.gather(
            *(store.append(client, _of(batch, client)) for batch in batches for client in ("one", "two"))
        )
        await store.expose(exposures[middle:])


def _cut(items: list[Any], chance: random.Random) -> list[list[Any]]:
    items = list(items)
    chance.shuffle(items)
    batches = []
    while items:
        size = chance.randrange(1, 200)
        batches.append(items[:size])
        items = items[size:]
    return batches


def _of(batch: list[tuple[str, Event]], client: str) -> list[Event]:
    return [event for owner, event in batch if owner == client]


def skewness(measured: Measured) -> float | None:
    """That of the users with events, 0 where they are alike; None where the third moment was not measured.

    To be compared within 1e-5, as numbers reach 1e9 here: MariaDB, which has no covariance, takes it from the variance of y² + y,
    where y² hides about 2^-52 y of it.
    """
    return None if measured.third is None else measured.third.skewness or 0.0


def same(found: Aggregates, expected: reference.Expected) -> bool:
    """Counts equal, means and sums of squares equal up to rounding."""
    measured = {key: value for key, value in found.measured.items() if value.users}
    return (
        dict(found.exposed) == expected.exposed
        and dict(found.withdrawn) == dict(expected.withdrawn)
        and measured.keys() == expected.measured.keys()
        and all(
            (measured[key].users, measured[key].events) == (value.users, value.events)
            and measured[key].moments.n == value.moments.n
            and measured[key].total == pytest.approx(value.total, rel=1e-9, abs=1e-6)
            and measured[key].moments.mean == pytest.approx(value.moments.mean, rel=1e-9, abs=1e-9)
            and measured[key].moments.m2 == pytest.approx(value.moments.m2, rel=1e-6, abs=1e-6)
            and skewness(measured[key]) == (pytest.approx(skewness(value), abs=1e-5) if value.third else None)
            for key, value in expected.measured.items()
        )
    )


PLANS = {
    "one metric": AggregationPlan(1, (BOUGHT,), None, END),
    "several metrics": AggregationPlan(1, (BOUGHT, SPENT, SEEN, ANY), None, END),
    "other experiment": AggregationPlan(2, (SPENT,), None, END),
    "window": AggregationPlan(1, (BOUGHT, SPENT), START + 20 * HOUR, START + 60 * HOUR),
    "periods": AggregationPlan(1, (BOUGHT, SPENT), None, END, PERIODS),
    "segment": AggregationPlan(1, (BOUGHT, SEEN), None, END, (), ("country",)),
    "numeric segment": AggregationPlan(1, (BOUGHT,), None, END, (), ("age",)),
    "periods and segment": AggregationPlan(1, (SPENT,), None, END, PERIODS[:4], ("country",)),
    "a type never seen": AggregationPlan(1, (Metric("none", Kind.SUM, ("nothing",)), BOUGHT), None, END),
    "no such experiment": AggregationPlan(9, (BOUGHT,), None, END),
}


@cache
def expected_of(seed: int, client: str, name: str) -> reference.Expected:
    """What the reference says of a plan in a world: the same for every store."""
    world = world_of(seed)
    return reference.aggregate(client, PLANS[name], world.exposures, world.events, world.contexts)


@cache
def world_of(seed: int) -> World:
    """A world, the same one for every store."""
    return World(seed)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_plan_equals_the_reference(store: EventStore, seed: int) -> None:
    """Duplicates, shuffling, concurrency and two clients with the same ids change nothing."""
    await world_of(seed).fill(store, order=seed)

    for name, plan in PLANS.items():
        for client in ("one", "two"):
            assert same(await store.aggregate(client, plan), expected_of(seed, client, name)), name


async def test_wrong_rules_are_told_from_the_right_one(store: EventStore) -> None:
    """The comparison catches counting before exposure, exclusive times, and counting duplicates."""
    world = World(3)
    await world.fill(store, order=3)
    plan = PLANS["several metrics"]
    found = await store.aggregate("one", plan)

    def measured_by(counts: Any) -> reference.Expected:
        return reference.aggregate("one", plan, world.exposures, world.events, world.contexts, counts)

    assert not same(found, measured_by(lambda *_: True))
    assert not same(found, measured_by(lambda event, exposure: event.occurred_at > exposure.exposed_at))
    again = [(client, event._replace(event_id=f"{event.event_id}-{n}")) for n, (client, event) in enumerate(world.sent)]
    assert not same(found, reference.aggregate("one", plan, world.exposures, again, world.contexts))


async def test_third_moments_are_centred(store: EventStore, request: pytest.FixtureRequest) -> None:
    """Where the mean is large beside the spread, raw sums of cubes have lost everything; a centred covariance has not. MariaDB,
    which has none, says nothing rather than something wrong."""
    values = [1e6 + extra for extra in (0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 21.0)]
    await store.expose([Exposure("one", 1, f"u{n}", 0, 1, START, "{}") for n in range(len(values))])
    bought = [Event(f"e{n}", f"u{n}", "buy", START, START, v, "{}", None, 0, n) for n, v in enumerate(values)]
    await store.append("one", bought)

    found = (await store.aggregate("one", AggregationPlan(1, (SPENT,), None, END))).measured[Cell(0, 1), "spent"].third

    expected = ThirdMoments.of(values)
    mariadb = "mariadb" in request.node.name
    assert mariadb is (found is None)
    assert found is None or found.skewness == pytest.approx(expected.skewness, abs=1e-3)
    mean, squares, cubes = (sum(value**power for value in values) / len(values) for power in (1, 2, 3))
    raw = ThirdMoments(expected.moments, len(values) * (cubes - 3 * mean * squares + 2 * mean**3))
    assert raw.skewness != pytest.approx(expected.skewness, abs=1e-3)


async def test_numbers_that_cannot_be_cubed_have_no_third_moment(store: EventStore) -> None:
    """Engines that fail when a product overflows, or vanishes, answer everything else. MariaDB loses 1e74 in rounding."""
    cases = [(1e120, False), (-1e120, False), (1e74, None), (1e9, True), (1e-200, True), (0.0, True)]
    for number, (value, known) in enumerate(cases):
        client, values = f"c{number}", [value, value / 2, 0.0, value / 4]
        await store.expose([Exposure(client, 1, f"u{n}", 0, 1, START, "{}") for n in range(len(values))])
        bought = [Event(f"e{n}", f"u{n}", "buy", START, START, v, "{}", None, 0, n) for n, v in enumerate(values)]
        await store.append(client, bought)

        plan = AggregationPlan(1, (SPENT,), None, END)
        found = (await store.aggregate(client, plan)).measured[Cell(0, 1), "spent"]

        assert found.moments.mean == pytest.approx(sum(values) / 4), value
        assert known is None or (found.third is not None) is known, value


async def test_the_order_of_arrival_does_not_matter(fresh: Fresh) -> None:
    """Three orders, three groupings: the same aggregates."""
    world, found = World(4), []
    for order in range(3):
        opened = await eventstore.connect(fresh())
        await world.fill(opened, order)
        found.append(await opened.aggregate("one", PLANS["several metrics"]))
        await opened.close()

    expected = reference.Expected(dict(found[0].exposed), {}, {k: v for k, v in found[0].measured.items() if v.users})
    assert same(found[1], expected)
    assert same(found[2], expected)


async def test_an_event_id_is_taken_once_for_ever(store: EventStore) -> None:
    """The same id is a duplicate, with another content a conflict; another client's equal id is a new event."""
    event = Event("id", "u", "buy", START, START, 1.0, "{}", None, 0, 7)

    assert await store.append("one", [event, event]) == [Verdict.ACCEPTED, Verdict.DUPLICATE]
    assert await store.append("one", [event._replace(fingerprint=8, value=99.0)]) == [Verdict.CONFLICT]
    assert await store.append("two", [event]) == [Verdict.ACCEPTED]
    assert [(t.event_type, t.events) for t in await store.event_types("one")] == [("buy", 1)]


async def test_one_of_many_simultaneous_copies_is_taken(store: EventStore) -> None:
    """A hundred callers with the same event at once: one is accepted."""
    event = Event("id", "u", "buy", START, START, None, "{}", None, 0, 7)

    verdicts = await asyncio.gather(*(store.append("one", [event]) for _ in range(100)))

    assert sorted(verdict for [verdict] in verdicts) == [Verdict.ACCEPTED] + [Verdict.DUPLICATE] * 99


async def test_what_was_appended_is_there_after_reopening(fresh: Fresh) -> None:
    """Events, exposures and the memory of their identities survive."""
    world = World(5, events=300)
    url = fresh()
    first = await eventstore.connect(url)
    await world.fill(first, order=5)
    before = await first.aggregate("one", PLANS["several metrics"])
    await first.close()

    second = await eventstore.connect(url)
    await world.fill(second, order=6)
    after = await second.aggregate("one", PLANS["several metrics"])
    await second.close()

    assert after.exposed == before.exposed
    assert {k: (m.users, m.events) for k, m in after.measured.items()} == {
        k: (m.users, m.events) for k, m in before.measured.items()
    }
    assert after.duplicates > before.duplicates


async def test_rows_hold_every_exposed_user_with_its_numbers(store: EventStore) -> None:
    """An export sums to the aggregates, users without events included."""
    world = World(6)
    await world.fill(store, order=6)
    plan = AggregationPlan(1, (BOUGHT, SPENT, SEEN), None, END)

    rows = [row async for batch in store.rows("one", plan) for row in batch]

    expected = reference.aggregate("one", plan, world.exposures, world.events, world.contexts)
    assert len({row[0] for row in rows}) == len(rows) == sum(expected.exposed.values())
    for place, metric in enumerate(plan.metrics):
        total = sum(m.moments.total for (_, key), m in expected.measured.items() if key == metric.key)
        assert sum(row[5 + place] for row in rows) == pytest.approx(total)


async def test_an_attribute_may_be_called_anything(store: EventStore) -> None:
    """No name is taken for a path into the context, which is JSON in UTF-8."""
    names = ["$", "$.a", "$[0]", "/a", "a/b", "a~1b", "~", "0", "a.b", '"', "'", "é", "#", "*"]
    contexts = [json.dumps({name: "yes", "a": {"b": "no"}}, ensure_ascii=False) for name in names]
    await store.expose([Exposure("one", number, "u", 0, 1, START, context) for number, context in enumerate(contexts)])

    for number, name in enumerate(names):
        found = await store.aggregate("one", AggregationPlan(number, (BOUGHT,), None, END, (), (name,)))

        assert [cell.segment for cell in found.exposed] == [("yes",)], name
        assert (await store.segment_values("one", number, 5))[name] == ["yes"], name


async def test_segment_values_are_the_commonest_first(store: EventStore) -> None:
    """Attributes come with their values, at most as many as asked for."""
    exposures = [Exposure("one", 1, f"u{n}", 0, 1, START, json.dumps({"country": "US" if n else "DE", "x": n}))
                 for n in range(5)]  # fmt: skip
    await store.expose([*exposures, replace(exposures[0], client="two", context='{"secret": "s"}')])

    found = await store.segment_values("one", 1, 2)

    assert found["country"] == ["US", "DE"]
    assert len(found["x"]) == 2
    assert set(found) == {"country", "x"}
