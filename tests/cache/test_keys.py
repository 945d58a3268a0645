"""What things are called on a server: no two alike, whatever people call them, and what is one user's in one place."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from tests.cache import things
from tests.cache.conftest import Bench, user_in
from tests.cache.things import new

from upshot.cache import Key, Kind
from upshot.cache.tiers import place_of
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT

HOSTILE = ["a", "b", "a:b", ":", "a|b", "|", "{a}", "}", "{", "{}", "a b", " ", "%3A", "%", "a%3Ab", "\u00e9", "e\u0301",
           "\ud800", "*", "\r\nFLUSHALL\r\n", "\x00", "upshot:cache:1", "..", "/"]  # fmt: skip

Naming = Callable[[str, Kind[Any], Key], str]


def collisions(naming: Naming, parts: Iterable[tuple[str, Key]]) -> int:
    """How many different things have a key that another one has."""
    things_of: dict[str, set[tuple[str, str, Key]]] = {}
    kinds: tuple[Kind[Any], ...] = (EXPERIMENT, ASSIGNMENT)
    for (client, key), kind in product(parts, kinds):
        things_of.setdefault(naming(client, kind, key), set()).add((client, kind.name, key))
    return sum(len(meeting) - 1 for meeting in things_of.values())


def joined(client: str, kind: Kind[Any], key: Key) -> str:
    """The negative control: what people wrote as it is, between colons."""
    return ":".join(["upshot:cache:1", kind.name, client, *map(str, key)])


HOSTILE_PARTS = [(client, (user, other)) for client, user, other in product(HOSTILE, HOSTILE, ("a", "a:b", "b"))]


def test_no_two_things_have_one_key() -> None:
    """Whatever clients, users and experiments are called."""
    assert collisions(place_of, HOSTILE_PARTS) == 0


def test_keys_that_are_joined_are_caught() -> None:
    """The check above can fail."""
    assert collisions(joined, HOSTILE_PARTS) > 0


@given(st.lists(st.tuples(st.text(), st.tuples(st.text(), st.text())), max_size=20))
def test_no_two_things_have_one_key_whatever_they_are_called(parts: list[tuple[str, Key]]) -> None:
    """The same of any text."""
    assert collisions(place_of, parts) == 0


@given(client=st.text(), user=st.text(), experiments=st.lists(st.text(), min_size=2, max_size=4))
def test_what_is_one_users_is_in_one_slot_of_a_cluster(client: str, user: str, experiments: list[str]) -> None:
    """And keys begin with the version of their form."""
    keys = [place_of(client, ASSIGNMENT, (user, experiment)) for experiment in experiments]

    assert len({key_slot(key.encode()) for key in keys}) == 1
    assert all(key.startswith("upshot:cache:1:assignment.") for key in keys)


async def test_two_clients_with_equal_ids_never_meet(bench: Bench) -> None:
    """Nor do clients and users whose names hold what keys are made of."""
    run = new()
    names = [(f"{client}{run}", user) for client, user in product(HOSTILE, HOSTILE)]
    first = bench.process()
    for number, (client, user) in enumerate(names):
        first.put(client, ASSIGNMENT, (user, "e"), things.assignment(str(number)))
    await bench.settled()
    second = bench.process()

    found = [await user_in(second, client, (user, "e")) for client, user in names]
    foreign = [await user_in(second, client, (user, "other")) for client, user in names]

    assert found == [str(number) for number in range(len(names))]
    assert foreign == [None] * len(names)
