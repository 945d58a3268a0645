"""What a provider may answer, and how it is asked: limits, addresses, keys, and what it says beside the ID token."""

import asyncio
import base64
import functools
import gzip
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.access.played import (
    ACCESS_TOKEN,
    CALLBACK,
    CLIENT,
    PlayedProvider,
    Reply,
    by,
    played_provider,
    raw,
    rsa_key,
    said,
)

from upshot.access import issuer
from upshot.access.oidc import Identity, OidcSettings, Provider
from upshot.clock import FixedClock
from upshot.errors import Unauthenticated, Unavailable

DISCOVERY = issuer.WELL_KNOWN
SECRET = "a client's secret: 100%"  # noqa: S105


@pytest.fixture
def played() -> Iterator[PlayedProvider]:
    """A provider of this test's own."""
    with played_provider() as server:
        yield server


def settings(played: PlayedProvider, **changes: Any) -> OidcSettings:
    """We, as a client of the played provider."""
    return replace(OidcSettings(played.issuer, CLIENT, SECRET, {"makers": "editor", "*": "viewer"}), **changes)


async def signed_in(
    provider: Provider, played: PlayedProvider, clock: FixedClock, kid: str = "first", **claims: Any
) -> Identity:
    """Who somebody is said to be, through both steps; by a token with a key of this name, signed with the provider's."""
    begun = await provider.begin(CALLBACK, "/")
    now = int(clock.now().timestamp())
    told = {"iss": played.issuer, "sub": "1234", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": begun.nonce}
    played.issue(raw({"alg": "RS256", "kid": kid}, told | claims, by(rsa_key("the provider", kid))))
    return await provider.finish(begun, CALLBACK, {"code": "good-once", "state": begun.state})


async def test_documents_are_kept_for_an_hour(played: PlayedProvider, clock: FixedClock) -> None:
    """Addresses and keys are asked for once; after an hour again."""
    provider = Provider(settings(played), clock)

    for _ in range(3):
        await signed_in(provider, played, clock)
        clock.advance(minutes=19)
    once = played.times(DISCOVERY), played.times("/keys")
    clock.advance(minutes=4)
    await signed_in(provider, played, clock)

    assert once == (1, 1)
    assert (played.times(DISCOVERY), played.times("/keys")) == (2, 2)


async def flood_with_unknown_keys(played: PlayedProvider, clock: FixedClock) -> int:
    """How often the keys are asked for while twenty tokens name keys that there are not."""
    provider, before = Provider(settings(played), clock), played.times("/keys")
    for _ in range(20):
        with pytest.raises(Unauthenticated, match="key is unknown"):
            await signed_in(provider, played, clock, kid="another")
    return played.times("/keys") - before


async def test_unknown_keys_do_not_flood_the_provider(
    played: PlayedProvider, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are asked for once and once again; a build without the limit asks every time."""
    asked = await flood_with_unknown_keys(played, clock)
    monkeypatch.setattr(issuer, "AGAIN_SECONDS", 0)
    mutant = await flood_with_unknown_keys(played, clock)

    assert asked == 2
    assert mutant == 21


async def test_a_new_key_is_found_at_once_and_later_ones_within_a_minute(
    played: PlayedProvider, clock: FixedClock
) -> None:
    """A rotation does not end sign-ins until the hour is over."""
    provider = Provider(settings(played), clock)
    await signed_in(provider, played, clock)

    played.publish(rsa_key("the provider", "second"))
    second = await signed_in(provider, played, clock, kid="second")
    played.publish(rsa_key("the provider", "third"))
    with pytest.raises(Unauthenticated):
        await signed_in(provider, played, clock, kid="third")
    clock.advance(seconds=issuer.AGAIN_SECONDS)
    third = await signed_in(provider, played, clock, kid="third")

    assert second.subject == third.subject == "1234"


async def test_whoever_finds_new_keys_finds_them_for_all(played: PlayedProvider, clock: FixedClock) -> None:
    """Five sign-ins at once after a rotation: one asks, the others wait for it."""
    provider = issuer.Issuer(played.issuer, clock)
    await provider.keys()
    played.publish(rsa_key("the provider", "second"))

    found = await asyncio.gather(*(provider.newer_keys() for _ in range(5)))

    assert [[key.kid for key in keys] for keys in found] == [["second"]] * 5
    assert played.times("/keys") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://accounts.example"},
        {"issuer": None},
        {"token_endpoint": "http://accounts.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"userinfo_endpoint": "http://169.254.169.254/"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": 7},
    ],
    ids=str,
)
async def test_a_discovery_document_that_does_not_fit_is_not_used(
    played: PlayedProvider, clock: FixedClock, changes: dict[str, Any]
) -> None:
    """Another issuer, addresses without https, and what is not a document; the unchanged one is used."""
    await Provider(settings(played), clock).begin(CALLBACK, "/")

    played.describe(**changes)

    with pytest.raises(Unavailable):
        await Provider(settings(played), clock).begin(CALLBACK, "/")


def test_only_https_and_this_machine_are_secure() -> None:
    """Plain http is for a provider on this machine."""
    good = ["https://a.example", "https://[::1]/x", "http://localhost:80/x", "http://127.0.0.9", "http://[::1]:9/x"]
    bad = [
        "http://a.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "ftp://localhost",
    ]
    bad += ["https://", "//a.example", "", "http://[::1", "http://[fe80::1]", "https:a.example", "http://0x7f.1"]

    assert [url for url in good if not issuer.secure(url, loopback=True)] == []
    assert [url for url in bad if issuer.secure(url, loopback=True)] == []
    assert [url for url in good if issuer.secure(url, loopback=False)] == good[:2]


async def test_redirects_are_not_followed(
    played: PlayedProvider, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the provider points to, nobody is asked there; a build that follows asks."""
    document = played.replies[DISCOVERY]
    played.replies[DISCOVERY] = Reply(302, b"", {"Location": f"{played.issuer}/canary"})
    played.replies["/canary"] = document

    with pytest.raises(Unavailable):
        await Provider(settings(played), clock).begin(CALLBACK, "/")
    asked = played.times("/canary")
    monkeypatch.setattr(httpx, "AsyncClient", functools.partial(httpx.AsyncClient, follow_redirects=True))
    await Provider(settings(played), clock).begin(CALLBACK, "/")

    assert asked == 0
    assert played.times("/canary") == 1


async def test_a_slow_provider_is_not_waited_for(played: PlayedProvider, clock: FixedClock) -> None:
    """Drops that keep coming do not keep a sign-in waiting; with more patience the same answer is read."""
    at_once = played.replies[DISCOVERY]
    played.replies[DISCOVERY] = replace(at_once, pieces=200, seconds=0.1)  # 20 s in all
    started = time.monotonic()

    with pytest.raises(Unavailable) as refused:
        await Provider(settings(played), clock, seconds=0.3).begin(CALLBACK, "/")
    waited = time.monotonic() - started

    assert waited < 10
    assert refused.value.retry_after
    played.replies[DISCOVERY] = replace(at_once, pieces=10, seconds=0.1)
    assert (await Provider(settings(played), clock, seconds=60).begin(CALLBACK, "/")).url


async def test_what_is_too_long_is_not_read(
    played: PlayedProvider, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit the answer is dropped; with another limit the same answer is read."""
    document = played.replies[DISCOVERY]
    played.replies[DISCOVERY] = replace(document, body=document.body + b" " * issuer.LONGEST_ANSWER, pieces=4)

    with pytest.raises(Unavailable):
        await Provider(settings(played), clock).begin(CALLBACK, "/")
    monkeypatch.setattr(issuer, "LONGEST_ANSWER", 2 * issuer.LONGEST_ANSWER)

    assert (await Provider(settings(played), clock).begin(CALLBACK, "/")).url


async def test_what_is_compressed_is_not_unpacked(played: PlayedProvider, clock: FixedClock) -> None:
    """Nothing compressed was asked for, and a small answer cannot become a large one."""
    packed = gzip.compress(played.replies[DISCOVERY].body)
    played.replies[DISCOVERY] = Reply(body=packed, headers={"Content-Encoding": "gzip"})

    with pytest.raises(Unavailable):
        await Provider(settings(played), clock).begin(CALLBACK, "/")

    assert {asked.headers["Accept-Encoding"] for asked in played.asked} == {"identity"}


@pytest.mark.parametrize("status", [204, 302, 429, 500, 503])
@pytest.mark.parametrize("path", [DISCOVERY, "/token", "/keys"])
async def test_a_provider_out_of_order_is_unavailable(
    played: PlayedProvider, clock: FixedClock, path: str, status: int
) -> None:
    """Whatever of it fails; the user is not told that the sign-in was wrong."""
    provider = Provider(settings(played), clock)
    played.issue = lambda _: None  # type: ignore[method-assign, misc, assignment]
    played.replies["/token"] = said({"id_token": "a.b.c", "access_token": ACCESS_TOKEN})
    played.replies[path] = Reply(status)

    with pytest.raises(Unavailable):
        await signed_in(provider, played, clock)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"id_token": 1}', b'{"id_token": "a.b.c"}', b"<html>"])
async def test_a_token_answer_that_is_none_is_unavailable(
    played: PlayedProvider, clock: FixedClock, body: bytes
) -> None:
    """What is not the document that was asked for is not guessed at."""
    provider = Provider(settings(played), clock)
    begun = await provider.begin(CALLBACK, "/")
    played.replies["/token"] = Reply(body=body)

    with pytest.raises(Unavailable):
        await provider.finish(begun, CALLBACK, {"code": "good-once", "state": begun.state})


@pytest.mark.parametrize(
    ("methods", "secret", "header", "fields"),
    [
        (None, SECRET, "up%3Ashot:a%20client%27s%20secret%3A%20100%25", ""),
        (["client_secret_basic", "client_secret_post"], SECRET, "up%3Ashot:a%20client%27s%20secret%3A%20100%25", ""),
        (["client_secret_post"], SECRET, None, "client_id=up%3Ashot&client_secret=a+client%27s+secret%3A+100%25"),
        (None, "", None, "client_id=up%3Ashot"),
    ],
)
async def test_the_client_says_who_it_is_as_the_provider_reads_it(
    played: PlayedProvider, clock: FixedClock, methods: list[str] | None, secret: str, header: str | None, fields: str
) -> None:
    """In the header, form-encoded first (RFC 6749, 2.3.1), or in the body; a public client has no secret to show."""
    if methods is not None:
        played.describe(token_endpoint_auth_methods_supported=methods)

    relied = Provider(settings(played, client_id="up:shot", client_secret=secret), clock)
    await signed_in(relied, played, clock, aud="up:shot")

    asked = next(asked for asked in played.asked if asked.path == "/token")
    shown = asked.headers.get("Authorization", "").removeprefix("Basic ")
    assert base64.b64decode(shown).decode() == (header or "")
    assert fields in asked.body
    assert ("client_secret" in asked.body) == ("client_secret" in fields)


async def test_what_the_id_token_lacks_is_asked_for(played: PlayedProvider, clock: FixedClock) -> None:
    """Address, groups and name come from the userinfo endpoint, each with what belongs to it."""
    played.describe(userinfo_endpoint=f"{played.issuer}/userinfo")
    played.replies["/userinfo"] = said(
        {"sub": "1234", "email": "ada@other.example", "email_verified": True, "groups": ["makers"], "name": "Ada"}
    )
    provider = Provider(settings(played), clock)

    nothing = await signed_in(provider, played, clock)
    unverified = await signed_in(provider, played, clock, email="ada@people.example")
    no_groups = await signed_in(provider, played, clock, email="ada@people.example", email_verified=True, groups=[])
    everything = await signed_in(provider, played, clock, email="ada@people.example", groups="makers")

    assert nothing == Identity(
        "1234", played.issuer, "ada@other.example", email_verified=True, name="Ada", groups=("makers",), role="editor"
    )
    assert (unverified.email, unverified.email_verified, unverified.role) == ("ada@people.example", False, "editor")
    assert (no_groups.email_verified, no_groups.groups, no_groups.role) == (True, (), "viewer")
    assert (everything.groups, everything.name) == (("makers",), "ada@people.example")
    assert played.times("/userinfo") == 2
    assert played.asked[-1].headers.get("Authorization") != f"Bearer {ACCESS_TOKEN}"


async def test_userinfo_of_somebody_else_is_refused(played: PlayedProvider, clock: FixedClock) -> None:
    """Whoever swaps access tokens does not get another's groups; an endpoint that says no leaves them out."""
    played.describe(userinfo_endpoint=f"{played.issuer}/userinfo")
    provider = Provider(settings(played), clock)

    for document in ({"sub": "4321", "groups": ["makers"]}, {"groups": ["makers"]}):
        played.replies["/userinfo"] = said(document)
        with pytest.raises(Unauthenticated, match="somebody else"):
            await signed_in(provider, played, clock)
    played.replies["/userinfo"] = Reply(403)
    identity = await signed_in(provider, played, clock)

    assert (identity.email, identity.name, identity.role) == (None, "1234", "viewer")


@pytest.mark.parametrize(
    ("claims", "email", "groups"),
    [
        ({"email": 7, "groups": {"makers": True}}, None, ()),
        ({"email": "a" * 321, "groups": ["makers", 7, None, ""]}, None, ("makers",)),
        ({"email": "", "groups": None}, None, ()),
    ],
)
async def test_claims_of_the_wrong_kind_are_left_out(
    played: PlayedProvider, clock: FixedClock, claims: dict[str, Any], email: str | None, groups: tuple[str, ...]
) -> None:
    """They give no address and no role."""
    identity = await signed_in(Provider(settings(played), clock), played, clock, email_verified=True, **claims)

    assert (identity.email, identity.email_verified, identity.groups) == (email, False, groups)
