"""Every control store keeps the same promises: SQLite, PostgreSQL (also behind PgBouncer), MariaDB."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.backends.daemon import server_folder
from tests.backends.pgbouncer import USER, pgbouncer
from tests.contract.databases import NAMES, Fresh, fresh

from upshot import control
from upshot.assignment import Assignment
from upshot.control import ControlStore
from upshot.errors import Conflict
from upshot.experiments import Draft, Experiment, Status, create
from upshot.variants import VariantDraft

__all__ = ["fresh"]

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
Opened = Callable[[], Awaitable[ControlStore]]


@pytest.fixture(params=[*NAMES, "pgbouncer"])
async def opened(request: pytest.FixtureRequest, fresh: Fresh) -> AsyncIterator[Opened]:
    """Opens stores on one fresh database of each kind, as several processes would."""
    stores: list[ControlStore] = []
    with ExitStack() as exits:
        url = fresh("postgresql" if request.param == "pgbouncer" else request.param)
        if request.param == "pgbouncer":
            url = exits.enter_context(pgbouncer(url, exits.enter_context(server_folder(USER)))).url

        async def another() -> ControlStore:
            stores.append(await control.connect(url))
            return stores[-1]

        yield another
        for store in stores:
            await store.close()


@pytest.fixture
async def store(opened: Opened) -> ControlStore:
    """One store."""
    return await opened()


def drafted(key: str, **fields: Any) -> Experiment:
    """A running experiment."""
    variants = (VariantDraft("control"), VariantDraft("Treatment"))
    made = Draft(name=f"Experiment {key}", key=key, variants=variants, **fields)
    numbers = iter(range(1000))
    return create(made, NOW, lambda: f"{key}-{next(numbers)}"[:36])


async def added(store: ControlStore, client: str = "one", key: str = "first", **fields: Any) -> Experiment:
    """An experiment that is stored."""
    async with store.transaction() as transaction:
        return await transaction.add(client, drafted(key, **fields))


def given(experiment: Experiment, user: str, variant: int = 0, exposed: datetime | None = NOW) -> Assignment:
    """A decision to store."""
    return Assignment(experiment.number, user, variant, 1, NOW, exposed, "{}")


async def test_an_experiment_comes_back_as_it_was_stored(store: ControlStore) -> None:
    """Every field, with microseconds, big documents and any letter; by id and by key."""
    config = {"text": "ünï 🚀 'quoted' \\ back", "big": "x" * 70_000, "n": 2**53 - 1, "f": 0.1, "deep": [{"a": None}]}
    async with store.transaction() as transaction:
        experiment = drafted("first", description="d" * 3_000 + "🚀")
        variants = tuple(replace(variant, config=config) for variant in experiment.variants)
        kept = await transaction.add("one", replace(experiment, variants=variants))

    for reading in (store.reading, store.browsing):
        async with reading() as view:
            assert await view.experiment("one", kept.id) == kept
            assert await view.experiment("one", kept.key) == kept
            assert await view.experiment("two", kept.id) is None
            assert await view.experiment("one", "FIRST") is None


async def test_a_key_is_taken_once_per_client(store: ControlStore) -> None:
    """And a refused addition leaves nothing behind."""
    await added(store)
    await added(store, client="two", key="first-of-two")
    with pytest.raises(Conflict):
        await added(store)

    async with store.reading() as view:
        assert [e.key for e in (await view.experiments("one")).experiments] == ["first"]


async def test_pages_are_newest_first_and_searched_without_case(store: ControlStore) -> None:
    """Filters by status and text; % and _ are letters."""
    for key in ("alpha", "beta", "gamma"):
        await added(store, key=key)
    await added(store, key="plan", description="100%_sure", status=Status.DRAFT)

    async with store.browsing() as view:
        first = await view.experiments("one", limit=3)
        rest = await view.experiments("one", after=first.following, limit=3)
        assert [e.key for e in (*first.experiments, *rest.experiments)] == ["plan", "gamma", "beta", "alpha"]
        assert rest.following is None
        assert [e.key for e in (await view.experiments("one", search="ALPHA")).experiments] == ["alpha"]
        assert [e.key for e in (await view.experiments("one", search="0%_S")).experiments] == ["plan"]
        assert [e.key for e in (await view.experiments("one", status=Status.DRAFT)).experiments] == ["plan"]
        assert (await view.experiments("two")).experiments == ()


async def test_the_first_assignment_stays(store: ControlStore) -> None:
    """Insert-or-nothing and read back; ids that differ in case, accent or composition are different users."""
    experiment = await added(store)
    users = ["user", "User", "üser", "u\u0308ser", "user 🚀", "ＵＳＥＲ", "a'b", 'a"b', "a\\b", "x" * 200]

    first = await store.assign("one", [given(experiment, user) for user in users])
    again = await store.assign("one", [given(experiment, user, 1) for user in reversed(users)])

    assert [(kept.user_id, kept.variant, new) for kept, new in first] == [(user, 0, True) for user in users]
    assert [(kept.user_id, kept.variant, new) for kept, new in again] == [(u, 0, False) for u in reversed(users)]
    async with store.reading() as view:
        found = await view.assignments("one", [(experiment.number, user) for user in (*users, "nobody")])
        assert [kept.user_id if kept else None for kept in found] == [*users, None]
        assert found[0] == first[0][0]
        assert await view.assignments("two", [(experiment.number, users[0])]) == [None]
        assert await view.experiment("one", experiment.id) == experiment


async def test_of_simultaneous_first_requests_one_wins_in_every_process(opened: Opened) -> None:
    """Four stores on one database, the same users in other orders with other variants: everyone reads the same row."""
    stores = [await opened() for _ in range(4)]
    experiment = await added(stores[0])
    chance = random.Random(1)

    async def ask(store: ControlStore) -> list[tuple[Assignment, bool]]:
        users = [f"u{n}" for n in range(60)]
        chance.shuffle(users)
        parts = [users[n : n + 20] for n in range(0, 60, 20)]
        asked = (store.assign("one", [given(experiment, user, chance.randrange(2)) for user in part]) for part in parts)
        return [answer for part in await asyncio.gather(*asked) for answer in part]

    answers = [answer for part in await asyncio.gather(*(ask(store) for store in stores * 3)) for answer in part]

    variants: dict[str, set[int]] = {}
    for kept, _ in answers:
        variants.setdefault(kept.user_id, set()).add(kept.variant)
    assert {len(seen) for seen in variants.values()} == {1}
    assert sum(new for _, new in answers) == len(variants) == 60
    relayed = [e.user_id for _, entry in await stores[0].outbox(1_000) for e in entry]
    assert sorted(relayed) == sorted(variants)


async def test_an_exposure_is_noted_once_and_leaves_through_the_outbox(store: ControlStore) -> None:
    """An assignment without exposure gets its first one later; entries are forgotten when they were relayed."""
    experiment = await added(store)
    await store.assign("one", [given(experiment, "u", exposed=None)])
    assert await store.outbox(10) == []

    later = NOW + timedelta(minutes=1)
    [(kept, new)] = await store.assign("one", [given(experiment, "u", exposed=later)])
    await store.assign("one", [given(experiment, "u", exposed=later + timedelta(days=1))])

    assert (kept.exposed_at, new) == (later, False)
    [(entry, [exposure])] = await store.outbox(10)
    assert (exposure.user_id, exposure.exposed_at) == ("u", int(later.timestamp()) * 1_000_000 + 123456)
    await store.relayed([entry])
    assert await store.outbox(10) == []


async def test_a_transaction_that_fails_leaves_nothing(store: ControlStore) -> None:
    """All or none."""
    experiment = await added(store)

    async def fail() -> None:
        async with store.transaction() as transaction:
            await transaction.save("one", replace(experiment, name="changed"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()

    async with store.reading() as view:
        assert await view.experiment("one", experiment.id) == experiment


async def test_of_two_changes_the_second_sees_the_first(opened: Opened) -> None:
    """Ten processes count up; no count is lost."""
    stores = [await opened() for _ in range(5)]
    experiment = await added(stores[0])

    async def count(store: ControlStore) -> None:
        async with store.transaction() as transaction:
            seen = await transaction.experiment("one", experiment.id)
            assert seen is not None
            await asyncio.sleep(0.01)
            await transaction.save("one", replace(seen, version=seen.version + 1))

    await asyncio.gather(*(count(store) for store in stores * 2))

    async with stores[1].reading() as view:
        after = await view.experiment("one", experiment.id)
    assert after is not None
    assert after.version == experiment.version + 10


async def test_occupied_variants_and_deletion(store: ControlStore) -> None:
    """Which variants have users; an experiment without any can go, with its parts."""
    experiment, other = await added(store), await added(store, key="second")
    await store.assign("one", [given(experiment, f"u{n}", 1) for n in range(5)])

    async with store.transaction() as transaction:
        assert await transaction.occupied("one", experiment) == {1}
        await transaction.delete("two", other)
        assert await transaction.experiment("one", other.id) is not None
        await transaction.delete("one", other)

    async with store.reading() as view:
        assert await view.experiment("one", other.id) is None


async def test_a_lease_has_one_holder(opened: Opened) -> None:
    """Others wait until it is over; the holder may keep it."""
    first, second = await opened(), await opened()
    holders = await asyncio.gather(*(store.lease("rollups", name, NOW, 60) for store, name in
                                     [(first, "a"), (second, "b")] * 5))  # fmt: skip
    winner = "a" if holders[0] else "b"
    loser = "b" if winner == "a" else "a"

    assert any(holders)
    assert {name for held, name in zip(holders, ["a", "b"] * 5, strict=True) if held} == {winner}
    assert not await second.lease("rollups", loser, NOW + timedelta(seconds=59), 60)
    assert await first.lease("rollups", winner, NOW + timedelta(seconds=59), 60)
    assert not await second.lease("rollups", loser, NOW + timedelta(seconds=118), 60)
    assert await second.lease("rollups", loser, NOW + timedelta(seconds=119), 60)
    assert await second.lease("retention", loser, NOW, 60)


async def test_progress_is_that_of_the_slowest_live_worker(store: ControlStore) -> None:
    """A worker that died long ago does not hold the watermark back; without a live one it stands where the last one was."""
    assert await store.complete_to(NOW) is None
    for worker, complete, reported in (("dead", -900, -700), ("slow", -30, -5), ("quick", -1, -1), ("quick", 0, 0)):
        await store.report_progress(worker, NOW + timedelta(seconds=complete), NOW + timedelta(seconds=reported))

    assert await store.complete_to(NOW) == NOW - timedelta(seconds=30)
    assert await store.complete_to(NOW + timedelta(seconds=57)) == NOW
    assert await store.complete_to(NOW + timedelta(days=2)) == NOW
