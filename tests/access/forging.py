"""Access tokens as somebody forges them who knows how ours are made, but not the key."""

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws, jwt

from upshot.access.keyring import Keyring


def encoded(part: Any) -> str:
    """A part of a token."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, claims and signature of a token."""
    head, body, signature = token.split(".")
    pad = "=" * 3
    return json.loads(base64.urlsafe_b64decode(head + pad)), json.loads(base64.urlsafe_b64decode(body + pad)), signature


def without_key(token: str) -> Iterator[tuple[str, str]]:
    """What can be made of a good token without a key."""
    header, claims, signature = parts_of(token)
    head, body, _ = token.split(".")
    for name in ("none", "None", "NONE", "nOnE"):
        yield f"alg {name}", f"{encoded(header | {'alg': name})}.{body}."
        yield f"alg {name}, signed", f"{encoded(header | {'alg': name})}.{body}.{signature}"
    yield "no signature", f"{head}.{body}."
    yield "two parts", f"{head}.{body}"
    yield "four parts", f"{token}.{signature}"
    yield "another person", f"{head}.{encoded(claims | {'sub': 'somebody-else'})}.{signature}"
    yield "another client", f"{head}.{encoded(claims | {'client': 'other'})}.{signature}"
    yield "longer", f"{head}.{encoded(claims | {'exp': claims['exp'] + 10**6})}.{signature}"
    yield "cut signature", token[:-4]
    yield "another letter of the signature", token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    yield "no text", ""
    yield "dots", ".."
    yield "JWE", ".".join([encoded({"alg": "dir", "enc": "A128GCM"}), "", "", body, ""])
    yield "JSON form", json.dumps({"payload": body, "protected": head, "signature": signature})
    yield "header is a list", f"{encoded([1])}.{body}.{signature}"
    yield "header is no JSON", f"{encoded(b'nonsense')}.{body}.{signature}"
    yield "NUL", token + "\x00"
    yield "space inside", f"{head}. {body}.{signature}"


def with_own_key(token: str) -> Iterator[tuple[str, str]]:
    """What can be signed with a key of one's own."""
    header, claims, _ = parts_of(token)
    key = rsa.generate_private_key(65_537, 2_048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    heads = {
        "own key": header,
        "empty key": header,
        "kid is a path": header | {"kid": "../../../../dev/null"},
        "kid is SQL": header | {"kid": "x' OR '1'='1"},
        "kid is a number": header | {"kid": 1},
        "no kid": {name: text for name, text in header.items() if name != "kid"},
        "jku": header | {"jku": "https://evil.example/keys"},
        "x5u": header | {"x5u": "https://evil.example/cert"},
        "jwk": header | {"jwk": {"kty": "oct", "k": encoded(b"own")}},
        "x5c": header | {"x5c": ["MIIB"]},
        "crit": header | {"crit": ["exp"]},
        "b64": header | {"b64": False, "crit": ["b64"]},
        "alg RS256": header | {"alg": "RS256"},
        "alg HS512": header | {"alg": "HS512"},
    }
    for name, head in heads.items():
        secret = (
            b"" if name == "empty key" else public if name == "alg RS256" else b"own key, which is none of ours at all"
        )
        signed = f"{encoded(head)}.{encoded(claims)}"
        yield name, f"{signed}.{encoded(hmac.digest(secret, signed.encode(), sha256))}"


def with_our_key(keyring: Keyring, token: str, now: datetime) -> Iterator[tuple[str, str]]:
    """What our own key must not be taken to have signed: tokens for something else, or without an end."""
    header, claims, _ = parts_of(token)
    moment = int(now.timestamp())
    key = next(iter(keyring._keys.values()))
    wrong: dict[str, dict[str, Any]] = {
        "expired": {"exp": moment - 1},
        "expires as a text": {"exp": str(moment + 600)},
        "expires as a fraction": {"exp": moment + 600.5},
        "expires as true": {"exp": True},
        "not yet": {"nbf": moment + 3_600},
        "not yet, as a text": {"nbf": "0"},
        "from the future": {"iat": moment + 3_600, "exp": moment + 4_000},
        "other issuer": {"iss": "https://evil.example"},
        "other audience": {"aud": "somewhere"},
        "several audiences": {"aud": ["upshot", "somewhere"]},
        "a refresh token": {"typ": "refresh"},
        "an ID token": {"typ": "ID"},
        "long ago, for long": {"iat": moment - 86_400, "exp": moment + 86_400},
        "sub is a number": {"sub": 1},
        "client is a list": {"client": ["default"]},
        "huge moment": {"iat": 10**30, "exp": 10**31},
    }
    for name, other in wrong.items():
        yield name, jwt.encode(dict(header), claims | other, key, ["HS256"])
    for name in ("iss", "aud", "sub", "exp", "iat", "jti", "typ", "client", "sid"):
        yield (
            f"without {name}",
            jwt.encode(dict(header), {n: c for n, c in claims.items() if n != name}, key, ["HS256"]),
        )
    yield "claims are a list", jws.serialize_compact(dict(header), b"[1]", key, ["HS256"])
    yield "jku beside our key", jwt.encode(header | {"jku": "https://evil.example"}, dict(claims), key, ["HS256"])


def forgeries(keyring: Keyring, token: str, now: datetime) -> dict[str, str]:
    """All of them, by name."""
    return dict([*without_key(token), *with_own_key(token), *with_our_key(keyring, token, now)])
