"""API keys over HTTP: made, used within their scopes, rotated, revoked; keys for browsers and their origins."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.callers import stored_in
from tests.http.world import WITHIN, advance, bearer, standing_still, stores_of

from upshot.access.keys import id_of
from upshot.errors import Invalid, Unavailable
from upshot.http.envelope import Envelope
from upshot.operations import keys

TOKEN = "a-token-of-the-environment"  # noqa: S105
ADMIN = bearer(TOKEN)
SHOP = "https://shop.example.com"
EVENT = {"user_id": "visitor", "event_type": "visit"}


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application whose clock stands still."""
    async with standing_still(data_dir, {TOKEN: "default"}) as made:
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who asks it."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as client:
        yield client


async def make(web: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A key."""
    response = await web.post("/api-keys", json={"name": "shop", "scopes": ["events:write"]} | fields, headers=ADMIN)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def record(web: httpx.AsyncClient, key: str, **headers: str) -> httpx.Response:
    """An event that is sent with a key."""
    return await web.post("/events", json=EVENT, headers=bearer(key) | headers)


async def test_a_key_is_shown_once_and_its_digest_kept(web: httpx.AsyncClient, app: Envelope, tmp_path: Path) -> None:
    """Neither a list, nor the audit log, nor the database holds more than its id and last four characters."""
    made = await make(web)
    text = made["key"]

    listed = await web.get("/api-keys", headers=ADMIN)
    one = await web.get(f"/api-keys/{made['id']}", headers=ADMIN)
    trail = await web.get("/audit", headers=ADMIN)

    assert (await record(web, text)).status_code == 201
    assert id_of(text) == made["id"]
    assert made["shown"] == f"upk_{made['id']}_…{text[-4:]}"
    stored = stored_in(tmp_path)
    secret = text.removeprefix(f"upk_{made['id']}_")
    assert made["id"].encode() in stored
    assert secret.encode() not in stored
    assert all(secret[:-4] not in answer.text for answer in (listed, one, trail))
    assert one.json() == listed.json()["api_keys"][0] == {name: made[name] for name in made if name != "key"}


async def test_a_key_lasts_a_year_unless_it_is_said(web: httpx.AsyncClient, app: Envelope) -> None:
    """Or some days, or for ever."""
    usual = await make(web)
    short, forever = (
        await make(web, name="short", expires_in_days=1),
        await make(web, name="ever", expires_in_days=None),
    )

    advance(app, days=1)
    after_a_day = [(await record(web, made["key"])).status_code for made in (usual, short, forever)]
    advance(app, days=364)
    after_a_year = [(await record(web, made["key"])).status_code for made in (usual, short, forever)]

    assert after_a_day == [201, 401, 201]
    assert after_a_year == [401, 401, 201]


async def test_a_revoked_key_is_refused_within_seconds(web: httpx.AsyncClient, app: Envelope) -> None:
    """Also when it was good a moment ago; revoking again changes nothing."""
    made = await make(web)
    assert (await record(web, made["key"])).status_code == 201

    revoked = [await web.delete(f"/api-keys/{made['id']}", headers=ADMIN) for _ in range(2)]
    advance(app, seconds=WITHIN)

    assert [answer.status_code for answer in revoked] == [204, 204]
    assert (await record(web, made["key"])).status_code == 401
    shown = (await web.get(f"/api-keys/{made['id']}", headers=ADMIN)).json()
    assert (shown["active"], shown["revoked_at"] is not None) == (False, True)


async def test_a_key_is_rotated_without_a_gap(web: httpx.AsyncClient, app: Envelope) -> None:
    """Old and new are good beside each other for some hours; of one name there are never more than two."""
    old = await make(web)

    new = await web.post(f"/api-keys/{old['id']}/rotate", json={"overlap_hours": 2}, headers=ADMIN)
    third = await web.post(f"/api-keys/{old['id']}/rotate", json={}, headers=ADMIN)
    both = [(await record(web, made["key"])).status_code for made in (old, new.json())]
    advance(app, hours=2)
    later = [(await record(web, made["key"])).status_code for made in (old, new.json())]
    ended = await web.post(f"/api-keys/{old['id']}/rotate", json={}, headers=ADMIN)

    assert (new.status_code, third.status_code, ended.status_code) == (201, 409, 409)
    assert {name: new.json()[name] for name in ("name", "scopes", "origins")} == {
        name: old[name] for name in ("name", "scopes", "origins")
    }
    assert (both, later) == ([201, 201], [401, 201])


async def test_two_active_keys_have_two_names(web: httpx.AsyncClient) -> None:
    """Else nobody could say which one to rotate; the name of a revoked one is free."""
    made = await make(web)

    again = await web.post("/api-keys", json={"name": "shop", "scopes": ["assign"]}, headers=ADMIN)
    await web.delete(f"/api-keys/{made['id']}", headers=ADMIN)

    assert again.status_code == 409
    assert (await make(web))["id"] != made["id"]


async def test_nobody_gives_away_more_than_they_have(web: httpx.AsyncClient) -> None:
    """Only admins make keys; a key of one scope makes none at all."""
    writer = (await make(web, scopes=["experiments:write"]))["key"]

    refused = await web.post("/api-keys", json={"name": "more", "scopes": ["admin"]}, headers=bearer(writer))

    assert refused.status_code == 403
    assert "admin" in refused.json()["detail"]


async def test_the_last_use_of_a_key_is_noted(web: httpx.AsyncClient, app: Envelope) -> None:
    """Not at every use: some moments later, for all keys at once."""
    made, idle = await make(web), await make(web, name="idle")
    await record(web, made["key"])

    noted = await app.application.state.credentials.note_use()

    assert noted == 1
    used = {key["id"]: key["last_used_at"] for key in (await web.get("/api-keys", headers=ADMIN)).json()["api_keys"]}
    assert used[made["id"]] is not None
    assert used[idle["id"]] is None


@pytest.mark.parametrize("place", ["?api_key={key}", "?token={key}", "?country={key}"])
async def test_a_key_in_an_address_is_refused(web: httpx.AsyncClient, place: str) -> None:
    """Addresses are logged; whatever the parameter is called, also where any parameter is a part of the context."""
    key = (await make(web, scopes=["assign", "results:read"]))["key"]
    await web.post("/experiments", json={"name": "T", "variants": [{"name": "a"}, {"name": "b"}]}, headers=ADMIN)

    for path in ("/experiments/t/assignment/visitor", "/experiments/t", "/events/types"):
        for headers in (bearer(key), {}):
            response = await web.get(path + place.format(key=key), headers=headers)

            assert response.status_code == 401, (path, response.text)
            assert key not in response.text


async def test_a_browser_key_writes_from_its_own_pages_only(web: httpx.AsyncClient) -> None:
    """And the answer lets that page read it, no other one, and never with cookies."""
    key = (await make(web, origins=[SHOP]))["key"]

    right = await record(web, key, Origin=SHOP)
    wrong = [
        await record(web, key, **headers)
        for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": SHOP + ".evil.example"}, {"Origin": "null"})
    ]
    bad = await web.post("/events", json={"user_id": ""}, headers=bearer(key) | {"Origin": SHOP})

    assert right.status_code == 201
    assert right.headers["access-control-allow-origin"] == SHOP
    assert "origin" in right.headers["vary"].lower()
    assert "access-control-allow-credentials" not in right.headers
    assert [answer.status_code for answer in wrong] == [403] * 4
    assert not any("access-control-allow-origin" in answer.headers for answer in wrong)
    assert (bad.status_code, bad.headers["access-control-allow-origin"]) == (422, SHOP)


async def test_a_browser_asks_before_it_sends(web: httpx.AsyncClient) -> None:
    """Events and assignments may be asked for from other origins with a key; everything else may not, and no cookie ever."""
    ask = {"Origin": SHOP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

    open_paths = [
        await web.options(path, headers=ask)
        for path in (
            "/events",
            "/events/batch",
            "/experiments/x/assignment/u",
            "/assignments",
            "/experiments/x/assignments",
        )
    ]
    closed = [
        await web.options(path, headers=ask)
        for path in ("/experiments", "/users", "/api-keys", "/auth/token", "/experiments/x/results", "/events/types")
    ]

    for answer in open_paths:
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-max-age"] == "600"
        assert "access-control-allow-credentials" not in answer.headers
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert {answer.status_code for answer in closed} == {405}
    assert not any("access-control-allow-origin" in answer.headers for answer in closed)


async def test_a_browser_key_gets_assignments_too(web: httpx.AsyncClient) -> None:
    """With the scope for it, by the same lane and the same rule of origins."""
    key = (await make(web, scopes=["assign"], origins=[SHOP]))["key"]
    await web.post("/experiments", json={"name": "T", "variants": [{"name": "a"}, {"name": "b"}]}, headers=ADMIN)

    right = await web.get("/experiments/t/assignment/visitor", headers=bearer(key) | {"Origin": SHOP})
    wrong = await web.get("/experiments/t/assignment/visitor", headers=bearer(key))

    assert (right.status_code, right.headers["access-control-allow-origin"]) == (200, SHOP)
    assert wrong.status_code == 403


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"scopes": []}, "/scopes"), ({"scopes": ["everything"]}, "/scopes/0"), ({"name": ""}, "/name"),
        ({"name": " "}, "/name"), ({"expires_in_days": 0}, "/expires_in_days"), ({"expires_in_days": 4_000}, "/expires_in_days"),
        ({"origins": ["*"]}, "/origins/0"), ({"origins": [SHOP], "scopes": ["admin"]}, "/scopes"),
        ({"client": "other"}, "/client"), ({"digest": "d"}, "/digest"),
    ],
)  # fmt: skip
async def test_a_key_that_breaks_a_rule_is_refused(
    web: httpx.AsyncClient, fields: dict[str, Any], pointer: str
) -> None:
    """Where the fault is, is said."""
    response = await web.post("/api-keys", json={"name": "shop", "scopes": ["events:write"]} | fields, headers=ADMIN)

    assert response.status_code == 422
    assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]
    assert (await web.get("/api-keys", headers=ADMIN)).json()["api_keys"] == []


async def test_a_key_goes_on_while_the_database_is_away(
    web: httpx.AsyncClient, app: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was good within the last hour is believed; what was never seen is told to come back."""
    made, unseen = await make(web, expires_in_days=None), await make(web, name="unseen")
    await record(web, made["key"])
    control = stores_of(app).control

    async def away(*_: object) -> str:
        raise Unavailable("The database cannot be reached.", retry_after=2)

    monkeypatch.setattr(type(control), "owner", away)
    advance(app, minutes=59)
    within = await record(web, made["key"])
    never_seen = await record(web, unseen["key"])
    advance(app, minutes=2)
    after = await record(web, made["key"])

    assert [answer.status_code for answer in (within, never_seen, after)] == [201, 503, 503]


def test_a_lifetime_is_within_ten_years() -> None:
    """The operation refuses what the wire could not say."""

    assert keys.lifetime_of(None) is None
    assert keys.lifetime_of(3_650) == timedelta(days=3_650)
    with pytest.raises(Invalid):
        keys.lifetime_of(3_651)
