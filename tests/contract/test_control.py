"""Every control store keeps the same promises: SQLite, PostgreSQL (also behind PgBouncer), MariaDB."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from tests.backends.daemon import server_folder
from tests.backends.pgbouncer import USER, pgbouncer
from tests.contract.databases import NAMES, Fresh, fresh, migrated, standing

from upshot import control
from upshot.access import EVERYONE
from upshot.analysisplan import AnalysisPlan, PlanChange
from upshot.assignment import Assignment
from upshot.control import ControlStore, Definition, Labels
from upshot.database.inserting import overwrite
from upshot.errors import Conflict
from upshot.experiments import Draft, Experiment, Status, create
from upshot.metrics import Kind, Metric, define
from upshot.variants import VariantDraft

__all__ = ["fresh", "migrated", "standing"]

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
Opened = Callable[[], Awaitable[ControlStore]]


@pytest.fixture(params=[*NAMES, "pgbouncer"])
async def opened(request: pytest.FixtureRequest, migrated: Fresh) -> AsyncIterator[Opened]:
    """Opens stores on one fresh database of each kind, as several processes would."""
    stores: list[ControlStore] = []
    with ExitStack() as exits:
        url = migrated("postgresql" if request.param == "pgbouncer" else request.param)
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
    async with store.transaction(EVERYONE) as transaction:
        return await transaction.add(client, drafted(key, **fields))


def given(experiment: Experiment, user: str, variant: int = 0, exposed: datetime | None = NOW) -> Assignment:
    """A decision to store."""
    return Assignment(experiment.number, user, variant, 1, NOW, exposed, "{}")


async def test_an_experiment_comes_back_as_it_was_stored(store: ControlStore) -> None:
    """Every field, with microseconds, big documents and any letter; by id and by key."""
    config = {"text": "ünï 🚀 'quoted' \\ back", "big": "x" * 70_000, "n": 2**53 - 1, "f": 0.1, "deep": [{"a": None}]}
    async with store.transaction(EVERYONE) as transaction:
        experiment = drafted("first", description="d" * 3_000 + "🚀")
        variants = tuple(replace(variant, config=config) for variant in experiment.variants)
        kept = await transaction.add("one", replace(experiment, variants=variants))

    for reading in (store.reading, store.browsing):
        async with reading(EVERYONE) as view:
            assert await view.experiment("one", kept.id) == kept
            assert await view.experiment("one", kept.key) == kept
            assert await view.experiment("two", kept.id) is None
            assert await view.experiment("one", "FIRST") is None


async def test_a_plan_comes_back_as_it_was_stored(store: ControlStore) -> None:
    """With its locked definitions and its changes, to the microsecond; also after a change."""
    locked = {"checkout": {"key": "checkout", "event_type": "örder 🚀", "version": 3}}
    changes = (PlanChange(NOW, "metrics", ["a"], [{"key": "b", "event_type": "b"}]),)
    experiment = await added(store, plan={"alpha": 0.01, "planned_users": 10**12})
    assert experiment.plan == AnalysisPlan(alpha=0.01, planned_users=10**12, locked_at=NOW)
    plan = replace(experiment.plan, definitions=locked, changes=changes)

    async with store.transaction(EVERYONE) as transaction:
        assert await transaction.experiment("one", "first") == experiment
        await transaction.save("one", replace(experiment, plan=plan))

    async with store.reading(EVERYONE) as view:
        found = await view.experiment("one", "first")
        assert found is not None
        assert found.plan == plan


async def test_a_key_is_taken_once_per_client(store: ControlStore) -> None:
    """And a refused addition leaves nothing behind."""
    await added(store)
    await added(store, client="two", key="first-of-two")
    with pytest.raises(Conflict):
        await added(store)

    async with store.reading(EVERYONE) as view:
        assert [e.key for e in (await view.experiments("one")).experiments] == ["first"]


async def test_lists_are_narrowed_by_owner_and_tag(store: ControlStore) -> None:
    """By the whole of a tag, whatever characters it has, and of the client only; what can be chosen is what there is."""
    tags = ["web", 'a "quoted" one', "50%_off", "Ünï", "back\\slash"]
    await added(store, key="first", tags=tags, owner="ann@example.com")
    await added(store, key="second", tags=["webshop"], owner="Ben")
    await added(store, key="third")
    await added(store, client="two", key="fourth", tags=["web", "theirs"], owner="Eve")

    async with store.reading("one") as view:

        async def keys(**asked: Any) -> list[str]:
            return [each.key for each in (await view.experiments("one", **asked)).experiments]

        for tag in tags:
            assert await keys(tag=tag) == ["first"], tag
        assert await keys(tag="we") == await keys(tag="50x_off") == await keys(tag="theirs") == []
        assert await keys(owner="Ben") == ["second"]
        assert await keys(owner="Eve") == await keys(owner="Ben", tag="web") == []
        assert await view.labels("one") == Labels(("Ben", "ann@example.com"), tuple(sorted([*tags, "webshop"])))
        assert await view.labels("nobody") == Labels((), ())


async def test_pages_are_newest_first_and_searched_without_case(store: ControlStore) -> None:
    """Filters by status and text; % and _ are letters."""
    for key in ("alpha", "beta", "gamma"):
        await added(store, key=key)
    await added(store, key="plan", description="100%_sure", status=Status.DRAFT)

    async with store.browsing(EVERYONE) as view:
        first = await view.experiments("one", limit=3)
        rest = await view.experiments("one", after=first.following, limit=3)
        assert [e.key for e in (*first.experiments, *rest.experiments)] == ["plan", "gamma", "beta", "alpha"]
        assert rest.following is None
        assert [e.key for e in (await view.experiments("one", search="ALPHA")).experiments] == ["alpha"]
        assert [e.key for e in (await view.experiments("one", search="0%_S")).experiments] == ["plan"]
        assert [e.key for e in (await view.experiments("one", status={Status.DRAFT})).experiments] == ["plan"]
        assert (await view.experiments("two")).experiments == ()


async def test_the_first_assignment_stays(store: ControlStore) -> None:
    """Insert-or-nothing and read back; ids that differ in case, accent or composition are different users."""
    experiment = await added(store)
    users = ["user", "User", "üser", "u\u0308ser", "user 🚀", "ＵＳＥＲ", "a'b", 'a"b', "a\\b", "x" * 200]

    first = await store.assign("one", [given(experiment, user) for user in users])
    again = await store.assign("one", [given(experiment, user, 1) for user in reversed(users)])

    assert [(kept.user_id, kept.variant, new) for kept, new in first] == [(user, 0, True) for user in users]
    assert [(kept.user_id, kept.variant, new) for kept, new in again] == [(u, 0, False) for u in reversed(users)]
    async with store.reading(EVERYONE) as view:
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
    relayed = [e.user_id for _, entry in await stores[0].outbox(1_000) for e in entry.exposures]
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
    [(entry, told)] = await store.outbox(10)
    [exposure] = told.exposures
    assert (exposure.user_id, exposure.exposed_at) == ("u", int(later.timestamp()) * 1_000_000 + 123456)
    await store.relayed([entry])
    assert await store.outbox(10) == []


def changes_of_exposures(store: ControlStore) -> list[str]:
    """The statements that will change when users were exposed, as they come."""
    found: list[str] = []

    @event.listens_for(store._database._writer.sync_engine, "before_cursor_execute")  # type: ignore[attr-defined]
    def seen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if re.search("UPDATE.* exposed_at *=", statement):
            found.append(statement)

    return found


async def one_by_one(connection: Any, table: Any, rows: list[dict[str, Any]], column: str) -> None:
    """The broken variant: a statement for every row."""
    for row in rows:
        await overwrite(connection, table, [row], column)


async def test_exposures_of_a_group_are_noted_in_one_statement(
    store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many users, each with a moment of its own, the first of two for the same user; earlier ones stay as they were."""
    experiment, other = await added(store), await added(store, key="other")
    users = [f"u{n}" for n in range(300)]
    await store.assign("one", [given(part, user, exposed=None) for user in users for part in (experiment, other)])
    await store.assign("one", [given(experiment, "u0", exposed=NOW)])
    moments = {user: NOW + timedelta(seconds=1 + n) for n, user in enumerate(users)}
    again = given(experiment, "u5", exposed=NOW + timedelta(days=1))
    written = changes_of_exposures(store)

    answers = await store.assign("one", [*(given(experiment, u, exposed=moments[u]) for u in reversed(users)), again])

    assert len(written) == 1
    expected = moments | {"u0": NOW}
    assert [(kept.user_id, kept.exposed_at, new) for kept, new in answers] == [
        (user, expected[user], False) for user in [*reversed(users), "u5"]
    ]
    async with store.reading(EVERYONE) as view:
        found = await view.assignments("one", [(experiment.number, user) for user in users])
        assert [kept and kept.exposed_at for kept in found] == [expected[user] for user in users]
        assert set(await view.assignments("one", [(other.number, user) for user in users])) == {
            given(other, user, exposed=None) for user in users
        }
    relayed = [exposure.user_id for _, entry in await store.outbox(1_000) for exposure in entry.exposures]
    assert sorted(relayed) == sorted(users)

    written.clear()
    monkeypatch.setattr("upshot.control.transaction.overwrite", one_by_one)
    await store.assign("one", [given(other, user, exposed=NOW) for user in users])
    assert len(written) == 300


