"""Every event store says how exposures and events come together as the plain reference does, and tells of new events once."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen, remove
from tests import reference
from tests.contract import test_identities as identified
from tests.contract.test_eventstore import END, HOUR, START, Fresh, fresh, store

from upshot import eventstore
from upshot.diagnosis import Joined
from upshot.events import CLAMPED, IMPORTED, OVERRIDE, Event, Exposure, Withdrawal
from upshot.eventstore import EventStore, StoredEvent
from upshot.eventstore.arrivals import LOOKED_AT, plan_of
from upshot.eventstore.relational.forms import PostgreSQLForms, SQLiteForms
from upshot.eventstore.sql import Question

__all__ = ["fresh", "store"]

WINDOWS = ((START, END), (START + 30 * HOUR, END), (START, START + 40 * HOUR), (END, END))
TYPES: tuple[tuple[str, ...], ...] = (("buy",), ("buy", "view", "never seen"), (), ("never seen",))


async def diagnosed(store: EventStore, client: str, *asked: object) -> Joined:
    """What a store says, without the newest arrivals."""
    return replace(await store.diagnose(client, *asked), arrivals=())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_diagnosis_equals_the_reference(store: EventStore, seed: int) -> None:
    """Linked ids, users who are left out, two clients, repeats, any window, some types, all of them, none that came."""
    world = identified.World(seed, users=100, events=800)
    await world.fill_in(store, "between")

    for start, end in WINDOWS:
        for types in TYPES:
            for client, told in (("one", world.identities), ("two", identified.NOBODY)):
                plan = plan_of(1, types, start, end)
                expected = reference.joined(client, plan, world.exposures, world.events, identities=told)
                assert await diagnosed(store, client, 1, types, start, end) == expected, (client, types, start, end)
    assert await diagnosed(store, "nobody", 1, ("buy",), START, END) == Joined()
    whole = await diagnosed(store, "one", 1, (), START, END)
    assert min(whole.joined_users, whole.users_before, whole.unknown_users, whole.exposed_users) >= 3


async def test_volumes_equal_the_reference(store: EventStore) -> None:
    """By day and by hour, of two clients, with repeats; none that never sent anything."""
    world = identified.World(5, users=100, events=800)
    await world.fill_in(store, "last")

    for width in (HOUR, 24 * HOUR, 7 * HOUR):
        for start, end in ((START, END), (START + 5 * HOUR, END - 9 * HOUR), (END, END)):
            for client in ("one", "two"):
                expected = reference.volumes(client, world.events, start, end, width)
                assert await store.volumes(client, start, end, width) == expected, (client, width)
    assert await store.volumes("nobody", START, END, HOUR) == []
    assert reference.volumes("one", world.events, START, END, HOUR) != reference.volumes(
        "one", world.events, START, END, 24 * HOUR
    )


async def test_wrong_rules_are_told_from_the_right_one(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison catches who takes events of the moment of exposure for earlier ones, who ignores links, who takes whoever
    was left out for unknown, and a store that does either."""
    world = identified.World(3, users=100, events=800)
    await world.fill_in(store, "last")
    plan = plan_of(1, (), START, END)
    found = await diagnosed(store, "one", 1, (), START, END)

    def expected(counts: reference.Rule = reference.at_or_after, told: reference.Identities | None = None) -> Joined:
        identities = world.identities if told is None else told
        return reference.joined("one", plan, world.exposures, world.events, counts, identities)

    assert found == expected()
    assert found != expected(lambda event, exposure: event.occurred_at > exposure.exposed_at + HOUR)
    assert found != expected(told=identified.NOBODY)
    assert found != expected(told=reference.Identities(world.identities.links))
    for ignored in ("linked", "withdrawn"):
        with monkeypatch.context() as broken:
            broken.setattr(Question, ignored, False)
            assert found != await diagnosed(store, "one", 1, (), START, END)


async def test_the_moment_of_the_exposure_is_not_before_it(store: EventStore) -> None:
    """And whoever was left out is neither joined, nor early, nor unknown."""
    users = ("before", "at", "left out", "stranger")
    await store.expose([Exposure("one", 1, user, 0, 1, START + n, "{}") for n, user in enumerate(users[:3], 10)])
    await store.expose([Exposure("two", 1, "stranger", 0, 1, START, "{}"), Exposure("one", 2, users[3], 0, 1, 5, "{}")])
    moments = (START + 9, START + 11, START + 50, START)
    happened = [
        Event(user, user, "buy", at, at, None, "{}", None, 0, 1) for user, at in zip(users, moments, strict=True)
    ]
    await store.append("one", happened)
    await store.withdraw("one", [Withdrawal(1, "left out", OVERRIDE)])

    found = await diagnosed(store, "one", 1, ("buy",), START, END)

    assert found == Joined(2, START + 11, 1, 1, 1, 1, 1)


