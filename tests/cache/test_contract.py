"""Every cache keeps the contract of `upshot.cache`; what is shared is on a real Redis: alone, with Sentinels, as a Cluster."""

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.cache import things
from tests.cache.conftest import Bench, user_in
from tests.cache.things import new
from tests.punctual import Late, punctual

from upshot.cache import Key, tiers
from upshot.cache.inprocess import InProcessCache
from upshot.cache.tiers import TwoTierCache, place_of
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT

LASTING = replace(EXPERIMENT, seconds=3_600, fresh=3_600)
"""Experiments whose copies no stall of the machine makes old: how long they are good is the subject of other tests."""


async def test_what_one_process_learned_another_finds(bench: Bench) -> None:
    """The same value, of each kind."""
    first, user = bench.process(), new()
    experiment, assignment = things.experiment(), things.assignment(user)
    first.put("client", LASTING, (user,), experiment)
    first.put("client", ASSIGNMENT, (user, "e"), assignment)
    await bench.settled()

    second = bench.process()
    found = await second.get("client", LASTING, (user,)), await second.get("client", ASSIGNMENT, (user, "e"))

    assert found == (experiment, assignment)
    assert second.remembered("client", ASSIGNMENT, (user, "e")) == assignment
    assert await second.ping() == "ok"


async def test_what_nobody_put_there_is_missing(bench: Bench) -> None:
    """None, here and there."""
    cache, name = bench.process(), new()

    assert cache.remembered("client", LASTING, (name,)) is None
    assert await cache.get("client", LASTING, (name,)) is None


async def test_what_is_forgotten_is_forgotten_by_all(bench: Bench) -> None:
    """There as well; what another process remembers itself it keeps as long as that is fresh."""
    first, name = bench.process(), new()
    first.put("client", LASTING, (name,), things.experiment())
    await bench.settled()
    first.forget("client", LASTING, (name,))
    await bench.settled()

    assert first.remembered("client", LASTING, (name,)) is None
    assert await first.get("client", LASTING, (name,)) is None
    assert await bench.process().get("client", LASTING, (name,)) is None


async def test_an_older_copy_never_replaces_a_newer_one(bench: Bench) -> None:
    """The later version of an experiment, and the assignment that was exposed; whoever puts the older gets the newer."""
    cache, name = bench.process(), new()
    old, seen = things.experiment(), things.assignment(name)
    later = replace(old, version=2, name="Later")
    cache.put("client", LASTING, (name,), later)
    cache.put("client", ASSIGNMENT, (name, "e"), seen)

    kept = (
        cache.put("client", LASTING, (name,), old),
        cache.put("client", ASSIGNMENT, (name, "e"), replace(seen, exposed_at=None)),
    )
    await bench.settled()

    assert kept == (later, seen)
    assert await bench.process().get("client", LASTING, (name,)) == later
    assert await bench.process().get("client", ASSIGNMENT, (name, "e")) == seen


@punctual
async def test_a_changed_experiment_is_overwritten(bench: Bench) -> None:
    """Another process finds the new version, and so does who had the old one when that is no longer fresh."""
    first, second, name = bench.process(), bench.process(), new()
    old = things.experiment()
    first.put("client", EXPERIMENT, (name,), old)
    await bench.settled()
    before = await second.get("client", EXPERIMENT, (name,))
    first.put("client", EXPERIMENT, (name,), replace(old, version=2))
    await bench.settled()
    third = await bench.process().get("client", EXPERIMENT, (name,))
    if before is None or third is None:
        raise Late("a copy was looked for when it was no longer good")
    await asyncio.sleep(1.05)  # by now neither copy is good

    assert (before, third) == (old, replace(old, version=2))
    assert await first.get("client", EXPERIMENT, (name,)) is None
    assert await second.get("client", EXPERIMENT, (name,)) is None
    assert first.remembered("client", EXPERIMENT, (name,)) == replace(old, version=2)


async def test_a_newer_copy_that_is_not_fresh_is_not_replaced_by_an_older_one_of_the_server(shared: Bench) -> None:
    """It is neither answered nor believed: the database is to be asked."""
    first, second, name = shared.process(), shared.process(), new()
    old = things.experiment()
    later = replace(old, version=2)
    second.put("client", EXPERIMENT, (name,), later, age=2)
    first.put("client", EXPERIMENT, (name,), old)
    await shared.settled()

    found = await second.get("client", EXPERIMENT, (name,))

    assert found is None
    assert second.remembered("client", EXPERIMENT, (name,)) == later


def test_a_copy_is_fresh_for_as_long_as_its_kind_says() -> None:
    """A second for an experiment, counted from when it was true; for ever for an assignment."""
    now = [100.0]
    cache = InProcessCache(now=lambda: now[0])
    cache.put("client", EXPERIMENT, ("e",), things.experiment(), age=0.25)
    cache.put("client", ASSIGNMENT, ("u", "e"), things.assignment("u"), age=0.25)

    seen = []
    for moment in (100.74, 100.75, 1e9):
        now[0] = moment
        seen.append((cache.fresh("client", EXPERIMENT, ("e",)), cache.fresh("client", ASSIGNMENT, ("u", "e"))))

    assert [tuple(each is None for each in found) for found in seen] == [(False, False), (True, False), (True, False)]
    assert cache.remembered("client", EXPERIMENT, ("e",)) == things.experiment()


def test_a_process_forgets_what_it_has_not_used_for_longest() -> None:
    """Memory is bounded."""
    cache = InProcessCache(entries=2)
    for number in (1, 2):
        cache.put("client", ASSIGNMENT, (f"u{number}", "e"), things.assignment(f"u{number}"))
    cache.remembered("client", ASSIGNMENT, ("u1", "e"))
    cache.put("client", ASSIGNMENT, ("u3", "e"), things.assignment("u3"))

    assert [cache.remembered("client", ASSIGNMENT, (f"u{n}", "e")) is None for n in (1, 2, 3)] == [False, True, False]


