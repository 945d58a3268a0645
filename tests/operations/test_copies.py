"""Copies of experiments and assignments between processes: soon the same everywhere, never a flip, one read for all who miss."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from tests.backends import redis
from tests.callers import somebody
from tests.operations.stubs import Outage

from upshot import cache, control, eventstore
from upshot.clock import SystemClock
from upshot.errors import NotFound, Unavailable
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, assignments, experiments
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT
from upshot.variants import VariantDraft

HALVES = (VariantDraft("a"), VariantDraft("b"))
SEEN_SECONDS = 2.0
LOOKING = 0.01  # seconds between two looks

Opening: TypeAlias = Callable[[], Awaitable[Stores]]


@pytest.fixture(scope="module", name="redis_started")
def _redis_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_started: redis.Redis) -> redis.Redis:
    """A Redis that is empty: experiments of the same key in another test's database are in no cache of this one."""
    redis_started.ask("FLUSHALL")
    return redis_started


@pytest.fixture(params=["memory", "redis"])
async def process(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens the stores of a process: one database and one Redis for all, or no Redis at all."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url
    made: list[Stores] = []

    async def opened() -> Stores:
        made.append(
            Stores(
                await control.connect(f"sqlite:///{tmp_path / 'control.db'}"),
                await eventstore.connect(f"duckdb:///{tmp_path / str(len(made))}.db"),
                cache.connect(url),
                SystemClock(),
            )
        )
        return made[-1]

    yield opened
    for stores in made:
        await stores.close()


async def created(stores: Stores, client: str = "first", **draft: Any) -> Experiment:
    """A running experiment of two equal variants."""
    return await experiments.create(stores, somebody(client), Draft("Shared", HALVES, **draft))


def told(answer: assignments.Assigned) -> tuple[str | None, datetime | None]:
    """What a user is told for good."""
    return answer.variant.id if answer.variant else None, answer.assigned_at


async def settled(stores: Stores) -> None:
    """Wait until what was written is on the server."""
    while getattr(stores.cache, "_writer", None) is not None:  # noqa: ASYNC110 - what it waits for wakes nobody
        await asyncio.sleep(0.001)


@asynccontextmanager
async def asking(stores: Stores, reference: str) -> AsyncIterator[None]:
    """Somebody asks for an experiment all the time, so that its copies are as old as they may be, and no older."""

    async def ask() -> None:
        while True:
            await experiments.known(stores, "first", reference)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def check_soon_seen(one: Stores, other: Stores, experiment: Experiment, rounds: int = 3) -> None:
    """What one process changes another sees within two seconds, however both ask meanwhile."""
    for number in range(rounds):
        async with asking(one, experiment.id), asking(other, experiment.id):
            await asyncio.sleep(0.3)
            changed = await experiments.change(one, somebody("first"), experiment.id, {"name": f"Round {number}"}, None)
            looks = SEEN_SECONDS / LOOKING  # which are as many on a machine that stands still for a while
            while (await experiments.known(other, "first", experiment.id)).version < changed.version:
                assert (looks := looks - 1) > 0
                await asyncio.sleep(LOOKING)
            for _ in range(50):  # from now on always
                assert (await experiments.known(other, "first", experiment.id)).version == changed.version
                assert (await experiments.known(one, "first", experiment.id)).version == changed.version
                await asyncio.sleep(LOOKING)


@pytest.mark.slow
async def test_a_change_is_seen_by_every_process_within_two_seconds(process: Opening) -> None:
    """And not unseen again."""
    one, other = await process(), await process()
    experiment = await created(one)

    await check_soon_seen(one, other, experiment)


@pytest.mark.slow
async def test_copies_that_are_kept_for_long_are_caught(process: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a process that takes its copy for good for a minute."""
    one, other = await process(), await process()
    experiment = await created(one)
    monkeypatch.setattr(experiments, "EXPERIMENT", replace(EXPERIMENT, fresh=60.0, seconds=60.0))

    with pytest.raises(AssertionError):
        await check_soon_seen(one, other, experiment)


async def test_a_user_of_one_process_is_the_same_in_another(process: Opening) -> None:
    """Also when the allocation has changed; each user is new once."""
    one, other = await process(), await process()
    experiment = await created(one)
    first = [await assignments.assign(one, "first", experiment.id, f"user-{n}", {}) for n in range(50)]
    closed = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(0))]
    await experiments.change(one, somebody("first"), experiment.id, {"variants": closed}, None)
    await settled(one)

    again = [await assignments.assign(other, "first", experiment.id, f"user-{n}", {}) for n in range(50)]

    assert [told(answer) for answer in again] == [told(answer) for answer in first]
    assert {answer.is_new for answer in first} == {True}
    assert {answer.is_new for answer in again} == {False}


async def test_who_has_a_variant_that_this_process_does_not_know_yet_is_answered(process: Opening) -> None:
    """Another process added it a moment ago: the experiment is read again."""
    one, other = await process(), await process()
    experiment = await created(one)
    await experiments.known(other, "first", experiment.id)  # from now on an old copy, for a second
    wider = [
        VariantDraft("a", weight=Decimal(0)),
        VariantDraft("b", weight=Decimal(0)),
        VariantDraft("c", weight=Decimal(1)),
    ]
    await experiments.change(one, somebody("first"), experiment.id, {"variants": wider}, None)
    first = await assignments.assign(one, "first", experiment.id, "user", {})
    await settled(one)

    single = await assignments.assign(other, "first", experiment.id, "user", {})
    many = await assignments.assign_many(other, "first", experiment.id, [("user", {})])

    assert [answer.variant and answer.variant.name for answer in (first, single, *many)] == ["c"] * 3


async def test_a_variant_that_cannot_be_named_is_not_replaced_by_another(
    process: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away: 503, as a flip would be worse."""
    monkeypatch.setattr(experiments, "EXPERIMENT", replace(EXPERIMENT, fresh=60.0, seconds=60.0))  # an old copy stays
    one, other = await process(), await process()
    experiment = await created(one)
    outage: Any = Outage(other.control)
    away = replace(other, control=outage)
    old = await experiments.known(other, "first", experiment.id)
    wider = [
        VariantDraft("a", weight=Decimal(0)),
        VariantDraft("b", weight=Decimal(0)),
        VariantDraft("c", weight=Decimal(1)),
    ]
    changed = await experiments.change(one, somebody("first"), experiment.id, {"variants": wider}, None)
    await assignments.assign(one, "first", changed.id, "user", {})
    kept = one.cache.remembered("first", ASSIGNMENT, ("user", changed.id))
    assert kept is not None
    other.cache.put("first", ASSIGNMENT, ("user", old.id), kept)
    other.cache.put("first", ASSIGNMENT, ("prefetched", old.id), replace(kept, user_id="prefetched", exposed_at=None))
    outage.away = True

    for user in ("user", "prefetched"):
        with pytest.raises(Unavailable):
            await assignments.assign(away, "first", old.id, user, {})


async def test_who_misses_an_experiment_at_one_moment_shares_one_read(
    process: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask; what is not there each looks for."""
    stores = await process()
    experiment = await created(stores)
    reads = 0
    stored = experiments._stored

    async def counted(*arguments: Any) -> Experiment:
        nonlocal reads
        reads += 1
        return await stored(*arguments)

    monkeypatch.setattr(experiments, "_stored", counted)
    found = await asyncio.gather(
        *(experiments.read(stores, "first", experiment.key) for _ in range(100)),
        *(experiments.known(stores, "first", experiment.key) for _ in range(100)),
    )
    missing = await asyncio.gather(
        *(experiments.read(stores, "second", experiment.key) for _ in range(3)), return_exceptions=True
    )

    assert {each.id for each in found} == {experiment.id}
    assert reads == 1 + 4
    assert [type(each) for each in missing] == [NotFound] * 3


async def test_what_was_just_made_is_found_though_others_looked_before(process: Opening) -> None:
    """A look that began before and found nothing is nobody else's answer."""
    stores = await process()
    looking = [asyncio.create_task(experiments.read(stores, "first", "new-one")) for _ in range(5)]
    await asyncio.sleep(0)

    made = await created(stores, key="new-one")
    found = await experiments.read(stores, "first", "new-one")

    assert found.id == made.id
    await asyncio.gather(*looking, return_exceptions=True)


async def test_a_copy_counts_from_before_it_was_read(process: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that takes its time does not make copies live longer."""
    stores = await process()
    experiment = await created(stores)
    ages = []
    put = stores.cache.put

    def noted(client: str, kind: Any, key: Any, value: Any, age: float = 0.0) -> Any:
        ages.append(age)
        return put(client, kind, key, value, age)

    slow: Any = Slow(stores.control)
    monkeypatch.setattr(stores.cache, "put", noted)
    begun = time.monotonic()
    await experiments.read(replace(stores, control=slow), "first", experiment.id)

    assert len(ages) == 1
    assert 0.2 <= ages[0] <= time.monotonic() - begun


class Slow:
    """A control store that opens its view at once, and lets it be read a little later."""

    def __init__(self, store: control.ControlStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def reading(self, client: str) -> AsyncIterator[Any]:
        """A view, and then some time."""
        async with self._store.reading(client) as transaction:
            yield transaction
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("kind", ["redis"])
async def test_without_its_database_a_process_knows_whom_another_one_has_assigned(
    redis_server: redis.Redis, tmp_path: Path, kind: str
) -> None:
    """From the shared cache: stored, and not what the hash would say by now."""
    database = f"sqlite:///{tmp_path / 'control.db'}"
    one, other = [
        Stores(
            await control.connect(database),
            await eventstore.connect(f"duckdb:///{tmp_path / str(number)}.db"),
            cache.connect(redis_server.url),
            SystemClock(),
        )
        for number in range(2)
    ]
    experiment = await created(one)
    first = [await assignments.assign(one, "first", experiment.id, f"user-{n}", {}) for n in range(20)]
    closed = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(0))]
    await experiments.change(one, somebody("first"), experiment.id, {"variants": closed}, None)
    await settled(one)
    await experiments.known(other, "first", experiment.id)
    outage: Any = Outage(other.control)
    outage.away = True
    without = replace(other, control=outage)

    found = [await assignments.assign(without, "first", experiment.id, f"user-{n}", {}) for n in range(20)]

    await one.close()
    await other.close()
    assert [told(answer) for answer in found] == [told(answer) for answer in first]
    assert {answer.persisted for answer in found} == {True}
    assert {answer.variant and answer.variant.name for answer in first} == {"a", "b"}
