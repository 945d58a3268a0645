"""Answers that are given again, on every database: who takes a key, who has it, and until when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.contract.databases import NAMES, Fresh, fresh, migrated, standing

from upshot import control
from upshot.control import Asked, ControlStore, Question
from upshot.errors import Conflict
from upshot.experiments import Draft, create
from upshot.variants import VariantDraft

__all__ = ["fresh", "migrated", "standing"]

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
QUESTION = Question("k" * 64, "d" * 64, "holder")


@pytest.fixture(params=NAMES)
async def processes(request: pytest.FixtureRequest, migrated: Fresh) -> AsyncIterator[list[ControlStore]]:
    """Four that share a database."""
    async with AsyncExitStack() as opened:
        url = migrated(request.param)
        stores = [await control.connect(url) for _ in range(4)]
        for store in stores:
            opened.push_async_callback(store.close)
        yield stores


async def take(
    store: ControlStore, question: Question = QUESTION, now: datetime = NOW, client: str = "one"
) -> Asked | None:
    """Take a key for a minute."""
    async with store.transaction(client) as transaction:
        return await transaction.answers.take(client, question, now, now + timedelta(minutes=1))


async def test_a_key_is_taken_answered_and_forgotten(processes: list[ControlStore]) -> None:
    """Under way, then answered until its time is over, then free; it is another client's all the time."""
    one, other, *_ = processes
    assert await take(one) is None
    assert await take(other, replace(QUESTION, holder="other")) == Asked(QUESTION.digest, None)
    async with one.transaction("one") as transaction:
        assert await transaction.answers.keep("one", QUESTION, "sealed", LATER)
    assert await take(other, replace(QUESTION, digest="e" * 64, holder="other")) == Asked(QUESTION.digest, "sealed")
    assert await take(other, client="two") is None

    assert await one.forget_answers(LATER) == 0
    assert await take(other, replace(QUESTION, holder="next"), LATER) is None
    assert await one.forget_answers(LATER + timedelta(minutes=2)) == 2


async def test_who_was_overtaken_has_no_say(processes: list[ControlStore]) -> None:
    """After its time a key may be somebody else's: the first holder can neither answer nor give it back. An answer stays."""
    store, thief = processes[0], replace(QUESTION, holder="thief")
    await take(store)
    assert await take(store, thief, LATER) is None
    async with store.transaction("one") as transaction:
        assert not await transaction.answers.keep("one", QUESTION, "mine", LATER)
        await transaction.answers.give_back("one", QUESTION)
    assert await take(store, now=LATER) == Asked(QUESTION.digest, None)
    async with store.transaction("one") as transaction:
        assert await transaction.answers.keep("one", thief, "theirs", LATER + timedelta(days=1))
        await transaction.answers.give_back("one", thief)

    assert await take(store, now=LATER) == Asked(QUESTION.digest, "theirs")


async def test_what_is_given_back_is_free(processes: list[ControlStore]) -> None:
    """At once."""
    store = processes[0]
    await take(store)
    async with store.transaction("one") as transaction:
        await transaction.answers.give_back("one", QUESTION)

    assert await take(store, replace(QUESTION, holder="next")) is None


@pytest.mark.parametrize("before", ["free", "over"])
async def test_of_simultaneous_holders_one_has_it(processes: list[ControlStore], before: str) -> None:
    """Of many in four processes."""
    if before == "over":
        await take(processes[0], now=NOW - timedelta(hours=1))
    held = [replace(QUESTION, holder=str(number)) for number in range(20)]

    found = await asyncio.gather(*(take(processes[number % 4], each) for number, each in enumerate(held)))

    assert [each for each in found if each is not None] == [Asked(QUESTION.digest, None)] * 19


async def test_a_part_fails_alone(processes: list[ControlStore]) -> None:
    """What came before and after it is kept."""
    store = processes[0]
    async with store.transaction("one") as transaction:
        for key in ("a", "a", "b"):
            with suppress(Conflict):
                async with transaction.part():
                    draft = Draft(key, key=key, variants=(VariantDraft("x"), VariantDraft("y")))
                    await transaction.add("one", create(draft, NOW, lambda: uuid4().hex))

    async with store.reading("one") as view:
        assert {each.key for each in (await view.experiments("one")).experiments} == {"a", "b"}
