"""Sign-in by a real provider over HTTP: off to it, back with a session, with the role of one's groups there."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.backends.daemon import server_folder
from tests.backends.provider import CALLBACK, CLIENT_SECRET, CanailleProvider, browser, provider
from tests.http.world import PASSWORD, stores_of
from tests.servers import UNLIMITED

from upshot.access import Role, system
from upshot.errors import ConfigurationError
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import people
from upshot.operations.people import Wanted
from upshot.settings import Settings

pytestmark = pytest.mark.slow

HERE = CALLBACK.removesuffix("/auth/oidc/callback")


@pytest.fixture(scope="module")
def canaille() -> Iterator[CanailleProvider]:
    """A real provider."""
    with server_folder() as folder, provider(folder) as running:
        yield running


def settings(folder: Path, canaille: CanailleProvider, roles: str) -> Settings:
    """What an operator sets."""
    return Settings(data_dir=folder, **UNLIMITED).model_copy(
        update={
            "public_url": HERE,
            "oidc_issuer": canaille.issuer,
            "oidc_client_id": "upshot",
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "oidc_roles": roles,
        }
    )


@pytest.fixture
async def app(tmp_path: Path, canaille: CanailleProvider) -> AsyncIterator[Envelope]:
    """An application that relies on it."""
    made = create_app(settings(tmp_path, canaille, "analysts:viewer, makers:editor, boss:admin"), {})
    async with made.lifespan():
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, as far as our own site goes."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE) as client:
        yield client


async def sign_in(web: httpx.AsyncClient, name: str, next: str = "/experiments") -> httpx.Response:  # noqa: A002
    """The answer to what somebody's browser brings back from the provider."""
    begun = await web.get("/auth/oidc/login", params={"next": next})
    assert begun.status_code == 303
    with browser() as opened:
        query = opened.sign_in(begun.headers["location"], name)
    return await web.get("/auth/oidc/callback", params=query)


async def test_a_person_signs_in_and_has_a_session(web: httpx.AsyncClient, app: Envelope) -> None:
    """With the role of their groups, on the page that they wanted; the second time it is the same account."""
    first = await sign_in(web, "ada")
    who = (await web.get("/auth/session")).json()
    web.cookies.clear()
    second = await sign_in(web, "ada")

    found = await people.every(stores_of(app), "default")
    assert (first.status_code, first.headers["location"]) == (303, "/experiments")
    assert who["email"] == "ada@people.example"
    assert who["scopes"] == ["assign", "events:write", "experiments:write", "results:read"]
    assert second.status_code == 303
    assert [(user.email, user.role, user.password) for user in found] == [("ada@people.example", "editor", None)]
    cookies = first.headers.get_list("set-cookie")
    assert any(
        cookie.startswith("__Host-upshot=ups_") and "HttpOnly" in cookie and "Secure" in cookie for cookie in cookies
    )
    assert any(cookie.startswith('__Host-upshot-oidc=""') for cookie in cookies)


@pytest.mark.parametrize("next", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_nobody_is_sent_elsewhere_afterwards(web: httpx.AsyncClient, next: str) -> None:  # noqa: A002
    """Where one goes on is a path of ours."""
    assert (await sign_in(web, "bob", next)).headers["location"] == "/"


async def test_an_answer_is_good_in_the_browser_that_asked(web: httpx.AsyncClient) -> None:
    """Without its cookie, with another one, or a second time it lets nobody in."""
    begun = await web.get("/auth/oidc/login")
    with browser() as opened:
        query = opened.sign_in(begun.headers["location"], "ada")
    cookie = web.cookies.get("__Host-upshot-oidc")
    web.cookies.clear()

    without = await web.get("/auth/oidc/callback", params=query)
    forged = await web.get(
        "/auth/oidc/callback", params=query, headers={"Cookie": "__Host-upshot-oidc=gAAAAABnonsense"}
    )
    right = await web.get("/auth/oidc/callback", params=query, headers={"Cookie": f"__Host-upshot-oidc={cookie}"})
    again = await web.get("/auth/oidc/callback", params=query, headers={"Cookie": f"__Host-upshot-oidc={cookie}"})

    assert [answer.status_code for answer in (without, forged, right, again)] == [401, 401, 303, 401]


async def test_an_account_that_an_admin_ended_stays_ended(web: httpx.AsyncClient, app: Envelope) -> None:
    """Whatever the provider says; and an address that has a password here is not taken over."""
    await sign_in(web, "ada")
    stores, caller = stores_of(app), system("default", "tests")
    await people.create(stores, caller, Wanted("boss@example.com", "", Role.ADMIN), PASSWORD)
    await people.create(stores, caller, Wanted("bob@people.example", "", Role.ADMIN), PASSWORD)
    (ada,) = [user for user in await people.every(stores, "default") if user.email.startswith("ada")]
    await people.change(stores, caller, ada.id, {"disabled": True})
    web.cookies.clear()

    ended, taken = await sign_in(web, "ada"), await sign_in(web, "bob")

    assert [answer.status_code for answer in (ended, taken)] == [401, 401]
    assert (await web.get("/auth/session")).status_code == 401


async def test_a_role_follows_the_provider(tmp_path: Path, canaille: CanailleProvider) -> None:
    """At the next sign-in; what was held under the other role ends."""
    for roles, expected in (("analysts:admin", "admin"), ("analysts:viewer", "viewer")):
        made = create_app(settings(tmp_path, canaille, roles), {})
        async with made.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url=HERE) as web:
            await sign_in(web, "bob")
            (bob,) = await people.every(stores_of(made), "default")
            assert bob.role == expected


async def test_without_a_provider_there_is_no_such_sign_in(api: httpx.AsyncClient) -> None:
    """404, as for any page that is not there."""
    answers = [await api.get(path) for path in ("/auth/oidc/login", "/auth/oidc/callback?code=a&state=b")]

    assert [answer.status_code for answer in answers] == [404, 404]


@pytest.mark.parametrize(
    "missing",
    [
        {"public_url": None},
        {"oidc_client_id": None},
        {"oidc_roles": ""},
        {"oidc_roles": "makers:boss"},
        {"oidc_issuer": "http://a.example"},
    ],
)
async def test_half_a_provider_ends_the_start(
    tmp_path: Path, canaille: CanailleProvider, missing: dict[str, Any]
) -> None:
    """One line that says what is missing."""
    made = create_app(settings(tmp_path, canaille, "makers:editor").model_copy(update=missing), {})

    with pytest.raises(ConfigurationError):
        async with made.lifespan():
            pass
