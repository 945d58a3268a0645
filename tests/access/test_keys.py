"""How API keys are written, told from other texts, and what may be asked of one."""

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from upshot.access import Scope
from upshot.access.keys import ID_LENGTH, SECRET_LENGTH, ApiKey, digest_of, faults_of, id_of, written
from upshot.clock import new_letters

LETTERS = string.digits + string.ascii_letters
ASSIGN = frozenset({Scope.ASSIGN})

letters = some.text(LETTERS, min_size=ID_LENGTH, max_size=ID_LENGTH)
secrets = some.text(LETTERS, min_size=SECRET_LENGTH, max_size=SECRET_LENGTH)


@given(letters, secrets)
def test_a_key_names_its_id(key_id: str, secret: str) -> None:
    """Whatever its letters are; and it is what a secret scanner looks for."""
    text = written(key_id, secret)

    assert id_of(text) == key_id
    assert len(text) == len("upk__") + ID_LENGTH + SECRET_LENGTH + 6
    assert text.startswith("upk_")


@given(letters, secrets, some.data())
def test_a_slip_of_the_pen_is_no_key(key_id: str, secret: str, data: some.DataObject) -> None:
    """One other letter anywhere is noticed by the checksum, without asking a store."""
    text = written(key_id, secret)
    place = data.draw(some.integers(4, len(text) - 1).filter(lambda at: text[at] != "_"))
    other = data.draw(some.sampled_from([letter for letter in LETTERS if letter != text[place]]))

    assert id_of(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "upk_", "upk_a_b", "xp_" + "a" * 60, "upk_" + "ä" * 10 + "_" + "a" * 38, "upk_" + "a" * 49]
)
def test_other_texts_are_no_keys(text: str) -> None:
    """Nor are keys with something around them."""
    key = written(new_letters(ID_LENGTH), new_letters(SECRET_LENGTH))

    assert id_of(text) is None
    assert [id_of(around) for around in (key + "\n", " " + key, key + key, key.upper(), key[:-1])] == [None] * 5


@given(letters, secrets, secrets)
def test_only_the_very_secret_matches(key_id: str, secret: str, other: str) -> None:
    """A text with the same id and a right checksum is another key."""
    key, another = (written(key_id, drawn) for drawn in (secret, other))
    kept = ApiKey(
        key_id, "shop", ASSIGN, (), digest_of(key), key[-4:], "somebody", datetime(2026, 1, 1, tzinfo=UTC), None
    )

    assert kept.matches(key)
    assert kept.matches(another) is (secret == other)
    assert not kept.matches(kept.digest)


def test_two_keys_have_two_digests() -> None:
    """Of 256 bits, in small hexadecimal digits."""
    digests = {digest_of(new_letters(40)) for _ in range(100)}

    assert len(digests) == 100
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example.com", "http://localhost:3000", "https://example.com:8443", "https://xn--bcher-kva.example"],
)
def test_an_origin_is_what_browsers_send(origin: str) -> None:
    """A scheme, a host and a port that is not the scheme's own."""
    assert faults_of("shop", ASSIGN, (origin,)) == []


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "shop.example.com", "https://", "https://shop.example.com/", "https://SHOP.example.com",
     "https://shop.example.com:443", "http://a:80", "https://a:99999", "https://user@shop.example.com", "ftp://a",
     "https://shop.example.com/path", "https://*.example.com", "https://bücher.example", "https://a b", "javascript://a",
     "https://a?b", "https://a#b", "https://a\n"],
)  # fmt: skip
def test_other_texts_are_no_origins(origin: str) -> None:
    """Above all not those that would allow more than one page's site."""
    wrong = faults_of("shop", ASSIGN, (origin,))

    assert [fault.code for fault in wrong] == ["bad_origin"], origin


@pytest.mark.parametrize("scope", [Scope.RESULTS, Scope.EXPERIMENTS, Scope.ADMIN])
def test_a_key_for_browsers_writes_only(scope: Scope) -> None:
    """Whoever opens the page can read the key."""
    wrong = faults_of("shop", frozenset({Scope.EVENTS, scope}), ("https://shop.example.com",))

    assert [fault.code for fault in wrong] == ["not_for_browsers"]


def test_a_key_says_its_name_and_what_it_is_good_for() -> None:
    """Faults are all named at once."""
    wrong = faults_of(" ", frozenset(), ())

    assert [fault.pointer for fault in wrong] == ["/scopes", "/name"]
