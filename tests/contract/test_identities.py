"""Every event store counts linked ids as one user, and leaves out whom it was told to, whatever comes first."""

import asyncio
import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from tests import reference
from tests.contract import test_delivery as numbered
from tests.contract import test_metrics as metrics
from tests.contract.test_eventstore import BOUGHT, END, SPENT, START, Fresh, fresh, store

from upshot import eventstore
from upshot.aggregation import Aggregates, AggregationPlan
from upshot.events import CROSSOVER, IDENTITY_CONFLICT, OVERRIDE, Event, Exposure, Withdrawal
from upshot.eventstore import EventStore, sql
from upshot.eventstore.embedded import duck
from upshot.eventstore.keys import Keys, integers
from upshot.eventstore.sql import Identities, Question

__all__ = ["fresh", "store"]

NOBODY = reference.Identities()
ORDERS = ("first", "between", "last")


class World(metrics.World):
    """Users of whom many have a second id or a third, with the same variant or another one, seen or never; of whom some were
    withdrawn, under any of their ids, twice, or before they came. A second client has the same ids, and nothing of this."""

    def __init__(self, seed: int, users: int = 150, events: int = 2_500) -> None:
        super().__init__(seed, users, events)
        chance = random.Random(seed)
        ids = chance.sample([*self.contexts, *(f"never seen {n}" for n in range(5))], users)
        links = [("one", ids[n], ids[50 + n % 25]) for n in range(45)]
        # Half of those who have two exposures were given the same variant.
        linked = reference.Identities(links)
        given: dict[tuple[int, str], int] = {}
        for place, exposure in enumerate(self.exposures):
            user = linked.user("one", exposure.user_id)
            variant = given.setdefault((exposure.experiment, user), exposure.variant)
            if chance.random() < 0.7:
                self.exposures[place] = replace(exposure, variant=variant)
        withdrawals = [
            ("one", Withdrawal(chance.choice([1, 2]), chance.choice(ids), chance.choice([OVERRIDE, CROSSOVER])))
            for _ in range(40)
        ]
        self.identities = reference.Identities(links, [*withdrawals, withdrawals[0], withdrawals[3]])
        self._said: dict[tuple[str, AggregationPlan], reference.Expected] = {}
        self.exposures += [replace(exposure, client="two") for exposure in self.exposures]
        self.events += [("two", event) for _, event in self.events]

    async def fill_in(self, store: EventStore, order: str) -> None:
        """Append everything, some of it twice, and tell who is one user at that moment."""
        chance = random.Random(order)
        middle = len(self.exposures) // 2
        sent = chance.sample(self.events, len(self.events))
        for moment in ORDERS:
            if moment == order:
                await self.identify(store)
            if moment == "first":
                await store.expose(chance.sample(self.exposures, middle))
                await append(store, sent[: len(sent) // 2])
            if moment == "between":
                await append(store, sent[len(sent) // 3 :])
                await store.expose(self.exposures)

    async def identify(self, store: EventStore) -> None:
        """Say who is one user, and who is out, in parts, and some of it twice."""
        links = [(alias, user) for _, alias, user in self.identities.links]
        withdrawals = [withdrawal for _, withdrawal in self.identities.withdrawals]
        for start in range(0, len(links), 20):
            await store.link("one", links[start : start + 30])
        await store.withdraw("one", withdrawals[:25])
        await store.withdraw("one", withdrawals[20:])

    def of(
        self, client: str, plan: AggregationPlan, identities: reference.Identities | None = None
    ) -> reference.Expected:
        """What the reference says."""
        if identities is not None:
            return reference.aggregate(client, plan, self.exposures, self.events, self.contexts, identities=identities)
        if (client, plan) not in self._said:
            self._said[client, plan] = self.of(client, plan, self.identities)
        return self._said[client, plan]


@cache
def world_of(seed: int, users: int = 150, events: int = 2_500) -> World:
    """A world, the same one for every store."""
    return World(seed, users, events)


async def append(store: EventStore, events: list[tuple[str, Event]]) -> None:
    """Append the events of both clients at once."""
    await asyncio.gather(
        *(store.append(client, [e for owner, e in events if owner == client]) for client in ("one", "two"))
    )


def problems(found: Aggregates, expected: reference.Expected) -> list[str]:
    """Where the two differ."""
    left_out = [] if dict(found.withdrawn) == dict(expected.withdrawn) else [f"withdrawn: {found.withdrawn}"]
    return [*left_out, *metrics.problems(found, expected)]


@pytest.mark.slow
async def test_linked_ids_are_one_user_in_every_plan(store: EventStore) -> None:
    """Every kind of metric, broken down in every way; the other client is as it was."""
    world = world_of(1)
    await world.fill_in(store, "between")

    for name, plan in metrics.PLANS.items():
        assert problems(await store.aggregate("one", plan), world.of("one", plan)) == [], name
    assert problems(await store.aggregate("two", metrics.BARE), world.of("two", metrics.BARE, NOBODY)) == []
    reasons = world.of("one", metrics.BARE).withdrawn
    assert set(reasons) == {IDENTITY_CONFLICT, OVERRIDE, CROSSOVER}


@pytest.mark.parametrize("order", ORDERS)
async def test_it_does_not_matter_when_ids_are_linked(fresh: Fresh, order: str) -> None:
    """Before everything, in the middle, after everything; and it is so when the store is opened again."""
    world, url = world_of(2, users=100, events=400), fresh()
    opened = await eventstore.connect(url)
    await world.fill_in(opened, order)
    first = await opened.aggregate("one", metrics.BARE)
    await opened.close()

    again = await eventstore.connect(url)
    await world.fill_in(again, "last")
    second = await again.aggregate("one", metrics.BARE)
    await again.close()

    for found in (first, second):
        assert problems(found, world.of("one", metrics.BARE)) == []


async def test_a_reference_that_ignores_links_or_withdrawals_is_told_from_the_right_one(store: EventStore) -> None:
    """And so is one that looks at another client's."""
    world = world_of(3, events=500)
    await world.fill_in(store, "between")
    links, withdrawals = world.identities
    of_two = reference.Identities(
        [("two", alias, user) for _, alias, user in links], [("two", w) for _, w in withdrawals]
    )

    found = {client: await store.aggregate(client, metrics.BARE) for client in ("one", "two")}

    assert problems(found["one"], world.of("one", metrics.BARE)) == []
    for wrong in (NOBODY, reference.Identities(links), reference.Identities((), withdrawals), of_two):
        assert problems(found["one"], world.of("one", metrics.BARE, wrong)) != []
    assert problems(found["two"], world.of("two", metrics.BARE, of_two)) != []


@pytest.mark.parametrize("ignored", ["linked", "withdrawn"])
async def test_a_store_that_ignores_links_or_withdrawals_is_noticed(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    """Either is seen."""
    world = world_of(4, events=500)
    await world.fill_in(store, "first")
    expected = world.of("one", metrics.BARE)
    assert problems(await store.aggregate("one", metrics.BARE), expected) == []

    monkeypatch.setattr(Question, ignored, False)

    assert problems(await store.aggregate("one", metrics.BARE), expected) != []


async def test_an_export_has_a_row_for_each_user_who_counts(store: EventStore) -> None:
    """Under the user's own id, whichever of the ids was exposed first; the numbers add up to the result's."""
    world = world_of(5)
    await world.fill_in(store, "last")
    plan = AggregationPlan(1, (BOUGHT, SPENT), None, END)

    rows = [row async for batch in store.rows("one", plan) for row in batch]

    found, expected = await store.aggregate("one", plan), world.of("one", plan)
    users = {row[0] for row in rows}
    assert len(rows) == len(users) == sum(expected.exposed.values())
    assert not users & {alias for _, alias, _ in world.identities.links}
    for place, metric in enumerate(plan.metrics):
        total = sum(part.total for (_, key), part in found.measured.items() if key == metric.key)
        assert sum(row[5 + place] for row in rows) == pytest.approx(total)


async def test_segments_are_those_of_users_who_count(store: EventStore) -> None:
    """A user with two exposures has one context, and one who is left out has none."""
    contexts = {"a": "DE", "b": "DE", "c": "FR", "d": "FR", "e": "US"}
    await store.expose(
        [
            Exposure("one", 1, own, 0, 1, START + n, f'{{"land": "{land}"}}')
            for n, (own, land) in enumerate(contexts.items())
        ]
    )
    before = await store.segment_values("one", 1, 5)

    await store.link("one", [("a", "b")])
    await store.withdraw("one", [Withdrawal(1, "e", OVERRIDE)])

    assert before == {"land": ["DE", "FR", "US"]}
    assert await store.segment_values("one", 1, 5) == {"land": ["FR", "DE"]}


async def test_sessions_go_on_after_a_sign_in(store: EventStore) -> None:
    """What is lost of numbered events is counted over all ids of a user."""
    world = numbered.World(7)
    await world.fill(store, order=1)
    links = [("one", f"u{n}", f"u{n + 30}") for n in range(20)]
    withdrawals = [("one", Withdrawal(1, f"u{n}", CROSSOVER)) for n in range(15, 25)]
    told = reference.Identities(links, withdrawals)
    await store.link("one", [(alias, user) for _, alias, user in links])
    await store.withdraw("one", [withdrawal for _, withdrawal in withdrawals])

    for plan in (numbered.PLAN, replace(numbered.PLAN, experiment=2)):
        found = (await store.aggregate("one", plan)).delivery
        assert numbered.same(found, world.expected(plan=plan, identities=told))
        assert not numbered.same(found, world.expected(plan=plan))


async def test_a_sample_is_one_of_users(store: EventStore) -> None:
    """Of every two users the one is looked at whose own key is even, with the events of all ids."""
    world = World(8, events=500)
    await world.fill_in(store, "last")
    plan = replace(metrics.BARE, metrics=metrics.METRICS[:6], one_in=2)

    found = await store.aggregate("one", plan)

    def is_even(own: str) -> bool:
        [key] = integers([Keys("one").user(world.identities.user("one", own))])[:, 0].tolist()
        return bool(key % 2 == 0)

    world.exposures = [exposure for exposure in world.exposures if is_even(exposure.user_id)]
    assert metrics.problems(found, world.of("one", plan)) == []


async def test_an_alias_stays_one_users(store: EventStore) -> None:
    """Whatever is said of it later; so does the first reason of a withdrawal. Nothing to say is nothing."""
    await store.expose([Exposure("one", 1, own, 0, 1, START, "{}") for own in ("a", "u", "v", "w")])
    await store.link("one", [])
    await store.withdraw("one", [])
    await store.link("one", [("a", "u"), ("a", "v")])
    await store.link("one", [("a", "v")])
    await store.withdraw("one", [Withdrawal(1, "w", OVERRIDE)])
    await store.withdraw("one", [Withdrawal(1, "w", CROSSOVER), Withdrawal(1, "a", CROSSOVER)])

    found = await store.aggregate("one", AggregationPlan(1, (BOUGHT,), None, END))

    assert sum(found.exposed.values()) == 1
    assert found.withdrawn == {OVERRIDE: 1, CROSSOVER: 1}
    assert [row[0] async for batch in store.rows("one", AggregationPlan(1, (), None, END)) for row in batch] == ["v"]


async def test_who_is_exposed_after_the_end_is_not_counted_as_left_out(store: EventStore) -> None:
    """Users are left out of what they would be in."""
    await store.expose([Exposure("one", 1, own, 0, 1, START + n, "{}") for n, own in enumerate(("early", "late"))])
    await store.withdraw("one", [Withdrawal(1, "early", OVERRIDE), Withdrawal(1, "late", OVERRIDE)])

    found = await store.aggregate("one", AggregationPlan(1, (BOUGHT,), None, START + 1))

    assert found.withdrawn == {OVERRIDE: 1}


def statements(question: Question) -> list[str]:
    """All that is asked about the metrics of a plan, as DuckDB would read it."""
    funnel = next(metric for metric in question.plan.metrics if metric.steps)
    median = next(metric for metric in question.plan.metrics if metric.amount == 0.9)
    queries: list[Any] = [
        sql.exposed(question), sql.moments(question), sql.rows(question), sql.funnel(question, funnel),
        sql.values_counted(question, median), sql.delivery(question, [1]), sql.contexts(question),
        sql.exposed(replace(question, plan=replace(question.plan, beside=2, entry=()))),
        sql.exposed(replace(question, plan=replace(question.plan, entry=("view",)))),
    ]  # fmt: skip
    return [duck.compiled(query)[0] for query in queries]


def test_a_client_without_linked_ids_is_asked_about_as_ever() -> None:
    """No statement speaks of aliases or withdrawals; with either, those about events and exposures do."""
    plan = replace(
        metrics.BARE, metrics=tuple(m for m in metrics.METRICS if not m.where and not m.winsorising), start=START
    )
    plan = replace(plan, metrics=tuple(m for m in plan.metrics if not any(source.where for source in m.sources)))
    question = Question(plan, 1, {"view": 1, "buy": 2}, duck.DuckForms())

    plain, linked, withdrawn = (
        statements(replace(question, identities=known))
        for known in (Identities(), Identities(linked=True), Identities(withdrawn=True))
    )

    assert plain == statements(question)
    assert not any("aliases" in text or "withdrawals" in text for text in plain)
    assert all("aliases" in text for text in linked)
    assert [("withdrawals" in text) for text in withdrawn] == [True] * 8 + [False]
