"""Sign-in by OpenID Connect: the whole of it at a real provider, and its pure parts."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import KeySet
from tests.access.played import PlayedProvider, played_provider
from tests.backends.daemon import server_folder
from tests.backends.provider import (
    CALLBACK,
    CLIENT_SECRET,
    CanailleProvider,
    NotSignedIn,
    browser,
    provider,
)

from upshot.access import idtoken, oidc
from upshot.access.oidc import Begun, Identity, OidcSettings, Provider, own_path, role_of, roles_of, seal, unseal
from upshot.clock import FixedClock, SystemClock
from upshot.errors import ConfigurationError, Unauthenticated, Unavailable, UpshotError

ROLES = {"analysts": "viewer", "makers": "editor", "boss": "admin"}
HERE = "https://upshot.example"
KEY = bytes(range(32))
BEGUN = Begun("a-state", "a-nonce", "a-verifier", "/experiments?status=running", "https://accounts.example/authorize")


@pytest.fixture(scope="module")
def canaille() -> Iterator[CanailleProvider]:
    """A real provider, shared by the tests of this module; whoever kills it starts it again."""
    with server_folder() as folder, provider(folder) as running:
        yield running


def relying(canaille: CanailleProvider, client: str = "upshot", roles: Mapping[str, str] = ROLES) -> Provider:
    """We, as one of the provider's clients."""
    return Provider(OidcSettings(canaille.issuer, client, CLIENT_SECRET, roles), SystemClock())


async def brought_back(relied: Provider, name: str, **typed: str) -> tuple[Begun, dict[str, str]]:
    """What was begun, and what somebody's browser brings back."""
    begun = await relied.begin(CALLBACK, "/experiments")
    with browser() as opened:
        return begun, opened.sign_in(begun.url, name, **typed)


async def signed_in(relied: Provider, name: str) -> Identity:
    """Who somebody is, through the whole of a sign-in, with the cookie between the steps."""
    begun, query = await brought_back(relied, name)
    now = SystemClock().now()
    return await relied.finish(unseal(seal(begun, KEY, now), KEY, now), CALLBACK, query)


@pytest.mark.slow
async def test_a_person_signs_in_with_the_role_of_their_groups(canaille: CanailleProvider) -> None:
    """Forms filled in, consent given, code redeemed: an identity, with the highest role of the groups."""
    identity = await signed_in(relying(canaille), "ada")
    lower = await signed_in(relying(canaille), "bob")

    assert (identity.subject, identity.issuer, identity.name) == ("ada", canaille.issuer, "Ada of the tests")
    assert (identity.email, identity.email_verified) == ("ada@people.example", False)
    assert (set(identity.groups), identity.role) == ({"analysts", "makers"}, "editor")
    assert (lower.subject, lower.groups, lower.role) == ("bob", ("analysts",), "viewer")


@pytest.mark.slow
@pytest.mark.parametrize("client", ["edwards", "elliptic", "padded"])
async def test_the_provider_may_sign_with_every_algorithm_of_the_list(canaille: CanailleProvider, client: str) -> None:
    """EdDSA, ES256 and PS256, with the hash of the access token that belongs to each."""
    assert (await signed_in(relying(canaille, client), "ada")).role == "editor"


@pytest.mark.slow
async def test_a_wrong_password_brings_nobody_back(canaille: CanailleProvider) -> None:
    """It is the provider that refuses; it shows its form again."""
    with pytest.raises(NotSignedIn):
        await brought_back(relying(canaille), "ada", password="wrong")  # noqa: S106


@pytest.mark.slow
async def test_who_gives_no_consent_is_not_signed_in(canaille: CanailleProvider) -> None:
    """The provider's refusal comes back with our state, and is told in our words."""
    relied = relying(canaille, "other")
    begun, query = await brought_back(relied, "bob", answer="deny")

    assert query["error"] == "access_denied"
    with pytest.raises(Unauthenticated, match="did not sign you in"):
        await relied.finish(begun, CALLBACK, query)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eve", "sol"])
async def test_a_person_without_a_mapped_group_is_not_signed_in(canaille: CanailleProvider, name: str) -> None:
    """Of another group or of none; where everybody has a role, it is theirs."""
    with pytest.raises(Unauthenticated, match="None of your groups"):
        await signed_in(relying(canaille), name)

    assert (await signed_in(relying(canaille, roles=ROLES | {"*": "viewer"}), name)).role == "viewer"


