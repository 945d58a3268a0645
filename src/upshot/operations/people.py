"""People: accounts and their roles, invitations, passwords.

An account is made with an invitation, a link that is good once and for a day, by which its owner chooses a password that nobody
else knows; a program that makes accounts may give one instead. The first admin of a new installation comes in the same way, or by
`upshot user create`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from upshot.access import Caller, Role, system
from upshot.access.keys import digest_of
from upshot.access.sessions import INVITATION_LIFETIME, SECRET_LETTERS, Invitation
from upshot.access.users import User, email_of, faults_of
from upshot.clock import new_letters
from upshot.control import Credential, Transaction
from upshot.errors import Conflict, Fault, Forbidden, Invalid, NotFound, Unauthenticated
from upshot.operations import Stores, audit


@dataclass(frozen=True, slots=True)
class Wanted:
    """A person who is to have an account."""

    email: str
    name: str
    role: Role


async def create(
    stores: Stores, caller: Caller, wanted: Wanted, password: str | None = None
) -> tuple[User, str | None]:
    """A new account; without a password, with the secret of an invitation to choose one, shown once.

    Raises:
        Invalid: the address, the name or the password breaks a rule.
        Conflict: the client has an account with that address.
    """
    now = stores.clock.now()
    user = _new(wanted, stores.clock.new_id(), now)
    if password is not None:
        user = replace(user, password=await _hashed(stores, user, password))
    async with stores.control.transaction(caller.client) as transaction:
        await transaction.accounts.add_user(caller.client, user)
        await audit.note(transaction, caller, "user.created", ("user", user.id), now, after=shown(user))
        return user, None if password else await _invite(transaction, caller.client, user.role, user.id, now)


async def every(stores: Stores, client: str) -> list[User]:
    """All people of the client, by address."""
    async with stores.control.reading(client) as transaction:
        return await transaction.accounts.users(client)


async def read(stores: Stores, client: str, user_id: str) -> User:
    """One person.

    Raises:
        NotFound: the client has no such person.
    """
    async with stores.control.reading(client) as transaction:
        return _found(await transaction.accounts.user(client, user_id))


async def change(stores: Stores, caller: Caller, user_id: str, changes: Mapping[str, Any]) -> User:
    """A person with another `name` or `role`, or `disabled` or not. A change of what they may do ends their sessions.

    Raises:
        NotFound: the client has no such person.
        Conflict: it would leave the client without an admin.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        everybody = await transaction.accounts.users(caller.client)
        user = _found(next((one for one in everybody if one.id == user_id), None))
        changed = _changed(user, changes, now)
        if faults := faults_of(changed.email, changed.name):
            raise Invalid.of(*faults)
        if (changed.role, changed.disabled_at) != (user.role, user.disabled_at):
            _check_admins([changed if one.id == user_id else one for one in everybody])
            changed = replace(changed, not_before=now)
            await transaction.accounts.revoke_sessions(caller.client, user_id, now)
        await transaction.accounts.save_user(caller.client, changed)
        before, after = shown(user), shown(changed)
        await audit.note(transaction, caller, "user.changed", ("user", user_id), now, before=before, after=after)
    return changed


async def remove(stores: Stores, caller: Caller, user_id: str) -> None:
    """Remove a person; their sessions end.

    Raises:
        NotFound: the client has no such person.
        Conflict: it would leave the client without an admin.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        everybody = await transaction.accounts.users(caller.client)
        user = _found(next((one for one in everybody if one.id == user_id), None))
        _check_admins([one for one in everybody if one.id != user_id])
        await transaction.accounts.delete_user(caller.client, user_id)
        await audit.note(transaction, caller, "user.removed", ("user", user_id), now, before=shown(user))


async def invite(stores: Stores, caller: Caller, user_id: str) -> str:
    """The secret of an invitation for a person to choose a new password; earlier ones are void.

    Raises:
        NotFound: the client has no such person.
        Conflict: they sign in by a provider; a password would be a way around what that one asks for.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        user = _found(await transaction.accounts.user(caller.client, user_id))
        if user.subject is not None:
            raise Conflict("This person signs in by the provider; there is no password beside it.")
        await audit.note(transaction, caller, "user.invited", ("user", user_id), now)
        return await _invite(transaction, caller.client, user.role, user_id, now)


async def first_invitation(stores: Stores, client: str) -> str | None:
    """The secret of an invitation for the first admin of a client; None where it has people already."""
    now = stores.clock.now()
    async with stores.control.transaction(client) as transaction:
        if await transaction.accounts.users(client):
            return None
        return await _invite(transaction, client, Role.ADMIN, None, now)


