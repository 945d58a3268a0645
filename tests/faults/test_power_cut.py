"""Power cuts: the control store on a disk that loses what was not synced.

The product's own store and pragmas run on `unsynced.Disk`. The power is cut at a random write or sync while callers assign
and the relay works; the store is opened again on what is left, and the next cut comes on top of that. 2xx means synced, so
nothing that was acknowledged may be missing.
"""

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from tests.faults.reporting import of, say
from tests.faults.unsynced import KEEPS, Disk, creator

from upshot import control, experiments
from upshot.access import EVERYONE
from upshot.assignment import Assignment
from upshot.clock import SystemClock
from upshot.control.store import SqlStore
from upshot.control.tables import assignments
from upshot.database import Database
from upshot.errors import Unavailable
from upshot.events import Exposure
from upshot.experiments import Draft
from upshot.operations.relay import Relay
from upshot.variants import VariantDraft

CUTS = 200
CONTROL_CUTS = 40
CALLERS = 8
CALLS = 12  # of one caller between two cuts
CHANGES = 250  # the power is cut after at most so many changes of the disk
CHECKPOINTS = 0.4  # so often it is cut while a checkpoint writes to the database, if there is one
CLIENT = "first"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Findings:
    """What the cuts did."""

    cuts: int = 0
    during_checkpoint: int = 0
    acknowledged: int = 0
    lost: int = 0
    lossy_cuts: int = 0
    changed: int = 0
    exposures_lost: int = 0
    phantoms: int = 0
    malformed: int = 0
    kept: Counter[str] = field(default_factory=Counter)

    def report(self, synchronous: str) -> None:
        """Print the figures."""
        say(f"synchronous={synchronous}: {self.cuts} power cuts, {self.during_checkpoint} of them during a checkpoint")
        say(of(self.lost, self.acknowledged, "acknowledged assignments lost") + f", in {self.lossy_cuts} cuts")
        say(of(self.changed, self.acknowledged, "acknowledged assignments with another variant"))
        say(of(self.exposures_lost, self.acknowledged, "exposures neither relayed nor in the outbox"))
        say(of(self.phantoms, self.acknowledged, "exposures relayed without an assignment"))
        say(of(self.malformed, self.cuts, "databases malformed") + f"; kept of unsynced writes: {dict(self.kept)}")


class EventsElsewhere:
    """An event store on another machine, which has power: what it took, it has."""

    def __init__(self) -> None:
        self.users: set[str] = set()

    async def expose(self, exposures: Sequence[Exposure]) -> int:
        """Take exposures."""
        before = len(self.users)
        self.users.update(exposure.user_id for exposure in exposures)
        return len(self.users) - before


@pytest.mark.slow
async def test_no_power_cut_loses_an_acknowledged_assignment(tmp_path: Path, seed: int) -> None:
    """Two hundred cuts with synchronous=FULL, as the product runs."""
    found = await cut_again_and_again(tmp_path, seed, CUTS, "FULL")
    found.report("FULL")
    assert found.acknowledged > CUTS
    assert found.during_checkpoint > 0
    assert (found.lost, found.changed, found.malformed) == (0, 0, 0)
    assert (found.exposures_lost, found.phantoms) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_a_store_that_does_not_wait_for_the_disk_is_caught(tmp_path: Path, seed: int, synchronous: str) -> None:
    """The negative controls: with less than FULL the same checker finds acknowledged assignments missing."""
    found = await cut_again_and_again(tmp_path, seed, CONTROL_CUTS, synchronous)
    found.report(synchronous)
    assert found.lost > 0


async def cut_again_and_again(folder: Path, seed: int, cuts: int, synchronous: str) -> Findings:
    """So many cuts, each on what the one before left; a malformed database is replaced by a fresh one."""
    chance, found = random.Random(seed), Findings()
    template = folder / "template.db"
    number = await _prepare(template)
    disk = _fresh(folder / "start", template)
    known: dict[str, int] = {}
    elsewhere = EventsElsewhere()
    for cut in range(cuts + 1):
        store = _store(disk, synchronous)
        if cut and not await _sound(store, known, elsewhere, found):
            await _closed(store, disk)
            disk = _fresh(folder / f"fresh-{cut}", template)
            store = _store(disk, synchronous)
            known.clear()
            elsewhere.users.clear()
        if cut < cuts:
            await _load_until_the_cut(store, disk, number, chance, known, elsewhere)
        await _closed(store, disk)
        if cut < cuts:
            disk = _after_the_cut(disk, folder / f"after-{cut}", chance, found)
    found.acknowledged += len(known)
    return found


