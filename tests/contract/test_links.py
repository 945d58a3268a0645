"""Links in the control store: one step, for good, with the first assignment, whoever links at the same moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import insert, null
from tests.contract.databases import fresh, migrated, standing
from tests.contract.test_control import NOW, Opened, added, given, opened, store

from upshot.access import EVERYONE
from upshot.assignment import Assignment
from upshot.control import ControlStore, Linking, OutboxEntry, Verdict, entries, sqlidentities
from upshot.control.sqlidentities import SqlIdentities
from upshot.control.tables import outbox
from upshot.events import CROSSOVER, IDENTITY_CONFLICT, OVERRIDE, Exposure, Withdrawal, micros

__all__ = ["fresh", "migrated", "opened", "standing", "store"]

LATER = NOW + timedelta(hours=1)


async def linked(store: ControlStore, *links: tuple[str, str], client: str = "one") -> list[Verdict]:
    """What becomes of links."""
    return [linking.verdict for linking in await store.link(client, links, NOW)]


async def rows(store: ControlStore, numbers: Sequence[int], own: str, client: str = "one") -> list[Assignment | None]:
    """What is stored of an id."""
    async with store.reading(EVERYONE) as view:
        return await view.assignments(client, [(number, own) for number in numbers])


async def left(store: ControlStore) -> OutboxEntry:
    """All that waits in the outbox, put together."""
    waiting = [entry for _, entry in await store.outbox(1_000)]
    return OutboxEntry(
        [exposure for entry in waiting for exposure in entry.exposures],
        {client: [*pairs] for entry in waiting for client, pairs in entry.links.items()},
        {client: [*gone] for entry in waiting for client, gone in entry.withdrawals.items() if gone},
    )


async def test_a_link_is_for_good_and_in_one_step(store: ControlStore) -> None:
    """To another user it is refused; so is one to an alias, and one of a user with aliases. Clients have their own."""
    assert await linked(store, ("a", "u"), ("b", "u"), ("c", "v")) == [Verdict.LINKED] * 3
    assert await linked(store, ("a", "u"), ("a", "v"), ("d", "a"), ("u", "v"), ("u", "a"), ("d", "v"), ("d", "v")) == [
        Verdict.KNOWN, Verdict.LINKED_ELSEWHERE, Verdict.USER_IS_LINKED, Verdict.ID_IS_A_USER, Verdict.ID_IS_A_USER,
        Verdict.LINKED, Verdict.KNOWN,
    ]  # fmt: skip
    assert await linked(store, ("u", "a"), client="two") == [Verdict.LINKED]
    assert await store.link("one", [], NOW) == []

    async with store.reading(EVERYONE) as view:
        found = await view.identities.users_of("one", ["a", "b", "c", "d", "u", "v", "x", "A"])
        assert found == {"a": "u", "b": "u", "c": "v", "d": "v"}
        assert await view.identities.users_of("two", ["a", "u"]) == {"u": "a"}
        assert await view.identities.users_of("two", []) == {}
    assert sorted(await store.linked_since(NOW)) == [
        ("one", "a", "u"), ("one", "b", "u"), ("one", "c", "v"), ("one", "d", "v"), ("two", "u", "a"),
    ]  # fmt: skip
    assert await store.linked_since(LATER) == []


async def test_the_first_assignment_becomes_the_users(store: ControlStore) -> None:
    """As it was made, exposed or not; one that the user has already stays, with the earlier exposure of the two."""
    numbers = [(await added(store, key=f"e{n}")).number for n in range(5)]
    theirs = (await added(store, client="two", key="theirs")).number
    alone, unseen, both, unexposed, first = numbers
    made = [
        Assignment(alone, "a", 1, 2, NOW, LATER, '{"country":"DE"}'), Assignment(unseen, "a", 1, 1, NOW, None, "{}"),
        Assignment(both, "a", 1, 1, NOW, NOW, "{}"), Assignment(both, "u", 1, 1, LATER, LATER, '{"x":1}'),
        Assignment(unexposed, "a", 0, 1, NOW, NOW, "{}"), Assignment(unexposed, "u", 0, 1, LATER, None, "{}"),
        Assignment(first, "a", 0, 1, LATER, LATER, "{}"), Assignment(first, "u", 0, 1, NOW, NOW, "{}"),
    ]  # fmt: skip
    await store.assign("one", made)
    await store.assign("two", [Assignment(theirs, "a", 1, 1, NOW, NOW, "{}")])
    await store.relayed([entry for entry, _ in await store.outbox(100)])

    assert await store.link("one", [("a", "u")], LATER) == [Linking(Verdict.LINKED)]

    assert await rows(store, numbers, "u") == [
        replace(made[0], user_id="u"), replace(made[1], user_id="u"), replace(made[3], exposed_at=NOW),
        replace(made[5], exposed_at=NOW), made[7],
    ]  # fmt: skip
    assert await rows(store, numbers, "a") == [made[0], made[1], made[2], made[4], made[6]]
    assert await rows(store, [theirs], "u", client="two") == [None]
    told = await left(store)
    assert told.links == {"one": [("a", "u")]}
    assert told.withdrawals == {}
    assert sorted((e.experiment, e.user_id, e.variant, e.exposed_at, e.context) for e in told.exposures) == [
        (alone, "u", 1, micros(LATER), '{"country":"DE"}'), (unexposed, "u", 0, micros(NOW), "{}"),
    ]  # fmt: skip


async def test_who_had_two_variants_keeps_both_and_is_withdrawn(store: ControlStore) -> None:
    """Counted once for each link and experiment; the rows stay as they were, also the exposure."""
    numbers = [(await added(store, key=f"e{n}")).number for n in range(3)]
    made = [Assignment(n, own, variant, 1, NOW, NOW, "{}") for n in numbers for own, variant in (("a", 0), ("b", 1))]
    made += [
        Assignment(numbers[0], "u", 1, 1, LATER, None, "{}"),
        Assignment(numbers[1], "u", 0, 1, LATER, LATER, "{}"),
    ]
    await store.assign("one", made)

    found = await store.link("one", [("a", "u"), ("b", "u"), ("c", "u")], NOW)
    again = await store.link("one", [("a", "u")], NOW)

    assert [linking.conflicts for linking in (*found, *again)] == [1, 2, 0, 0]
    assert await rows(store, numbers, "u") == [
        replace(made[6], exposed_at=NOW), replace(made[7], exposed_at=NOW), replace(made[4], user_id="u"),
    ]  # fmt: skip
    assert await rows(store, numbers, "a") == [made[0], made[2], made[4]]
    gone = (await left(store)).withdrawals["one"]
    assert sorted(gone) == [(number, "u", IDENTITY_CONFLICT) for number in numbers]


async def test_nothing_is_stored_of_an_id_that_is_linked(store: ControlStore) -> None:
    """The answer says whose it is; the others of the group get what they asked for."""
    experiment = await added(store)
    await linked(store, ("a", "u"))

    answers = await store.assign("one", [given(experiment, own, 1) for own in ("x", "a", "u", "a")])

    assert [(kept.user_id, new) for kept, new in answers] == [("x", True), ("u", False), ("u", True), ("u", False)]
    assert await rows(store, [experiment.number], "a") == [None]
    theirs = await added(store, client="two", key="theirs")
    assert [(kept.user_id, new) for kept, new in await store.assign("two", [given(theirs, "a")])] == [("a", True)]


async def test_of_simultaneous_links_one_wins_and_no_chain_comes_about(opened: Opened) -> None:
    """Four processes link the same ids to one another in every way: each id ends as a user or as an alias of one, everywhere."""
    stores = [await opened() for _ in range(4)]
    ids = [f"i{n}" for n in range(6)]
    pairs = [(a, b) for a in ids for b in ids if a != b]

    answers = await asyncio.gather(
        *(
            store.link("one", [pair], NOW)
            for shift, store in enumerate(stores)
            for pair in pairs[shift * 7 :] + pairs[: shift * 7]
        )
    )

    async with stores[0].reading(EVERYONE) as view:
        users = await view.identities.users_of("one", ids)
    assert users
    assert not set(users) & set(users.values())
    won = [linking for [linking] in answers if linking.verdict is Verdict.LINKED]
    assert len(won) == len(users)
    assert sorted(await stores[1].linked_since(NOW)) == sorted(("one", alias, user) for alias, user in users.items())


async def test_links_of_one_id_that_are_not_held_apart_are_noticed(
    store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above would see a store that does not look at what there is."""

    async def blind(_self: SqlIdentities, _ids: object) -> dict[tuple[str, str], str]:
        return {}

    await linked(store, ("a", "u"))
    monkeypatch.setattr(SqlIdentities, "linked", blind)
    monkeypatch.setattr(sqlidentities, "_USER", null().label("linked_to"))
    experiment = await added(store)
    [(kept, new)] = await store.assign("one", [given(experiment, "a")])

    assert (kept.user_id, new) == ("a", True)


