"""People, keys, sessions, invitations, the audit log and approvals, on SQLite, PostgreSQL and MariaDB."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from tests.contract.databases import NAMES, Fresh, fresh, migrated, standing

from upshot import control
from upshot.access import EVERYONE, Role, Scope
from upshot.access.keys import ApiKey
from upshot.access.sessions import Invitation, Means, Session
from upshot.access.shares import Share
from upshot.access.trail import Approval, Entry, Sought, State
from upshot.access.users import User
from upshot.control import ControlStore, Credential
from upshot.control.store import SqlStore
from upshot.errors import Conflict, Unavailable

__all__ = ["fresh", "migrated", "standing"]

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
LATER = NOW + timedelta(days=1)
ANN = User("u1", "ann@example.com", "Änn 🚀", Role.ADMIN, "$argon2id$x", None, NOW, NOW, NOW)
KEY = ApiKey(
    "k123456789",
    "shop",
    frozenset({Scope.ASSIGN, Scope.EVENTS}),
    ("https://a.example",),
    "d" * 64,
    "wxyz",
    "u1",
    NOW,
    LATER,
)
SESSION = Session("s1", "u1", Means.TOKENS, "a" * 64, NOW, NOW, LATER)
INVITATION = Invitation("i" * 64, "admin", "u1", NOW, LATER)


@pytest.fixture(params=NAMES)
async def store(request: pytest.FixtureRequest, migrated: Fresh) -> AsyncIterator[ControlStore]:
    """A fresh store."""
    opened = await control.connect(migrated(request.param))
    yield opened
    await opened.close()


async def add_ann(store: ControlStore, client: str = "one", user_id: str = "u1") -> User:
    """A person who is stored."""
    ann = replace(ANN, id=user_id)
    async with store.transaction(client) as transaction:
        await transaction.accounts.add_user(client, ann)
    return ann


async def test_links_to_results(store: ControlStore) -> None:
    """By experiment and by digest, of that client only; nobody else takes one back."""
    share = Share("h1", "e1", "e" * 64, "Ann", NOW, LATER)
    newer = replace(share, id="h2", digest="f" * 64, created_at=LATER, expires_at=None)
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_share("one", share)
        await transaction.accounts.add_share("one", newer)
        await transaction.accounts.add_share("one", replace(share, id="h3", experiment_id="e2", digest="0" * 64))
    async with store.transaction("two") as transaction:
        await transaction.accounts.delete_share("two", share.id)
    async with store.reading("one") as view:
        assert await view.accounts.shares("one", "e1") == [newer, share]
        assert await view.accounts.share("one", share.digest) == share
    async with store.reading("two") as view:
        assert await view.accounts.shares("two", "e1") == []
        assert await view.accounts.share("two", share.digest) is None
    async with store.transaction("one") as transaction:
        await transaction.accounts.delete_share("one", share.id)
        assert await transaction.accounts.shares("one", "e1") == [newer]


async def test_a_person_comes_back_as_they_were_stored(store: ControlStore) -> None:
    """By id, address and subject, of that client only."""
    ann = replace(ANN, subject="s" * 64, signed_in_at=NOW, disabled_at=NOW)
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_user("one", ann)

    async with store.reading("one") as view:
        found = view.accounts
        assert await found.user("one", "u1") == ann
        assert await found.user_called("one", ann.email) == ann
        assert await found.user_known_as("one", "s" * 64) == ann
        assert await found.users("one") == [ann]
    async with store.reading("two") as view:
        found = view.accounts
        assert await found.user("two", "u1") is None
        assert await found.user_called("two", ann.email) is None
        assert await found.users("two") == []
    assert await store.clients() == ["one"]


async def test_an_address_is_somebodys_once_per_client(store: ControlStore) -> None:
    """Another client may have it, too."""
    await add_ann(store)
    await add_ann(store, "two", "u2")

    with pytest.raises(Conflict):
        await add_ann(store, "one", "u3")


async def test_a_person_is_changed_and_removed(store: ControlStore) -> None:
    """What was issued to them goes with them; another client cannot do it."""
    ann = await add_ann(store)
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_session("one", SESSION)
        await transaction.accounts.add_invitation("one", INVITATION)
        await transaction.accounts.save_user("one", replace(ann, role=Role.VIEWER))
    async with store.transaction("two") as transaction:
        await transaction.accounts.save_user("two", replace(ann, role=Role.EDITOR))
        await transaction.accounts.delete_user("two", ann.id)

    async with store.transaction("one") as transaction:
        assert await transaction.accounts.user("one", ann.id) == replace(ann, role=Role.VIEWER)
        await transaction.accounts.delete_user("one", ann.id)
        assert await transaction.accounts.users("one") == []
        assert await transaction.accounts.session("one", "s1") is None
        assert await transaction.accounts.invitation("one", "i" * 64) is None


async def test_a_key_comes_back_as_it_was_stored(store: ControlStore) -> None:
    """Its client is found by its id alone, everything else by client and id."""
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_key("one", KEY)
        await transaction.accounts.add_key("one", replace(KEY, id="k2", created_at=LATER, expires_at=None))
        await transaction.accounts.save_key("one", replace(KEY, revoked_at=LATER))
        await transaction.accounts.note_use("one", ["k2"], [], LATER)
        await transaction.accounts.note_use("two", [KEY.id], [], LATER)

    assert await store.owner(Credential.KEY, KEY.id) == "one"
    assert await store.owner(Credential.KEY, "nobody") is None
    async with store.reading("one") as view:
        assert await view.accounts.key("one", KEY.id) == replace(KEY, revoked_at=LATER)
        assert [(key.id, key.last_used_at) for key in await view.accounts.keys("one")] == [
            ("k2", LATER),
            (KEY.id, None),
        ]
    async with store.reading("two") as view:
        assert await view.accounts.key("two", KEY.id) is None
        assert await view.accounts.keys("two") == []


async def test_a_session_is_known_by_what_is_carried_now_and_was_before(store: ControlStore) -> None:
    """After three refreshes the last digest finds it, the earlier ones say that they were used."""
    await add_ann(store)
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_session("one", SESSION)
        for used, following in (("a", "b"), ("b", "c")):
            await transaction.accounts.renew_session(
                "one", replace(SESSION, digest=following * 64, used_at=LATER), used * 64
            )

    assert [await store.owner(Credential.REFRESH, letter * 64) for letter in "abcd"] == ["one", "one", "one", None]
    assert [await store.owner(Credential.SESSION, letter * 64) for letter in "abcd"] == [None, None, "one", None]
    async with store.reading("one") as view:
        assert await view.accounts.session_with("one", "c" * 64) == replace(SESSION, digest="c" * 64, used_at=LATER)
        assert await view.accounts.session_with("one", "a" * 64) is None
        spent = [await view.accounts.session_without("one", letter * 64) for letter in "abcd"]
        assert [found and found.id for found in spent] == ["s1", "s1", None, None]
    async with store.reading("two") as view:
        assert await view.accounts.session_with("two", "c" * 64) is None
        assert await view.accounts.session_without("two", "a" * 64) is None


async def test_sessions_end_and_are_forgotten(store: ControlStore) -> None:
    """One, or all but one; what has ended long ago is removed with its tokens."""
    await add_ann(store)
    async with store.transaction("one") as transaction:
        for name in "abc":
            await transaction.accounts.add_session("one", replace(SESSION, id=name, digest=name * 64))
        await transaction.accounts.renew_session("one", replace(SESSION, id="a", digest="x" * 64), "a" * 64)
        await transaction.accounts.revoke_sessions("two", "u1", NOW)
        await transaction.accounts.revoke_sessions("one", "u1", NOW, spare="c")
        await transaction.accounts.add_invitation("one", INVITATION)
        assert [session.id for session in await transaction.accounts.sessions("one", "u1")] == ["c"]
        assert await transaction.accounts.forget_sessions("two", LATER) == 0
        assert await transaction.accounts.forget_sessions("one", NOW + timedelta(seconds=1)) == 2
        await transaction.accounts.revoke_session("one", "c", LATER)
        assert await transaction.accounts.sessions("one", "u1") == []

    assert await store.owner(Credential.REFRESH, "a" * 64) is None
    async with store.transaction("one") as transaction:
        assert await transaction.accounts.forget_sessions("one", LATER + timedelta(days=1)) == 2


async def test_an_invitation_is_taken_up_once(store: ControlStore) -> None:
    """Also when two take it at the same moment; a later one makes it void."""
    await add_ann(store)
    async with store.transaction("one") as transaction:
        await transaction.accounts.add_invitation("one", replace(INVITATION, digest="o" * 64))
        await transaction.accounts.add_invitation("one", INVITATION)
        await transaction.accounts.add_invitation("one", replace(INVITATION, digest="f" * 64, user_id=None))

    async def take() -> bool:
        async with store.transaction("one") as transaction:
            return await transaction.accounts.take_invitation("one", "i" * 64, NOW)

    assert await store.owner(Credential.INVITATION, "o" * 64) is None
    assert await store.owner(Credential.INVITATION, "f" * 64) == "one"
    assert sorted(await asyncio.gather(*(take() for _ in range(4)))) == [False, False, False, True]


def entry(number: int, **fields: str) -> Entry:
    """An entry of the audit log."""
    made = Entry(
        NOW + timedelta(seconds=number),
        "user",
        "u1",
        "ann",
        "experiment.changed",
        "experiment",
        "e1",
        {"a": 1},
        None,
        "r1",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


async def test_the_audit_log_is_read_in_pages(store: ControlStore) -> None:
    """The newest first, of one object, one actor, one action; of that client only."""
    async with store.transaction("one") as transaction:
        await transaction.accounts.record("one", [entry(number, object_id=f"e{number % 2}") for number in range(5)])
        await transaction.accounts.record("one", [entry(9, actor_id="u2", action="user.created")])
        await transaction.accounts.record("two", [entry(7)])

    async with store.reading("one") as view:
        first = await view.accounts.entries("one", limit=4)
        rest = await view.accounts.entries("one", after=first.following, limit=4)
        mine = [
            await view.accounts.entries("one", Sought(object_id="e1")),
            await view.accounts.entries("one", Sought(actor_id="u2")),
            await view.accounts.entries("one", Sought(action="user.created")),
            await view.accounts.entries("one", Sought(action="nothing")),
        ]
    moments = [found.at for page in (first, rest) for found in page.entries]
    assert moments == sorted(moments, reverse=True)
    assert (len(first.entries), len(rest.entries), rest.following) == (4, 2, None)
    assert replace(first.entries[-1], number=None) == entry(2, object_id="e0")
    assert [len(page.entries) for page in mine] == [3, 1, 1, 0]


async def test_the_audit_log_is_only_added_to(store: ControlStore) -> None:
    """SQLite and PostgreSQL refuse to change or remove an entry, whoever asks; MariaDB has rights for that."""
    assert isinstance(store, SqlStore)
    if store._database.dialect == "mysql":
        pytest.skip("MariaDB: by the rights of the account (docs/security.md)")
    async with store.transaction("one") as transaction:
        await transaction.accounts.record("one", [entry(1)])

    for statement in ("UPDATE audit SET action = 'x'", "DELETE FROM audit"):
        with pytest.raises((Unavailable, Exception), match=r"only added to|cannot serve|refuses") as refused:
            async with store._database.begin(client=EVERYONE) as connection:
                await connection.execute(text(statement))
        assert "only added to" in str(refused.value) + str(refused.value.__cause__)
    async with store.reading("one") as view:
        assert [found.action for found in (await view.accounts.entries("one")).entries] == ["experiment.changed"]


async def test_approvals_and_what_admins_chose(store: ControlStore) -> None:
    """Each comes back as it was stored, of that client only."""
    approval = Approval("a1", "e1", "start", 3, "u1", "ann", NOW)
    async with store.transaction("one") as transaction:
        assert await transaction.accounts.settings("one") == {}
        await transaction.accounts.save_settings("one", {"approvals": ["start"]})
        await transaction.accounts.save_settings("one", {"approvals": ["complete"]})
        await transaction.accounts.add_approval("one", approval)
        decided = replace(approval, state=State.APPROVED, decided_by="u2", decided_by_name="bob", decided_at=LATER)
        await transaction.accounts.save_approval("one", decided)

    async with store.reading("one") as view:
        assert await view.accounts.settings("one") == {"approvals": ["complete"]}
        assert await view.accounts.approval("one", "a1") == decided
        assert await view.accounts.approvals("one", State.PENDING) == []
        assert await view.accounts.approvals("one", experiment_id="e1") == [decided]
    async with store.reading("two") as view:
        assert await view.accounts.approval("two", "a1") is None
        assert await view.accounts.approvals("two") == []
        assert await view.accounts.settings("two") == {}
