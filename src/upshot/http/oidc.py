"""Sign-in by another provider over HTTP: off to it, and back with its answer."""

from typing import Annotated

from fastapi import Query, Request, Response
from starlette.responses import RedirectResponse

from upshot.access import Role
from upshot.access.oidc import SEALED_SECONDS, Begun, Identity, OidcSettings, Provider, roles_of, seal, unseal
from upshot.access.sessions import Means
from upshot.clock import Clock
from upshot.errors import ConfigurationError, Forbidden, NotFound, Unauthenticated
from upshot.http.access import charge_sign_in, cookie_named, tell
from upshot.http.openapi import problems
from upshot.http.routing import Router
from upshot.http.securityevents import about, signed_in
from upshot.http.signin import carry
from upshot.http.stores import StoresOf
from upshot.operations import signin
from upshot.operations.signin import Known
from upshot.securitylog import Event
from upshot.settings import Settings

router = Router(prefix="/auth/oidc", tags=["sign-in"])

COOKIE = "__Host-upshot-oidc"
PURPOSE = b"sign-in by a provider"
CALLBACK = "/auth/oidc/callback"


class SignIn:
    """A provider that people may sign in by, the client that they belong to, and where they come back to."""

    def __init__(self, provider: Provider, client: str, callback: str) -> None:
        self.provider = provider
        self.client = client
        self.callback = callback


def configured(settings: Settings, clock: Clock) -> SignIn | None:
    """What the settings say of a provider; None where they name none.

    Raises:
        ConfigurationError: they name one, and not all that it takes.
    """
    if settings.oidc_issuer is None:
        return None
    if settings.public_url is None:
        raise ConfigurationError(
            "UPSHOT_PUBLIC_URL: sign-in by a provider needs the address that it sends people back to"
        )
    chosen = OidcSettings(
        settings.oidc_issuer,
        settings.oidc_client_id or "",
        settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else "",
        roles_of(settings.oidc_roles),
        tuple(settings.oidc_scopes.split()),
        settings.oidc_groups_claim,
        settings.oidc_rsa_bits,
    )
    return SignIn(Provider(chosen, clock), settings.oidc_upshot_client, settings.public_url + CALLBACK)


@router.get("/login", status_code=303, response_class=RedirectResponse, responses=problems(403, 404))
async def begin(
    request: Request,
    stores: StoresOf,
    next: Annotated[str, Query(max_length=2_000)] = "/",  # noqa: A002
) -> Response:
    """Send the browser to the provider; afterwards it goes on to `next`, where that is a path of ours.

    Another site's page cannot begin a sign-in behind somebody's back; a link there that they follow can.
    """
    sign_in = _sign_in(request)
    _check_wanted(request)
    begun = await sign_in.provider.begin(sign_in.callback, next)
    response = RedirectResponse(begun.url, 303)
    sealed = seal(begun, stores.keyring.key_for(PURPOSE), stores.clock.now())
    response.set_cookie(COOKIE, sealed, max_age=SEALED_SECONDS, path="/", secure=True, httponly=True, samesite="lax")
    return response


@router.get("/callback", status_code=303, response_class=RedirectResponse, responses=problems(404))
async def finish(request: Request, stores: StoresOf) -> Response:
    """Take the provider's answer, once: the browser has a session from then on."""
    sign_in = _sign_in(request)
    about(request, Event.SIGN_IN_FAILED, how="provider")
    tell(request, [(b"set-cookie", f'{COOKIE}=""; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=lax'.encode())])
    begun: Begun = unseal(cookie_named(request, COOKIE) or "", stores.keyring.key_for(PURPOSE), stores.clock.now())
    await charge_sign_in(request, "", begun.state)  # each answer costs the provider a request
    identity = await sign_in.provider.finish(begun, sign_in.callback, request.query_params)
    signed = await signin.with_provider(stores, sign_in.client, _known(identity), Means.COOKIE)
    signed_in(request, signed, "provider")
    response = RedirectResponse(begun.next, 303)
    await carry(stores, request, response, signed)
    return response


def _sign_in(request: Request) -> SignIn:
    found: SignIn | None = request.app.state.sign_in
    if found is None:
        raise NotFound("Sign-in by a provider is not set up here.")
    return found


def _check_wanted(request: Request) -> None:
    """Refuse a sign-in that another site's page begins: browsers say which site asks, and whether a person did."""
    if request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("sec-fetch-user") != "?1":
        about(request, Event.ORIGIN_REFUSED)
        raise Forbidden("A sign-in begins with a click of whoever wants it.")


def _known(identity: Identity) -> Known:
    if identity.email is None:
        raise Unauthenticated("The identity provider tells no e-mail address; ask who runs it for the scope email.")
    return Known(f"{identity.issuer} {identity.subject}", identity.email, identity.name, Role(identity.role))
