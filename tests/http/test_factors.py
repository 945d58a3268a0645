"""A second factor over HTTP: set up while signing in, asked for from then on, required by admins, lost, taken off."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from tests.access.test_factors import code_at
from tests.callers import stored_in
from tests.http.world import PASSWORD, bearer, standing_still, stores_of
from tests.servers import UNLIMITED

from upshot.access import Role, factors, system
from upshot.access.keyring import Keyring
from upshot.clock import FixedClock
from upshot.http import people as routes
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import factors as operations
from upshot.operations import people
from upshot.operations.factors import Asked
from upshot.operations.people import Wanted
from upshot.settings import Settings

OTHER = "three other wordy things"
SIGN_IN = {"email": "ann@example.com", "password": PASSWORD}


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application whose clock stands still, with two admins."""
    async with standing_still(data_dir, {}, "ann", "ben") as made:
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who asks it."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as client:
        yield client


class App:
    """An authenticator app: what it shows now, always a new one."""

    def __init__(self, app: Envelope, secret: str) -> None:
        self._clock = stores_of(app).clock
        self._secret = secret

    def code(self) -> str:
        """The next code."""
        assert isinstance(self._clock, FixedClock)
        self._clock.advance(seconds=30)
        return code_at(self._clock.now(), self._secret)


async def sign_in(web: httpx.AsyncClient, code: str | None = None, **fields: Any) -> httpx.Response:
    """A sign-in of Ann's, or of who is named."""
    return await web.post("/auth/token", json=SIGN_IN | ({} if code is None else {"code": code}) | fields)


async def as_ann(web: httpx.AsyncClient, code: str | None = None) -> dict[str, str]:
    """The headers of Ann, signed in."""
    signed = await sign_in(web, code)
    assert signed.status_code == 200, signed.text
    return bearer(signed.json()["access_token"])


async def set_up(app: Envelope, web: httpx.AsyncClient) -> tuple[App, list[str]]:
    """Ann's app and recovery codes, when she has set up a second factor."""
    shown = await web.post("/auth/factor", json=SIGN_IN)
    assert shown.status_code == 201, shown.text
    device = App(app, shown.json()["secret"])
    signed = await sign_in(web, device.code())
    assert signed.status_code == 200, signed.text
    return device, signed.json()["recovery_codes"]


async def test_a_factor_counts_from_its_first_code_on(app: Envelope, web: httpx.AsyncClient) -> None:
    """Shown: nothing changes. Confirmed: the password alone is not enough any more, for tokens and for browsers."""
    before = await as_ann(web)
    shown = (await web.post("/auth/factor", json=SIGN_IN)).json()
    assert shown["qr"].startswith("data:image/svg+xml")
    assert shown["secret"] in shown["uri"]
    assert (await sign_in(web)).status_code == 200
    device = App(app, shown["secret"])

    confirmed = await sign_in(web, device.code())
    alone = await sign_in(web)
    page = await web.post("/auth/session", json=SIGN_IN, headers={"Sec-Fetch-Site": "same-origin"})
    form = {"grant_type": "password", "username": SIGN_IN["email"], "password": PASSWORD, "code": device.code()}

    assert len(confirmed.json()["recovery_codes"]) == factors.RECOVERY_CODES
    assert [(each.status_code, each.json()["code"]) for each in (alone, page)] == [(401, "second_factor_needed")] * 2
    assert (await web.get("/me", headers=before)).status_code == 401  # whoever was in is out
    again = await web.post("/auth/token", data=form)
    assert (again.status_code, again.json()["recovery_codes"]) == (200, [])
    me = (await web.get("/me", headers=bearer(again.json()["access_token"]))).json()
    assert me["second_factor"] is True
    assert (await web.post("/auth/factor", json=SIGN_IN)).status_code == 409  # not by who knows the password only


async def test_whoever_has_no_password_learns_nothing(app: Envelope, web: httpx.AsyncClient) -> None:
    """A wrong password is refused as ever, whatever the code, and is no try of one."""
    device, _ = await set_up(app, web)
    wrong = await sign_in(web, device.code(), password=OTHER)
    unknown = await sign_in(web, "123456", email="eve@example.com")

    assert [(each.status_code, each.json()["code"]) for each in (wrong, unknown)] == [(401, "unauthenticated")] * 2
    assert wrong.json()["detail"] == unknown.json()["detail"]


async def test_wrong_codes_are_counted(app: Envelope, web: httpx.AsyncClient) -> None:
    """After twenty a right one is refused, until a recovery code, which is good once."""
    device, codes = await set_up(app, web)
    wrong = {(await sign_in(web, "000000")).json()["code"] for _ in range(factors.WRONG)}

    assert wrong == {"second_factor_needed"}
    assert (await sign_in(web, device.code())).status_code == 401
    assert (await sign_in(web, codes[3])).status_code == 200
    assert (await sign_in(web, codes[3])).status_code == 401
    assert (await sign_in(web, device.code())).status_code == 200


