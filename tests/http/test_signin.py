"""Sign in by password, go on, sign out: over HTTP, by tokens and by cookie."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.world import PASSWORD, WITHIN, advance, bearer, standing_still, stores_of
from tests.servers import UNLIMITED

from upshot.access import Role, system
from upshot.access.sessions import IDLE, INVITATION_LIFETIME, REFRESH_LIFETIME
from upshot.http import access, assignments
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import people, sessions
from upshot.operations.people import Wanted
from upshot.settings import Settings

FORM = {"grant_type": "password", "username": "ann@example.com", "password": PASSWORD}
SIGN_IN = {"email": "ann@example.com", "password": PASSWORD}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application whose clock stands still, with one admin."""
    async with standing_still(data_dir, {}, "ann") as made:
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, as far as cookies go."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as client:
        yield client


async def tokens(web: httpx.AsyncClient) -> dict[str, Any]:
    """Signed in as Ann."""
    response = await web.post("/auth/token", data=FORM)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def works(web: httpx.AsyncClient, access: str) -> bool:
    """Whether an access token is good."""
    return (await web.get("/me", headers=bearer(access))).status_code == 200


async def test_the_form_of_swagger_and_json_sign_in(web: httpx.AsyncClient) -> None:
    """Both give an access token of a quarter of an hour with the scopes of the role; an address is the same in other letters."""
    by_form = await tokens(web)
    by_json = (await web.post("/auth/token", json=SIGN_IN | {"email": "ANN@example.com", "client": "default"})).json()

    me = await web.get("/me", headers=bearer(by_json["access_token"]))

    assert by_form["token_type"] == "bearer"  # noqa: S105
    assert by_form["expires_in"] == 900
    assert by_form["scope"] == "admin assign events:write experiments:write results:read"
    assert me.json()["email"] == "ann@example.com"
    schemes = (await web.get("/openapi.json")).json()["components"]["securitySchemes"]
    assert schemes["OAuth2PasswordBearer"]["flows"]["password"]["tokenUrl"] == "/auth/token"


async def test_every_failure_looks_the_same(app: Envelope, web: httpx.AsyncClient) -> None:
    """A wrong password, an unknown address, another client, a disabled account, one that was only invited."""
    stores, caller = stores_of(app), system("default", "tests")
    gone, _ = await people.create(stores, caller, Wanted("gone@example.com", "", Role.ADMIN), PASSWORD)
    await people.change(stores, caller, gone.id, {"disabled": True})
    await people.create(stores, caller, Wanted("new@example.com", "", Role.ADMIN))
    wrong = [
        {"password": "wrong"}, {"email": "nobody@example.com"}, {"client": "other"}, {"email": "gone@example.com"},
        {"email": "new@example.com"}, {"email": "new@example.com", "password": "x"}, {"password": PASSWORD + "x" * 900},
    ]  # fmt: skip

    answers = [await web.post("/auth/token", json=SIGN_IN | fields) for fields in wrong]

    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert answers[0].headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 422),
        (b"grant_type=client_credentials", "application/x-www-form-urlencoded", 422),
        (b"username=a&username=b&password=c", "application/x-www-form-urlencoded", 422),
        (b"username=%ff%fe&password=c", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=b" % number for number in range(30)), "application/x-www-form-urlencoded", 400),
        (b"grant_type=refresh_token", "application/x-www-form-urlencoded", 422),
        (b"[]", "application/json", 422),
        (b'{"email": 1, "password": []}', "application/json", 422),
        (b'{"email": "a@b", "password": "x", "role": "admin"}', "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"x" * 70_000, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_other_bodies_are_refused(web: httpx.AsyncClient, content: bytes, kind: str, status: int) -> None:
    """As a problem that repeats nothing."""
    response = await web.post("/auth/token", content=content, headers={"Content-Type": kind})

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "admin" not in response.text


async def test_a_refresh_token_is_good_once_and_a_second_use_ends_the_session(
    web: httpx.AsyncClient, app: Envelope
) -> None:
    """Everywhere: the tokens that were got meanwhile are no longer good either."""
    first = await tokens(web)
    second = (await web.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
    third = await web.post(
        "/auth/token", data={"grant_type": "refresh_token", "refresh_token": second["refresh_token"]}
    )
    assert await works(web, third.json()["access_token"])

    replayed = await web.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    advance(app, seconds=WITHIN)

    assert replayed.status_code == 401
    assert [await works(web, held["access_token"]) for held in (first, second, third.json())] == [False] * 3
    last = await web.post("/auth/refresh", json={"refresh_token": third.json()["refresh_token"]})
    assert last.status_code == 401
    assert last.text == replayed.text


async def test_a_forged_refresh_token_ends_nothing(web: httpx.AsyncClient) -> None:
    """Only one that was ours can be a replay: else anybody could sign others out."""
    held = await tokens(web)
    forged = [
        held["refresh_token"][:-1] + ("x" if held["refresh_token"][-1] != "x" else "y"),
        "upr_",
        "upr_" + "a" * 43,
        held["access_token"][:200],
        "ups_" + "a" * 43,
        "nonsense",
    ]

    answers = [await web.post("/auth/refresh", json={"refresh_token": text}) for text in forged]

    assert {answer.status_code for answer in answers} == {401}
    assert (await web.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})).status_code == 200


async def test_tokens_and_sessions_end_with_their_time(web: httpx.AsyncClient, app: Envelope) -> None:
    """An access token after a quarter of an hour, the session after 30 days."""
    held = await tokens(web)
    advance(app, minutes=14)
    assert await works(web, held["access_token"])

    advance(app, minutes=2)

    assert not await works(web, held["access_token"])
    held = (await web.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})).json()
    advance(app, seconds=REFRESH_LIFETIME.total_seconds())
    assert (await web.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})).status_code == 401


