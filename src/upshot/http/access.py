"""Who is asking, and whether they may: the credential of a request, the scopes of a route, and the defence of the cookie.

A credential comes in the `Authorization` header, or from a browser that signed in as a cookie; never in an address, which is
logged. What changes something by cookie must come from our own pages: its body is JSON, the browser says that it is the same
origin, and `X-CSRF-Token` holds what only a page that could read our answer knows.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer, OAuth2PasswordBearer

from upshot.access import Caller, Kind, Scope
from upshot.access.keys import id_of
from upshot.access.sessions import COOKIE_PREFIX, csrf_token
from upshot.access.users import email_of
from upshot.errors import Forbidden, Unauthenticated
from upshot.http.limits import Headers, Limits
from upshot.http.securityevents import about
from upshot.operations.credentials import Credentials
from upshot.securitylog import Event
from upshot.settings import Settings

COOKIE = "__Host-upshot"
EXPOSED = (b"access-control-expose-headers", b"ETag, Retry-After, RateLimit, RateLimit-Policy")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False,
    description="An API key (`upk_…`), an access token of `/auth/token`, or a token of the environment.",
)
_password = OAuth2PasswordBearer("/auth/token", auto_error=False, refreshUrl="/auth/token")


def bearer_of(authorization: bytes | None) -> bytes | None:
    """The secret of an Authorization header, if it is of our kind; a cookie is no bearer token."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    secret = authorization[7:].strip()
    return None if secret.startswith(COOKIE_PREFIX.encode()) else secret


def cookie_of(request: Request) -> str | None:
    """The session cookie of a request."""
    return cookie_named(request, COOKIE)


def cookie_named(request: Request, name: str) -> str | None:
    """The cookie of that name."""
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return found.value if found else None


async def identify(request: Request, *, changes: bool | None = None) -> Caller:
    """Who is asking. `changes`: whether the request changes something, when its method does not say so.

    Raises:
        Unauthenticated: there is no credential, or none that is good.
        Forbidden: a browser key is used from another origin, or a change by cookie does not come from our own pages.
    """
    credentials: Credentials = request.app.state.credentials
    header = request.headers.get("authorization") or _key_alone(request)
    cookie = None if header else cookie_of(request)
    secret = bearer_of(header.encode("latin-1")) if header else _carried(cookie)
    caller = await credentials.find(secret) if secret else None
    if caller is None:
        if header or cookie:
            about(request, Event.CREDENTIAL_REFUSED, credential="cookie" if cookie else _shown(secret or b""))
        raise Unauthenticated("Send `Authorization: Bearer <token>` with a valid token or key.")
    about(request, client=caller.client, credential=caller.credential)
    if cookie and (request.method not in SAFE if changes is None else changes):
        check_own_page(request, cookie)
    if caller.origins:
        check_origin(request, caller)
    request.state.caller = caller = replace(caller, request=getattr(request.state, "request_id", None))
    return caller


def check_own_page(request: Request, cookie: str | None = None) -> None:
    """Refuse a change that a browser was made to ask for by another site.

    Raises:
        Forbidden: the request does not come from our own pages, as far as can be told.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host')}"
    same = site in {"same-origin", "none"} if site else origin == own
    token = request.headers.get("x-csrf-token", "")
    known = cookie is None or hmac.compare_digest(token.encode(), csrf_token(cookie).encode())
    if not (same and known):
        about(request, Event.ORIGIN_REFUSED)
        raise Forbidden("Changes by cookie are made from Upshot's own pages, with the header X-CSRF-Token.")


async def charge(request: Request, kind: str, caller: Caller, weight: int = 1) -> None:
    """Take from what the caller and the client have left of a kind; the answer says what that is.

    Raises:
        QuotaExceeded: nothing is left.
    """
    limits: Limits = request.app.state.limits
    tell(request, await limits.charge(kind, caller.client, caller.credential, weight))


async def charge_sign_in(request: Request, client: str, email: str) -> None:
    """Take from what an address of the network, and an account, have left of attempts to sign in.

    Raises:
        QuotaExceeded: there were too many.
        Unavailable: nobody can count them now.
    """
    limits: Limits = request.app.state.limits
    tell(request, await limits.charge_login(f"{client} {email_of(email)}", address_of(request)))


def check_passwords(request: Request) -> None:
    """Refuse what only a password is good for, where people do not sign in by one.

    Raises:
        Forbidden: passwords are switched off.
    """
    settings: Settings = request.app.state.settings
    if not settings.password_sign_in:
        raise Forbidden("Passwords are switched off here: people come by the provider.")


def address_of(request: Request) -> str:
    """The address of the network that a request comes from, as the server knows it."""
    return request.client.host if request.client else ""


def tell(request: Request, headers: Headers) -> None:
    """Header fields that the answer carries besides its own, whatever it will be."""
    request.scope.setdefault("state", {}).setdefault("headers", []).extend(headers)


def requires(
    *scopes: Scope, kind: str | None = "management", changes: bool | None = None
) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has one of these scopes and something left of the kind; `changes` as in `identify`."""

    async def caller(
        request: Request, _bearer: Annotated[object, Depends(_bearer)], _password: Annotated[object, Depends(_password)]
    ) -> Caller:
        found = await identify(request, changes=changes)
        if not found.may(*scopes):
            about(request, Event.SCOPE_MISSING)
            raise Forbidden(f"This needs the scope {' or '.join(scopes)}.")
        if kind is not None:
            await charge(request, kind, found)
        return found

    return caller