@pytest.mark.parametrize("path", ["/me/factor/removal", "/me/factor/recovery-codes"])
async def test_wrong_codes_are_counted_whatever_comes_along(app: Envelope, web: httpx.AsyncClient, path: str) -> None:
    """Also with the key of a request, whose refusal would undo what was counted."""
    device, _ = await set_up(app, web)
    headers = await as_ann(web, device.code())

    for number in range(factors.WRONG):
        answer = await web.post(path, json={"code": "000000"}, headers=headers | {"Idempotency-Key": f"k{number}"})
        assert answer.status_code == 403

    assert (await web.post(path, json={"code": device.code()}, headers=headers)).status_code == 403


async def check_required(app: Envelope, web: httpx.AsyncClient) -> None:
    """Where it is required, nobody gets in by a password alone."""
    admin = await as_ann(web)
    assert (await web.patch("/client", json={"second_factor": True}, headers=admin)).json()["second_factor"] is True

    missing = await sign_in(web)
    assert missing.status_code == 401
    assert missing.json()["code"] == "second_factor_missing"
    device, _ = await set_up(app, web)
    headers = await as_ann(web, device.code())
    kept = await web.post("/me/factor/removal", json={"code": device.code()}, headers=headers)
    assert kept.status_code == 409


async def test_admins_may_require_it(app: Envelope, web: httpx.AsyncClient) -> None:
    """Then it is set up at the next sign-in, and cannot be taken off."""
    await check_required(app, web)


