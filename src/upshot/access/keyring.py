"""Signed access tokens, and secrets that must be read again.

An access token is a JWT (RFC 7519) of one algorithm, read strictly (RFC 8725): only headers that we write, every claim there
and of its type, no lifetime beyond ours. Its `kid` names one of our keys: the first signs, the others are still believed, so
that a key can be replaced without ending sessions.
"""

import math
import secrets
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, RSAKey, import_key

from upshot.errors import ConfigurationError

ISSUER = AUDIENCE = "upshot"
LIFETIME = timedelta(minutes=15)
LEEWAY = timedelta(seconds=60)
SHORTEST_SECRET = 32
LEAST_ENTROPY = 80
RSA_BITS = 3_072
"""What 128 bits of security take (NIST SP 800-57, part 1, table 2), as many as our other keys have."""
ALGORITHMS = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), "oct"),
    **dict.fromkeys(("RS256", "PS256"), "RSA"),
    **dict.fromkeys(("ES256", "ES384"), "EC"),
    "Ed25519": "OKP",
}
PRIVATE = frozenset({name for name, kind in ALGORITHMS.items() if kind != "oct"} | {"EdDSA"})

_WEAK = ("your-secret", "your_secret", "changeme", "change-me", "change_me", "secret-key", "secret_key", "supersecret",
         "password", "example", "12345678")  # fmt: skip
