"""Crashes between the stores: an exposure is never lost and never doubled, and the index of identities heals itself.

A crash is a copy of the data folder at that moment, opened again. Every check looks at what a result is made of.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.callers import somebody

from upshot import cache, control, eventstore
from upshot.aggregation import AggregationPlan
from upshot.assignment import Assignment
from upshot.clock import FixedClock
from upshot.events import IDENTITY_CONFLICT, OVERRIDE, Event, Exposure, Withdrawal
from upshot.eventstore import EventStore, Verdict
from upshot.eventstore.embedded.identities import Identities
from upshot.experiments import Draft
from upshot.metrics import Kind, Metric
from upshot.operations import Stores, assignments, experiments, identities, results
from upshot.operations.relay import ENTRIES, Relay
from upshot.operations.results import Asked
from upshot.variants import VariantDraft

CLIENT = "first"
USERS = 40
NOW = 1_760_000_000_000_000
BOUGHT = AggregationPlan(1, (Metric("bought", Kind.COUNT, ("buy",)),), None, NOW + 1)
MOMENTS = ("expose", "relayed")


class CrashError(Exception):
    """The process ends here."""


class BackwardsRelay(Relay):
    """A negative control: forgets the entries before it appends what they hold."""

    async def run(self) -> int:
        """Relay what waits, in the wrong order."""
        waiting = await self._control.outbox(ENTRIES)
        await self._control.relayed([entry for entry, _ in waiting])
        return await self._append([entry for _, entry in waiting])


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_crash_of_the_relay_loses_and_doubles_no_exposure(tmp_path: Path, moment: str) -> None:
    """Whether it dies before the append or between the append and the deletion, every assigned user is exposed once."""
    assert await exposed_after_a_crash(tmp_path, moment, Relay) == USERS


async def test_a_relay_that_forgets_first_is_caught(tmp_path: Path) -> None:
    """The negative control for losing."""
    assert await exposed_after_a_crash(tmp_path, "expose", BackwardsRelay) == 0


async def test_an_event_store_without_identities_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control for doubling."""
    monkeypatch.setattr(Identities, "fingerprints", lambda _, keys: [None] * len(keys))
    assert await exposed_after_a_crash(tmp_path, "relayed", Relay) == 2 * USERS


STEPS = ("expose", "link", "withdraw", "relayed")