async def test_signing_out_ends_this_session_only(web: httpx.AsyncClient, app: Envelope) -> None:
    """Within seconds, with its refresh token."""
    one, another = await tokens(web), await tokens(web)
    assert await works(web, one["access_token"])

    out = await web.post("/auth/logout", headers=bearer(one["access_token"]))
    advance(app, seconds=WITHIN)

    assert out.status_code == 204
    assert not await works(web, one["access_token"])
    assert await works(web, another["access_token"])
    assert (await web.post("/auth/refresh", json={"refresh_token": one["refresh_token"]})).status_code == 401


async def test_a_new_password_ends_the_other_sessions(web: httpx.AsyncClient, app: Envelope) -> None:
    """The one in which it was chosen goes on; the old password is no longer good."""
    here, elsewhere = await tokens(web), await tokens(web)
    new = "another few unrelated words"
    change = {"current_password": PASSWORD, "new_password": new}

    wrong = await web.post(
        "/me/password", json=change | {"current_password": "no"}, headers=bearer(here["access_token"])
    )
    weak = await web.post(
        "/me/password", json=change | {"new_password": "password1"}, headers=bearer(here["access_token"])
    )
    changed = await web.post("/me/password", json=change, headers=bearer(here["access_token"]))
    advance(app, seconds=WITHIN)

    assert [wrong.status_code, weak.status_code, changed.status_code] == [403, 422, 204]
    assert await works(web, here["access_token"])
    assert not await works(web, elsewhere["access_token"])
    assert (await web.post("/auth/token", json=SIGN_IN)).status_code == 401
    assert (await web.post("/auth/token", json=SIGN_IN | {"password": new})).status_code == 200


@pytest.mark.parametrize("changes", [{"role": "viewer"}, {"disabled": True}, None])
async def test_who_may_do_less_must_sign_in_again(
    web: httpx.AsyncClient, app: Envelope, changes: dict[str, Any] | None
) -> None:
    """Another role, none, or no account: what they hold is no longer good, within seconds."""
    stores, caller = stores_of(app), system("default", "tests")
    bob, _ = await people.create(stores, caller, Wanted("bob@example.com", "", Role.ADMIN), PASSWORD)
    held = (await web.post("/auth/token", json=SIGN_IN | {"email": "bob@example.com"})).json()
    assert await works(web, held["access_token"])
    admin = bearer((await tokens(web))["access_token"])

    if changes is None:
        done = await web.delete(f"/users/{bob.id}", headers=admin)
    else:
        done = await web.patch(f"/users/{bob.id}", json=changes, headers=admin)
    advance(app, seconds=WITHIN)

    assert done.is_success, done.text
    assert not await works(web, held["access_token"])
    assert (await web.post("/auth/refresh", json={"refresh_token": held["refresh_token"]})).status_code == 401


async def test_a_client_keeps_an_admin(web: httpx.AsyncClient) -> None:
    """The last one can neither become less, nor be disabled, nor go."""
    admin = bearer((await tokens(web))["access_token"])
    me = (await web.get("/me", headers=admin)).json()["id"]

    answers = [
        await web.patch(f"/users/{me}", json={"role": "editor"}, headers=admin),
        await web.patch(f"/users/{me}", json={"disabled": True}, headers=admin),
        await web.delete(f"/users/{me}", headers=admin),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 409]


