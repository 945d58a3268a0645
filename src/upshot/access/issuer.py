"""An OpenID provider seen from outside: its addresses and keys, kept for an hour, and what it answers, within limits.

Whatever it does, a caller waits a bounded time for a bounded answer, and is sent nowhere else.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
from joserfc.jwk import KeySet

from upshot.access import idtoken
from upshot.clock import Clock
from upshot.errors import Unavailable

CONNECT_SECONDS = 3.0
KEPT_SECONDS = 3600
AGAIN_SECONDS = 60
"""How often a token with an unknown key may make us ask for the keys again."""

LONGEST_ANSWER = 256 * 1024
"""Bytes; the largest documents of known providers have a tenth of that."""

WELL_KNOWN = "/.well-known/openid-configuration"

_T = TypeVar("_T")
_AWAY = "The identity provider does not answer; try again in a minute."
_UNUSABLE = "The identity provider's answer cannot be used; try again, and if it stays, tell who runs this."


class Addresses(msgspec.Struct, frozen=True):
    """What we need of the provider's discovery document (OpenID Connect Discovery 1.0, 3; RFC 9207, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Published(msgspec.Struct):
    keys: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: 200, or a status from 400 to 499 that says no."""

    status: int
    body: bytes

    def read(self, kind: type[_T]) -> _T:
        """The body, read from JSON.

        Raises:
            Unavailable: it is something else.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unavailable(_UNUSABLE) from None


@dataclass(frozen=True, slots=True)
class _Kept(Generic[_T]):
    value: _T
    until: datetime


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Wait for the provider at most so long in all.

    Raises:
        Unavailable: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(_AWAY, retry_after=AGAIN_SECONDS) from None


def secure(url: str, *, loopback: bool) -> bool:
    """Whether a URL is https, or plain http to this machine where that is allowed."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "http":
        return loopback and _is_loopback(host)
    return parts.scheme == "https" and host != ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Issuer:
    """One provider, by its issuer identifier."""

    def __init__(self, name: str, clock: Clock, rsa_bits: int = idtoken.LEAST_BITS) -> None:
        self._rsa_bits = rsa_bits
        self.name, self._clock = name, clock
        self._tls = httpx.create_ssl_context()
        self._addresses: _Kept[Addresses] | None = None
        self._keys: _Kept[KeySet] | None = None
        self._asked_again: datetime | None = None
        self._asking = asyncio.Lock()

    async def addresses(self) -> Addresses:
        """Where it is asked what.

        Raises:
            Unavailable: it is away, calls itself by another name, or names addresses without https.
        """
        kept = self._addresses
        if kept is None or kept.until <= self._clock.now():
            kept = self._addresses = self._keep(await self._discover())
        return kept.value

    async def keys(self) -> KeySet:
        """What its tokens are verified with.

        Raises:
            Unavailable: it is away.
        """
        kept = self._keys
        if kept is None or kept.until <= self._clock.now():
            kept = self._keys = self._keep(await self._published())
        return kept.value

    async def newer_keys(self) -> KeySet:
        """Its keys, asked for again because those we have are not enough; at most once a minute, by whoever comes first.

        Raises:
            Unavailable: it is away.
        """
        async with self._asking:
            now = self._clock.now()
            recently = self._asked_again is not None and now - self._asked_again < timedelta(seconds=AGAIN_SECONDS)
            if not recently:
                self._asked_again = now
                self._keys = self._keep(await self._published())
            return await self.keys()

    async def ask(self, method: str, url: str, headers: Mapping[str, str], content: str | None = None) -> Answer:
        """Its answer to one request. Redirects are not followed, and what is compressed is not unpacked.

        Raises:
            Unavailable: it is away, out of order, or answers too much.
        """
        asking = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # the whole is bounded by `patience`
        try:
            async with (
                httpx.AsyncClient(verify=self._tls, timeout=timeout) as client,
                client.stream(method, url, headers=asking, content=content) as response,
            ):
                return Answer(_taken(response.status_code), await _bounded(response))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            raise Unavailable(_AWAY, retry_after=AGAIN_SECONDS) from None

    def _keep(self, value: _T) -> _Kept[_T]:
        return _Kept(value, self._clock.now() + timedelta(seconds=KEPT_SECONDS))

    async def _discover(self) -> Addresses:
        found = await self._document(self.name.rstrip("/") + WELL_KNOWN, Addresses)
        if found.issuer != self.name:
            raise Unavailable("The identity provider calls itself by another name than the configured issuer.")
        named = [found.authorization_endpoint, found.token_endpoint, found.jwks_uri, found.userinfo_endpoint]
        local = urlsplit(self.name).scheme == "http"
        if not all(secure(url, loopback=local) for url in named if url is not None):
            raise Unavailable("The identity provider names addresses without https.")
        return found

    async def _published(self) -> KeySet:
        document = await self._document((await self.addresses()).jwks_uri, _Published)
        return idtoken.usable(document.keys, self._rsa_bits)

    async def _document(self, url: str, kind: type[_T]) -> _T:
        answer = await self.ask("GET", url, {})
        if answer.status != httpx.codes.OK:
            raise Unavailable(_UNUSABLE)
        return answer.read(kind)


def _taken(status: int) -> int:
    refused = httpx.codes.is_client_error(status) and status != httpx.codes.TOO_MANY_REQUESTS
    if status != httpx.codes.OK and not refused:
        raise Unavailable(_AWAY, retry_after=AGAIN_SECONDS)
    return status


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise Unavailable(_UNUSABLE)
    return bytes(body)
