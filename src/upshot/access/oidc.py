"""Sign-in by OpenID Connect: the authorization code flow with PKCE, as the party that relies on a provider.

    Provider.begin    GET /auth/oidc/login: remember what was begun, sealed in a cookie, and send the browser to its `url`
    Provider.finish   GET /auth/oidc/callback: unseal the cookie, drop it, know who it is, and send the browser on to `next`

Nothing is kept on the server between the two requests; what has to be remembered travels in a cookie that only we can read.
`issuer` knows the provider's addresses and limits, `idtoken` which of its tokens are accepted.
"""

import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from authlib.oauth2 import ClientAuth, OAuth2Client  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import prepare_token_request  # type: ignore[import-untyped]
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from upshot.access import idtoken
from upshot.access.issuer import Addresses, Issuer, patience, secure
from upshot.clock import Clock, new_secret
from upshot.errors import ConfigurationError, Unauthenticated, Unavailable

ROLES = ("viewer", "editor", "admin")
"""From the least to the most."""

EVERYBODY = "*"
"""Stands in the role map for whoever can sign in at the provider."""

SECONDS = 10.0
"""How long one step of a sign-in waits for the provider in all."""

SEALED_SECONDS = 600
KEY_BYTES = 32
LONGEST_PATH = 2000

_SEGMENT = r"[A-Za-z0-9\-._~!$&'()*+,;=:@%]+"
_OWN_PATH = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?(?:[?#][A-Za-z0-9\-._~!$&'()*+,;=:@%/?#\[\]]*)?")
_LONGEST_TEXT = 320  # of an e-mail address (RFC 3696, 3) and of a name
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def roles_of(text: str) -> dict[str, str]:
    """The role map of a setting: `group:role` pairs separated by commas, or a JSON object for groups with commas.

    Raises:
        ConfigurationError: it cannot be read, names a role that there is not, or a group twice; no value is repeated.
    """
    try:
        pairs = _pairs(text)
    except ValueError:
        raise ConfigurationError("UPSHOT_OIDC_ROLES: not valid JSON") from None
    roles = dict(pairs)
    if len(roles) < len(pairs):
        raise ConfigurationError("UPSHOT_OIDC_ROLES: names a group twice")
    if not roles or not all(group and role in ROLES for group, role in pairs):
        raise ConfigurationError(
            f"UPSHOT_OIDC_ROLES: takes pairs group:role, without which nobody could sign in; roles are {', '.join(ROLES)}"
        )
    return roles


def _pairs(text: str) -> list[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        return [(str(group), str(role)) for group, role in json.loads(text, object_pairs_hook=list)]
    split = [part.rpartition(":") for part in text.split(",") if part.strip()]
    return [(group.strip(), role.strip()) for group, _, role in split]


def role_of(groups: Collection[str], roles: Mapping[str, str]) -> str | None:
    """The highest role that one of the groups has; None when none has one, and everybody has none."""
    return max((roles[group] for group in (*groups, EVERYBODY) if group in roles), key=ROLES.index, default=None)


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """A provider, and who we are to it. `issuer` is compared letter by letter; an empty secret is that of a public client."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    roles: Mapping[str, str]
    scopes: tuple[str, ...] = ("openid", "email", "profile", "groups")
    groups_claim: str = "groups"
    rsa_bits: int = idtoken.LEAST_BITS

    def __post_init__(self) -> None:
        if not secure(self.issuer, loopback=True) or "?" in self.issuer or "#" in self.issuer:
            raise ConfigurationError("UPSHOT_OIDC_ISSUER: must be an https:// URL without a query")
        if not self.client_id:
            raise ConfigurationError("UPSHOT_OIDC_CLIENT_ID: missing; the provider says who we are to it")
        if "openid" not in self.scopes:
            raise ConfigurationError("UPSHOT_OIDC_SCOPES: must have openid among them")
        if not self.groups_claim:
            raise ConfigurationError("UPSHOT_OIDC_GROUPS_CLAIM: must name a claim")
        if not self.roles or not set(self.roles.values()) <= set(ROLES):
            raise ConfigurationError("UPSHOT_OIDC_ROLES: missing; without them nobody could sign in")


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in under way: what has to be remembered, and where the browser is sent (empty once it was unsealed)."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    next: str
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in. A person is (issuer, subject), for ever; an address that is not verified proves nothing."""

    subject: str
    issuer: str
    email: str | None
    email_verified: bool
    name: str
    groups: tuple[str, ...]
    role: str


def own_path(text: str) -> str:
    """A path of our own to go on to after the sign-in: `text` where it is one (RFC 3986, no empty segment), else `/`."""
    return text if len(text) <= LONGEST_PATH and _OWN_PATH.fullmatch(text) else "/"


def seal(begun: Begun, key: bytes, now: datetime) -> str:
    """What has to be remembered, as the value of a cookie: encrypted and authenticated, below 4,096 bytes.

    Raises:
        ConfigurationError: the key has fewer than 32 bytes.
    """
    remembered = msgspec.json.encode((begun.state, begun.nonce, begun.verifier, begun.next))
    return _box(key).encrypt_at_time(remembered, int(now.timestamp())).decode()


def unseal(text: str, key: bytes, now: datetime) -> Begun:
    """What was sealed with this key at most ten minutes ago.

    Raises:
        Unauthenticated: it is older, was changed, or is something else.
        ConfigurationError: the key has fewer than 32 bytes.
    """
    box = _box(key)
    try:
        opened = box.decrypt_at_time(text, SEALED_SECONDS, int(now.timestamp()))
        return Begun(*msgspec.json.decode(opened, type=tuple[str, str, str, str]))
    except (InvalidToken, ValueError):
        raise Unauthenticated("The sign-in took over ten minutes or began in another browser; sign in again.") from None


def _box(key: bytes) -> Fernet:
    if len(key) < KEY_BYTES:
        raise ConfigurationError(f"The key that seals a sign-in has at least {KEY_BYTES} bytes.")
    derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"upshot sign-in by OpenID Connect").derive(key)
    return Fernet(urlsafe_b64encode(derived))


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str


class _Refused(msgspec.Struct):
    error: str = ""


class Provider:
    """One OpenID provider that is asked who somebody is. Both steps raise Unavailable when it is away."""

    def __init__(self, settings: OidcSettings, clock: Clock, seconds: float = SECONDS) -> None:
        self._settings, self._clock, self._seconds = settings, clock, seconds
        self._issuer = Issuer(settings.issuer, clock, settings.rsa_bits)

    async def begin(self, redirect_uri: str, next: str) -> Begun:  # noqa: A002 - the name of the request's parameter
        """Begin a sign-in that comes back to `redirect_uri` and then goes on to `next`, where that is a path of our own."""
        async with patience(self._seconds):
            addresses = await self._issuer.addresses()
        state, nonce, verifier = (new_secret(KEY_BYTES) for _ in range(3))
        client = OAuth2Client(None, self._settings.client_id, code_challenge_method="S256")
        url, _ = client.create_authorization_url(
            addresses.authorization_endpoint,
            state=state,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
            scope=" ".join(self._settings.scopes),
            nonce=nonce,
        )
        return Begun(state, nonce, verifier, own_path(next), url)

    async def finish(self, begun: Begun, redirect_uri: str, query: Mapping[str, str]) -> Identity:
        """Who signed in, from what the provider had the browser bring back to `redirect_uri`.

        Raises:
            Unauthenticated: it is not the answer to what was begun, the provider says no, or no group has a role.
        """
        if not hmac.compare_digest(query.get("state", "").encode("utf-8", "replace"), begun.state.encode()):
            raise Unauthenticated("This is not the sign-in that was begun in this browser; sign in again.")
        async with patience(self._seconds):
            addresses = await self._issuer.addresses()
            tokens = await self._redeem(_code(query, addresses), begun, redirect_uri, addresses)
            claims = await self._verified(tokens, begun)
            told = await self._told(claims, tokens, addresses)
        return self._identity(claims, told)

    async def _redeem(self, code: str, begun: Begun, redirect_uri: str, addresses: Addresses) -> _Tokens:
        form = prepare_token_request(
            "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=begun.verifier
        )
        auth = self._credentials(addresses.token_endpoint_auth_methods_supported)
        url, headers, form = auth.prepare("POST", addresses.token_endpoint, dict(_FORM), form)
        answer = await self._issuer.ask("POST", url, headers, form)
        if answer.status == httpx.codes.OK:
            return answer.read(_Tokens)
        if answer.read(_Refused).error in {"invalid_client", "unauthorized_client"}:
            raise Unauthenticated(
                "The identity provider does not know us; who runs this checks the client's id and secret."
            )
        raise Unauthenticated("The identity provider does not take the code, which is good once; sign in again.")

    def _credentials(self, methods: Collection[str]) -> ClientAuth:
        client, secret = self._settings.client_id, self._settings.client_secret
        if not secret:
            return ClientAuth(client, None, "none")
        if "client_secret_basic" not in methods and "client_secret_post" in methods:
            return ClientAuth(client, secret, "client_secret_post")
        return ClientAuth(quote(client, safe=""), quote(secret, safe=""), "client_secret_basic")  # RFC 6749, 2.3.1

    async def _verified(self, tokens: _Tokens, begun: Begun) -> dict[str, Any]:
        settings = self._settings
        expected = idtoken.Expected(settings.issuer, settings.client_id, begun.nonce, tokens.access_token)
        keys = await self._issuer.keys()
        try:
            return idtoken.verified(tokens.id_token, keys, expected, self._clock.now())
        except idtoken.UnknownKey:
            keys = await self._issuer.newer_keys()
        return idtoken.verified(tokens.id_token, keys, expected, self._clock.now())

    async def _told(self, claims: Mapping[str, Any], tokens: _Tokens, addresses: Addresses) -> Mapping[str, Any]:
        wanted = {"email", self._settings.groups_claim}
        if wanted <= claims.keys() or addresses.userinfo_endpoint is None:
            return {}
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        answer = await self._issuer.ask("GET", addresses.userinfo_endpoint, headers)
        if answer.status != httpx.codes.OK:
            return {}
        told = answer.read(dict[str, Any])
        if told.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, 5.3.2
            raise Unauthenticated("The identity provider tells of somebody else than who signed in; sign in again.")
        return told

    def _identity(self, claims: Mapping[str, Any], told: Mapping[str, Any]) -> Identity:
        claim = self._settings.groups_claim
        groups = _groups(claims[claim] if claim in claims else told.get(claim))
        role = role_of(groups, self._settings.roles)
        if role is None:
            raise Unauthenticated(
                "None of your groups has a role here; ask who runs this to put one into the role map."
            )
        addressed = claims if "email" in claims else told
        email = _text(addressed.get("email"))
        name = _text(claims.get("name")) or _text(told.get("name")) or email or claims["sub"]
        verified = email is not None and addressed.get("email_verified") in (True, "true")  # some say it in text
        return Identity(claims["sub"], claims["iss"], email, verified, name, groups, role)


def _code(query: Mapping[str, str], addresses: Addresses) -> str:
    if query.get("error") in {"temporarily_unavailable", "server_error"}:
        raise Unavailable("The identity provider cannot sign you in now; try again in a minute.", retry_after=60)
    if "error" in query or not query.get("code"):
        raise Unauthenticated("The identity provider did not sign you in; try again, or ask who runs the provider.")
    absent = "" if addresses.authorization_response_iss_parameter_supported else addresses.issuer
    if query.get("iss", absent) != addresses.issuer:  # RFC 9207, 2.4
        raise Unauthenticated("The answer is not from the identity provider that was asked; sign in again.")
    return query["code"]


def _groups(said: object) -> tuple[str, ...]:
    listed = said if isinstance(said, list) else [said]
    return tuple(group for group in listed if isinstance(group, str) and group)


def _text(said: object) -> str | None:
    return said if isinstance(said, str) and 0 < len(said) <= _LONGEST_TEXT else None