async def test_arrivals_are_those_of_the_newest_events_of_any_type(store: EventStore) -> None:
    """With their flags; of this client; not more than are looked at."""
    older = [event(n, received_at=START + n, kind=f"type {n % 3}") for n in range(LOOKED_AT)]
    await store.append("one", older)
    await store.append("two", [event(1, received_at=END)])
    newest = [
        event(LOOKED_AT, occurred_at=START + HOUR, received_at=START + LOOKED_AT),
        event(LOOKED_AT + 1, occurred_at=START, received_at=START + LOOKED_AT + 1, flags=IMPORTED),
        event(LOOKED_AT + 2, occurred_at=END, received_at=START + LOOKED_AT + 2, flags=CLAMPED),
    ]
    for one in newest:
        await store.append("one", [one])

    found = (await store.diagnose("one", 1, ("never seen",), START, END)).arrivals

    assert len(found) == LOOKED_AT
    assert found[:3] == [(e.occurred_at, e.received_at, e.flags) for e in reversed(newest)]
    assert {arrival.received_at for arrival in found[3:]} <= {e.received_at for e in older}
    assert [arrival.skew for arrival in found[:3]] == [END - START - LOOKED_AT - 2, None, HOUR - LOOKED_AT]


def event(number: int, *, occurred_at: int = START, received_at: int, kind: str = "buy", flags: int = 0) -> Event:
    """An event that says its number."""
    properties, experiment = f'{{"n":{number},"é":null}}', f"experiment {number}" if number % 2 else None
    return Event(
        f"e{number}", f"u{number}", kind, occurred_at, received_at, None, properties, experiment, flags, number
    )


def fields(found: Sequence[StoredEvent]) -> list[tuple[object, ...]]:
    """Everything but the places."""
    return [tuple(one)[1:] for one in found]


def expected(sent: Sequence[Event]) -> list[tuple[object, ...]]:
    """The same of what was sent."""
    return [
        (e.event_id, e.user_id, e.event_type, e.occurred_at, e.received_at, e.experiment_id, e.properties) for e in sent
    ]


async def test_the_newest_events_are_told_the_newest_last(store: EventStore) -> None:
    """As they were stored, of one client; who repeats one tells nothing new. A client without events has none."""
    sent = [event(n, occurred_at=START + 7 * n % 5, received_at=START + n, kind=f"type {n % 4}") for n in range(20)]
    for start in range(0, 20, 5):
        await store.append("one", sent[start : start + 5])
    await store.append("two", [event(3, received_at=END, kind="theirs")])
    await store.append("one", [sent[2], sent[19]])
    await store.expose([Exposure("one", 1, "u1", 0, 1, END, "{}")])

    assert fields(await store.recent("one", 50)) == expected(sent)
    assert fields(await store.recent("one", 4)) == expected(sent[-4:])
    assert fields(await store.recent("two", 4)) == expected([event(3, received_at=END, kind="theirs")])
    assert await store.recent("nobody", 4) == []


async def test_who_goes_on_from_a_place_gets_each_event_once(fresh: Fresh) -> None:
    """In pages, while more events come, also after the store was opened again."""
    url, sent = fresh(), [event(n, received_at=START + n // 3) for n in range(60)]
    store = await eventstore.connect(url)
    await store.append("one", sent[:10])
    seen = await store.recent("one", 4)
    assert len(seen) == 4
    first = {one.event_id for one in seen}
    assert await store.recent("one", 10, seen[-1].place) == []

    await store.append("one", sent[12:30])
    seen += await store.recent("one", 7, seen[-1].place)
    assert len(seen) == 11
    await store.close()
    store = await eventstore.connect(url)
    await store.append("two", sent)
    await store.append("one", sent[30:])
    while more := await store.recent("one", 7, seen[-1].place):
        seen += more
    await store.close()

    names = [one.event_id for one in seen]
    assert len(names) == len(set(names))
    assert set(names) - first == {e.event_id for e in sent[12:]}
    assert [one.place for one in seen] == sorted(one.place for one in seen)


async def test_who_asks_while_others_append_misses_nothing(store: EventStore, request: pytest.FixtureRequest) -> None:
    """Where the store numbers events as it stores them, whatever the order in which they were received."""
    if not any(name in request.node.name for name in ("duckdb", "sqlite")):
        return
    chance = random.Random(1)
    sent = [event(n, received_at=START + chance.randrange(1_000)) for n in range(200)]
    await store.append("one", [event(1_000, received_at=END)])
    seen = await store.recent("one", 1)

    async def ask() -> None:
        while len(seen) <= len(sent):
            seen.extend(await store.recent("one", 5, seen[-1].place))
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(ask(), *(store.append("one", sent[n : n + 4]) for n in range(0, 200, 4))), 60)

    names = [one.event_id for one in seen[1:]]
    assert sorted(names) == sorted(e.event_id for e in sent)


async def test_sqlite_reads_the_newest_events_from_the_end_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sorting; where it may find them by their types, it sorts all of them."""
    store: Any = await eventstore.connect(f"sqlite:///{tmp_path / 'events.db'}")
    await store.append("one", [event(n, received_at=START + n) for n in range(10)])

    async def plans() -> str:
        explained: list[str] = []

        def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "ORDER BY" in statement:
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                explained.extend(row[3] for row in cursor.fetchall())

        engine = store._database._readers.sync_engine
        listen(engine, "before_cursor_execute", explain)
        [newest] = await store.recent("one", 1)
        await store.recent("one", 1, newest.place)
        remove(engine, "before_cursor_execute", explain)
        return " ".join(explained)

    assert await plans() == "SCAN events SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"
    monkeypatch.setattr(SQLiteForms, "owned", PostgreSQLForms.owned)
    assert "USE TEMP B-TREE FOR ORDER BY" in await plans()
    await store.close()