@pytest.mark.parametrize("moment", STEPS)
async def test_a_crash_of_the_relay_loses_no_link_and_no_withdrawal(tmp_path: Path, moment: str) -> None:
    """Wherever it dies, ids that were linked are one user, and who had two variants is left out, once."""
    assert await linked_after_a_crash(tmp_path, moment, Relay) == (USERS // 2, USERS // 4)


@pytest.mark.parametrize("moment", STEPS[:3])
async def test_a_relay_that_forgets_links_first_is_caught(tmp_path: Path, moment: str) -> None:
    """The negative control: what was not told by then is lost."""
    assert await linked_after_a_crash(tmp_path, moment, BackwardsRelay) != (USERS // 2, USERS // 4)


async def linked_after_a_crash(folder: Path, moment: str, relay: type[Relay]) -> tuple[int, int]:
    """Users in the result and users who are left out, after the relay died when it was about to do `moment`: of all users half
    have a second id, half of those with another variant; a quarter was withdrawn besides."""
    before, after = folder / "before", folder / "after"
    clock = FixedClock()
    stores = await _opened(before, clock)
    draft = Draft("outbox", [VariantDraft("a"), VariantDraft("b")], key="outbox")
    experiment = await experiments.create(stores, somebody(CLIENT), draft)
    now = clock.now()
    ids = [(f"visitor-{n}", n % 2) for n in range(USERS // 2)] + [(f"user-{n}", 0) for n in range(USERS)]
    given = [Assignment(experiment.number, own, variant, 1, now, now, "{}") for own, variant in ids]
    await stores.control.assign(CLIENT, given)
    await identities.link(stores, CLIENT, [(f"visitor-{n}", f"user-{n}") for n in range(USERS // 2)])
    async with stores.control.transaction(CLIENT) as transaction:
        gone = [Withdrawal(experiment.number, f"user-{USERS - 1 - n}", OVERRIDE) for n in range(USERS // 4)]
        await transaction.withdraw(CLIENT, gone)
    store: Any = stores.control if moment == "relayed" else stores.events
    whole = getattr(store, moment)

    async def crash(*_: object) -> None:
        shutil.copytree(before, after)
        raise CrashError

    setattr(store, moment, crash)
    with pytest.raises(CrashError):
        await relay(stores.control, stores.events).run()
    setattr(store, moment, whole)
    await stores.close()

    restarted = await _opened(after, clock)
    clock.advance(seconds=1)
    try:
        report = await results.report(restarted, CLIENT, "outbox", Asked())
    finally:
        await restarted.close()
    return report.summary.total_users, report.health.withdrawn.get(IDENTITY_CONFLICT, 0)


async def exposed_after_a_crash(folder: Path, moment: str, relay: type[Relay]) -> int:
    """Users in the result, after the relay died when it was about to do `moment`."""
    before, after = folder / "before", folder / "after"
    clock = FixedClock()
    stores = await _opened(before, clock)
    draft = Draft("outbox", [VariantDraft("a"), VariantDraft("b")], key="outbox")
    await experiments.create(stores, somebody(CLIENT), draft)
    for number in range(USERS):
        await assignments.assign(stores, CLIENT, "outbox", f"user-{number}", {})
    store: Any = stores.control if moment == "relayed" else stores.events
    whole = getattr(store, moment)

    async def crash(_: object) -> None:
        shutil.copytree(before, after)
        raise CrashError

    setattr(store, moment, crash)
    with pytest.raises(CrashError):
        await relay(stores.control, stores.events).run()
    setattr(store, moment, whole)
    await stores.close()

    restarted = await _opened(after, clock)
    clock.advance(seconds=1)
    try:
        report = await results.report(restarted, CLIENT, "outbox", Asked())
        again = await results.report(restarted, CLIENT, "outbox", Asked())
    finally:
        await restarted.close()
    assert again == report
    return report.summary.total_users


async def _opened(folder: Path, clock: FixedClock) -> Stores:
    return Stores(
        await control.connect(f"sqlite:///{folder / 'control.db'}"),
        await eventstore.connect(f"duckdb:///{folder / 'events.db'}"),
        cache.connect("memory://"),
        clock,
    )


# The index of identities


def _deleted(folder: Path, older: Path, other: Path) -> None:
    """The index is gone."""
    shutil.rmtree(folder / "events.identities")


def _behind(folder: Path, older: Path, other: Path) -> None:
    """The index is an older copy."""
    shutil.rmtree(folder / "events.identities")
    shutil.copytree(older / "events.identities", folder / "events.identities")


def _ahead(folder: Path, older: Path, other: Path) -> None:
    """The tables are an older copy: the index knows rows that are not there."""
    shutil.copy(older / "events.db", folder / "events.db")


def _foreign(folder: Path, older: Path, other: Path) -> None:
    """The tables are a copy from elsewhere, longer than the one that the index was made from."""
    shutil.copy(other / "events.db", folder / "events.db")


DAMAGES = (_deleted, _behind, _ahead, _foreign)
Damage = Callable[[Path, Path, Path], None]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_index_of_identities_heals_and_results_stay_exact(tmp_path: Path, damage: Damage) -> None:
    """Whatever happened to the index, everything that is sent again afterwards is there once."""
    assert await counted_after(tmp_path, damage) == (USERS, 2 * USERS)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_an_index_that_does_not_heal_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    """The negative control: without catching up, each damage loses or doubles something."""
    monkeypatch.setattr(Identities, "catch_up", lambda *_: None)
    assert await counted_after(tmp_path, damage) != (USERS, 2 * USERS)


async def counted_after(folder: Path, damage: Damage) -> tuple[int, int]:
    """Exposed users and counted events, after a damage and after everything was sent again, twice."""
    present, older, other = folder / "present", folder / "older", folder / "other"
    first, second = _some(range(USERS // 2)), _some(range(USERS // 2, USERS))
    await _filled(present, [first])
    shutil.copytree(present, older)
    await _filled(present, [second])
    await _filled(other, [_some(range(USERS - 5, -1, -1))])
    damage(present, older, other)
    store = await eventstore.connect(f"duckdb:///{present / 'events.db'}")
    try:
        for _ in range(2):
            for exposures, events in (first, second):
                await store.expose(exposures)
                await store.append(CLIENT, events)
        return await _counted(store)
    finally:
        await store.close()


async def test_an_index_that_fails_after_the_commit_catches_up_before_the_next_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed is acknowledged, and a repeat is known as one, though the index could not take it at first."""
    store = await eventstore.connect(f"duckdb:///{tmp_path / 'events.db'}")
    exposures, events = _some(range(USERS))
    try:
        with monkeypatch.context() as broken:
            broken.setattr(Identities, "add", _failing)
            assert await store.append(CLIENT, events) == [Verdict.ACCEPTED] * len(events)
        assert await store.append(CLIENT, events) == [Verdict.DUPLICATE] * len(events)
        await store.expose(exposures)
        assert await _counted(store) == (USERS, 2 * USERS)
    finally:
        await store.close()


def _failing(*_: object) -> None:
    raise OSError("no space left on device")


def _some(users: Sequence[int]) -> tuple[list[Exposure], list[Event]]:
    """One exposure and two events of each user."""
    exposures = [Exposure(CLIENT, 1, f"user-{n}", n % 2, 1, NOW, "{}") for n in users]
    events = [
        Event(f"event-{n}-{part}", f"user-{n}", "buy", NOW, NOW, 1.0, "{}", None, 0, n)
        for n in users for part in range(2)
    ]  # fmt: skip
    return exposures, events


async def _filled(folder: Path, parts: list[tuple[list[Exposure], list[Event]]]) -> None:
    store = await eventstore.connect(f"duckdb:///{folder / 'events.db'}")
    for exposures, events in parts:
        await store.expose(exposures)
        await store.append(CLIENT, events)
    await store.close()


async def _counted(store: EventStore) -> tuple[int, int]:
    found = await store.aggregate(CLIENT, BOUGHT)
    return sum(found.exposed.values()), sum(found.event_counts.values())
