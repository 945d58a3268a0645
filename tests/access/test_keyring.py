"""Access tokens are read strictly, keys can be replaced, and weak ones are refused."""

import base64
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt
from tests.access.forging import forgeries

from upshot.access import keyring as module
from upshot.access.keyring import Claims, Keyring, weakness_of
from upshot.errors import ConfigurationError

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECRET = "kR8vX2qLw0ZtN5yBfJ3hM7pD1sGcV9aEuT4iO6xKbQzYnWe"  # noqa: S105 - of tests
OTHER = "pZ3nQ8wXe5RtY1uI7oA9sD2fG4hJ6kL0zC8vB5nM1qWxEcR"


def issued(keyring: Keyring, now: datetime = NOW) -> str:
    """A good token."""
    return keyring.issue("default", "user", "session", "token", now)


def pem(key: Any) -> str:
    """A private key as a text."""
    form = serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


def test_a_token_says_whose_it_is() -> None:
    """And from when to when, in whole seconds."""
    keyring = Keyring("HS256", [SECRET])

    read = keyring.read(issued(keyring), NOW + timedelta(minutes=14))

    assert read == Claims("default", "user", "session", "token", NOW, NOW + timedelta(minutes=15))


def test_a_token_ends_with_its_lifetime() -> None:
    """At the second; and clocks of two machines may differ by a minute, not an hour."""
    keyring = Keyring("HS256", [SECRET], timedelta(minutes=5))
    token = issued(keyring)

    good = [keyring.read(token, NOW + timedelta(seconds=at)) is not None for at in (-3_600, -61, -60, 0, 299, 300)]

    assert good == [False, False, True, True, True, False]


def accepted(read: Callable[[Keyring, str], object], keyring: Keyring) -> list[str]:
    """The forgeries that somebody takes."""
    return [
        name for name, token in forgeries(keyring, issued(keyring), NOW).items() if read(keyring, token) is not None
    ]


def test_no_forged_token_is_taken() -> None:
    """At least 60, of which the half could be made without any of our keys."""
    keyring = Keyring("HS256", [SECRET])

    assert len(forgeries(keyring, issued(keyring), NOW)) >= 60
    assert accepted(lambda ring, token: ring.read(token, NOW), keyring) == []