_HEADERS: Final = {"alg", "kid", "typ"}
_TYPES: Final = {
    "iss": str,
    "aud": str,
    "sub": str,
    "exp": int,
    "iat": int,
    "jti": str,
    "typ": str,
    "client": str,
    "sid": str,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says: whose it is, of which session, and from when to when."""

    client: str
    user: str
    session: str
    id: str
    issued_at: datetime
    expires_at: datetime


class Keyring:
    """Signs and reads access tokens, seals and opens secrets.

    Args:
        algorithm: the one algorithm of our tokens.
        keys: random texts of at least 32 bytes (HS…), or private keys as PEM; the first one signs. Or what brings them when they
            are needed first: a process that signs and seals nothing makes no file of its own.
        lifetime: of an access token.

    Raises:
        ConfigurationError: the algorithm is not one of ours, or a key is weak or not of its kind; none is repeated.
    """

    def __init__(
        self, algorithm: str, keys: Sequence[str] | Callable[[], Sequence[str]], lifetime: timedelta = LIFETIME
    ) -> None:
        algorithm = "Ed25519" if algorithm == "EdDSA" else algorithm  # its name since RFC 9864
        if algorithm not in ALGORITHMS:
            raise ConfigurationError(f"JWT_ALGORITHM: must be one of {', '.join(ALGORITHMS)}")
        self.lifetime = lifetime
        self._algorithm = algorithm
        self._bring = keys if callable(keys) else lambda: keys
        if not callable(keys):
            self._first  # noqa: B018 - a key that cannot be used is refused at the start

    @cached_property
    def _texts(self) -> Sequence[str]:
        return self._bring()

    @cached_property
    def _keys(self) -> dict[str, Key]:
        return {_id_of(text): _key_of(self._algorithm, text) for text in self._texts}

    @cached_property
    def _first(self) -> str:
        return next(iter(self._keys))

    @cached_property
    def _seals(self) -> list[Fernet]:
        return [Fernet(urlsafe_b64encode(_derived(text))) for text in self._texts]

    @classmethod
    def ephemeral(cls) -> "Keyring":
        """A keyring that nobody else has and that ends with the process."""
        return cls("HS256", [secrets.token_urlsafe(48)])

    def issue(self, client: str, user: str, session: str, token_id: str, now: datetime) -> str:
        """An access token."""
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "client": client, "sid": session, "jti": token_id, "typ": "access",
            "iat": int(now.timestamp()), "exp": int((now + self.lifetime).timestamp()),
        }  # fmt: skip
        header = {"alg": self._algorithm, "kid": self._first, "typ": "JWT"}
        return jwt.encode(header, claims, self._keys[self._first], [self._algorithm])

    def read(self, token: str, now: datetime) -> Claims | None:
        """What a token says that we signed and that is good now; None of any other."""
        try:
            header = jws.extract_compact(token.encode()).headers()
            key = self._keys.get(str(header.get("kid")))
            if set(header) != _HEADERS or key is None:
                return None
            claims = jwt.decode(token, key, [self._algorithm]).claims
        except (JoseError, ValueError, RecursionError):
            return None
        return _claims_of(claims, now, self.lifetime)

    def key_for(self, purpose: bytes) -> bytes:
        """Another key, of 32 bytes, that follows from the first one and tells nothing of it."""
        return HKDF(SHA256(), 32, None, b"upshot " + purpose).derive(self._texts[0].encode())

    def seal(self, secret: str) -> str:
        """A secret in a form that only this keyring opens."""
        return self._seals[0].encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str | None:
        """The secret, or None where another keyring sealed it."""
        return _opened(sealed, self._seals)

    def renewed(self, sealed: str) -> str | None:
        """What a former key sealed, as the first one seals it; None where that one has, or none of ours."""
        if _opened(sealed, self._seals[:1]) is not None:
            return None
        secret = _opened(sealed, self._seals[1:])
        return None if secret is None else self.seal(secret)


def _opened(sealed: str, seals: Sequence[Fernet]) -> str | None:
    try:
        return MultiFernet(seals).decrypt(sealed.encode()).decode() if seals else None
    except InvalidToken:
        return None


def weakness_of(text: str) -> str | None:
    """Why a text is no secret, in words; None of a good one."""
    if len(text.encode()) < SHORTEST_SECRET:
        return f"must have at least {SHORTEST_SECRET} random bytes"
    if any(word in text.lower() for word in _WEAK) or _entropy(text) < LEAST_ENTROPY:
        return "is easily guessed; take one from: openssl rand -base64 48"
    return None


def _claims_of(claims: Mapping[str, Any], now: datetime, lifetime: timedelta) -> Claims | None:
    if any(type(claims.get(name)) is not kind for name, kind in _TYPES.items()):
        return None
    if (claims["iss"], claims["aud"], claims["typ"]) != (ISSUER, AUDIENCE, "access"):
        return None
    begin, moment = claims["iat"], now.timestamp()
    end = min(claims["exp"], begin + int(lifetime.total_seconds()))
    leeway = LEEWAY.total_seconds()
    starts = claims.get("nbf", begin)
    if type(starts) is not int or not max(begin, starts) - leeway <= moment < end or abs(begin) > 2**40:
        return None
    issued_at, expires_at = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
    return Claims(claims["client"], claims["sub"], claims["sid"], claims["jti"], issued_at, expires_at)


def _key_of(algorithm: str, text: str) -> Key:
    kind = ALGORITHMS[algorithm]
    if (kind == "oct") == text.lstrip().startswith("-----BEGIN"):
        raise ConfigurationError(
            f"JWT_SECRET_KEY: is not a key for {algorithm}: HS… take a random text, others a private key"
        )
    if kind == "oct":
        if weakness := weakness_of(text):
            raise ConfigurationError(f"JWT_SECRET_KEY: {weakness}")
        return import_key(text, "oct")
    try:
        key: Key = import_key(text, kind)  # type: ignore[call-overload]  # kinds are one literal each
    except (JoseError, ValueError):
        raise ConfigurationError(f"JWT_SECRET_KEY: cannot be read as a private key for {algorithm}") from None
    if not key.is_private:
        raise ConfigurationError("JWT_SECRET_KEY: is a public key; signing needs the private one")
    if isinstance(key, RSAKey) and key.raw_value.key_size < RSA_BITS:
        raise ConfigurationError(
            f"JWT_SECRET_KEY: an RSA key has at least {RSA_BITS} bits; ES256 and Ed25519 are shorter"
        )
    return key


def _id_of(text: str) -> str:
    return sha256(b"upshot kid " + text.encode()).hexdigest()[:16]


def _derived(text: str) -> bytes:
    return HKDF(SHA256(), 32, None, b"upshot sealing").derive(text.encode())


def _entropy(text: str) -> float:
    """Bits of a text whose letters were drawn as often as they are in it (Shannon), and which was then repeated."""
    period = next((length for length in range(1, len(text)) if text.startswith(text[length:])), len(text))
    drawn = text[:period]
    return -sum(count * math.log2(count / period) for count in Counter(drawn).values())
