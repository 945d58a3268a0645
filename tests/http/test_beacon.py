"""What a page hands over when it goes away: taken from pages of the key's origins, and from nobody else."""

import json
from typing import Any

import httpx
import pytest

ORIGIN = "https://shop.example"
EVENT = {"user_id": "u1", "event_type": "buy"}
SHOWN = {"user_id": "u1", "experiment": "e", "variant": "blue"}


async def browser(api: httpx.AsyncClient, *scopes: str, origins: tuple[str, ...] = (ORIGIN,)) -> str:
    """A key of a browser, and an experiment."""
    await api.post("/experiments", json={"name": "e", "key": "e", "variants": [{"name": "control"}, {"name": "blue"}]})
    made = await api.post("/api-keys", json={"name": f"page {scopes}", "scopes": scopes, "origins": origins})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


async def send(api: httpx.AsyncClient, body: Any, origin: str | None = ORIGIN, **headers: str) -> httpx.Response:
    """A beacon as browsers send it: plain text, the page's origin, no credential in a header."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "text/plain;charset=UTF-8"} | ({"Origin": origin} if origin else {}) | headers
    async with httpx.AsyncClient(transport=api._transport, base_url="http://upshot") as stranger:
        return await stranger.post("/beacon", content=content, headers=sent)


async def test_events_and_exposures_of_a_page_are_stored(api: httpx.AsyncClient) -> None:
    """With a verdict per item, as everywhere."""
    key = await browser(api, "assign", "events:write")

    answer = await send(api, {"key": key, "exposures": [SHOWN], "events": [EVENT, EVENT | {"user_id": ""}]})
    results = (await api.get("/experiments/e/results?primary_event_type=buy")).json()

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.json()["exposures"] == {"accepted": 1, "duplicates": 0, "conflicts": 0, "rejected": []}
    assert answer.json()["events"]["accepted"] == 1
    assert [each["index"] for each in answer.json()["events"]["rejected"]] == [1]
    assert (results["summary"]["total_users"], results["summary"]["total_events"]) == (1, 1)


async def test_only_pages_with_a_browsers_key_may_send_one(api: httpx.AsyncClient) -> None:
    """Another origin, none, a key that is secret, one that is revoked, a scope that is missing."""
    key = await browser(api, "events:write")
    asking = await browser(api, "assign")
    secret = (await api.post("/api-keys", json={"name": "secret", "scopes": ["events:write"]})).json()["key"]
    body = {"key": key, "events": [EVENT]}

    assert (await send(api, body)).status_code == 200
    assert (await send(api, body, "https://evil.example")).status_code == 403
    assert (await send(api, body, None)).status_code == 403
    assert (await send(api, {"key": asking, "events": [EVENT]})).status_code == 403
    for other in (secret, "upk_nonsense", "", "ü\ud800", api.headers["authorization"].removeprefix("Bearer ")):
        assert (await send(api, {"key": other, "events": [EVENT]})).status_code in {400, 401, 422}, other


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ([], 422),
        ({}, 422),
        ({"key": "KEY"}, 422),
        ({"key": "KEY", "events": {}}, 422),
        ({"key": "KEY", "events": [EVENT], "x": 1}, 422),
        ({"key": "KEY", "events": [EVENT], "sent_at": "now"}, 422),
        (b'{"key":"KEY","events":[{"user_id":"a","event_type":"t"}],"events":[{"user_id":"a","event_type":"t"}]}', 422),
        ({"key": "KEY", "exposures": [SHOWN] * 1_001}, 413),
    ],
)
async def test_what_is_no_beacon_is_refused(api: httpx.AsyncClient, body: Any, status: int) -> None:
    """As a problem, and nothing is stored."""
    key = await browser(api, "assign", "events:write")
    if isinstance(body, dict) and "key" in body:
        body = body | {"key": key}
    elif isinstance(body, bytes):
        body = body.replace(b"KEY", key.encode())

    response = await send(api, body)

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert (await api.get("/events/types")).json() == {"event_types": []}


async def test_a_form_of_another_site_is_not_taken(api: httpx.AsyncClient) -> None:
    """A cookie opens nothing here, and other media types are not read."""
    key = await browser(api, "events:write")
    body = {"key": key, "events": [EVENT]}

    form = await send(api, body, **{"Content-Type": "application/x-www-form-urlencoded"})

    assert form.status_code == 415
