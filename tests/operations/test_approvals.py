"""A second person agrees at the moment at which the first one asks again: by two servers on one database."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.contract.databases import NAMES, Fresh, fresh
from tests.operations.pairs import LOCKING, MOST, pair
from tests.operations.test_holdouts import ANN, BOB, HALVES, SOMEBODY

from upshot.access import Caller
from upshot.access.trail import Approval, State
from upshot.control.sqltrail import SqlTrail
from upshot.control.transaction import SqlTransaction
from upshot.errors import Conflict, Unavailable
from upshot.experiments import Draft, Experiment, Status
from upshot.operations import Stores, approvals, experiments

__all__ = ["fresh"]

pytestmark = pytest.mark.slow

ROUNDS = 6


@pytest.fixture
async def servers(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Stores]]:
    """Two servers whose transactions linger over what they read; a start needs a second person."""
    readings = (SqlTrail, "approval"), (SqlTransaction, "experiment")
    async with pair(fresh(request.param), tmp_path, monkeypatch, *readings) as opened:
        await approvals.choose(opened[0], SOMEBODY, {"approvals": ["start"]})
        yield opened


async def outcomes(servers: list[Stores], rounds: int = ROUNDS) -> AsyncGenerator[Sequence[Any], None]:
    """What becomes of an agreement to what was asked for before a change, and of asking again, at one moment."""
    first, second = servers
    for number in range(rounds):
        key = f"key-{number}"
        await experiments.create(first, SOMEBODY, Draft(key, HALVES, key=key, status=Status.DRAFT))
        asked = await experiments.move(first, ANN, key, "start")
        assert isinstance(asked, Approval)
        await experiments.change(first, SOMEBODY, key, {"description": "Changed."}, None)
        yield await asyncio.gather(
            experiments.approve(first, BOB, asked.id),
            experiments.move(second, ANN, key, "start"),
            return_exceptions=True,
        )


@pytest.mark.parametrize("servers", NAMES, indirect=True)
async def test_neither_waits_for_who_waits_for_them(servers: list[Stores]) -> None:
    """The agreement comes too late, and what is asked for again waits for somebody."""
    async for agreed, again in outcomes(servers):
        assert isinstance(agreed, Conflict)
        assert isinstance(again, Approval)
        assert again.state is State.PENDING


@pytest.mark.parametrize("servers", LOCKING, indirect=True)
async def test_the_other_order_of_locks_is_caught(servers: list[Stores], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: who agrees holds the approval before the experiment. The database ends one of the two."""

    async def approve(stores: Stores, caller: Caller, approval_id: str) -> Experiment:
        async with stores.control.transaction(caller.client) as transaction:
            approval = approvals.found(await transaction.accounts.approval(caller.client, approval_id))
            assert await transaction.experiment(caller.client, approval.experiment_id) is not None
            raise Conflict("The experiment was changed since this was asked for; ask again.")

    monkeypatch.setattr(experiments, "approve", approve)

    async with aclosing(outcomes(servers, MOST)) as found:
        async for pair in found:
            if any(isinstance(each, Unavailable) for each in pair):
                return
    pytest.fail("the database has ended nobody")
