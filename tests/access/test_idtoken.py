"""ID tokens through the whole callback, from a provider that a test plays: which are accepted, and that mutants are caught."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from tests.access.played import (
    ACCESS_TOKEN,
    CALLBACK,
    CLIENT,
    PlayedProvider,
    by,
    played_provider,
    raw,
    rsa_key,
)

from upshot.access import idtoken
from upshot.access.oidc import Identity, OidcSettings, Provider
from upshot.clock import FixedClock
from upshot.errors import Unauthenticated

SECRET = "a-client-secret-of-tests"  # noqa: S105
HEADER = {"alg": "RS256", "kid": "first", "typ": "JWT"}
EVERY = JWSRegistry(algorithms=list(JWSRegistry.algorithms))
Forgery = Callable[["Forger"], str]
Verifier = Callable[[str, KeySet, idtoken.Expected, datetime], dict[str, Any]]


class Forger:
    """Makes tokens for one sign-in; without changes they are right."""

    def __init__(self, issuer: str, nonce: str, now: int) -> None:
        self.issuer, self.nonce, self.now = issuer, nonce, now
        self.own, self.foreign = rsa_key("the provider"), rsa_key("a stranger")

    def claims(self, *without: str, **changes: Any) -> dict[str, Any]:
        """The right claims, changed."""
        right = {
            "iss": self.issuer, "sub": "1234", "aud": CLIENT, "exp": self.now + 300, "iat": self.now, "nonce": self.nonce,
            "email": "ada@people.example", "email_verified": True, "name": "Ada", "groups": ["makers"],
        }  # fmt: skip
        return {name: value for name, value in (right | changes).items() if name not in without}

    def token(self, *without: str, header: Mapping[str, Any] = HEADER, **changes: Any) -> str:
        """A token with the provider's own signature."""
        return raw(header, self.claims(*without, **changes), by(self.own))

    def by_stranger(self, **header: Any) -> str:
        """A token with the signature of somebody else's key."""
        return raw(HEADER | header, self.claims(), by(self.foreign))

    def by_secret(self, secret: bytes, **header: Any) -> str:
        """A token whose signature is an HMAC."""
        told = HEADER | {"alg": "HS256"} | header
        return raw(told, self.claims(), lambda signed: hmac.digest(secret, signed, hashlib.sha256))

    def swapped(self) -> str:
        """A right token with the claims of somebody else."""
        header, _, signature = self.token().split(".")
        return f"{header}.{self.token(sub='4321').split('.')[1]}.{signature}"