async def test_a_rule_that_nobody_asks_for_is_caught(
    app: Envelope, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a sign-in that does not ask for the second factor."""

    async def lenient(_stores: Any, _transaction: Any, _client: str, user: Any, _code: str | None) -> Asked:
        return Asked(user)

    monkeypatch.setattr(operations, "ask", lenient)

    with pytest.raises(AssertionError):
        await check_required(app, web)


async def test_recovery_codes_are_renewed(app: Envelope, web: httpx.AsyncClient) -> None:
    """By a code; the old ones are void."""
    device, codes = await set_up(app, web)
    headers = await as_ann(web, device.code())

    refused = await web.post("/me/factor/recovery-codes", json={"code": "000000"}, headers=headers)
    renewed = await web.post("/me/factor/recovery-codes", json={"code": device.code()}, headers=headers)

    assert (refused.status_code, renewed.status_code) == (403, 201)
    assert (await sign_in(web, codes[0])).status_code == 401
    assert (await sign_in(web, renewed.json()["recovery_codes"][0])).status_code == 200


async def test_a_factor_is_taken_off(app: Envelope, web: httpx.AsyncClient) -> None:
    """With a code, by its owner; other sessions end, the own one stays."""
    device, _ = await set_up(app, web)
    other, own = await as_ann(web, device.code()), await as_ann(web, device.code())

    refused = await web.post("/me/factor/removal", json={"code": "000000"}, headers=own)
    taken_off = await web.post("/me/factor/removal", json={"code": device.code()}, headers=own)
    again = await web.post("/me/factor/removal", json={"code": device.code()}, headers=own)

    assert [each.status_code for each in (refused, taken_off, again)] == [403, 204, 404]
    assert (await web.get("/me", headers=other)).status_code == 401
    assert (await web.get("/me", headers=own)).json()["second_factor"] is False
    assert (await sign_in(web)).status_code == 200


async def test_an_admin_takes_off_what_is_lost(app: Envelope, web: httpx.AsyncClient) -> None:
    """Of a person with one; what happened is in the audit log."""
    device, codes = await set_up(app, web)
    headers = await as_ann(web, device.code())
    await sign_in(web, codes[0])
    ben = bearer((await sign_in(web, email="ben@example.com")).json()["access_token"])
    person = (await web.get("/me", headers=headers)).json()["id"]

    answers = [await web.delete(f"/users/{person}/factor", headers=ben) for _ in range(2)]
    device.code()
    device.code()  # time goes by: every process has heard of it

    assert [each.status_code for each in answers] == [204, 404]
    assert (await web.get("/me", headers=headers)).status_code == 401
    assert (await sign_in(web)).status_code == 200
    entries = (await web.get("/audit", params={"object_id": person}, headers=ben)).json()["entries"]
    assert [each["action"] for each in entries][:3] == [
        "user.second_factor_taken_off",
        "user.recovery_code_used",
        "user.second_factor_added",
    ]


async def test_an_invitation_is_no_way_around_it(app: Envelope, web: httpx.AsyncClient) -> None:
    """A new password by an admin's link, and still a code is asked for."""
    device, _ = await set_up(app, web)
    stores, caller = stores_of(app), system("default", "tests")
    ann = next(user for user in await people.every(stores, "default") if user.email == SIGN_IN["email"])
    secret = await people.invite(stores, caller, ann.id)

    await people.accept(stores, secret, OTHER)

    assert (await sign_in(web, password=OTHER)).json()["code"] == "second_factor_needed"
    assert (await sign_in(web, device.code(), password=OTHER)).status_code == 200


async def test_secrets_are_sealed(app: Envelope, web: httpx.AsyncClient, data_dir: Path) -> None:
    """No file holds them; where the key of the seal is gone, a recovery code still lets in."""
    secret = (await web.post("/auth/factor", json=SIGN_IN)).json()["secret"]
    device = App(app, secret)
    codes = (await sign_in(web, device.code())).json()["recovery_codes"]
    stored = stored_in(data_dir)
    object.__setattr__(stores_of(app), "keyring", Keyring.ephemeral())

    assert not any(each.encode() in stored for each in (secret, *codes, *(code.replace("-", "") for code in codes)))
    assert (await sign_in(web, device.code())).status_code == 401
    assert (await sign_in(web, codes[0])).status_code == 200


async def test_passwords_can_be_switched_off(data_dir: Path) -> None:
    """Then no path takes one, whoever has an account."""
    app = create_app(Settings(data_dir=data_dir, password_sign_in=False, **UNLIMITED), {})
    async with app.lifespan():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://upshot") as web:
            await people.create(
                stores_of(app), system("default", "tests"), Wanted("ann@example.com", "", Role.ADMIN), PASSWORD
            )
            page = {"Sec-Fetch-Site": "same-origin"}
            answers = [
                await web.post("/auth/token", json=SIGN_IN),
                await web.post("/auth/session", json=SIGN_IN, headers=page),
                await web.post("/auth/factor", json=SIGN_IN),
                await web.post("/auth/invitation", json={"secret": "s", "password": PASSWORD}),
            ]
            shown = (await web.get("/sign-in")).text

    assert [each.status_code for each in answers] == [403] * 4
    assert 'type="password"' not in shown


async def test_nobody_is_invited_where_passwords_are_switched_off(app: Envelope, web: httpx.AsyncClient) -> None:
    """An account without a way in would be in the way of its owner, who comes by the provider; no page offers one."""
    page = {"Sec-Fetch-Site": "same-origin"}
    csrf = (await web.post("/auth/session", json=SIGN_IN, headers=page)).json()["csrf_token"]
    offered = [(await web.get(path)).text for path in ("/dashboard/people", "/dashboard/account")]
    app.application.state.settings = app.application.state.settings.model_copy(update={"password_sign_in": False})
    changing = page | {"X-CSRF-Token": csrf}

    me = (await web.get("/me")).json()["id"]
    password = {"current_password": PASSWORD, "new_password": OTHER}
    answers = [
        await web.post("/users", json={"email": "eve@example.com", "role": "viewer"}, headers=changing),
        await web.post(f"/users/{me}/invitation", headers=changing),
        await web.post("/me/password", json=password, headers=changing),
    ]
    shown = [(await web.get(path)).text for path in ("/dashboard/people", "/dashboard/account")]

    assert {(each.status_code, each.json()["code"]) for each in answers} == {(403, "forbidden")}
    assert len((await web.get("/users")).json()["users"]) == 2
    for text in ("POST /users", "/invitation", "POST /me/password", "POST /auth/factor"):
        assert any(text in page for page in offered)
        assert not any(text in page for page in shown)


@pytest.mark.parametrize("path", ["/me/factor/recovery-codes", "/me/factor/removal"])
@pytest.mark.parametrize("broken", [False, True])
async def test_codes_are_guessed_no_faster_than_at_the_sign_in(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, path: str, *, broken: bool
) -> None:
    """Whoever took over a session does not take the factor off; a path that counts nothing is caught."""
    limit = {"limit_login_account": "5/h"}
    async with (
        standing_still(data_dir, {}, "ann", **limit) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as web,
    ):
        device, _ = await set_up(app, web)
        headers = await as_ann(web, device.code())  # the third attempt of five
        if broken:
            monkeypatch.setattr(routes, "charge_sign_in", uncounted)

        tries = [(await web.post(path, json={"code": "000000"}, headers=headers)).status_code for _ in range(6)]

    assert tries == ([403] * 6 if broken else [403] * 2 + [429] * 4)


async def uncounted(_request: Request, _client: str, _email: str) -> None:
    """Count nothing."""