async def test_a_newcomer_chooses_a_password_by_invitation(web: httpx.AsyncClient, app: Envelope) -> None:
    """Once, within a day; a second invitation makes the first one void."""
    admin = bearer((await tokens(web))["access_token"])
    made = (await web.post("/users", json={"email": "Bob@example.com", "role": "editor"}, headers=admin)).json()
    second = (await web.post(f"/users/{made['id']}/invitation", headers=admin)).json()["invitation"]
    third = (await web.post(f"/users/{made['id']}/invitation", headers=admin)).json()["invitation"]

    void = await web.post("/auth/invitation", json={"secret": second, "password": PASSWORD})
    weak = await web.post("/auth/invitation", json={"secret": third, "password": "bob@example.com"})
    joined = await web.post("/auth/invitation", json={"secret": third, "password": PASSWORD})
    again = await web.post("/auth/invitation", json={"secret": third, "password": PASSWORD})
    late = (await web.post(f"/users/{made['id']}/invitation", headers=admin)).json()["invitation"]
    advance(app, seconds=INVITATION_LIFETIME.total_seconds())
    too_late = await web.post("/auth/invitation", json={"secret": late, "password": PASSWORD})

    assert (made["email"], made["joined"]) == ("bob@example.com", False)
    assert [answer.status_code for answer in (void, weak, joined, again, too_late)] == [401, 422, 201, 401, 401]
    assert (await web.post("/auth/token", json=SIGN_IN | {"email": "bob@example.com"})).json()["scope"] == (
        "assign events:write experiments:write results:read"
    )


async def test_the_first_admin_comes_by_a_link(data_dir: Path) -> None:
    """It is good once; where there are people there is none."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {})
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as web:
        earlier = await people.first_invitation(stores_of(app), "default")
        secret = await people.first_invitation(stores_of(app), "default")
        body = {"secret": secret, "password": PASSWORD, "email": "ann@example.com", "name": "Ann"}

        void = await web.post("/auth/invitation", json=body | {"secret": earlier})
        nameless = await web.post("/auth/invitation", json={"secret": secret, "password": PASSWORD})
        joined = await web.post("/auth/invitation", json=body)
        again = await web.post("/auth/invitation", json=body | {"email": "eve@example.com"})

        assert [answer.status_code for answer in (void, nameless, joined, again)] == [401, 422, 201, 401]
        assert joined.json()["role"] == "admin"
        assert await people.first_invitation(stores_of(app), "default") is None


async def test_a_browser_gets_a_cookie_that_no_script_can_read(web: httpx.AsyncClient) -> None:
    """With every attribute that keeps it where it belongs; nothing of it is in the body but the token against forged requests."""
    response = await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)

    cookie = response.headers["set-cookie"]
    name, _, rest = cookie.partition("=")
    secret, *attributes = rest.split("; ")
    assert response.status_code == 201
    assert name == "__Host-upshot"
    assert {text.lower() for text in attributes} == {"httponly", "max-age=28800", "path=/", "samesite=lax", "secure"}
    assert len(cookie) < 4_096
    assert secret not in response.text
    assert (await web.get("/me")).json()["email"] == "ann@example.com"
    assert (await web.get("/auth/session")).json() == response.json()


async def test_every_sign_in_has_a_secret_of_its_own(web: httpx.AsyncClient) -> None:
    """What a browser had before is not carried on; and the cookie is no bearer token, nor a token a cookie."""
    first = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).headers["set-cookie"]
    second = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).headers["set-cookie"]
    secret = second.partition("=")[2].partition(";")[0]
    held = await tokens(web)
    web.cookies.clear()

    as_bearer = await web.get("/me", headers=bearer(secret))
    as_cookie = await web.get("/me", headers={"Cookie": f"__Host-upshot={held['access_token']}"})
    refreshed = await web.post("/auth/refresh", json={"refresh_token": secret})

    assert first != second
    assert [answer.status_code for answer in (as_bearer, as_cookie, refreshed)] == [401, 401, 401]


async def test_a_cookie_ends_when_it_is_not_used_and_after_a_day_of_work(web: httpx.AsyncClient, app: Envelope) -> None:
    """After half an hour without a request, and after eight hours in any case."""
    await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)
    credentials = app.application.state.credentials
    for _ in range(19):
        advance(app, minutes=25)
        assert (await web.get("/me")).status_code == 200
        await credentials.note_use()

    advance(app, minutes=25)
    assert (await web.get("/me")).status_code == 401
    await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)
    advance(app, seconds=IDLE.total_seconds() + 1)
    assert (await web.get("/me")).status_code == 401


FOREIGN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://upshot"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://upshot"},
    {"Origin": "https://upshot.evil.example"},
    {"Origin": "https://upshot:444"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_another_sites_page_changes_nothing(web: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Not even with the right token: the request must say that it comes from our own pages. Reading is no change."""
    csrf = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).json()["csrf_token"]
    body = {"name": "forged", "variants": [{"name": "a"}, {"name": "b"}]}

    forged = await web.post("/experiments", json=body, headers=headers | {"X-CSRF-Token": csrf})
    sign_in = await web.post("/auth/session", json=SIGN_IN, headers=headers)

    assert forged.status_code == 403
    assert sign_in.status_code == 403
    assert (await web.get("/experiments", headers=headers)).json()["experiments"] == []