FORGERIES: dict[str, Forgery] = {
    "alg none": lambda forger: raw(HEADER | {"alg": "none"}, forger.claims(), lambda _: b""),
    "alg None": lambda forger: raw(HEADER | {"alg": "None"}, forger.claims(), lambda _: b""),
    "alg none with a signature": lambda forger: raw(HEADER | {"alg": "none"}, forger.claims(), by(forger.own)),
    "alg empty": lambda forger: forger.token(header=HEADER | {"alg": ""}),
    "alg a list": lambda forger: forger.token(header=HEADER | {"alg": ["RS256"]}),
    "alg missing": lambda forger: forger.token(header={"kid": "first"}),
    "alg that is not ours": lambda forger: jwt.encode(
        HEADER | {"alg": "RS384"}, forger.claims(), forger.own, registry=EVERY
    ),
    "HS256 with the public key, PEM": lambda forger: forger.by_secret(forger.own.as_pem()),
    "HS256 with the public key, DER": lambda forger: forger.by_secret(forger.own.as_der()),
    "HS256 with the public key, JWK": lambda forger: forger.by_secret(json.dumps(forger.own.as_dict()).encode()),
    "HS256 with the client's secret": lambda forger: forger.by_secret(SECRET.encode()),
    "HS256 with nothing": lambda forger: forger.by_secret(b"", kid=""),
    "signature cut": lambda forger: forger.token().rpartition(".")[0] + ".",
    "signature by another key": lambda forger: forger.by_stranger(),
    "claims swapped": lambda forger: forger.swapped(),
    "kid a path": lambda forger: forger.by_secret(b"", kid="../../../../dev/null"),
    "kid SQL": lambda forger: forger.by_stranger(kid="x' UNION SELECT 'key"),
    "kid a number": lambda forger: forger.by_stranger(kid=1),
    "kid missing": lambda forger: raw({"alg": "RS256"}, forger.claims(), by(forger.foreign)),
    "jku": lambda forger: forger.by_stranger(jku=f"{forger.issuer}/canary", kid="stranger"),
    "x5u": lambda forger: forger.by_stranger(x5u=f"{forger.issuer}/canary", kid="stranger"),
    "jwk": lambda forger: forger.by_stranger(jwk=forger.foreign.as_dict()),
    "x5c": lambda forger: forger.by_stranger(x5c=[base64.b64encode(forger.foreign.as_der()).decode()]),
    "critical header unknown": lambda forger: forger.token(header=HEADER | {"crit": ["bound"], "bound": "to another"}),
    "an access token": lambda forger: forger.token(header=HEADER | {"typ": "at+jwt"}),
    "a token for signing out": lambda forger: forger.token(header=HEADER | {"typ": "logout+jwt"}),
    "header a list": lambda forger: raw(b'["alg"]', forger.claims(), by(forger.own)),
    "header nested": lambda forger: raw(b'{"alg":' * 60 + b"1" + b"}" * 60, forger.claims(), by(forger.own)),
    "claims a list": lambda forger: raw(HEADER, b"[]", by(forger.own)),
    "claims no JSON": lambda forger: raw(HEADER, b"\xff", by(forger.own)),
    "five parts": lambda forger: forger.token() + ".a.b",
    "no token": lambda _: "",
    "other issuer": lambda forger: forger.token(iss="https://accounts.example"),
    "issuer with a slash more": lambda forger: forger.token(iss=forger.issuer + "/"),
    "issuer a list": lambda forger: forger.token(iss=[forger.issuer]),
    "no issuer": lambda forger: forger.token("iss"),
    "other audience": lambda forger: forger.token(aud="other"),
    "audience that only begins alike": lambda forger: forger.token(aud=CLIENT + "-admin"),
    "no audience": lambda forger: forger.token("aud"),
    "audience empty": lambda forger: forger.token(aud=[]),
    "two audiences, nobody authorised": lambda forger: forger.token(aud=[CLIENT, "other"]),
    "two audiences, the other authorised": lambda forger: forger.token(aud=[CLIENT, "other"], azp="other"),
    "another authorised": lambda forger: forger.token(azp="other"),
    "expired": lambda forger: forger.token(exp=forger.now - idtoken.LEEWAY),
    "exp as text": lambda forger: forger.token(exp=str(forger.now + 300)),
    "exp with a fraction": lambda forger: forger.token(exp=forger.now + 300.5),
    "exp not a number": lambda forger: forger.token(exp=float("nan")),
    "exp for ever": lambda forger: forger.token(exp=float("inf")),
    "exp true": lambda forger: forger.token(exp=True),
    "no exp": lambda forger: forger.token("exp"),
    "exp null": lambda forger: forger.token(exp=None),
    "nbf to come": lambda forger: forger.token(nbf=forger.now + idtoken.LEEWAY + 1),
    "nbf as text": lambda forger: forger.token(nbf=str(forger.now)),
    "iat to come": lambda forger: forger.token(iat=forger.now + idtoken.LEEWAY + 1),
    "iat as text": lambda forger: forger.token(iat=str(forger.now)),
    "no iat": lambda forger: forger.token("iat"),
    "no subject": lambda forger: forger.token("sub"),
    "subject a number": lambda forger: forger.token(sub=1234),
    "subject empty": lambda forger: forger.token(sub=""),
    "subject too long": lambda forger: forger.token(sub="1" * 256),
    "no nonce": lambda forger: forger.token("nonce"),
    "other nonce": lambda forger: forger.token(nonce="of-another-sign-in"),
    "nonce in a list": lambda forger: forger.token(nonce=[forger.nonce]),
    "nonce not ASCII": lambda forger: forger.token(nonce="ä"),
    "other access token": lambda forger: forger.token(at_hash=idtoken.half_hash("another", "RS256")),
    "at_hash a number": lambda forger: forger.token(at_hash=1),
    "at_hash whole": lambda forger: forger.token(
        at_hash=base64.urlsafe_b64encode(hashlib.sha256(ACCESS_TOKEN.encode()).digest()).decode()
    ),
}
GENUINE: dict[str, Forgery] = {
    "plain": lambda forger: forger.token(),
    "no typ": lambda forger: forger.token(header={"alg": "RS256", "kid": "first"}),
    "one key needs no kid": lambda forger: forger.token(header={"alg": "RS256"}),
    "header of the provider's own": lambda forger: forger.token(header=HEADER | {"pi.atm": "x"}),
    "jku is ignored": lambda forger: forger.token(header=HEADER | {"jku": f"{forger.issuer}/canary"}),
    "audience in a list": lambda forger: forger.token(aud=[CLIENT]),
    "two audiences, we authorised": lambda forger: forger.token(aud=["other", CLIENT], azp=CLIENT),
    "expired within the leeway": lambda forger: forger.token(exp=forger.now - idtoken.LEEWAY + 1),
    "issued within the leeway": lambda forger: forger.token(iat=forger.now + idtoken.LEEWAY, nbf=forger.now),
    "its access token": lambda forger: forger.token(at_hash=idtoken.half_hash(ACCESS_TOKEN, "RS256")),
}