async def _person(
    request: Request, _bearer: Annotated[object, Depends(_bearer)], _password: Annotated[object, Depends(_password)]
) -> Caller:
    found = await identify(request)
    if found.kind is not Kind.USER:
        raise Forbidden("This is for people who signed in; keys and tokens are none.")
    await charge(request, "management", found)
    return found


# An assignment is asked for with GET and stored, so that no link of another site's page may ask for one by cookie.
Assigner = Annotated[Caller, Depends(requires(Scope.ASSIGN, kind="assignments", changes=True))]
ManyAssigner = Annotated[Caller, Depends(requires(Scope.ASSIGN, kind=None))]  # charged by the number of users
Recorder = Annotated[Caller, Depends(requires(Scope.EVENTS, kind=None))]  # charged by the number of events
Shower = Annotated[
    Caller, Depends(requires(Scope.EVENTS, Scope.ASSIGN, kind=None))
]  # charged by the number of exposures
Evaluator = Annotated[Caller, Depends(requires(Scope.ASSIGN, kind="assignments", changes=True))]
ConfigurationReader = Annotated[Caller, Depends(requires(Scope.ASSIGN, kind="assignments"))]
Linker = Annotated[Caller, Depends(requires(Scope.ASSIGN, Scope.EVENTS, kind=None))]  # charged by the number of links
Reader = Annotated[Caller, Depends(requires(Scope.RESULTS, Scope.EXPERIMENTS))]
Browser = Annotated[Caller, Depends(requires(Scope.RESULTS))]
ResultsReader = Annotated[Caller, Depends(requires(Scope.RESULTS, kind="results"))]
Exporter = Annotated[Caller, Depends(requires(Scope.RESULTS, kind="export"))]
Editor = Annotated[Caller, Depends(requires(Scope.EXPERIMENTS))]
Admin = Annotated[Caller, Depends(requires(Scope.ADMIN))]
KeyMaker = Annotated[Caller, Depends(requires(Scope.ADMIN, kind="keys"))]
Person = Annotated[Caller, Depends(_person)]


def _key_alone(request: Request) -> str | None:
    """A key of the header `X-API-Key`, which some OpenFeature providers send, as if it were a bearer token."""
    key = request.headers.get("x-api-key")
    return None if key is None else f"Bearer {key}"


def _carried(cookie: str | None) -> bytes | None:
    """The secret of a cookie; a bearer token is none."""
    return cookie.encode("latin-1") if cookie and cookie.startswith(COOKIE_PREFIX) else None


def _shown(secret: bytes) -> str:
    """What somebody shows who is not known, without its secret: a key has an id."""
    key_id = id_of(secret.decode("latin-1"))
    return f"key:{key_id}" if key_id else "token"


def check_origin(request: Request, caller: Caller) -> None:
    """Refuse the key of a browser from a page of another origin.

    Raises:
        Forbidden: it is from there.
    """
    origin = request.headers.get("origin")
    if origin not in caller.origins:
        about(request, Event.ORIGIN_REFUSED)
        raise Forbidden("This key is for browsers, on pages of its origins only.")
    tell(request, [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), EXPOSED])