async def accept(
    stores: Stores, secret: str, password: str, email: str | None = None, name: str = ""
) -> tuple[str, User]:
    """Take up an invitation: choose a password, and as the first admin an address. Returns the client and the account.

    Raises:
        Unauthenticated: the invitation is not one of ours, or was taken up, or is too old.
        Invalid: the password, the address or the name breaks a rule.
    """
    now, digest = stores.clock.now(), digest_of(secret)
    client = await stores.control.owner(Credential.INVITATION, digest)
    if client is None:
        raise _no_invitation()
    async with stores.control.reading(client) as view:
        invitation = await view.accounts.invitation(client, digest)
        known = await view.accounts.user(client, invitation.user_id) if invitation and invitation.user_id else None
    if invitation is None or not invitation.open(now):
        raise _no_invitation()
    if known is None and email is None:
        raise Invalid.of(Fault("/email", "missing", "the first admin says an address"))
    user = known or _new(Wanted(email or "", name, Role(invitation.role)), stores.clock.new_id(), now)
    user = replace(user, password=await _hashed(stores, user, password), updated_at=now, not_before=now)
    async with stores.control.transaction(client) as transaction:
        if not await transaction.accounts.take_invitation(client, digest, now):
            raise _no_invitation()
        if known is None:
            if await transaction.accounts.users(client):
                raise _no_invitation()  # the first admin came by another way, and this link is on somebody's screen
            await transaction.accounts.add_user(client, user)
        else:
            fresh = _found(await transaction.accounts.user(client, user.id))
            user = replace(fresh, password=user.password, updated_at=now, not_before=now)
            await transaction.accounts.save_user(client, user)
            await transaction.accounts.revoke_sessions(client, user.id, now)
        caller = system(client, "invitation")
        await audit.note(transaction, caller, "user.joined", ("user", user.id), now, after=shown(user))
    return client, user


async def change_password(stores: Stores, caller: Caller, current: str, wanted: str) -> None:
    """Give the caller a new password; all their other sessions end.

    Raises:
        Forbidden: the caller is no person with a password, or the current one is another.
        Invalid: the new one breaks a rule.
    """
    user = await read(stores, caller.client, caller.id)
    if not await stores.passwords.verify(user.password, current):
        raise Forbidden("The current password is another one.")
    now = stores.clock.now()
    kept = await _hashed(stores, user, wanted)
    async with stores.control.transaction(caller.client) as transaction:
        fresh = _found(await transaction.accounts.user(caller.client, user.id))
        if fresh.password != user.password:
            raise Forbidden("The current password is another one.")
        await transaction.accounts.save_user(caller.client, replace(fresh, password=kept, updated_at=now))
        await transaction.accounts.revoke_sessions(caller.client, user.id, now, spare=caller.session)
        await audit.note(transaction, caller, "user.password_changed", ("user", user.id), now)


async def forget_ended(stores: Stores, before: datetime) -> int:
    """Remove what is left of sign-ins and invitations that ended before that moment, of all clients; returns how many."""
    gone = 0
    for client in await stores.control.clients():
        async with stores.control.transaction(client) as transaction:
            gone += await transaction.accounts.forget_sessions(client, before)
    return gone


def shown(user: User) -> dict[str, Any]:
    """What the audit log says of an account: never its password."""
    return {
        "email": user.email,
        "name": user.name,
        "role": str(user.role),
        "disabled": user.disabled_at is not None,
        "second_factor": user.second_factor,
    }


def _new(wanted: Wanted, user_id: str, now: datetime) -> User:
    email = email_of(wanted.email)
    if faults := faults_of(email, wanted.name):
        raise Invalid.of(*faults)
    return User(user_id, email, wanted.name, wanted.role, None, None, now, now, now)


def _changed(user: User, changes: Mapping[str, Any], now: datetime) -> User:
    fields = {name: changes[name] for name in ("name", "role") if changes.get(name) is not None}
    if changes.get("disabled") is not None:
        fields["disabled_at"] = (user.disabled_at or now) if changes["disabled"] else None
    return replace(user, **fields, updated_at=now)


async def _hashed(stores: Stores, user: User, password: str) -> str:
    if fault := await stores.passwords.fault_of(password, user.email, user.name):
        raise Invalid.of(Fault("/password", *fault))
    return await stores.passwords.hash(password)


async def _invite(transaction: Transaction, client: str, role: Role, user_id: str | None, now: datetime) -> str:
    secret = new_letters(SECRET_LETTERS)
    invitation = Invitation(digest_of(secret), role, user_id, now, now + INVITATION_LIFETIME)
    await transaction.accounts.add_invitation(client, invitation)
    return secret


def _check_admins(everybody: list[User]) -> None:
    if not any(user.role is Role.ADMIN and user.disabled_at is None for user in everybody):
        raise Conflict("The client needs at least one admin who is not disabled.")


def _found(user: User | None) -> User:
    if user is None:
        raise NotFound("There is no such person.")
    return user


def _no_invitation() -> Unauthenticated:
    return Unauthenticated("This invitation is not valid any more; ask an admin for another one.")