@pytest.fixture
def played() -> Iterator[PlayedProvider]:
    """A provider of this test's own."""
    with played_provider() as server:
        yield server


def relying(played: PlayedProvider, clock: FixedClock, **more: Any) -> Provider:
    """We, as a client of the played provider."""
    return Provider(OidcSettings(played.issuer, CLIENT, SECRET, {"makers": "editor"}), clock, **more)


async def signed_in(provider: Provider, played: PlayedProvider, clock: FixedClock, forgery: Forgery) -> Identity:
    """Who somebody is said to be by a token, through both steps of a sign-in."""
    begun = await provider.begin(CALLBACK, "/")
    played.issue(forgery(Forger(played.issuer, begun.nonce, int(clock.now().timestamp()))))
    return await provider.finish(begun, CALLBACK, {"code": "good-once", "state": begun.state})


async def accepted(played: PlayedProvider, clock: FixedClock, forgeries: Mapping[str, Forgery]) -> list[str]:
    """Which of the tokens let somebody in; each is refused with a reason that repeats nothing of it."""
    provider, taken = relying(played, clock), []
    told: set[str] = set()
    for name, forgery in forgeries.items():
        try:
            await signed_in(provider, played, clock, forgery)
        except Unauthenticated as error:
            told.update(re.findall(r"[\w+]+", error.detail))
        else:
            taken.append(name)
    assert not told & {"1234", "4321", "another", "at+jwt", "UNION", "canary"}
    return taken


async def test_no_forged_token_lets_anybody_in(played: PlayedProvider, clock: FixedClock) -> None:
    """Of all forgeries not one is accepted, and no place that a token names is asked."""
    taken = await accepted(played, clock, FORGERIES)

    assert taken == []
    assert len(FORGERIES) >= 60
    assert played.times("/token") == len(FORGERIES)
    assert played.times("/canary") == 0


async def test_every_genuine_token_lets_somebody_in(played: PlayedProvider, clock: FixedClock) -> None:
    """What a provider may vary is accepted: the check above does not refuse everything."""
    taken = await accepted(played, clock, GENUINE)

    assert taken == list(GENUINE)
    assert played.times("/canary") == 0