def _believing(_ring: Keyring, token: str) -> object:
    """Reads what a token says, and never looks at the signature."""
    try:
        return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))["sub"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _lenient(ring: Keyring, token: str) -> object:
    """Checks the signature, but no claim."""
    try:
        return jwt.decode(token, next(iter(ring._keys.values())), ["HS256"]).claims
    except Exception:  # noqa: BLE001 - whatever it dislikes
        return None


@pytest.mark.parametrize(("broken", "least"), [(_believing, 20), (_lenient, 20)])
def test_the_forgeries_find_a_reader_that_is_not_strict(broken: Callable[[Keyring, str], object], least: int) -> None:
    """One that does not verify, and one that verifies the signature alone."""
    assert len(accepted(broken, Keyring("HS256", [SECRET]))) >= least


KEYS: dict[str, Callable[[], str]] = {
    "HS512": lambda: secrets.token_urlsafe(64),
    "RS256": lambda: pem(rsa.generate_private_key(65_537, 3_072)),
    "PS256": lambda: pem(rsa.generate_private_key(65_537, 3_072)),
    "ES256": lambda: pem(ec.generate_private_key(ec.SECP256R1())),
    "Ed25519": lambda: pem(ed25519.Ed25519PrivateKey.generate()),
    "EdDSA": lambda: pem(ed25519.Ed25519PrivateKey.generate()),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_reads_its_own_tokens_only(algorithm: str) -> None:
    """A token of another algorithm is none, though the key were the same text."""
    keyring, other = Keyring(algorithm, [KEYS[algorithm]()]), Keyring("HS256", [SECRET])

    assert keyring.read(issued(keyring), NOW)
    assert keyring.read(issued(other), NOW) is None
    assert other.read(issued(keyring), NOW) is None


def test_a_public_key_is_no_secret_of_another_algorithm() -> None:
    """The old trick: to sign by HMAC with the public key that everybody has."""
    private = rsa.generate_private_key(65_537, 3_072)
    keyring = Keyring("RS256", [pem(private)])
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    with pytest.raises(ConfigurationError):
        Keyring("RS256", [public.decode()])
    taken = accepted(lambda _, token: keyring.read(token, NOW), Keyring("HS256", [SECRET]))
    assert taken == []


def test_a_key_is_replaced_without_ending_sessions() -> None:
    """What the old one signed is believed as long as it is configured; what was sealed can be opened."""
    old, both, new = Keyring("HS256", [SECRET]), Keyring("HS256", [OTHER, SECRET]), Keyring("HS256", [OTHER])
    earlier, later = issued(old), issued(both)

    assert both.read(earlier, NOW)
    assert both.open(old.seal("hook")) == "hook"
    assert new.read(earlier, NOW) is None
    assert new.open(old.seal("hook")) is None
    assert new.read(later, NOW)
    assert old.read(later, NOW) is None


def test_what_is_sealed_cannot_be_changed() -> None:
    """Nor read without the key; nonsense is not opened."""
    keyring = Keyring("HS256", [SECRET])
    sealed = keyring.seal("whsec_secret")

    assert "secret" not in sealed
    assert keyring.open(sealed) == "whsec_secret"
    assert [keyring.open(text) for text in (sealed[:-2] + "AA", "", "ä", sealed[5:])] == [None] * 4


@pytest.mark.parametrize(
    "text",
    ["", "short", "secret", "your-secret-key-here", "your-secret-key-here" * 2, "a" * 64, "ab" * 32, "changeme" * 8,
     "0123456789" * 4, "correct-password-of-this-machine-0123", "12345678" * 5,
     "s3cret" * 6, "K7q!x9Zp" * 4 + "K7q"],
)  # fmt: skip
def test_weak_secrets_are_refused(text: str) -> None:
    """Short ones, well-known ones, and those of few letters; the message does not repeat them."""
    with pytest.raises(ConfigurationError) as refused:
        Keyring("HS256", [text])

    assert refused.value.detail.startswith("JWT_SECRET_KEY: ")
    assert not text or text not in refused.value.detail


def test_random_secrets_are_taken() -> None:
    """Of every common form, thousands of times."""
    made = [make(32) for make in (secrets.token_hex, secrets.token_urlsafe) for _ in range(2_000)]
    made += [secrets.token_hex(16) for _ in range(2_000)]

    assert [weakness_of(text) for text in made] == [None] * len(made)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("none", "HS512"), ("HS1", "HS512"), ("RS256", "HS512"), ("HS256", "ES256"), ("RS256", "nonsense")],
)
def test_a_key_of_another_kind_is_refused(algorithm: str, kind: str) -> None:
    """One line that names the setting."""
    with pytest.raises(ConfigurationError, match=r"^JWT_(ALGORITHM|SECRET_KEY): "):
        Keyring(algorithm, [KEYS.get(kind, lambda: "-----BEGIN nonsense-----")()])


def test_a_short_rsa_key_is_refused() -> None:
    """One of 2,048 bits has less strength than our other keys; one of 3,072 is taken."""
    with pytest.raises(ConfigurationError, match="3072 bits"):
        Keyring("RS256", [pem(rsa.generate_private_key(65_537, 2_048))])

    Keyring("RS256", [pem(rsa.generate_private_key(65_537, 3_072))])


def test_a_process_without_a_key_has_one_of_its_own() -> None:
    """Which no other process has."""
    first, second = Keyring.ephemeral(), Keyring.ephemeral()

    assert first.read(issued(first), NOW)
    assert second.read(issued(first), NOW) is None
    assert timedelta(minutes=15) == module.LIFETIME
