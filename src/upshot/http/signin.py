"""Sign in and out over HTTP: tokens for programs, a cookie for browsers, invitations for newcomers.

`POST /auth/token` takes the OAuth 2 password form (so that Swagger's Authorize works) and JSON; both also take a refresh token.
"""

from typing import Annotated, Any
from urllib.parse import parse_qsl

import segno
from fastapi import Depends, Request, Response

from upshot.access import SCOPES
from upshot.access.keys import digest_of
from upshot.access.sessions import ABSOLUTE, Means, csrf_token
from upshot.errors import Fault, Invalid, Malformed
from upshot.http import body
from upshot.http.access import (
    COOKIE,
    Person,
    address_of,
    charge_sign_in,
    check_own_page,
    check_passwords,
    cookie_of,
    identify,
    tell,
)
from upshot.http.accounts import UserOut
from upshot.http.limits import Limits
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.securityevents import about, account_of, signed_in
from upshot.http.sessions import FactorIn, FactorOut, InvitationIn, RefreshIn, SessionOut, SignInIn, TokenOut
from upshot.http.stores import StoresOf
from upshot.operations import Stores, people, sessions, signin
from upshot.operations.signin import Signed
from upshot.securitylog import Event

router = Router(prefix="/auth", tags=["sign-in"])

FORM = "application/x-www-form-urlencoded"
_FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
        "username": {"type": "string"},
        "password": {"type": "string", "format": "password"},
        "client_id": {"type": "string", "description": "Which client's account; `default` when absent."},
        "code": {"type": "string", "description": "Of the second factor, where there is one."},
        "refresh_token": {"type": "string"},
        "scope": {"type": "string", "description": "Not asked: a person has the scopes of their role."},
    },
    "required": ["grant_type"],
}
_NAMES = {"username": "email", "client_id": "client"} | {name: name for name in ("password", "code", "refresh_token")}


def _token_body() -> dict[str, Any]:
    extra = json_body(SignInIn, RefreshIn)
    extra["requestBody"]["content"][FORM] = {"schema": _FORM_SCHEMA}
    return extra


@router.post("/token", responses=problems(413, 415), openapi_extra=_token_body())
async def token(stores: StoresOf, request: Request, response: Response) -> TokenOut:
    """Sign in by address and password, or go on with a refresh token. Every failure looks the same."""
    wanted = await _wanted(request)
    if isinstance(wanted, RefreshIn):
        signed = await _again(stores, request, wanted.refresh_token)
    else:
        signed = await _by_password(stores, request, wanted, Means.TOKENS)
    response.headers["Pragma"] = "no-cache"
    return _tokens(signed)


@router.post("/refresh", responses=problems(413, 415), openapi_extra=json_body(RefreshIn))
async def refresh(
    stores: StoresOf, request: Request, wanted: Annotated[RefreshIn, Depends(reader(RefreshIn))]
) -> TokenOut:
    """The next tokens. A refresh token is good once: one that comes a second time ends its session."""
    return _tokens(await _again(stores, request, wanted.refresh_token))


@router.post("/session", status_code=201, responses=problems(403, 413, 415), openapi_extra=json_body(SignInIn))
async def begin(
    stores: StoresOf, request: Request, response: Response, wanted: Annotated[SignInIn, Depends(reader(SignInIn))]
) -> SessionOut:
    """Sign in with a browser: the session is in a cookie that no script can read."""
    check_own_page(request)
    signed = await _by_password(stores, request, wanted, Means.COOKIE)
    return await carry(stores, request, response, signed)


@router.post("/factor", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(FactorIn))
async def set_up(
    stores: StoresOf, request: Request, wanted: Annotated[FactorIn, Depends(reader(FactorIn))]
) -> FactorOut:
    """A second factor for an account that has none. It counts from the sign-in on that brings its first code."""
    await _attempt(request, wanted, "password")
    secret, uri = await signin.set_up(stores, wanted.client, wanted.email, wanted.password)
    return FactorOut(secret=secret, uri=uri, qr=segno.make_qr(uri).svg_data_uri(scale=4, light="white"))