async def test_our_own_page_sends_what_only_it_knows(web: httpx.AsyncClient) -> None:
    """Without the token, with another one, or with a form's content type nothing is changed; with all of it it is."""
    csrf = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).json()["csrf_token"]
    body = {"name": "own", "variants": [{"name": "a"}, {"name": "b"}]}

    refused = [
        await web.post("/experiments", json=body, headers=OWN_PAGE | more)
        for more in ({}, {"X-CSRF-Token": csrf + "x"})
    ]
    form = await web.post("/experiments", data={"name": "x"}, headers=OWN_PAGE | {"X-CSRF-Token": csrf})
    allowed = await web.post("/experiments", json=body, headers=OWN_PAGE | {"X-CSRF-Token": csrf})
    by_origin = await web.post("/auth/logout", headers={"Origin": "https://upshot", "X-CSRF-Token": csrf})

    assert [answer.status_code for answer in (*refused, form, allowed, by_origin)] == [403, 403, 415, 201, 204]
    assert (await web.get("/me")).status_code == 401


async def test_one_sees_and_ends_ones_own_sign_ins(web: httpx.AsyncClient, app: Envelope) -> None:
    """And an admin those of others, by the person."""
    here, there = await tokens(web), await tokens(web)
    headers = bearer(here["access_token"])
    listed = (await web.get("/me/sessions", headers=headers)).json()["sessions"]

    me = (await web.get("/me", headers=headers)).json()["id"]
    by_admin = (await web.get(f"/users/{me}/sessions", headers=headers)).json()["sessions"]
    ended = await web.delete(f"/me/sessions/{listed[1]['id']}", headers=headers)
    again = await web.delete(f"/users/{me}/sessions/nobody", headers=headers)
    advance(app, seconds=WITHIN)

    assert listed == by_admin
    assert [session["means"] for session in listed] == ["tokens", "tokens"]
    assert [ended.status_code, again.status_code] == [204, 404]
    assert await works(web, here["access_token"]) is not await works(web, there["access_token"])


async def test_who_ends_other_sign_ins_has_signed_in_lately(web: httpx.AsyncClient, app: Envelope) -> None:
    """Whoever finds a browser open can leave, and not lock its owner out elsewhere."""
    here, _ = await tokens(web), await tokens(web)
    advance(app, seconds=sessions.RECENT.total_seconds() + 1)
    refreshed = (await web.post("/auth/refresh", json={"refresh_token": here["refresh_token"]})).json()
    headers = bearer(refreshed["access_token"])
    listed = [each["id"] for each in (await web.get("/me/sessions", headers=headers)).json()["sessions"]]

    answers = [(await web.delete(f"/me/sessions/{each}", headers=headers)).status_code for each in listed]
    nobodys = await web.delete("/me/sessions/nobodys", headers=bearer((await tokens(web))["access_token"]))

    assert sorted(answers) == [204, 403]
    assert nobodys.status_code == 404


async def test_an_outdated_hash_is_renewed_at_sign_in(
    web: httpx.AsyncClient, app: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signs in gets one of today's parameters."""
    stores = stores_of(app)
    before = (await people.every(stores, "default"))[0].password
    monkeypatch.setattr(stores.passwords, "outdated", lambda kept: kept == before)

    await tokens(web)

    after = (await people.every(stores, "default"))[0].password
    assert after is not None
    assert after != before
    assert await stores.passwords.verify(after, PASSWORD)


async def test_ended_sessions_are_forgotten(web: httpx.AsyncClient, app: Envelope) -> None:
    """Some days after their end; those that go on are kept."""
    held = await tokens(web)
    await web.post("/auth/logout", headers=bearer((await tokens(web))["access_token"]))
    stores = stores_of(app)

    kept = await people.forget_ended(stores, stores.clock.now() - timedelta(days=1))
    gone = await people.forget_ended(stores, stores.clock.now() + timedelta(seconds=1))

    assert (kept, gone) == (0, 1)
    assert await works(web, held["access_token"])


async def test_a_browser_that_signs_in_anew_leaves_its_session(web: httpx.AsyncClient, app: Envelope) -> None:
    """What it carried before is good for nothing from then on; one that carries nothing ends nothing."""
    first, second = [await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE) for _ in range(2)]
    advance(app, seconds=WITHIN)
    web.cookies.clear()
    third = await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)

    good = []
    for answer in (first, second, third):
        web.cookies.clear()
        cookie = {"Cookie": f"__Host-upshot={answer.cookies['__Host-upshot']}"}
        good.append((await web.get("/me", headers=cookie)).status_code)
    assert good == [401, 200, 200]