def _after_the_cut(disk: Disk, left: Path, chance: random.Random, found: Findings) -> Disk:
    """What is left of a disk."""
    keep = chance.choice(KEEPS)
    found.cuts += 1
    found.kept[keep] += 1
    found.during_checkpoint += disk.unsynced("control.db") > 0
    disk.survive(left, keep, chance)
    shutil.rmtree(disk.folder)
    return Disk(left)


async def _closed(store: SqlStore, disk: Disk) -> None:
    """Let go of a store whose disk has no power: closing writes nothing."""
    disk.cut()
    await store.close()
    disk.unregister()


async def _prepare(template: Path) -> int:
    """A migrated database with one experiment; returns the experiment's number."""
    store = await control.connect(f"sqlite:///{template}")
    clock = SystemClock()
    draft = Draft("power", [VariantDraft("a"), VariantDraft("b")])
    async with store.transaction(EVERYONE) as transaction:
        experiment = await transaction.add(CLIENT, experiments.create(draft, clock.now(), clock.new_id))
    await store.close()
    return experiment.number


def _fresh(folder: Path, template: Path) -> Disk:
    folder.mkdir()
    shutil.copy(template, folder / "control.db")
    return Disk(folder)


def _store(disk: Disk, synchronous: str) -> SqlStore:
    """The product's store on a disk."""
    path = disk.folder / "control.db"
    url = f"sqlite:///{path}"
    return SqlStore(url, Database(url, "DATABASE_URL", synchronous=synchronous, async_creator=creator(disk, path)))


async def _load_until_the_cut(
    store: SqlStore,
    disk: Disk,
    experiment: int,
    chance: random.Random,
    known: dict[str, int],
    elsewhere: EventsElsewhere,
) -> None:
    """Callers assign new users, shared users and known users, the relay relays, until there is no power."""
    relay = Relay(store, elsewhere)  # type: ignore[arg-type]  # an event store's `expose` is all it uses
    first = len(known)

    async def call(caller: int) -> None:
        for turn in range(CALLS):
            users = {f"shared-{first}-{chance.randrange(20)}"}
            users |= {f"user-{first}-{caller}-{turn}-{n}" for n in range(chance.randint(0, 4))}
            wanted = [Assignment(experiment, user, chance.randrange(2), 1, NOW, NOW, "{}") for user in sorted(users)]
            stored = await store.assign(CLIENT, wanted)
            if not disk.alive:
                return
            for kept, _ in stored:
                known.setdefault(kept.user_id, kept.variant)
            if chance.random() < 0.1:
                await relay.run()

    if chance.random() < CHECKPOINTS:
        disk.cut_after(chance.randint(1, 40), "control.db")
    else:
        disk.cut_after(chance.randint(1, CHANGES))
    ends = await asyncio.gather(*map(call, range(CALLERS)), return_exceptions=True)
    unexpected = [end for end in ends if end is not None and not isinstance(end, Unavailable)]
    assert not unexpected, unexpected


async def _sound(store: SqlStore, known: dict[str, int], elsewhere: EventsElsewhere, found: Findings) -> bool:
    """Compare what was acknowledged with what is there after a cut, then forget what was lost; False if malformed."""
    stored: dict[str, int] = {}
    waiting: set[str] = set()
    try:
        async with store._database.begin() as connection:
            said = (await connection.exec_driver_sql("PRAGMA integrity_check")).scalars().all()
            sound = said == ["ok"]  # of a malformed one it says what is wrong, in many rows
            rows = await connection.execute(select(assignments.c.user_id, assignments.c.variant))
            stored = {row.user_id: row.variant for row in rows}
        waiting = {exposure.user_id for _, entry in await store.outbox(1_000_000) for exposure in entry.exposures}
    except (DBAPIError, sqlite3.DatabaseError, Unavailable):
        sound = False
    if not sound:
        found.malformed += 1
        stored = {}
    lost = known.keys() - stored.keys()
    found.lost += len(lost)
    found.lossy_cuts += bool(lost)
    found.changed += sum(known[user] != stored[user] for user in known.keys() & stored.keys())
    found.exposures_lost += len(stored.keys() - waiting - elsewhere.users)
    found.phantoms += len(elsewhere.users - stored.keys())
    found.acknowledged += len(lost)
    for user in lost:
        del known[user]
    known.update(stored)
    elsewhere.users &= stored.keys()
    return sound
