"""Signing in while an admin, or the person elsewhere, changes the account: what is true when it is stored counts."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from tests.callers import somebody

from upshot.access import Role
from upshot.access.passwords import Passwords
from upshot.access.sessions import COOKIE_PREFIX, Means
from upshot.access.users import User
from upshot.control.sqlaccounts import SqlAccounts
from upshot.errors import Conflict, Forbidden, Unauthenticated
from upshot.operations import Stores, people, sessions, signin
from upshot.operations.people import Wanted
from upshot.operations.signin import Known

PASSWORD, OTHER = "four unrelated wordy things", "some other unrelated words"
ANN = "ann@example.com"
PROVIDER = "https://id.example.com 1"

Change = Callable[[Stores, str], Awaitable[object]]


async def disable(stores: Stores, user_id: str) -> None:
    """An admin ends the account."""
    await people.change(stores, somebody("default"), user_id, {"disabled": True})


async def demote(stores: Stores, user_id: str) -> None:
    """An admin takes the role away."""
    await people.change(stores, somebody("default"), user_id, {"role": Role.VIEWER})


async def remove(stores: Stores, user_id: str) -> None:
    """An admin removes the account."""
    await people.remove(stores, somebody("default"), user_id)


async def choose_another(stores: Stores, user_id: str) -> None:
    """The person takes up an invitation and chooses another password."""
    await people.accept(stores, await people.invite(stores, somebody("default"), user_id), OTHER)


@pytest.fixture
async def ann(stores: Stores) -> User:
    """One admin of two."""
    object.__setattr__(stores, "passwords", Passwords(memory_kib=8))
    await people.create(stores, somebody("default"), Wanted("bob@example.com", "Bob", Role.ADMIN), PASSWORD)
    return (await people.create(stores, somebody("default"), Wanted(ANN, "Ann", Role.ADMIN), PASSWORD))[0]


def meanwhile(stores: Stores, monkeypatch: pytest.MonkeyPatch, change: Change, user_id: str) -> None:
    """Let something happen while a password is looked at, which takes as long as a person's click."""
    verify = stores.passwords.verify

    async def slowly(kept: str | None, password: str) -> bool:
        monkeypatch.setattr(stores.passwords, "verify", verify)
        matches = await verify(kept, password)
        await change(stores, user_id)
        return matches

    monkeypatch.setattr(stores.passwords, "verify", slowly)


def stale(monkeypatch: pytest.MonkeyPatch, user: User) -> None:
    """The mutant: whoever reads the account for a change sees it as it was before."""

    async def before(self: SqlAccounts, client: str, user_id: str) -> User:
        return user

    monkeypatch.setattr(SqlAccounts, "user", before)


async def undone(stores: Stores, monkeypatch: pytest.MonkeyPatch, change: Change, user: User) -> bool:
    """Whether a sign-in takes back what was done meanwhile, or is good although it must not be."""
    meanwhile(stores, monkeypatch, change, user.id)
    try:
        signed = await signin.with_password(stores, "default", ANN, PASSWORD, Means.TOKENS)
    except Unauthenticated:
        signed = None
    found = [one for one in await people.every(stores, "default") if one.id == user.id]
    if change is remove:
        return signed is not None or bool(found)
    kept = await stores.passwords.verify(found[0].password, PASSWORD)
    outcomes: dict[Change, bool] = {
        disable: signed is not None or found[0].disabled_at is None,
        demote: found[0].role is not Role.VIEWER or (signed is not None and signed.user.role is not Role.VIEWER),
        choose_another: signed is not None or kept,
    }
    return outcomes[change]


