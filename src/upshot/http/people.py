"""People over HTTP: accounts of the client, and what everybody may do with their own."""

from typing import Annotated

from fastapi import Depends, Request, Response

from upshot.access import Role
from upshot.http.access import Admin, Person, charge_sign_in, check_passwords
from upshot.http.accounts import (
    InvitationOut,
    NewUserOut,
    PasswordIn,
    UserIn,
    UserOut,
    UserPatch,
    UserSessionOut,
    UserSessionsOut,
    UsersOut,
)
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.securityevents import about
from upshot.http.sessions import CodeIn, RecoveryOut
from upshot.http.stores import StoresOf
from upshot.operations import factors, people
from upshot.operations import sessions as session_operations
from upshot.securitylog import Event

router = Router(tags=["people"], route_class=OnceRoute)
codes = Router(tags=["people"])
"""What takes a code of a second factor, and no key of a request: with one, a refusal would undo that a wrong code counts."""


@router.post("/users", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(UserIn))
async def create(
    caller: Admin,
    stores: StoresOf,
    request: Request,
    wanted: Annotated[UserIn, Depends(reader(UserIn))],
    response: Response,
) -> NewUserOut:
    """Make an account. Without a password the answer holds the secret of an invitation, which is shown once. Where passwords are
    switched off, accounts come by the provider."""
    check_passwords(request)
    person = people.Wanted(wanted.email, wanted.name, Role(wanted.role))
    user, invitation = await people.create(stores, caller, person, wanted.password)
    response.headers["Location"] = f"/users/{user.id}"
    return NewUserOut(**UserOut.of(user).model_dump(), invitation=invitation)


@router.get("/users", responses=problems(403))
async def every(caller: Admin, stores: StoresOf) -> UsersOut:
    """All people of the client, by address."""
    return UsersOut(users=[UserOut.of(user) for user in await people.every(stores, caller.client)])


@router.get("/me", responses=problems(403))
async def me(caller: Person, stores: StoresOf) -> UserOut:
    """One's own account."""
    return UserOut.of(await people.read(stores, caller.client, caller.id))


@router.post("/me/password", status_code=204, responses=problems(403, 413, 415), openapi_extra=json_body(PasswordIn))
async def change_password(
    caller: Person, stores: StoresOf, request: Request, wanted: Annotated[PasswordIn, Depends(reader(PasswordIn))]
) -> None:
    """Choose a new password; all other sessions end. Tries of the current one count as attempts to sign in."""
    await charge_sign_in(request, caller.client, caller.name)
    about(request, Event.PASSWORD_REFUSED)
    check_passwords(request)
    await people.change_password(stores, caller, wanted.current_password, wanted.new_password)


@router.get("/me/sessions", responses=problems(403))
async def my_sessions(caller: Person, stores: StoresOf) -> UserSessionsOut:
    """One's own sign-ins that are good now."""
    found = await session_operations.every(stores, caller.client, caller.id)
    return UserSessionsOut(sessions=[UserSessionOut.of(session) for session in found])


@router.delete("/me/sessions/{session_id}", status_code=204, responses=problems(403, 404))
async def end_my_session(caller: Person, stores: StoresOf, session_id: str) -> None:
    """End one of one's own sign-ins: this one, or shortly after signing in another one."""
    await session_operations.end_own(stores, caller, session_id)


@router.get("/users/{user_id}", responses=problems(403, 404))
async def read(caller: Admin, stores: StoresOf, user_id: str) -> UserOut:
    """One person."""
    return UserOut.of(await people.read(stores, caller.client, user_id))


@router.patch("/users/{user_id}", responses=problems(403, 404, 409, 413, 415), openapi_extra=json_body(UserPatch))
async def change(
    caller: Admin, stores: StoresOf, user_id: str, wanted: Annotated[UserPatch, Depends(reader(UserPatch))]
) -> UserOut:
    """Change a person's name or role, or disable them. Another role, or none, ends their sessions."""
    changes = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    if changes.get("role") is not None:
        changes["role"] = Role(changes["role"])
    return UserOut.of(await people.change(stores, caller, user_id, changes))


@router.delete("/users/{user_id}", status_code=204, responses=problems(403, 404, 409))
async def remove(caller: Admin, stores: StoresOf, user_id: str) -> None:
    """Remove a person; their sessions end, what they did stays in the audit log."""
    await people.remove(stores, caller, user_id)


@router.post("/users/{user_id}/invitation", status_code=201, responses=problems(403, 404, 409))
async def invite(caller: Admin, stores: StoresOf, request: Request, user_id: str) -> InvitationOut:
    """A new invitation for a person to choose a password, shown once; earlier ones are void."""
    check_passwords(request)
    return InvitationOut(invitation=await people.invite(stores, caller, user_id))


@router.delete("/users/{user_id}/factor", status_code=204, responses=problems(403, 404))
async def reset_factor(caller: Admin, stores: StoresOf, user_id: str) -> None:
    """Take off the second factor of a person who has lost it; all their sessions end."""
    await factors.reset(stores, caller, user_id)


@router.get("/users/{user_id}/sessions", responses=problems(403, 404))
async def sessions(caller: Admin, stores: StoresOf, user_id: str) -> UserSessionsOut:
    """A person's sign-ins that are good now."""
    await people.read(stores, caller.client, user_id)
    found = await session_operations.every(stores, caller.client, user_id)
    return UserSessionsOut(sessions=[UserSessionOut.of(session) for session in found])


@router.delete("/users/{user_id}/sessions/{session_id}", status_code=204, responses=problems(403, 404))
async def end_session(caller: Admin, stores: StoresOf, user_id: str, session_id: str) -> None:
    """End one of a person's sign-ins."""
    await session_operations.end(stores, caller, user_id, session_id)


@codes.post(
    "/me/factor/recovery-codes",
    status_code=201,
    responses=problems(403, 404, 413, 415),
    openapi_extra=json_body(CodeIn),
)
async def renew_recovery_codes(
    caller: Person, stores: StoresOf, request: Request, wanted: Annotated[CodeIn, Depends(reader(CodeIn))]
) -> RecoveryOut:
    """Ten new recovery codes; the old ones are void. Tries of codes count as attempts to sign in."""
    await charge_sign_in(request, caller.client, caller.name)
    about(request, Event.PASSWORD_REFUSED)
    return RecoveryOut(recovery_codes=await factors.renew(stores, caller, wanted.code))


@codes.post(
    "/me/factor/removal", status_code=204, responses=problems(403, 404, 409, 413, 415), openapi_extra=json_body(CodeIn)
)
async def take_off_factor(
    caller: Person, stores: StoresOf, request: Request, wanted: Annotated[CodeIn, Depends(reader(CodeIn))]
) -> None:
    """Take off one's second factor, where the client does not require one; all other sessions end."""
    await charge_sign_in(request, caller.client, caller.name)
    about(request, Event.PASSWORD_REFUSED)
    await factors.take_off(stores, caller, wanted.code)