@router.get("/session", responses=problems(403))
async def who(caller: Person, request: Request) -> SessionOut:
    """Who is signed in, and what a page must send with every change."""
    return SessionOut.of(caller, cookie_of(request))


@router.post("/logout", status_code=204, responses=problems(403))
async def logout(stores: StoresOf, request: Request, response: Response) -> None:
    """Sign out: every process refuses the session within 5 seconds."""
    await sessions.sign_out(stores, await identify(request))
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


@router.post("/invitation", status_code=201, responses=problems(409, 413, 415), openapi_extra=json_body(InvitationIn))
async def accept(
    stores: StoresOf, request: Request, wanted: Annotated[InvitationIn, Depends(reader(InvitationIn))]
) -> UserOut:
    """Take up an invitation: choose a password of one's own."""
    await charge_sign_in(request, "", digest_of(wanted.secret))
    about(request, Event.INVITATION_REFUSED)
    check_passwords(request)
    _, user = await people.accept(stores, wanted.secret, wanted.password, wanted.email, wanted.name)
    return UserOut.of(user)


async def carry(stores: Stores, request: Request, response: Response, signed: Signed) -> SessionOut:
    """Put a session into the cookie of a response; the one that the browser had ends."""
    if former := cookie_of(request):
        await sessions.leave(stores, former)
    response.set_cookie(
        COOKIE,
        signed.secret,
        max_age=int(ABSOLUTE.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return SessionOut(
        client=signed.client,
        user_id=signed.user.id,
        email=signed.user.email,
        scopes=sorted(SCOPES[signed.user.role]),
        csrf_token=csrf_token(signed.secret),
        recovery_codes=list(signed.recovery_codes),
    )


async def _again(stores: Stores, request: Request, refresh_token: str) -> Signed:
    # Nobody knows yet whose it is: what counts is where it comes from.
    limits: Limits = request.app.state.limits
    tell(request, await limits.charge("refresh", f"@{address_of(request)}", digest_of(refresh_token)))
    about(request, Event.REFRESH_REFUSED)
    try:
        return await signin.refresh(stores, refresh_token)
    except signin.Replayed as replayed:
        about(request, Event.REFRESH_REPLAYED, client=replayed.client, session=replayed.session)
        raise


async def _by_password(stores: Stores, request: Request, wanted: SignInIn, means: Means) -> Signed:
    await _attempt(request, wanted, "password" if wanted.code is None else "password and code")
    signed = await signin.with_password(stores, wanted.client, wanted.email, wanted.password, means, wanted.code)
    signed_in(request, signed, signin.how_of(signed.user))
    return signed


async def _attempt(request: Request, wanted: SignInIn | FactorIn, how: str) -> None:
    """Count an attempt with a password, and say in the security log whose it was if it fails."""
    about(request, account=account_of(request, wanted.client, wanted.email), how=how)
    await charge_sign_in(request, wanted.client, wanted.email)
    about(request, Event.SIGN_IN_FAILED)
    check_passwords(request)


async def _wanted(request: Request) -> SignInIn | RefreshIn:
    raw = await body.read(request, body.MANAGEMENT_BYTES, ("application/json", FORM))
    if not request.headers["content-type"].startswith(FORM):
        document = body.document(raw)
        if isinstance(document, dict) and "refresh_token" in document:
            return body.validated(RefreshIn, document)
        return body.validated(SignInIn, document)
    form = _form(raw)
    named = {_NAMES[name]: text for name, text in form.items() if name in _NAMES and text}
    match form.get("grant_type", "password"):
        case "password":
            return body.validated(SignInIn, {name: text for name, text in named.items() if name != "refresh_token"})
        case "refresh_token":
            return body.validated(RefreshIn, {name: text for name, text in named.items() if name == "refresh_token"})
    raise Invalid.of(Fault("/grant_type", "unsupported_grant", "must be password or refresh_token"))


def _form(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise Malformed("The body is not a form.") from None
    if len(pairs) != len({name for name, _ in pairs}):
        raise Invalid.of(Fault("", "duplicate_key", "a field must not be said twice"))
    return dict(pairs)


def _tokens(signed: Signed) -> TokenOut:
    return TokenOut.of(signed, " ".join(sorted(SCOPES[signed.user.role])))