async def test_of_simultaneous_first_exposures_one_stays(opened: Opened) -> None:
    """Four stores on one database that note exposures of the same users: all answer what is stored, and it leaves once."""
    stores = [await opened() for _ in range(4)]
    experiment = await added(stores[0])
    users = [f"u{n}" for n in range(40)]
    await stores[0].assign("one", [given(experiment, user, exposed=None) for user in users])

    answers = await asyncio.gather(
        *(
            store.assign("one", [given(experiment, u, exposed=NOW + timedelta(seconds=n)) for u in users])
            for n, store in enumerate(stores)
        )
    )

    async with stores[0].reading(EVERYONE) as view:
        stored = await view.assignments("one", [(experiment.number, user) for user in users])
    assert [[kept for kept, _ in answer] for answer in answers] == [stored] * 4
    relayed = [exposure.user_id for _, entry in await stores[0].outbox(1_000) for exposure in entry.exposures]
    assert sorted(relayed) == sorted(users)


async def test_a_transaction_that_fails_leaves_nothing(store: ControlStore) -> None:
    """All or none."""
    experiment = await added(store)

    async def fail() -> None:
        async with store.transaction(EVERYONE) as transaction:
            await transaction.save("one", replace(experiment, name="changed"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()

    async with store.reading(EVERYONE) as view:
        assert await view.experiment("one", experiment.id) == experiment


async def test_what_is_as_it_was_is_not_written_again(store: ControlStore) -> None:
    """Of variants and phases only what differs: variants that change places or go, a phase more."""
    experiment = await added(store)
    first, second = experiment.variants
    third = replace(second, position=2, id="third", name="third")
    swapped = (replace(second, position=0), replace(first, position=1))
    phase = replace(experiment.phases[0], number=2, weights={0: 1, 1: 3})
    written: list[list[str]] = []
    for changed in (
        replace(experiment, name="Another"),
        replace(experiment, variants=(first, second, third)),
        replace(experiment, variants=(first, replace(second, name="Second"), third)),
        replace(experiment, variants=swapped),
        replace(experiment, variants=swapped, phases=(*experiment.phases, phase)),
    ):
        with parts_written(store) as statements:
            async with store.transaction(EVERYONE) as transaction:
                await transaction.save("one", changed)
        written.append(statements)
        async with store.reading(EVERYONE) as view:
            assert await view.experiment("one", experiment.id) == changed

    assert written == [
        [],
        ["INSERT INTO variants"],
        ["DELETE FROM variants", "INSERT INTO variants"],
        ["DELETE FROM variants", "INSERT INTO variants"],
        ["INSERT INTO phases"],
    ]


@contextmanager
def parts_written(store: ControlStore) -> Iterator[list[str]]:
    """What is done to the variants and phases meanwhile."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.extend(re.findall(r"^(?:INSERT INTO|DELETE FROM) (?:variants|phases)", statement))

    engine = store._database._writer.sync_engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_of_two_changes_the_second_sees_the_first(opened: Opened) -> None:
    """Ten processes count up; no count is lost."""
    stores = [await opened() for _ in range(5)]
    experiment = await added(stores[0])

    async def count(store: ControlStore) -> None:
        async with store.transaction(EVERYONE) as transaction:
            seen = await transaction.experiment("one", experiment.id)
            assert seen is not None
            await asyncio.sleep(0.01)
            await transaction.save("one", replace(seen, version=seen.version + 1))

    await asyncio.gather(*(count(store) for store in stores * 2))

    async with stores[1].reading(EVERYONE) as view:
        after = await view.experiment("one", experiment.id)
    assert after is not None
    assert after.version == experiment.version + 10


async def test_occupied_variants_and_deletion(store: ControlStore) -> None:
    """Which variants have users; an experiment without any can go, with its parts."""
    experiment, other = await added(store), await added(store, key="second")
    await store.assign("one", [given(experiment, f"u{n}", 1) for n in range(5)])

    async with store.transaction(EVERYONE) as transaction:
        assert await transaction.occupied("one", experiment) == {1}
        await transaction.delete("two", other)
        assert await transaction.experiment("one", other.id) is not None
        await transaction.delete("one", other)

    async with store.reading(EVERYONE) as view:
        assert await view.experiment("one", other.id) is None


async def test_assigned_users_and_the_last_moment(store: ControlStore) -> None:
    """Of one experiment of one client, however often a user came; nobody is none."""
    experiment, other = await added(store), await added(store, key="second")
    moments = [NOW + timedelta(seconds=n * 7 % 5, microseconds=n) for n in range(5)]
    users = [replace(given(experiment, f"u{n}"), assigned_at=at) for n, at in enumerate(moments)]
    await store.assign("one", [*users, replace(given(other, "u1"), assigned_at=NOW + timedelta(days=1))])
    await store.assign("one", [replace(users[0], assigned_at=NOW + timedelta(days=2))])

    async with store.browsing(EVERYONE) as view:
        found = [await view.assigned(*asked) for asked in (("one", experiment.number), ("two", experiment.number))]

    assert found == [(5, max(moments)), (0, None)]


async def test_a_lease_has_one_holder(opened: Opened) -> None:
    """Others wait until it is over; the holder may keep it."""
    first, second = await opened(), await opened()
    holders = await asyncio.gather(*(store.lease("rollups", name, NOW, 60) for store, name in
                                     [(first, "a"), (second, "b")] * 5))  # fmt: skip
    # A holder that asks twice at once may be told no the second time: what matters is that nobody else is told yes.
    [winner] = {name for held, name in zip(holders, ["a", "b"] * 5, strict=True) if held}
    loser = "b" if winner == "a" else "a"

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


def defined(key: str, version: int | None = None, **fields: Any) -> Metric:
    """A metric."""
    return replace(define({"key": key, "event_type": "order"} | fields), version=version)


async def test_a_definition_comes_back_as_it_was_stored(store: ControlStore) -> None:
    """Every field, any letter; of its client and of that very key only."""
    rule = {"any": [{"attribute": "ländér", "operator": "in", "value": ["ü", 0.1, 2**53 - 1, True]}]}
    metric = defined(
        "Über alles 🚀", kind="sum", where=rule, value="x'\"\\", description="d" * 2_000, winsorize={"upper": 99.9}
    )
    async with store.transaction(EVERYONE) as transaction:
        kept = await transaction.metrics.add("one", metric, NOW)
        assert kept == Definition(replace(metric, version=1), NOW)

    for reading in (store.reading, store.browsing):
        async with reading(EVERYONE) as view:
            assert await view.metrics.definition("one", metric.key) == kept
            assert await view.metrics.definition("one", metric.key, 1) == kept
            assert await view.metrics.definition("one", metric.key, 2) is None
            assert await view.metrics.definition("one", metric.key.upper()) is None
            assert await view.metrics.definitions("one") == {metric.key: kept.metric}


async def test_clients_never_see_each_others_definitions(store: ControlStore) -> None:
    """The same key is another metric for another client, whatever one of them does with it."""
    async with store.transaction(EVERYONE) as transaction:
        mine = await transaction.metrics.add("one", defined("a"), NOW)
        theirs = await transaction.metrics.add("two", defined("a", kind="count"), NOW)
        await transaction.metrics.add("two", defined("b"), NOW)
        changed = await transaction.metrics.save("two", defined("a", 1, kind="sum"), NOW)
        assert (theirs.metric.version, changed.metric.version) == (1, 2)
        assert await transaction.metrics.definition("one", "a", 2) is None
        assert await transaction.metrics.definitions("one", ["a", "b"]) == {"a": mine.metric}
        assert (await transaction.metrics.page("one")).definitions == (mine,)
        assert not await transaction.metrics.archive("one", "b", NOW)
        assert await transaction.metrics.archive("two", "a", NOW)

    async with store.reading(EVERYONE) as view:
        assert await view.metrics.definitions("one") == {"a": mine.metric}
        assert set(await view.metrics.definitions("two")) == {"b"}
        assert await view.metrics.definitions("three") == {}
        assert (await view.metrics.page("three", search="a")).definitions == ()


async def test_every_version_of_a_definition_stays(store: ControlStore) -> None:
    """The newest is what a key means; after an archiving it means nothing until it is defined again."""
    async with store.transaction(EVERYONE) as transaction:
        first = await transaction.metrics.add("one", defined("a"), NOW)
        second = await transaction.metrics.save("one", defined("a", 1, kind="count"), NOW + timedelta(days=1))
        assert await transaction.metrics.definition("one", "a") == second
        with pytest.raises(Conflict):
            await transaction.metrics.add("one", defined("a"), NOW)

        archived = NOW + timedelta(days=2)
        assert await transaction.metrics.archive("one", "a", archived)
        assert not await transaction.metrics.archive("one", "a", NOW)
        assert await transaction.metrics.definition("one", "a") is None
        assert await transaction.metrics.definitions("one", ["a"]) == {}
        assert (await transaction.metrics.page("one")).definitions == ()
        assert await transaction.metrics.definition("one", "a", 1) == replace(first, archived_at=archived)

        third = await transaction.metrics.add("one", defined("a", kind="sum"), NOW + timedelta(days=3))
        assert third.metric.version == 3

    async with store.reading(EVERYONE) as view:
        assert await view.metrics.definition("one", "a") == third
        assert await view.metrics.definition("one", "a", 2) == replace(second, archived_at=archived)
        assert [d.metric.kind for d in (await view.metrics.page("one")).definitions] == [Kind.SUM]


async def test_a_version_is_stored_once(store: ControlStore) -> None:
    """Who did not see the newest one is told."""
    async with store.transaction(EVERYONE) as transaction:
        await transaction.metrics.add("one", defined("a"), NOW)
        await transaction.metrics.save("one", defined("a", 1, kind="count"), NOW)

    with pytest.raises(Conflict):
        async with store.transaction(EVERYONE) as transaction:
            await transaction.metrics.save("one", defined("a", 1, kind="sum"), NOW)

    async with store.reading(EVERYONE) as view:
        assert (await view.metrics.definitions("one"))["a"].kind is Kind.COUNT


async def test_pages_of_definitions_have_the_last_changed_first(store: ControlStore) -> None:
    """Found by key, name and description without case; % and _ are letters, and what JSON is made of is not found."""
    async with store.transaction(EVERYONE) as transaction:
        for key in ("alpha", "beta", "gamma"):
            await transaction.metrics.add("one", defined(key), NOW)
        await transaction.metrics.add("one", defined("plan", name="Größe", description="100%_sure"), NOW)
        await transaction.metrics.save("one", defined("alpha", 1, kind="count"), NOW)

    async with store.browsing(EVERYONE) as view:
        first = await view.metrics.page("one", limit=3)
        rest = await view.metrics.page("one", after=first.following, limit=3)
        assert [d.metric.key for d in (*first.definitions, *rest.definitions)] == ["alpha", "plan", "gamma", "beta"]
        assert rest.following is None
        for search, keys in {
            "ALPHA": ["alpha"],
            "röße": ["plan"],
            "0%_S": ["plan"],
            "order": [],
            "version": [],
        }.items():
            assert [d.metric.key for d in (await view.metrics.page("one", search=search)).definitions] == keys


async def test_of_simultaneous_definitions_of_a_key_one_wins(opened: Opened) -> None:
    """The others are told, also where the key was archived before."""
    stores = [await opened() for _ in range(4)]

    async def add(store: ControlStore) -> bool:
        try:
            async with store.transaction(EVERYONE) as transaction:
                await transaction.metrics.add("one", defined("a"), NOW)
                await asyncio.sleep(0.005)
        except Conflict:
            return False
        return True

    for version in (1, 2, 3):
        answers = await asyncio.gather(*(add(store) for store in stores * 2))

        assert sum(answers) == 1
        async with stores[0].transaction(EVERYONE) as transaction:
            kept = await transaction.metrics.definition("one", "a")
            assert kept is not None
            assert kept.metric.version == version
            assert await transaction.metrics.archive("one", "a", NOW)


async def test_of_two_changes_of_a_definition_the_second_sees_the_first(opened: Opened) -> None:
    """Ten processes change it at once: each makes the next version of what the one before it left."""
    stores = [await opened() for _ in range(5)]
    async with stores[0].transaction(EVERYONE) as transaction:
        await transaction.metrics.add("one", defined("a", description="."), NOW)

    async def lengthen(store: ControlStore) -> None:
        async with store.transaction(EVERYONE) as transaction:
            seen = await transaction.metrics.definition("one", "a")
            assert seen is not None
            await asyncio.sleep(0.01)
            longer = replace(seen.metric, description=seen.metric.description + ".")
            await transaction.metrics.save("one", longer, NOW)

    await asyncio.gather(*(lengthen(store) for store in stores * 2))

    async with stores[1].reading(EVERYONE) as view:
        after = await view.metrics.definition("one", "a")
    assert after is not None
    assert (after.metric.version, len(after.metric.description)) == (11, 11)


async def test_a_change_and_an_archiving_at_once_are_one_after_the_other(opened: Opened) -> None:
    """A key that was archived means nothing, however the two met: no version slips through."""
    first, second = await opened(), await opened()
    for number in range(5):
        key = f"key-{number}"
        async with first.transaction(EVERYONE) as transaction:
            await transaction.metrics.add("one", defined(key), NOW)

        async def change(key: str = key) -> None:
            async with first.transaction(EVERYONE) as transaction:
                if await transaction.metrics.definition("one", key) is not None:
                    await asyncio.sleep(0.01)
                    await transaction.metrics.save("one", defined(key, 1, kind="count"), NOW)

        async def archive(key: str = key) -> None:
            async with second.transaction(EVERYONE) as transaction:
                assert await transaction.metrics.archive("one", key, NOW)

        await asyncio.gather(change(), archive())

        async with second.reading(EVERYONE) as view:
            assert await view.metrics.definition("one", key) is None


async def test_without_a_limit_all_experiments_are_one_page(
    store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all their variants, however many statements that takes."""
    monkeypatch.setattr("upshot.control.transaction.PARAMETERS", 7)
    for number in range(60):
        await added(store, key=f"key-{number}")

    async with store.reading(EVERYONE) as view:
        page = await view.experiments("one", limit=None)
        usual = await view.experiments("one")

    assert [each.key for each in page.experiments] == [f"key-{number}" for number in reversed(range(60))]
    assert {len(each.variants) for each in page.experiments} == {2}
    assert page.following is None
    assert (len(usual.experiments), usual.following) == (50, usual.experiments[-1].number)