async def test_of_a_link_and_assignments_at_the_same_moment_the_user_has_one_row(opened: Opened) -> None:
    """Both processes see the same variant of the user afterwards, and a conflict is one in both stores."""
    stores = [await opened() for _ in range(2)]
    experiment = await added(stores[0])
    users = [f"u{n}" for n in range(30)]
    await stores[0].assign("one", [given(experiment, f"a-{user}", 0) for user in users])

    _, answers = await asyncio.gather(
        asyncio.gather(*(stores[0].link("one", [(f"a-{user}", user)], NOW) for user in users)),
        asyncio.gather(*(stores[1].assign("one", [given(experiment, user, 1)]) for user in users)),
    )

    found = [(await rows(stores[1], [experiment.number], user))[0] for user in users]
    assert [kept.variant for [(kept, _)] in answers] == [row.variant if row else None for row in found]
    told = {user for _, entry in await stores[0].outbox(1_000) for _, user, _ in entry.withdrawals.get("one", ())}
    assert told == {row.user_id for row in found if row and row.variant == 1}


async def test_a_withdrawal_leaves_with_the_transaction_that_asked_for_it(store: ControlStore) -> None:
    """With the client's own; not when it fails."""
    gone = [Withdrawal(1, "u", OVERRIDE), Withdrawal(2, "v", CROSSOVER)]

    async def fail() -> None:
        async with store.transaction("one") as transaction:
            await transaction.withdraw("one", [Withdrawal(3, "w", OVERRIDE)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with store.transaction("one") as transaction:
        await transaction.withdraw("one", gone)
        await transaction.withdraw("one", [])

    [(entry, told)] = await store.outbox(10)
    assert told == OutboxEntry(withdrawals={"one": gone})
    await store.relayed([entry])
    assert await store.outbox(10) == []


async def test_entries_of_the_release_before_are_read(store: ControlStore) -> None:
    """A list of exposures, as it was written then, and as it is written now where there is nothing else."""
    exposures = [Exposure("one", 1, "u", 0, 1, micros(NOW), "{}")]
    async with store.transaction(EVERYONE) as transaction:
        await transaction._connection.execute(insert(outbox).values(exposures=msgspec.json.encode(exposures)))  # type: ignore[attr-defined]

    [(_, told)] = await store.outbox(10)

    assert told == OutboxEntry(exposures)
    assert entries.encoded(told) == msgspec.json.encode(exposures)