@pytest.mark.parametrize("change", [disable, demote, remove, choose_another])
async def test_a_sign_in_takes_nothing_back(
    stores: Stores, ann: User, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """Neither the end of an account, nor a lesser role, nor a new password that came while the old one was looked at."""
    assert not await undone(stores, monkeypatch, change, ann)


@pytest.mark.parametrize("change", [disable, demote, choose_another])
async def test_a_sign_in_that_stores_what_it_read_before_is_caught(
    stores: Stores, ann: User, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """One whose transaction sees the account as it was when the password was asked for."""
    read = SqlAccounts.user

    async def then(stores: Stores, user_id: str) -> None:
        await change(stores, user_id)
        stale(monkeypatch, ann)

    meanwhile(stores, monkeypatch, then, ann.id)
    signed = await signin.with_password(stores, "default", ANN, PASSWORD, Means.TOKENS)
    monkeypatch.setattr(SqlAccounts, "user", read)
    found = await people.read(stores, "default", ann.id)

    assert signed.user.role is Role.ADMIN
    assert (found.role, found.disabled_at, found.password) == (Role.ADMIN, None, ann.password)


@pytest.mark.parametrize("broken", [False, True])
async def test_an_invitation_takes_nothing_back(
    stores: Stores, ann: User, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """Who was made less, or ended, while a password was chosen stays so; one that stores what it read before is caught."""
    secret = await people.invite(stores, somebody("default"), ann.id)
    hashed = stores.passwords.hash

    async def slowly(password: str) -> str:
        await demote(stores, ann.id)
        await disable(stores, ann.id)
        if broken:
            stale(monkeypatch, ann)
        return await hashed(password)

    monkeypatch.setattr(stores.passwords, "hash", slowly)

    await people.accept(stores, secret, OTHER)

    found = next(user for user in await people.every(stores, "default") if user.id == ann.id)
    assert (found.role is Role.VIEWER and found.disabled_at is not None) is not broken
    assert await stores.passwords.verify(found.password, OTHER)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_password_is_not_changed_twice_with_the_same_one(
    stores: Stores, ann: User, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """Who was slower learns that the current password is another one by now."""

    async def then(stores: Stores, user_id: str) -> None:
        await choose_another(stores, user_id)
        if broken:
            stale(monkeypatch, ann)

    caller = replace(somebody("default"), id=ann.id)
    meanwhile(stores, monkeypatch, then, ann.id)

    with nullcontext() if broken else pytest.raises(Forbidden):
        await people.change_password(stores, caller, PASSWORD, "yet another few words")

    found = next(user for user in await people.every(stores, "default") if user.id == ann.id)
    assert await stores.passwords.verify(found.password, OTHER) is not broken


@pytest.mark.parametrize("broken", [False, True])
async def test_the_first_admins_link_is_void_when_there_is_an_admin(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """However that one came: the link was on a screen, and in a log. One that does not look is caught."""
    secret = await people.first_invitation(stores, "default")
    assert secret is not None
    await people.create(stores, somebody("default"), Wanted("bob@example.com", "Bob", Role.ADMIN))
    every = SqlAccounts.users
    if broken:
        monkeypatch.setattr(SqlAccounts, "users", AsyncMock(return_value=[]))

    with nullcontext() if broken else pytest.raises(Unauthenticated):
        await people.accept(stores, secret, PASSWORD, "eve@example.com")

    monkeypatch.setattr(SqlAccounts, "users", every)
    assert (len(await people.every(stores, "default")) == 1) is not broken


def known(**fields: Any) -> Known:
    """A person as the provider tells of them."""
    return Known(**{"subject": PROVIDER, "email": ANN, "name": "Ann", "role": Role.ADMIN} | fields)


async def test_what_a_provider_changes_is_in_the_audit_log(stores: Stores) -> None:
    """An account that it made, and another role, name or address; a sign-in that changes nothing adds no entry of a change."""
    for told in (known(), known(), known(role=Role.EDITOR, name="Anna", email="anna@example.com")):
        await signin.with_provider(stores, "default", told, Means.COOKIE)

    async with stores.control.reading("default") as view:
        page = await view.accounts.entries("default")
    changes = [(entry.action, entry.actor_name) for entry in page.entries if entry.object_kind == "user"]
    assert changes == [("user.changed", "provider"), ("user.joined", "provider")]
    assert page.entries[1].after == {"email": "anna@example.com", "name": "Anna", "role": "editor"}


async def test_an_address_of_somebody_else_is_not_taken_over(stores: Stores) -> None:
    """Neither at the first sign-in nor when the provider knows the person by another address later."""
    await people.create(stores, somebody("default"), Wanted("bob@example.com", "Bob", Role.ADMIN))
    await signin.with_provider(stores, "default", known(), Means.COOKIE)

    for told in (known(subject="another"), known(email="bob@example.com")):
        with pytest.raises(Unauthenticated):
            await signin.with_provider(stores, "default", told, Means.COOKIE)

    assert {user.email: user.subject is None for user in await people.every(stores, "default")} == {
        ANN: False, "bob@example.com": True,
    }  # fmt: skip


async def test_who_signs_in_by_a_provider_gets_no_password_beside_it(stores: Stores) -> None:
    """It would be a way around a second factor that the provider asks for."""
    signed = await signin.with_provider(stores, "default", known(), Means.COOKIE)

    with pytest.raises(Conflict):
        await people.invite(stores, somebody("default"), signed.user.id)


async def test_who_signs_in_anew_leaves_the_session_that_the_browser_had(stores: Stores, ann: User) -> None:
    """Its cookie is good for nothing from then on; other sessions, and what is no cookie, are left alone."""
    mine, other = [await signin.with_password(stores, "default", ANN, PASSWORD, Means.COOKIE) for _ in range(2)]
    program = await signin.with_password(stores, "default", ANN, PASSWORD, Means.TOKENS)

    for secret in (mine.secret, program.secret, COOKIE_PREFIX + "nobody's", "x"):
        await sessions.leave(stores, secret)

    left = {session.id for session in await sessions.every(stores, "default", ann.id)}
    assert left == {other.session.id, program.session.id}