async def test_signing_out_clears_what_the_browser_holds(web: httpx.AsyncClient) -> None:
    """Its cookie, and what a page or the browser itself kept of answers."""
    csrf = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).json()["csrf_token"]

    answer = await web.post("/auth/logout", headers=OWN_PAGE | {"X-CSRF-Token": csrf})

    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert '__Host-upshot=""' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize("broken", [False, True])
async def test_a_cookie_is_no_bearer_token_in_the_lane_of_assignments_either(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """Not even one that was used a moment ago as what it is; a lane that takes every known secret is caught."""
    signed = await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)
    body = {"name": "One", "variants": [{"name": "a"}, {"name": "b"}]}
    await web.post("/experiments", json=body, headers=OWN_PAGE | {"X-CSRF-Token": signed.json()["csrf_token"]})
    web.cookies.clear()
    if broken:
        monkeypatch.setattr(assignments, "bearer_of", lambda header: header and header[len("Bearer ") :])

    answer = await web.get("/experiments/one/assignment/somebody", headers=bearer(signed.cookies["__Host-upshot"]))

    assert answer.status_code == (200 if broken else 401)


@pytest.mark.parametrize(("limit", "expected"), [("5/h", [403] * 4 + [429] * 2), ("off", [403] * 6)])
async def test_the_current_password_is_guessed_no_faster_than_at_the_sign_in(
    data_dir: Path, limit: str, expected: list[int]
) -> None:
    """Whoever took over a session does not get the password with it."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED | {"limit_login_account": limit}), {})
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as web:
        await people.create(
            stores_of(app), system("default", "tests"), Wanted("ann@example.com", "Ann", Role.ADMIN), PASSWORD
        )
        headers = bearer((await tokens(web))["access_token"])
        body = {"current_password": "a guess", "new_password": "some other unrelated words"}

        guesses = [(await web.post("/me/password", json=body, headers=headers)).status_code for _ in range(6)]

    assert guesses == expected


async def test_a_session_is_prolonged_so_often_and_the_answer_says_how_often(data_dir: Path) -> None:
    """Until nothing is left; a token is good once, so what counts them together is where they come from."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED | {"limit_refresh": "2/h"}), {})
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as web:
        caller = system("default", "tests")
        await people.create(stores_of(app), caller, Wanted("ann@example.com", "Ann", Role.ADMIN), PASSWORD)
        token, found = (await tokens(web))["refresh_token"], []
        for _ in range(3):
            answer = await web.post("/auth/refresh", json={"refresh_token": token})
            token = answer.json().get("refresh_token", token)
            found.append((answer.status_code, answer.headers["ratelimit"].partition(";t=")[0]))

    assert found == [(200, '"refresh";r=1'), (200, '"refresh";r=0'), (429, '"refresh";r=0')]


@pytest.mark.parametrize("broken", [False, True])
async def test_a_link_of_another_site_assigns_nobody(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """An assignment is asked for with GET and stored: a cookie alone asks for none, a page of ours with its token does."""
    csrf = (await web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)).json()["csrf_token"]
    own = OWN_PAGE | {"X-CSRF-Token": csrf}
    body = {"name": "One", "variants": [{"name": "a"}, {"name": "b"}]}
    await web.post("/experiments", json=body, headers=own)
    if broken:
        monkeypatch.setattr(access, "check_own_page", lambda *_: None)

    followed = await web.get("/experiments/one/assignment/somebody", headers={"Sec-Fetch-Site": "cross-site"})
    typed = await web.get("/experiments/one/assignment/somebody", headers={"Sec-Fetch-Site": "none"})
    asked = await web.get("/experiments/one/assignment/somebody", headers=own)

    assert [answer.status_code for answer in (followed, typed, asked)] == ([200] * 3 if broken else [403, 403, 200])
