"""API keys: make, list, rotate, revoke. A key is shown once; of it the store keeps a digest."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from upshot.access import Caller, Scope
from upshot.access.keys import (
    ACTIVE_AT_ONCE,
    ID_LENGTH,
    LIFETIME,
    OVERLAP,
    SECRET_LENGTH,
    ApiKey,
    digest_of,
    faults_of,
    written,
)
from upshot.clock import new_letters
from upshot.control import Transaction
from upshot.errors import Conflict, Fault, Forbidden, Invalid, NotFound
from upshot.operations import Stores, audit


async def create(
    stores: Stores,
    caller: Caller,
    *,
    name: str,
    scopes: frozenset[Scope],
    origins: tuple[str, ...] = (),
    lifetime: timedelta | None = LIFETIME,
) -> tuple[ApiKey, str]:
    """A new key, and its text, which nobody can be shown again. `lifetime` None is for ever.

    Raises:
        Invalid: the name, the scopes or the origins break a rule.
        Forbidden: the caller would give away more than the caller has.
        Conflict: an active key has that name; it can be rotated.
    """
    if faults := faults_of(name, scopes, origins):
        raise Invalid.of(*faults)
    if beyond := sorted(scope for scope in scopes if not caller.may(scope)):
        raise Forbidden(f"You cannot give what you do not have: {', '.join(beyond)}.")
    now = stores.clock.now()
    expires_at = None if lifetime is None else now + lifetime
    key, text = _made(name, scopes, origins, caller, now, expires_at)
    async with stores.control.transaction(caller.client) as transaction:
        if await _active(transaction, caller.client, name, now):
            raise Conflict("An active key has this name; rotate it, or revoke it first.")
        await transaction.accounts.add_key(caller.client, key)
        await audit.note(transaction, caller, "api_key.created", ("api_key", key.id), now, after=_shown(key))
    return key, text


async def every(stores: Stores, client: str) -> list[ApiKey]:
    """All keys of the client, the newest first."""
    async with stores.control.reading(client) as transaction:
        return await transaction.accounts.keys(client)


async def read(stores: Stores, client: str, key_id: str) -> ApiKey:
    """One key.

    Raises:
        NotFound: the client has no such key.
    """
    async with stores.control.reading(client) as view:
        return _found(await view.accounts.key(client, key_id))


async def rotate(stores: Stores, caller: Caller, key_id: str, overlap: timedelta = OVERLAP) -> tuple[ApiKey, str]:
    """A new key that is good for the same, and its text; the old one is good for `overlap` more, so that both can be in use.

    Raises:
        NotFound: the client has no such key.
        Conflict: the key is no longer active, or two of its name are.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        old = _found(await transaction.accounts.key(caller.client, key_id))
        if not old.active(now):
            raise Conflict("Only an active key can be rotated; make a new one.")
        if len(await _active(transaction, caller.client, old.name, now)) >= ACTIVE_AT_ONCE:
            raise Conflict(f"{ACTIVE_AT_ONCE} keys of this name are active already; revoke one first.")
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        expires_at = None if lifetime is None else now + lifetime
        key, text = _made(old.name, old.scopes, old.origins, caller, now, expires_at)
        ends = min(now + overlap, old.expires_at or now + overlap)
        await transaction.accounts.save_key(caller.client, replace(old, expires_at=ends))
        await transaction.accounts.add_key(caller.client, key)
        after = _shown(key) | {"replaces": old.id, "old_expires_at": ends.isoformat()}
        await audit.note(transaction, caller, "api_key.rotated", ("api_key", key.id), now, after=after)
    return key, text


async def revoke(stores: Stores, caller: Caller, key_id: str) -> None:
    """End a key; every process refuses it within 5 seconds. One that has ended stays so.

    Raises:
        NotFound: the client has no such key.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        key = _found(await transaction.accounts.key(caller.client, key_id))
        if key.revoked_at is None:
            await transaction.accounts.save_key(caller.client, replace(key, revoked_at=now))
            await audit.note(transaction, caller, "api_key.revoked", ("api_key", key.id), now, before=_shown(key))


def lifetime_of(days: int | None) -> timedelta | None:
    """A lifetime in days; None is for ever.

    Raises:
        Invalid: it is not within 1 to 3,650 days.
    """
    if days is None:
        return None
    if not 1 <= days <= 3_650:
        raise Invalid.of(Fault("/expires_in_days", "out_of_range", "must lie within 1 and 3650"))
    return timedelta(days=days)


def _made(
    name: str,
    scopes: frozenset[Scope],
    origins: tuple[str, ...],
    caller: Caller,
    now: datetime,
    expires_at: datetime | None,
) -> tuple[ApiKey, str]:
    key_id = new_letters(ID_LENGTH)
    text = written(key_id, new_letters(SECRET_LENGTH))
    key = ApiKey(key_id, name, scopes, origins, digest_of(text), text[-4:], caller.id, now, expires_at)
    return key, text


async def _active(transaction: Transaction, client: str, name: str, now: datetime) -> list[ApiKey]:
    return [key for key in await transaction.accounts.keys(client) if key.name == name and key.active(now)]


def _found(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise NotFound("There is no such key.")
    return key


def _shown(key: ApiKey) -> dict[str, Any]:
    expires_at = key.expires_at and key.expires_at.isoformat()
    return {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "origins": list(key.origins),
        "expires_at": expires_at,
    }
