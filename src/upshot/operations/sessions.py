"""Sessions of people: listed, ended by their owner, by an admin, or by another sign-in of the same browser."""

from datetime import timedelta

from upshot.access import Caller, system
from upshot.access.keys import digest_of
from upshot.access.sessions import COOKIE_PREFIX, Session
from upshot.control import Credential
from upshot.errors import Forbidden, NotFound, Unauthenticated
from upshot.operations import Stores, audit

RECENT = timedelta(minutes=15)


async def sign_out(stores: Stores, caller: Caller) -> None:
    """End the caller's session, everywhere within 5 seconds.

    Raises:
        Unauthenticated: the caller is none that signed in.
    """
    if caller.session is None:
        raise Unauthenticated("Only a person who signed in can sign out; keys are revoked.")
    await end(stores, caller, caller.id, caller.session)


async def leave(stores: Stores, cookie: str) -> None:
    """End the session that a browser gives up for another one; what is no cookie of a session is left alone."""
    now, digest = stores.clock.now(), digest_of(cookie)
    client = await stores.control.owner(Credential.SESSION, digest) if cookie.startswith(COOKIE_PREFIX) else None
    if client is None:
        return
    async with stores.control.transaction(client) as transaction:
        session = await transaction.accounts.session_with(client, digest)
        if session is not None and session.active(now):
            await transaction.accounts.revoke_session(client, session.id, now)
            caller = system(client, "another sign-in")
            await audit.note(transaction, caller, "session.ended", ("session", session.id), now)


async def every(stores: Stores, client: str, user_id: str) -> list[Session]:
    """The sessions of a person that are good now."""
    now = stores.clock.now()
    async with stores.control.reading(client) as view:
        found = await view.accounts.sessions(client, user_id)
    return [session for session in found if session.active(now)]


async def end(stores: Stores, caller: Caller, user_id: str, session_id: str) -> None:
    """End one session of a person.

    Raises:
        NotFound: the person has no such session.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        session = await transaction.accounts.session(caller.client, session_id)
        if session is None or session.user_id != user_id:
            raise NotFound("There is no such session.")
        await transaction.accounts.revoke_session(caller.client, session_id, now)
        await audit.note(transaction, caller, "session.ended", ("session", session_id), now)


async def end_own(stores: Stores, caller: Caller, session_id: str) -> None:
    """End a session of the caller's: this one, or after a sign-in of the last 15 minutes another one. Whoever finds a browser
    open is not to lock its owner out.

    Raises:
        NotFound: the caller has no such session.
        Forbidden: it is another one, and the sign-in is older.
    """
    if session_id != caller.session:
        async with stores.control.reading(caller.client) as view:
            present = await view.accounts.session(caller.client, caller.session or "")
        if present is None or stores.clock.now() - present.created_at > RECENT:
            raise Forbidden("Sign in again to end your other sessions.")
    await end(stores, caller, caller.id, session_id)
