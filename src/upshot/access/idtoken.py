"""ID tokens: which one is accepted, and what it says (OpenID Connect Core 1.0, 3.1.3.7; RFC 8725).

The algorithm comes from our list and never from the token, keys from the provider's own address and never from a place that the
token names, and a claim that is missing is as wrong as one that does not fit.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from upshot.errors import Unauthenticated

LEEWAY = 60
"""How far the provider's clock may be from ours, in seconds."""

ALGORITHMS = MappingProxyType(
    {"RS256": hashlib.sha256, "PS256": hashlib.sha256, "ES256": hashlib.sha256, "EdDSA": hashlib.sha512}
)
"""What a token may be signed with, all asymmetric, and the hash that `at_hash` is made with."""

_KINDS = {"RSA", "EC", "OKP"}
LEAST_BITS = 2_048
_LONGEST_SUBJECT = 255
_HOSTILE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class UnknownKey(Unauthenticated):
    """The token is signed with a key that is not among those we know; the provider may have new ones."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say to be the answer to our question; `access_token` is the one that came with it."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str


class _Allowed(JWSRegistry):
    """The allow-list. The library's own would warn of the name EdDSA, which RFC 9864 replaces and providers still use."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


_REGISTRY = _Allowed(strict_check_header=False)  # RFC 7515, 4: what is not understood and not critical is ignored


def usable(published: Iterable[Mapping[str, Any]], bits: int = LEAST_BITS) -> KeySet:
    """The keys among those published that can verify a token: asymmetric, for signatures, RSA of at least so many bits."""
    found: list[Key] = []
    for entry in published:
        weak = entry.get("kty") == "RSA" and len(str(entry.get("n"))) * 6 < bits
        if entry.get("kty") in _KINDS and entry.get("use", "sig") == "sig" and not weak:
            with suppress(*_HOSTILE):  # a key of a kind that is not understood does not spoil the others
                found.append(JWKRegistry.import_key(dict(entry)))
    return KeySet(found)


def verified(token: str, keys: KeySet, expected: Expected, now: datetime) -> dict[str, Any]:
    """The claims of an ID token that answers our question.

    Raises:
        UnknownKey: the key that it names is not among these.
        Unauthenticated: its signature or a claim is wrong; the detail names the claim.
    """
    try:
        decoded = jwt.decode(token, keys, registry=_REGISTRY)
    except InvalidKeyIdError:
        raise UnknownKey(_refusal("its key is unknown")) from None
    except _HOSTILE:
        raise Unauthenticated(_refusal("it is not signed as it has to be")) from None
    wrong = _wrong_claim(decoded, expected, now)
    if wrong is not None:
        raise Unauthenticated(_refusal(f"{wrong} is not what it has to be"))
    return decoded.claims


def _refusal(reason: str) -> str:
    return (
        f"The identity provider's ID token is not accepted: {reason}. Sign in again; if it stays, tell who runs this."
    )


def _wrong_claim(token: jwt.Token, expected: Expected, now: datetime) -> str | None:
    claims = token.claims
    if str(token.header.get("typ", "JWT")).upper() != "JWT":  # RFC 8725, 3.11: an access token says at+jwt
        return "typ"
    for name in ("exp", "iat", "nbf"):
        if name in claims and type(claims[name]) is not int:
            return name
    try:
        _rules(expected, now).validate(claims)
    except ClaimError as error:
        return error.claim
    return _wrong_binding(claims, expected, token.header["alg"])


def _rules(expected: Expected, now: datetime) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY,
        iss={"essential": True, "value": expected.issuer},
        aud={"essential": True, "value": expected.client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )


def _wrong_binding(claims: Mapping[str, Any], expected: Expected, algorithm: str) -> str | None:
    if len(claims["sub"]) > _LONGEST_SUBJECT:
        return "sub"
    if not _same(claims.get("nonce"), expected.nonce):
        return "nonce"
    shared = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (shared or "azp" in claims) and claims.get("azp") != expected.client_id:
        return "azp"
    if "at_hash" in claims and not _same(claims["at_hash"], half_hash(expected.access_token, algorithm)):
        return "at_hash"
    return None


def half_hash(text: str, algorithm: str) -> str:
    """The left half of a text's hash, in base64url (OpenID Connect Core 1.0, 3.1.3.6)."""
    digest = ALGORITHMS[algorithm](text.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _same(said: object, expected: str) -> bool:
    return isinstance(said, str) and hmac.compare_digest(said.encode("utf-8", "replace"), expected.encode())
