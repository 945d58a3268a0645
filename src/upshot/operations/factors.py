"""Second factors: shown, confirmed by a first code, asked for at every sign-in by password, taken off.

A person sets one up while signing in, because they want to or because the client's admins require it: `signin.set_up` takes the
password and shows a secret, and the sign-in that brings its first code confirms it and shows the recovery codes. Whoever sets one
up or takes it off ends all other sessions.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from upshot.access import Caller, Kind
from upshot.access import factors as codes
from upshot.access.factors import Factor
from upshot.access.users import User
from upshot.control import Transaction
from upshot.errors import (
    Conflict,
    Forbidden,
    NotFound,
    SecondFactorMissing,
    SecondFactorNeeded,
    Unauthenticated,
)
from upshot.operations import Stores, approvals, audit

_SEND = "Send the code that your authenticator app shows, or a recovery code."
_WRONG = "This code is not good; each is good once and for half a minute."


@dataclass(frozen=True, slots=True)
class Asked:
    """Whether somebody who knows the password has shown the second factor: why not, or the person as they are from now on, and
    the recovery codes where this code confirmed it."""

    user: User
    refusal: Unauthenticated | None = None
    recovery_codes: tuple[str, ...] = ()


async def ask(stores: Stores, transaction: Transaction, client: str, user: User, code: str | None) -> Asked:
    """Ask somebody who knows the password for the second factor. A wrong code counts: whoever asks stores the person."""
    factor, now = user.factor, stores.clock.now()
    if factor is None or (factor.confirmed_at is None and code is None):
        required = (await approvals.chosen(transaction, client))["second_factor"]
        return Asked(user, SecondFactorMissing("Set up a second factor first.") if required else None)
    if code is None:
        return Asked(user, SecondFactorNeeded(_SEND))
    passed = codes.used(factor, stores.keyring.open(factor.secret), code, now)
    if passed is None:
        return Asked(replace(user, factor=replace(factor, wrong=factor.wrong + 1)), SecondFactorNeeded(_WRONG))
    if factor.confirmed_at is None:
        return await _confirmed(transaction, client, user, passed, now)
    if len(passed.recovery) < len(factor.recovery):
        await audit.note(transaction, _person(client, user), "user.recovery_code_used", ("user", user.id), now)
    return Asked(replace(user, factor=passed))


async def renew(stores: Stores, caller: Caller, code: str) -> list[str]:
    """New recovery codes for the caller, shown once; the old ones are void. Raises as `take_off`."""
    fresh, now = codes.new_recovery_codes(), stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        user, passed = await _shown(stores, transaction, caller, code)
        if passed is not None:
            renewed = replace(user, factor=codes.with_recovery(passed, fresh), updated_at=now)
            await transaction.accounts.save_user(caller.client, renewed)
            await audit.note(transaction, caller, "user.recovery_codes_renewed", ("user", user.id), now)
    if passed is None:
        raise Forbidden(_WRONG)
    return fresh


async def take_off(stores: Stores, caller: Caller, code: str) -> None:
    """Take off the caller's second factor; their other sessions end.

    Raises:
        NotFound: there is none.
        Forbidden: the code is not good.
        Conflict: the client requires one.
    """
    async with stores.control.transaction(caller.client) as transaction:
        user, passed = await _shown(stores, transaction, caller, code)
        if passed is not None:
            if (await approvals.chosen(transaction, caller.client))["second_factor"]:
                raise Conflict("This client requires a second factor.")
            await _taken_off(stores, transaction, caller, user)
    if passed is None:
        raise Forbidden(_WRONG)


async def reset(stores: Stores, caller: Caller, user_id: str) -> None:
    """Take off a person's second factor, who has lost the device and the recovery codes; their sessions end.

    Raises:
        NotFound: there is no such person, or they have none.
    """
    async with stores.control.transaction(caller.client) as transaction:
        user = await transaction.accounts.user(caller.client, user_id)
        if user is None or user.factor is None:
            raise NotFound("There is no such person, or no second factor.")
        await _taken_off(stores, transaction, caller, user)


async def _confirmed(transaction: Transaction, client: str, user: User, passed: Factor, now: datetime) -> Asked:
    fresh = codes.new_recovery_codes()
    factor = codes.with_recovery(replace(passed, confirmed_at=now), fresh)
    await transaction.accounts.revoke_sessions(client, user.id, now)
    await audit.note(transaction, _person(client, user), "user.second_factor_added", ("user", user.id), now)
    return Asked(replace(user, factor=factor, updated_at=now), recovery_codes=tuple(fresh))


async def _shown(stores: Stores, transaction: Transaction, caller: Caller, code: str) -> tuple[User, Factor | None]:
    """The caller, and the second factor when the code has been used; of a wrong code None, and that it was tried is stored."""
    user = await transaction.accounts.user(caller.client, caller.id)
    if user is None or user.factor is None or user.factor.confirmed_at is None:
        raise NotFound("There is no second factor.")
    passed = codes.used(user.factor, stores.keyring.open(user.factor.secret), code, stores.clock.now())
    if passed is None:
        tried = replace(user, factor=replace(user.factor, wrong=user.factor.wrong + 1))
        await transaction.accounts.save_user(caller.client, tried)
    return user, passed


async def _taken_off(stores: Stores, transaction: Transaction, caller: Caller, user: User) -> None:
    now = stores.clock.now()
    await transaction.accounts.save_user(caller.client, replace(user, factor=None, updated_at=now))
    await transaction.accounts.revoke_sessions(caller.client, user.id, now, spare=caller.session)
    await audit.note(transaction, caller, "user.second_factor_taken_off", ("user", user.id), now)


def _person(client: str, user: User) -> Caller:
    return Caller(client, Kind.USER, user.id, user.email, frozenset())