def _unchecked(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (part + "=" * (-len(part) % 4) for part in token.split("."))
    return json.loads(base64.urlsafe_b64decode(header)), json.loads(base64.urlsafe_b64decode(claims))


def any_audience(real: Verifier, token: str, keys: KeySet, expected: idtoken.Expected, now: datetime) -> dict[str, Any]:
    """A mutant that takes a token made for anybody."""
    said = _unchecked(token)[1].get("aud")
    return real(token, keys, replace(expected, client_id=said if isinstance(said, str) else expected.client_id), now)


def any_nonce(real: Verifier, token: str, keys: KeySet, expected: idtoken.Expected, now: datetime) -> dict[str, Any]:
    """A mutant that takes a token of another sign-in."""
    said = _unchecked(token)[1].get("nonce")
    return real(token, keys, replace(expected, nonce=said if isinstance(said, str) else expected.nonce), now)


def any_algorithm(
    real: Verifier, token: str, keys: KeySet, expected: idtoken.Expected, now: datetime
) -> dict[str, Any]:
    """A mutant that believes the header about the algorithm, and uses the key that it has for it."""
    header, claims = _unchecked(token)
    signed, _, signature = token.rpartition(".")
    secret = rsa_key("the provider").as_pem()
    if header["alg"] == "none" or (header["alg"] == "HS256" and signature == hmac_of(secret, signed)):
        return claims
    return real(token, keys, expected, now)


def hmac_of(secret: bytes, signed: str) -> str:
    """The signature of HS256."""
    return base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("mutant", "lets_in"),
    [
        (any_audience, ["other audience"]),
        (any_nonce, ["other nonce"]),
        (any_algorithm, ["alg none", "HS256 with the public key, PEM"]),
    ],
)
async def test_a_verifier_that_skips_a_check_is_caught(
    played: PlayedProvider, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, mutant: Any, lets_in: list[str]
) -> None:
    """Each mutant accepts the forgeries that its check is there for."""
    real = idtoken.verified
    monkeypatch.setattr(idtoken, "verified", lambda *asked: mutant(real, *asked))

    taken = await accepted(played, clock, {name: FORGERIES[name] for name in lets_in})

    assert taken == lets_in


KEYS: dict[str, Callable[[], Key]] = {
    "PS256": lambda: rsa_key("the provider"),
    "ES256": lambda: ECKey.generate_key("P-256", {"kid": "first"}),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519", {"kid": "first"}),
}


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")  # of signing, here only
async def test_the_algorithms_on_the_list_are_read(
    played: PlayedProvider, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """With the hash of the access token that belongs to each; off the list, the same token is refused."""
    key, hashed = KEYS[algorithm](), idtoken.half_hash(ACCESS_TOKEN, algorithm)
    played.publish(key)

    def forgery(forger: Forger) -> str:
        return jwt.encode({"alg": algorithm, "kid": "first"}, forger.claims(at_hash=hashed), key, registry=EVERY)

    identity = await signed_in(relying(played, clock), played, clock, forgery)
    monkeypatch.setattr(idtoken, "ALGORITHMS", {"RS256": hashlib.sha256})

    assert identity.subject == "1234"
    with pytest.raises(Unauthenticated, match="signed"):
        await signed_in(relying(played, clock), played, clock, forgery)


@pytest.mark.filterwarnings("ignore:Key size:joserfc.errors.SecurityWarning")  # of making the short one
async def test_keys_that_cannot_verify_are_passed_over(played: PlayedProvider, clock: FixedClock) -> None:
    """Kinds that are not understood, secrets, keys for encryption and short ones do not spoil the one that is good."""
    good = rsa_key("the provider")
    others: list[Mapping[str, Any]] = [
        {"kty": "ML-DSA", "kid": "new"},
        {"kty": "EC", "crv": "P-256", "kid": "broken"},
        {"kty": "RSA", "kid": "numbers", "n": 1, "e": 2},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "first"},
        good.as_dict() | {"use": "enc"},
        RSAKey.generate_key(1024, {"kid": "short"}).as_dict(),
        {},
    ]

    keys = idtoken.usable([*others, good.as_dict()])

    assert [key.as_dict() for key in keys] == [good.as_dict()]
    assert idtoken.usable(others).keys == []
    assert idtoken.usable([good.as_dict()], 3_072).keys == []
    longer = RSAKey.generate_key(3_072, {"kid": "longer"}).as_dict()
    assert [key.kid for key in idtoken.usable([good.as_dict(), longer], 3_072)] == ["longer"]