@pytest.mark.slow
async def test_a_code_is_good_once(canaille: CanailleProvider) -> None:
    """The provider does not take it again."""
    relied = relying(canaille)
    begun, query = await brought_back(relied, "ada")
    await relied.finish(begun, CALLBACK, query)

    with pytest.raises(Unauthenticated, match="good once"):
        await relied.finish(begun, CALLBACK, query)


@pytest.mark.slow
async def test_a_code_is_of_no_use_without_its_verifier(canaille: CanailleProvider) -> None:
    """PKCE: whoever takes the code from the browser cannot redeem it; it is the provider that refuses, and only them."""
    relied = relying(canaille)
    begun, query = await brought_back(relied, "ada")

    with pytest.raises(Unauthenticated, match="does not take the code"):
        await relied.finish(replace(begun, verifier="v" * 43), CALLBACK, query)
    identity = await relied.finish(begun, CALLBACK, query)

    assert identity.subject == "ada"


@pytest.mark.slow
async def test_an_answer_to_another_sign_in_is_refused(canaille: CanailleProvider) -> None:
    """Its state is another, or none; a code of somebody else's sign-in brings a token with another nonce."""
    relied = relying(canaille)
    begun, query = await brought_back(relied, "ada")

    for state in ("", "another", query["state"][:-1], "ä", "\ud800"):
        with pytest.raises(Unauthenticated, match="begun in this browser"):
            await relied.finish(begun, CALLBACK, query | {"state": state})
    with pytest.raises(Unauthenticated, match="nonce"):
        await relied.finish(replace(begun, nonce="another"), CALLBACK, query)


@pytest.mark.slow
async def test_the_answer_of_another_provider_is_refused(canaille: CanailleProvider) -> None:
    """RFC 9207: this provider always says who it is, so that an answer without it is not from it."""
    relied = relying(canaille)
    begun, query = await brought_back(relied, "ada")
    unsaid = {name: value for name, value in query.items() if name != "iss"}

    for answer in (unsaid, query | {"iss": "https://accounts.example"}, query | {"iss": canaille.issuer + "/"}):
        with pytest.raises(Unauthenticated, match="provider that was asked"):
            await relied.finish(begun, CALLBACK, answer)
    identity = await relied.finish(begun, CALLBACK, query)

    assert identity.subject == "ada"


def any_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that takes a token for whoever it was made."""
    real = idtoken.verified

    def mutant(token: str, keys: KeySet, expected: idtoken.Expected, *more: object) -> object:
        padded = token.split(".")[1] + "=="
        said = json.loads(base64.urlsafe_b64decode(padded))["aud"]
        return real(token, keys, replace(expected, client_id=said[0]), *more)  # type: ignore[arg-type]

    monkeypatch.setattr(idtoken, "verified", mutant)


@pytest.mark.slow
async def test_a_token_for_another_client_is_refused(
    canaille: CanailleProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the provider signed it, and with our nonce; a build that does not look at the audience takes it."""
    with pytest.raises(Unauthenticated, match="aud is not"):
        await signed_in(relying(canaille, "astray"), "ada")
    with pytest.raises(Unauthenticated, match="azp is not"):
        await signed_in(relying(canaille, "shared"), "ada")
    any_audience(monkeypatch)

    assert (await signed_in(relying(canaille, "astray"), "ada")).subject == "ada"


@pytest.mark.slow
async def test_sign_in_ends_with_the_provider_and_comes_back_with_it(canaille: CanailleProvider) -> None:
    """Killed in the middle: unavailable, at both steps, and as before when it is back."""
    relied = relying(canaille)
    begun, query = await brought_back(relied, "ada")

    canaille.kill()
    try:
        with pytest.raises(Unavailable) as middle:
            await relied.finish(begun, CALLBACK, query)
        with pytest.raises(Unavailable) as beginning:
            await relying(canaille).begin(CALLBACK, "/")
    finally:
        canaille.start()

    assert middle.value.retry_after
    assert beginning.value.retry_after
    assert (await signed_in(relied, "ada")).role == "editor"