# What else may be in a server


def envelope(place: str, content: bytes) -> bytes:
    """A value as it would stand under a key."""
    return msgspec.json.encode((place, msgspec.Raw(content)))


SPOILT: dict[str, Callable[[str, bytes], bytes]] = {
    "nothing": lambda *_: b"",
    "null": lambda *_: b"null",
    "a text": lambda *_: b'"text"',
    "pickle": lambda *_: pickle.dumps(things.assignment().user_id),
    "no JSON": lambda *_: b"\xff" * 1_000_000,
    "a copy without its key": lambda _, content: content,
    "half of it": lambda place, content: envelope(place, content)[:-1],
    "a key without a copy": lambda place, _: envelope(place, b"null"),
    "a list": lambda place, _: envelope(place, b"[]"),
    "a deep list": lambda place, _: envelope(place, b"[" * 9_999 + b"]" * 9_999),
    "another key": lambda place, content: envelope(place[:-1], content),
    "another client": lambda place, content: envelope(place.replace("client", "other"), content),
    "another kind": lambda place, _: envelope(place, EXPERIMENT.codec.encode(things.experiment())),
    "another type": lambda place, content: envelope(place, content.replace(b'"variant":0', b'"variant":"0"')),
    "a field more": lambda place, content: envelope(place, content.replace(b"{", b'{"more":1,', 1)),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
async def test_a_value_that_is_none_of_ours_is_missing(shared: Bench, spoil: Callable[[str, bytes], bytes]) -> None:
    """Whatever somebody wrote there; the next copy takes its place."""
    cache, user = shared.process(), new()
    place, assignment = place_of("client", ASSIGNMENT, (user, "e")), things.assignment(user)
    content = ASSIGNMENT.codec.encode(assignment)
    shared.ask("SET", place, spoil(place, content))

    found = await cache.get("client", ASSIGNMENT, (user, "e"))
    cache.put("client", ASSIGNMENT, (user, "e"), assignment)
    await shared.settled()

    assert found is None
    assert await shared.process().get("client", ASSIGNMENT, (user, "e")) == assignment
    assert shared.ask("GET", place) == envelope(place, content)


async def test_a_key_of_another_sort_is_missing_and_overwritten(shared: Bench) -> None:
    """A list is no value; whoever asks meanwhile gets an answer, and no error."""
    cache, user = shared.process(), new()
    place, assignment = place_of("client", ASSIGNMENT, (user, "e")), things.assignment(user)
    shared.ask("RPUSH", place, "x")

    found = await cache.get("client", ASSIGNMENT, (user, "e"))
    cache.put("client", ASSIGNMENT, (user, "e"), assignment)
    await shared.settled()

    assert found is None
    assert await shared.process().get("client", ASSIGNMENT, (user, "e")) == assignment


# How long, and how many


async def test_assignments_end_by_themselves_and_not_together(shared: Bench) -> None:
    """After a day ± 10 %."""
    cache, run = shared.process(), new()
    users = [f"{run}{number}" for number in range(50)]
    for user in users:
        cache.put("client", ASSIGNMENT, (user, "e"), things.assignment(user))
    await shared.settled()

    kept = [shared.ask("PTTL", place_of("client", ASSIGNMENT, (user, "e"))) for user in users]

    assert all(0.9 * 86_400_000 - 20_000 <= left <= 1.1 * 86_400_000 for left in kept)
    assert len(set(kept)) > 40


@pytest.mark.parametrize(("age", "most"), [(0, 1_000), (0.5, 500), (0.99, None)])
@punctual
async def test_an_experiment_ends_a_second_after_it_was_true(shared: Bench, age: float, most: int | None) -> None:
    """On the server's clock, which runs as fast as ours; what is too old is not sent at all."""
    cache, name = shared.process(), new()
    cache.put("client", EXPERIMENT, (name,), things.experiment(), age)
    await shared.settled()

    left = shared.ask("PTTL", place_of("client", EXPERIMENT, (name,)))

    if most is not None and left == -2:
        raise Late("it was looked for when it had ended")
    assert left == -2 if most is None else 0 < left <= most


async def test_many_who_ask_at_one_moment_share_round_trips(shared: Bench) -> None:
    """A thousand users on a server whose process has just started: nobody is turned away, and one connection is enough."""
    first, run = shared.process(), new()
    keys: list[Key] = [(f"{run}{number}", "e") for number in range(1_000)]
    for user, _ in keys:
        first.put("client", ASSIGNMENT, (user, "e"), things.assignment(str(user)))
    await shared.settled()
    second = shared.process()
    assert isinstance(second, TwoTierCache)
    trips = 0
    answer = second._server.answer

    async def counted(ask: Callable[[], Any]) -> Any:
        nonlocal trips
        trips += 1
        return await answer(ask)

    second._server.answer = counted  # type: ignore[method-assign]
    found = await asyncio.gather(*(user_in(second, "client", key) for key in keys))

    assert found == [user for user, _ in keys]
    assert trips <= 1 + len(keys) / tiers.GROUP


async def test_who_wants_the_same_at_one_moment_shares_the_answer(shared: Bench) -> None:
    """One question to the server, one copy decoded."""
    first, name = shared.process(), new()
    first.put("client", LASTING, (name,), things.experiment())
    await shared.settled()
    second = shared.process()

    found: list[Any] = []

    async def ask() -> None:
        found.append(await second.get("client", LASTING, (name,)))

    await asyncio.gather(*(ask() for _ in range(100)))

    assert found[0] == things.experiment()
    assert all(each is found[0] for each in found)
