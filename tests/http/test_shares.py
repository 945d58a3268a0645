"""Links to results: what they show, to whom, and for how long."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.http.world import bearer, populate, stores_of

from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import shares
from upshot.settings import Settings

VARIANTS = [{"name": "a"}, {"name": "b"}]


async def made(api: httpx.AsyncClient, key: str = "shared") -> dict[str, Any]:
    """An experiment, and a link to its result."""
    await api.post("/experiments", json={"name": key, "key": key, "primary_metric": "buy", "variants": VARIANTS})
    answer = await api.post(f"/experiments/{key}/shares", json={"expires_in_days": 7})
    assert answer.status_code == 201
    found: dict[str, Any] = answer.json()
    return found


async def test_a_link_shows_one_result_to_whoever_has_it(api: httpx.AsyncClient) -> None:
    """Without a credential: the result and its parts, and nothing to change."""
    link = await made(api)

    for part in ("", "?method=bayesian", "/over-time", "/segments"):
        answer = await api.get(link["path"] + part, headers={"Authorization": ""})
        assert answer.status_code == 200, part
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["cache-control"] == "no-store"
        assert 'data-send="' not in answer.text
        assert "/export" not in answer.text


async def test_of_a_secret_only_a_digest_is_kept(api: httpx.AsyncClient) -> None:
    """And the list does not show it."""
    link = await made(api)

    listed = (await api.get("/experiments/shared/shares")).json()["shares"]

    assert [each["id"] for each in listed] == [link["id"]]
    assert link["path"].rpartition("/")[2] not in str(listed)


async def test_what_leads_nowhere(api: httpx.AsyncClient) -> None:
    """Taken back, made up, or another client's: all look the same, as a page."""
    link = await made(api)
    client, secret = link["path"].split("/")[2:]
    taken = await api.delete(f"/experiments/shared/shares/{link['id']}")
    again = await api.delete(f"/experiments/shared/shares/{link['id']}")

    assert (taken.status_code, again.status_code) == (204, 404)
    texts = set()
    for path in (
        f"/shared/{client}/{secret}",
        f"/shared/second/{secret}",
        f"/shared/{client}/{'A' * 43}",
        "/shared/%2A/x",
    ):
        answer = await api.get(path)
        assert answer.status_code == 404
        texts.add(answer.text)
    assert len(texts) == 1


async def test_a_link_ends(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the days that it was made for; one for good does not."""
    link = await made(api)
    forever = (await api.post("/experiments/shared/shares", json={"expires_in_days": None})).json()
    app: Any = api._transport
    stores = stores_of(app.app)
    now = stores.clock.now()
    monkeypatch.setattr(stores.clock, "now", lambda: now + timedelta(days=7, seconds=1), raising=False)

    assert (await api.get(link["path"])).status_code == 404
    assert (await api.get(forever["path"])).status_code == 200
    assert [each["active"] for each in (await api.get("/experiments/shared/shares")).json()["shares"]].count(True) == 1


async def test_whole_days(api: httpx.AsyncClient) -> None:
    """However JSON writes them; half a day is none."""
    await made(api)

    for days, status in ((7.0, 201), (7.5, 422), ("7", 422), (True, 422)):
        answer = await api.post("/experiments/shared/shares", json={"expires_in_days": days})
        assert answer.status_code == status, days


@pytest.mark.parametrize("wanted", [{"expires_in_days": 0}, {"expires_in_days": 401}, {"days": 3}])
async def test_bad_input(api: httpx.AsyncClient, wanted: dict[str, Any]) -> None:
    """Is said, and no link is made."""
    await api.post("/experiments", json={"name": "shared", "key": "shared", "variants": VARIANTS})

    assert (await api.post("/experiments/shared/shares", json=wanted)).status_code == 422
    assert (await api.get("/experiments/shared/shares")).json() == {"shares": []}


async def test_links_are_in_the_audit_log(api: httpx.AsyncClient) -> None:
    """Making one, and taking it back."""
    link = await made(api)
    await api.delete(f"/experiments/shared/shares/{link['id']}")

    entries = (await api.get("/audit", params={"object_id": link["id"]})).json()["entries"]

    assert [entry["action"] for entry in entries] == ["share.revoked", "share.created"]


async def test_who_may(data_dir: Any) -> None:
    """Editors share; viewers read results themselves."""
    app: Envelope = create_app(Settings(data_dir=data_dir, scheduler="celery"), {})
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://upshot") as asking,
    ):
        client = await populate(app, asking, "one")
        for credential, status in (("viewer", 403), ("only experiments:write", 201), ("only assign", 403)):
            answer = await asking.post(
                "/experiments/mine/shares", json={}, headers=bearer(client.credentials[credential])
            )
            assert answer.status_code == status, credential
        assert len(await shares.every(stores_of(app), "one", "mine")) == 2
