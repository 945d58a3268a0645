"""Sign in and out: by password or by a provider; programs get tokens, browsers a cookie.

Whatever is wrong with a sign-in, the answer is the same and takes as long. A refresh token is good once; one that comes a
second time was taken from somebody, and the whole session ends.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from upshot.access import Caller, Kind, Role, system
from upshot.access.factors import Factor, address_of, new_secret
from upshot.access.keys import digest_of
from upshot.access.sessions import (
    ABSOLUTE,
    COOKIE_PREFIX,
    REFRESH_LIFETIME,
    REFRESH_PREFIX,
    SECRET_LETTERS,
    Means,
    Session,
)
from upshot.access.users import User, email_of, faults_of
from upshot.clock import new_letters
from upshot.control import Credential, Transaction
from upshot.errors import Conflict, Invalid, Unauthenticated
from upshot.operations import Stores, audit, factors
from upshot.operations.people import shown

_ENDED = "This session has ended; sign in again."


@dataclass(frozen=True, slots=True)
class Signed:
    """A sign-in: the person, and what they carry from now on. `secret` is the refresh token or the cookie, shown once, as are the
    recovery codes of a second factor that it confirmed."""

    client: str
    user: User
    session: Session
    secret: str
    access: str
    access_lifetime: timedelta
    recovery_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """A person as a provider knows them: `subject` names them for ever, across addresses."""

    subject: str
    email: str
    name: str
    role: Role


class Replayed(Unauthenticated):
    """A refresh token that was used before; its session has ended just now."""

    def __init__(self, client: str, session: str) -> None:
        super().__init__(_ENDED)
        self.client, self.session = client, session


async def with_password(
    stores: Stores, client: str, email: str, password: str, means: Means, code: str | None = None
) -> Signed:
    """Sign in by address and password, and by a code of the second factor where there is one.

    Raises:
        SecondFactorNeeded: there is one, and no good code.
        SecondFactorMissing: there is none, and the client requires one.
        Unauthenticated: address and password do not belong together, whatever the reason.
        Unavailable: too many sign-ins are under way.
    """
    seen = await _proved(stores, client, email, password)
    outdated = seen.password is not None and stores.passwords.outdated(seen.password)
    kept = await stores.passwords.hash(password) if outdated else seen.password
    async with stores.control.transaction(client) as transaction:
        asked = await factors.ask(stores, transaction, client, await _same(transaction, client, seen), code)
        if asked.refusal is None:
            user = replace(asked.user, password=kept)
            signed = await _begin(stores, transaction, client, user, means, how_of(user))
            return replace(signed, recovery_codes=asked.recovery_codes)
        if code is not None:  # a wrong one counts
            await transaction.accounts.save_user(client, asked.user)
    raise asked.refusal


async def set_up(stores: Stores, client: str, email: str, password: str) -> tuple[str, str]:
    """The secret of a new second factor, and its address for apps; the code of a sign-in confirms it.

    Raises:
        Unauthenticated: address and password do not belong together, whatever the reason.
        Conflict: there is a second factor.
        Unavailable: too many sign-ins are under way.
    """
    seen, secret = await _proved(stores, client, email, password), new_secret()
    async with stores.control.transaction(client) as transaction:
        user = await _same(transaction, client, seen)
        if user.second_factor:
            raise Conflict("There is a second factor; take it off first, or let an admin do it.")
        factor = Factor(stores.keyring.seal(secret), stores.clock.now())
        await transaction.accounts.save_user(client, replace(user, factor=factor))
    return secret, address_of(secret, user.email)


def how_of(user: User) -> str:
    """How a person signs in who has a password, in words."""
    return "password and code" if user.second_factor else "password"


async def with_provider(stores: Stores, client: str, known: Known, means: Means) -> Signed:
    """Sign in whom a provider has vouched for; the account is made at the first time, its role follows the provider.

    Raises:
        Unauthenticated: the account is disabled, or another one has the address.
        Invalid: the provider's address or name breaks a rule.
    """
    subject, email, now = digest_of(known.subject), email_of(known.email), stores.clock.now()
    if faults := faults_of(email, known.name):
        raise Invalid.of(*faults)
    provider = system(client, "provider")
    async with stores.control.transaction(client) as transaction:
        user = await transaction.accounts.user_known_as(client, subject)
        other = await transaction.accounts.user_called(client, email)
        if other is not None and (user is None or other.id != user.id):
            raise Unauthenticated("There is another account with this address; an admin must remove it first.")
        if user is None:
            user = User(stores.clock.new_id(), email, known.name, known.role, None, subject, now, now, now)
            await transaction.accounts.add_user(client, user)
            await audit.note(transaction, provider, "user.joined", ("user", user.id), now, after=shown(user))
        elif user.disabled_at is not None:
            raise Unauthenticated("This account is disabled.")
        else:
            user = await _followed(transaction, provider, user, replace(known, email=email), now)
        return await _begin(stores, transaction, client, user, means, "provider")


async def refresh(stores: Stores, token: str) -> Signed:
    """The next tokens for a refresh token.

    Raises:
        Replayed: it was used before, and its whole session ends.
        Unauthenticated: it is not good any more.
    """
    now, digest = stores.clock.now(), digest_of(token)
    client = await stores.control.owner(Credential.REFRESH, digest) if token.startswith(REFRESH_PREFIX) else None
    if client is None:
        raise _ended()
    async with stores.control.transaction(client) as transaction:
        session = await transaction.accounts.session_with(client, digest)
        if session is None:
            stolen, user = await _end_stolen(transaction, client, digest, now), None
        else:
            stolen, user = None, await _owner(transaction, client, session, now)
        if session is not None and user is not None:
            secret = REFRESH_PREFIX + new_letters(SECRET_LETTERS)
            session = replace(session, digest=digest_of(secret), used_at=now)
            await transaction.accounts.renew_session(client, session, digest)
    if stolen is not None:
        raise Replayed(client, stolen)
    if session is None or user is None:
        raise _ended()
    return _signed(stores, client, user, session, secret, now)


async def _proved(stores: Stores, client: str, email: str, password: str) -> User:
    """The person with that address, whose password it is; `_same` then sees whether that is still so.

    Raises:
        Unauthenticated: they do not belong together, whatever the reason.
        Unavailable: too many sign-ins are under way.
    """
    async with stores.control.reading(client) as view:
        seen = await view.accounts.user_called(client, email_of(email))
    matches = await stores.passwords.verify(seen.password if seen is not None else None, password)
    if seen is None or seen.password is None or not matches or seen.disabled_at is not None:
        raise _no_match()
    return seen


async def _same(transaction: Transaction, client: str, seen: User) -> User:
    """The person whose password was looked at: meanwhile somebody may have ended the account or chosen another one.

    Raises:
        Unauthenticated: somebody has.
    """
    user = await transaction.accounts.user(client, seen.id)
    if user is None or user.disabled_at is not None or user.password != seen.password:
        raise _no_match()
    return user


async def _followed(transaction: Transaction, provider: Caller, user: User, known: Known, now: datetime) -> User:
    """The person as the provider knows them today; another role ends their sessions."""
    followed = replace(user, email=known.email, name=known.name, role=known.role)
    if followed == user:
        return user
    if followed.role is not user.role:
        followed = replace(followed, not_before=now)
        await transaction.accounts.revoke_sessions(provider.client, user.id, now)
    followed, thing = replace(followed, updated_at=now), ("user", user.id)
    await audit.note(transaction, provider, "user.changed", thing, now, before=shown(user), after=shown(followed))
    return followed


async def _begin(stores: Stores, transaction: Transaction, client: str, user: User, means: Means, how: str) -> Signed:
    """A session of a person whom this transaction holds."""
    now, cookie = stores.clock.now(), means is Means.COOKIE
    secret = (COOKIE_PREFIX if cookie else REFRESH_PREFIX) + new_letters(SECRET_LETTERS)
    lifetime = ABSOLUTE if cookie else REFRESH_LIFETIME
    session = Session(stores.clock.new_id(), user.id, means, digest_of(secret), now, now, now + lifetime)
    user = replace(user, signed_in_at=now)
    await transaction.accounts.save_user(client, user)
    await transaction.accounts.add_session(client, session)
    caller, after = Caller(client, Kind.USER, user.id, user.email, frozenset()), {"how": how, "means": str(means)}
    await audit.note(transaction, caller, "session.begun", ("session", session.id), now, after=after)
    return _signed(stores, client, user, session, secret, now)


async def _owner(transaction: Transaction, client: str, session: Session, now: datetime) -> User | None:
    """The person of a session of tokens that is good now."""
    if session.means is not Means.TOKENS or not session.active(now):
        return None
    user = await transaction.accounts.user(client, session.user_id)
    return user if user is not None and user.disabled_at is None else None


async def _end_stolen(transaction: Transaction, client: str, digest: str, now: datetime) -> str | None:
    """End the session whose refresh token had that digest before; returns its id, or None where there was none to end."""
    session = await transaction.accounts.session_without(client, digest)
    if session is None or session.revoked_at is not None:
        return None
    await transaction.accounts.revoke_session(client, session.id, now)
    caller = Caller(client, Kind.SYSTEM, "refresh", "a refresh token that was used before", frozenset())
    await audit.note(transaction, caller, "session.revoked", ("session", session.id), now)
    return session.id


def _signed(stores: Stores, client: str, user: User, session: Session, secret: str, now: datetime) -> Signed:
    access = stores.keyring.issue(client, user.id, session.id, stores.clock.new_id(), now)
    return Signed(client, user, session, secret, access, stores.keyring.lifetime)


def _no_match() -> Unauthenticated:
    return Unauthenticated("The address and the password do not belong together.")


def _ended() -> Unauthenticated:
    return Unauthenticated(_ENDED)