@pytest.mark.slow
async def test_new_keys_of_the_provider_are_found(canaille: CanailleProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token with an unknown key makes us ask again; a build that does not, refuses it."""
    relied, stubborn = relying(canaille), relying(canaille)
    await signed_in(relied, "ada")
    await signed_in(stubborn, "ada")

    canaille.rotate_keys()
    identity = await signed_in(relied, "ada")

    monkeypatch.setattr(stubborn._issuer, "newer_keys", stubborn._issuer.keys)
    assert identity.subject == "ada"
    with pytest.raises(Unauthenticated, match="key is unknown"):
        await signed_in(stubborn, "ada")


@pytest.mark.slow
def test_nothing_is_left_of_the_provider() -> None:
    """No file, and nobody at its port."""
    with server_folder() as folder, provider(folder) as running:
        assert httpx.get(running.issuer, follow_redirects=True).status_code == 200

    assert not Path(folder).exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.issuer)


@pytest.fixture
def played() -> Iterator[PlayedProvider]:
    """A provider that the test plays."""
    with played_provider() as server:
        yield server


async def test_the_browser_is_sent_with_everything_that_binds_the_answer(
    played: PlayedProvider, clock: FixedClock
) -> None:
    """Code flow, S256 of the verifier, state and nonce; every sign-in has its own."""
    relied = Provider(OidcSettings(played.issuer, "upshot", CLIENT_SECRET, ROLES), clock)

    first, second = await relied.begin(CALLBACK, "/plans"), await relied.begin(CALLBACK, "//evil.example")

    asked = {name: values[0] for name, values in parse_qs(urlsplit(first.url).query).items()}
    assert asked == {
        "response_type": "code", "client_id": "upshot", "redirect_uri": CALLBACK, "scope": "openid email profile groups",
        "state": first.state, "nonce": first.nonce, "code_challenge_method": "S256",
        "code_challenge": create_s256_code_challenge(first.verifier),
    }  # fmt: skip
    assert (first.next, second.next) == ("/plans", "/")
    assert len({first.state, first.nonce, first.verifier, second.state, second.nonce, second.verifier}) == 6
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", first.verifier)
    assert not {first.state, first.nonce, first.verifier} & set(re.split(r"[^\w-]+", repr(first)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [("access_denied", Unauthenticated), ("<script>", Unauthenticated), ("server_error", Unavailable),
     ("temporarily_unavailable", Unavailable), ("", Unauthenticated)],
)  # fmt: skip
async def test_what_the_provider_says_no_with_is_not_repeated(
    played: PlayedProvider, clock: FixedClock, error: str, kind: type[UpshotError]
) -> None:
    """The words come with the browser: whoever writes them would speak through us."""
    relied = Provider(OidcSettings(played.issuer, "upshot", CLIENT_SECRET, ROLES), clock)
    begun = await relied.begin(CALLBACK, "/")
    query = {"error": error, "error_description": "Call 555-0100", "state": begun.state, "code": "good-once"}

    with pytest.raises(kind) as refused:
        await relied.finish(begun, CALLBACK, query)

    assert "555" not in refused.value.detail
    assert not error or error not in refused.value.detail
    assert played.times("/token") == 0


async def test_a_forged_callback_costs_the_provider_nothing(played: PlayedProvider, clock: FixedClock) -> None:
    """Without the state that was begun nobody is asked anything."""
    relied = Provider(OidcSettings(played.issuer, "upshot", CLIENT_SECRET, ROLES), clock)

    for query in (
        {},
        {"code": "stolen"},
        {"code": "stolen", "state": "another"},
        {"error": "server_error", "state": ""},
    ):
        with pytest.raises(Unauthenticated, match="begun in this browser"):
            await relied.finish(BEGUN, CALLBACK, query)

    assert played.asked == []


async def test_a_client_that_the_provider_does_not_know_is_told(played: PlayedProvider, clock: FixedClock) -> None:
    """It is not the person's mistake."""
    relied = Provider(OidcSettings(played.issuer, "upshot", CLIENT_SECRET, ROLES), clock)
    begun = await relied.begin(CALLBACK, "/")
    refusal = b'{"error": "invalid_client", "error_description": "upshot"}'
    played.replies["/token"] = replace(played.replies["/keys"], status=401, body=refusal)

    with pytest.raises(Unauthenticated, match="does not know us"):
        await relied.finish(begun, CALLBACK, {"code": "good-once", "state": begun.state})


def test_the_role_map_is_read_from_pairs_or_json() -> None:
    """Group names may have colons, and in JSON commas."""
    pairs = roles_of("analysts:viewer, makers:editor, boss:admin,")
    document = roles_of(' {"cn=analysts,dc=example": "viewer", "*": "editor"}')

    assert pairs == ROLES
    assert document == {"cn=analysts,dc=example": "viewer", "*": "editor"}
    assert roles_of("urn:example:makers:editor") == {"urn:example:makers": "editor"}


@pytest.mark.parametrize(
    "text",
    ["", " , ", "{}", "secrets", "secrets:", ":viewer", "secrets:root", "secrets:viewer,secrets:admin", '{"secrets": "root"}',
     '{"secrets": ["viewer"]}', '{"secrets": "viewer", "secrets": "admin"}', '{"secrets"', '["secrets"]'],
)  # fmt: skip
def test_a_role_map_that_cannot_be_meant_is_refused(text: str) -> None:
    """Nobody gets a role by a slip; the value is not repeated."""
    with pytest.raises(ConfigurationError) as refused:
        roles_of(text)

    assert "secrets" not in refused.value.detail
    assert "root" not in refused.value.detail


def test_the_highest_role_of_the_groups_wins() -> None:
    """Whatever their order; everybody's role is a floor."""
    everybody = ROLES | {"*": "editor"}

    assert role_of(["analysts", "boss", "makers"], ROLES) == "admin"
    assert role_of(["strangers", "analysts"], ROLES) == "viewer"
    assert role_of(["strangers"], ROLES) is None
    assert role_of([], everybody) == "editor"
    assert role_of(["analysts"], everybody) == "editor"
    assert role_of(["boss"], everybody) == "admin"


@pytest.mark.parametrize(
    "changes",
    [{"issuer": "http://accounts.example"}, {"issuer": "https://accounts.example?x"}, {"issuer": ""}, {"client_id": ""},
     {"scopes": ("email",)}, {"groups_claim": ""}, {"roles": {}}, {"roles": {"makers": "root"}}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_at_the_start(changes: dict[str, str]) -> None:
    """Not at the first sign-in; and the secret is not shown."""
    right = OidcSettings("https://accounts.example/", "upshot", CLIENT_SECRET, ROLES)

    with pytest.raises(ConfigurationError):
        replace(right, **changes)  # type: ignore[arg-type]

    assert CLIENT_SECRET not in repr(right)


LEAVING = [
    "//evil.example", "///evil.example", "////evil.example", "//evil.example/%2f..", "/\\evil.example", "\\\\evil.example",
    "\\/evil.example", "/\\/evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\n/evil.example", "\t//evil.example",
    " //evil.example", "\x00//evil.example", "https://evil.example", "https:evil.example", "https:/evil.example",
    "HTTPS://evil.example", "http:\\\\evil.example", "javascript:alert(1)", "data:text/html,x", "evil.example",
    "@evil.example", "upshot.example@evil.example", ".evil.example", "//upshot.example@evil.example", "//evil.example:443/",
    "/./\\evil.example", "/..//evil.example", "/.//evil.example", "/a//evil.example", "//[::1]/", "//0x7f000001",
    "/\u2028/evil.example", "/／evil.example", "/%0d%0aSet-Cookie:x\r\nSet-Cookie: x=1", "/a b", "/ä", "/\ud800",
    "?//evil.example", "#//evil.example", "", "/" + "a" * 2000,
]  # fmt: skip
STAYING = [
    "/", "/experiments", "/experiments/", "/experiments/checkout-1?status=running&page=2", "/results?from=2026-01-01T00:00:00Z",
    "/plans#top", "/?next=https://evil.example", "/%5Cevil.example", "/%2F%2Fevil.example", "/@evil.example", "/a/../b",
    "/" + "a" * 1999,
]  # fmt: skip


def goes_to(path: str) -> str:
    """The origin that a browser goes to from our callback: it drops tabs and line ends, trims, and reads \\ as / (WHATWG URL)."""
    seen = re.sub(r"[\t\r\n]", "", path).strip("".join(map(chr, range(33)))).replace("\\", "/")
    seen = re.sub(r"^(https?):/*", r"\1://", seen, flags=re.IGNORECASE)
    seen = re.sub(r"^/{2,}", "//", seen)
    parts = urlsplit(urljoin(f"{HERE}/auth/oidc/callback", seen))
    return f"{parts.scheme}://{parts.netloc}"


def led_away(kept: Callable[[str], str]) -> list[str]:
    """Which texts of the corpus lead away from us, or into a header, by way of a function that keeps paths."""
    return [text for text in LEAVING if goes_to(kept(text)) != HERE or re.search(r"[^!-~]", kept(text))]


def test_after_the_sign_in_nobody_is_led_away() -> None:
    """Every text of the corpus becomes the front page, every path of ours stays as it is."""
    assert led_away(own_path) == []
    assert {own_path(text) for text in LEAVING} == {"/"}
    assert [own_path(text) for text in STAYING] == STAYING
    assert len(LEAVING) >= 20


@pytest.mark.parametrize(
    "mutant",
    [
        lambda text: text,
        lambda text: text if text.startswith("/") else "/",
        lambda text: text if text.startswith("/") and not text.startswith("//") else "/",
        lambda text: text if not urlsplit(text).netloc else "/",
    ],
    ids=["all", "slash", "one slash", "no host"],
)
def test_a_weaker_filter_is_caught(mutant: Callable[[str], str]) -> None:
    """The filters that are usually written lead somebody away."""

    def kept(text: str) -> str:
        return mutant(text.encode("utf-8", "replace").decode())

    assert led_away(kept) != []


@given(st.text(st.sampled_from("/\\\t\n\r :@?#%.evil"), max_size=12))
def test_no_text_leads_away(text: str) -> None:
    """Whatever is put together from what makes URLs."""
    assert goes_to(own_path(text)) == HERE


def test_what_was_begun_survives_between_the_two_requests(clock: FixedClock) -> None:
    """For ten minutes, in fewer bytes than a cookie may have, and nothing of it can be read."""
    longest = replace(BEGUN, state="s" * 43, nonce="n" * 43, verifier="v" * 43, next="/" + "a" * 1999)

    sealed = seal(BEGUN, KEY, clock.now())
    opened = unseal(sealed, KEY, clock.now() + timedelta(minutes=10))

    assert opened == replace(BEGUN, url="")
    assert len(seal(longest, KEY, clock.now())) < 3800
    assert not any(
        part.encode() in base64.urlsafe_b64decode(sealed) for part in ("a-nonce", "a-verifier", "/experiments")
    )


def opened(unsealing: Callable[[str], Begun], texts: list[str]) -> int:
    """How many of the texts are taken."""
    taken = 0
    for text in texts:
        try:
            unsealing(text)
        except Unauthenticated:
            continue
        taken += 1
    return taken


def changed(sealed: str) -> list[str]:
    """Copies, each with another byte changed or cut off after it, and what is no seal at all."""
    data = base64.urlsafe_b64decode(sealed)
    flipped = [data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in range(len(data))]
    cut = [data[:place] for place in range(len(data))]
    return [base64.urlsafe_b64encode(copy).decode() for copy in [*flipped, *cut]] + ["", "x", "ä", "a.b.c", "\x00"]


def test_a_seal_that_was_changed_is_refused(clock: FixedClock) -> None:
    """Byte by byte, cut anywhere, by another key, too old or from the future; one without a signature is caught."""
    now = clock.now()
    sealed = seal(BEGUN, KEY, now)

    def unsealing(text: str) -> Begun:
        return unseal(text, KEY, now)

    def mutant(text: str) -> Begun:
        try:
            return Begun(*json.loads(base64.urlsafe_b64decode(text)))
        except (ValueError, TypeError):
            raise Unauthenticated("not a list") from None

    plain = base64.urlsafe_b64encode(json.dumps(["a", "b", "c", "/"]).encode()).decode()
    assert opened(unsealing, changed(sealed)) == 0
    assert opened(mutant, changed(plain)) > 0
    for key, moment in [(bytes(32), now), (KEY, now + timedelta(seconds=601)), (KEY, now - timedelta(seconds=61))]:
        with pytest.raises(Unauthenticated, match="sign in again"):
            unseal(sealed, key, moment)


def test_a_weak_key_is_refused(clock: FixedClock) -> None:
    """Neither to seal nor to open."""
    with pytest.raises(ConfigurationError):
        seal(BEGUN, b"short", clock.now())
    with pytest.raises(ConfigurationError):
        unseal("", b"short", clock.now())


def test_the_role_map_knows_the_roles_of_the_page() -> None:
    """What docs/signin.md says of roles is what there is."""
    page = (Path(__file__).parents[2] / "docs" / "signin.md").read_text(encoding="utf-8")

    assert all(f"`{role}`" in page for role in oidc.ROLES)
