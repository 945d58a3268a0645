"""Holdouts that end at the moment at which experiments start or are changed: by two servers on one database."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select
from tests.callers import somebody
from tests.contract.databases import NAMES, Fresh, fresh
from tests.operations.pairs import LINGER, LOCKING, MOST, pair

from upshot.access import EVERYTHING, Caller, Kind
from upshot.access.trail import Approval
from upshot.control.sqlfeatures import SqlFeatures
from upshot.control.transaction import SqlTransaction
from upshot.experiments import Draft, Experiment, Status
from upshot.operations import Stores, approvals, experiments, holdouts
from upshot.variants import VariantDraft

__all__ = ["fresh"]

pytestmark = pytest.mark.slow

HALVES = (VariantDraft("a"), VariantDraft("b"))
SOMEBODY = somebody("one")
ANN, BOB = (Caller("one", Kind.USER, name, name, EVERYTHING) for name in ("ann", "bob"))
ROUNDS = 15


@pytest.fixture
async def servers(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Stores]]:
    """Two servers whose transactions linger over what they read."""
    readings = (SqlFeatures, "holdouts"), (SqlTransaction, "experiment")
    async with pair(fresh(request.param), tmp_path, monkeypatch, *readings) as opened:
        yield opened


def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: nothing that is read is locked."""
    monkeypatch.setattr(Select, "with_for_update", lambda query, **_options: query)


async def end(stores: Stores, key: str) -> None:
    """End a holdout some moments later."""
    await asyncio.sleep(random.random() * 4 * LINGER)
    await holdouts.end(stores, SOMEBODY, key)


async def stored(stores: Stores, reference: str) -> Experiment:
    """An experiment as the database has it."""
    async with stores.control.reading("one") as view:
        found = await view.experiment("one", reference)
    assert found is not None
    return found


async def start(stores: Stores, key: str) -> None:
    """Start a draft."""
    await experiments.move(stores, SOMEBODY, key, "start")


async def agree(stores: Stores, key: str) -> None:
    """Agree with the start of a draft that somebody asked for."""
    [waiting] = await approvals.every(stores, "one", None, (await stored(stores, key)).id)
    await experiments.approve(stores, BOB, waiting.id)


async def create(stores: Stores, key: str) -> None:
    """Create it, running."""
    await experiments.create(stores, SOMEBODY, Draft(key, HALVES, key=key))


async def raced(servers: list[Stores], beginning: Any, rounds: int = ROUNDS) -> bool:
    """Whether in some round an experiment that begins on one server has a holdout that has ended on the other."""
    first, second = servers
    if beginning is agree:
        await approvals.choose(first, SOMEBODY, {"approvals": ["start"]})
    for number in range(rounds):
        key = f"key-{number}"
        await holdouts.create(first, SOMEBODY, key, key, Decimal(50), ())
        if beginning is not create:
            await experiments.create(first, SOMEBODY, Draft(key, HALVES, key=key, status=Status.DRAFT))
        if beginning is agree:
            assert isinstance(await experiments.move(first, ANN, key, "start"), Approval)
        await asyncio.gather(beginning(first, key), end(second, key))
        begun = await stored(first, key)
        assert begun.is_running
        if key in {held.key for held in begun.holdouts}:
            return True
    return False


@pytest.mark.parametrize("servers", NAMES, indirect=True)
@pytest.mark.parametrize("beginning", [start, agree, create])
async def test_no_experiment_begins_with_a_holdout_that_has_ended(servers: list[Stores], beginning: Any) -> None:
    """The end takes the holdout off an experiment that has begun, or the experiment begins without it."""
    assert not await raced(servers, beginning)


@pytest.mark.parametrize("servers", LOCKING, indirect=True)
async def test_without_locks_experiments_begin_with_holdouts_that_have_ended(
    servers: list[Stores], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: of so many rounds one finds it."""
    unlocked(monkeypatch)

    assert await raced(servers, start, MOST)


async def lost(servers: list[Stores], rounds: int = ROUNDS) -> bool:
    """Whether in some round one of two changes is gone: an experiment's new name, or the end of the holdout it has."""
    first, second = servers
    for number in range(rounds):
        key = f"key-{number}"
        await holdouts.create(first, SOMEBODY, key, key, Decimal(1), ())
        await create(first, key)
        change = experiments.change(first, SOMEBODY, key, {"name": "New"}, None)
        await asyncio.gather(change, end(second, key))
        after = await stored(first, key)
        if (after.name, after.holdouts, after.version) != ("New", (), 3):
            return True
    return False


@pytest.mark.parametrize("servers", NAMES, indirect=True)
async def test_neither_a_change_nor_the_end_of_a_holdout_is_lost(servers: list[Stores]) -> None:
    """Caught here: an end that saves experiments as it had listed them; and, by the database's search for deadlocks, one that
    makes its revision, for which all changes wait, before it has its experiments."""
    assert not await lost(servers)


@pytest.mark.parametrize("servers", LOCKING, indirect=True)
async def test_without_locks_changes_are_lost(servers: list[Stores], monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: of so many rounds one loses one."""
    unlocked(monkeypatch)

    assert await lost(servers, MOST)


@pytest.mark.parametrize("servers", NAMES, indirect=True)
async def test_nobody_waits_for_whoever_waits_for_them(servers: list[Stores]) -> None:
    """Experiments are changed, and others of the same name made, while their holdout ends: every one of them succeeds.

    Caught here, by the database's search for deadlocks: a creation that locks the experiment of its name, or the client's
    settings, before the holdouts.
    """
    first, second = servers
    await approvals.choose(first, SOMEBODY, {"approvals": ["complete"]})
    for number in range(ROUNDS // 2):
        key = f"key-{number}"
        await holdouts.create(first, SOMEBODY, key, key, Decimal(1), ())
        running = [f"{key}-{place}" for place in range(3)]
        for each in running:
            await create(first, each)
            await experiments.create(first, SOMEBODY, Draft(each, HALVES, key=f"{each}-draft", status=Status.DRAFT))

        await asyncio.gather(
            *(experiments.change(first, SOMEBODY, each, {"name": "New"}, None) for each in running),
            *(experiments.create(first, SOMEBODY, Draft(each, HALVES)) for each in running),
            *(start(second, f"{each}-draft") for each in running),
            end(second, key),
        )

        assert [(await stored(first, each)).version for each in running] == [3, 3, 3]
