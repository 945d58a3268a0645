"""What SDKs ask: the configuration, the stream that says it has changed, and where exposures are told."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.world import experiment
from tests.servers import OTHER_TOKEN, RunningServer, running

from upshot import snapshot
from upshot.access import tickets

SOON = 30.0
"""Seconds: what is changed is seen everywhere within 2; the rest is for a busy machine."""


async def expose(api: httpx.AsyncClient, *exposures: dict[str, Any], **envelope: Any) -> httpx.Response:
    """The answer to exposures."""
    return await api.post("/exposures", json={"exposures": exposures} | envelope)


async def test_the_configuration_decides_as_the_server_does(api: httpx.AsyncClient) -> None:
    """For every user; drafts and what is over are not in it, unless a flag goes on to serve a winner."""
    await api.post("/layers", json={"key": "l"})
    await api.post("/holdouts", json={"key": "h", "percentage": 20})
    await experiment(
        api, "one", layer={"layer": "l", "percentage": 60}, targeting={"countries": ["US"]}, traffic_percentage=80
    )
    await experiment(api, "draft", status="draft")
    for key in ("over", "shipped"):
        await experiment(api, key)
    await api.post(
        "/flags",
        json={
            "key": "f",
            "type": "boolean",
            "default": False,
            "experiment": {"key": "shipped", "values": {"blue": True}},
        },
    )
    await api.post("/experiments/shipped/complete", json={"winner": "blue"})
    await api.post("/experiments/over/complete")

    response = await api.get("/sdk/config")
    read = snapshot.read(response.json())

    assert {entry["key"] for entry in response.json()["experiments"]} == {"one", "shipped"}
    for number in range(60):
        user = f"user-{number}"
        served = (await api.get(f"/experiments/one/assignment/{user}?country=us")).json()
        decided = read.experiments["one"].decide(user, {"country": "us"})
        assert (decided.variant and decided.variant.id, decided.reason) == (served["variant_id"], served["reason"])


async def test_an_unchanged_configuration_is_not_sent_again(api: httpx.AsyncClient) -> None:
    """304 by its ETag; every change of an experiment or a flag makes another one, and another client's does not."""
    await experiment(api, "one")
    tags = []
    for change in (
        None,
        ("POST", "/flags", {"key": "f", "type": "boolean", "default": False}),
        ("PATCH", "/flags/f", {"enabled": False}),
        ("POST", "/experiments/one/pause", None),
        ("DELETE", "/flags/f", None),
    ):
        if change:
            await api.request(change[0], change[1], json=change[2])
        response = await api.get("/sdk/config")
        tags.append(response.headers["etag"])
        for tag in (tags[-1], f"W/{tags[-1]}"):  # the latter by a proxy that compresses
            again = await api.get("/sdk/config", headers={"If-None-Match": f'"other", {tag}'})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tags[-1])
    other = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    await api.post("/flags", json={"key": "f", "type": "boolean", "default": False}, headers=other)

    assert len(set(tags)) == 5
    assert (await api.get("/sdk/config")).headers["etag"] == tags[-1]
    assert (await api.get("/sdk/config", headers=other)).json()["experiments"] == []


async def test_exposures_are_stored_once_and_count_in_results(api: httpx.AsyncClient) -> None:
    """The first one of a user in an experiment counts, with its own time; the next assignment is that variant."""
    await experiment(api, "one", primary_metric="buy")
    shown = [
        {"user_id": f"u{n}", "experiment": "one", "variant": ("control", "blue")[n % 2], "context": {"country": "DE"}}
        for n in range(6)
    ]

    first, again = await expose(api, *shown), await expose(api, *shown)
    await api.post("/events", json=[{"user_id": f"u{n}", "event_type": "buy"} for n in range(3)])
    results = (await api.get("/experiments/one/results")).json()
    served = (await api.get("/experiments/one/assignment/u1")).json()

    assert (first.status_code, first.json()) == (201, {"accepted": 6, "duplicates": 0, "conflicts": 0, "rejected": []})
    assert (again.status_code, again.json()) == (200, {"accepted": 0, "duplicates": 6, "conflicts": 0, "rejected": []})
    assert (results["summary"]["total_users"], results["summary"]["total_events"]) == (6, 3)
    assert (served["variant"]["name"], served["is_new"]) == ("blue", False)


async def test_a_user_who_was_shown_two_variants_is_a_conflict(api: httpx.AsyncClient) -> None:
    """The stored variant stays; the user counts no longer, and the result says why."""
    await experiment(api, "one")
    await api.get("/experiments/one/assignment/another")
    stored = (await api.get("/experiments/one/assignment/u1")).json()["variant"]["name"]
    other = {"control": "blue", "blue": "control"}[stored]

    answer = await expose(api, {"user_id": "u1", "experiment": "one", "variant": other})

    results = (await api.get("/experiments/one/results?format=full")).json()
    assert answer.json()["conflicts"] == 1
    assert results["summary"]["total_users"] == 1
    assert (results["health"]["crossovers"], results["health"]["withdrawn"]) == (1, {"crossover": 1})
    assert (await api.get("/experiments/one/assignment/u1")).json()["variant"]["name"] == stored


async def test_a_bad_exposure_is_answered_by_its_place_and_the_others_are_stored(api: httpx.AsyncClient) -> None:
    """Unknown experiments and variants, drafts, user ids, moments, shapes."""
    await experiment(api, "one")
    await experiment(api, "draft", status="draft")
    good = {"user_id": "u", "experiment": "one", "variant": "blue"}

    answer = await expose(
        api, good, good | {"experiment": "none"}, good | {"experiment": "draft"}, good | {"variant": "red"},
        good | {"user_id": "null"}, good | {"exposed_at": "yesterday"}, good | {"x": 1}, {"user_id": "u"},
        good | {"context": {"a": [1]}},
    )  # fmt: skip

    assert answer.json()["accepted"] == 1
    assert [(each["index"], each["pointer"], each["code"]) for each in answer.json()["rejected"]] == [
        (1, "/experiment", "unknown_experiment"), (2, "/experiment", "not_started"), (3, "/variant", "unknown_variant"),
        (4, "/user_id", "placeholder"), (5, "/exposed_at", "bad_timestamp"), (6, "", "bad_shape"), (7, "", "bad_shape"),
        (8, "/context", "not_flat"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"exposures": []}, 422),
        ([], 422),
        ({"exposures": [{}] * 1_001}, 413),
        ({"exposures": [{}], "sent_at": "now"}, 422),
        ({}, 422),
    ],
)
async def test_what_holds_no_exposures_is_refused(api: httpx.AsyncClient, body: Any, status: int) -> None:
    """As a whole."""
    response = await api.post("/exposures", json=body)

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_a_clock_that_is_off_is_corrected(api: httpx.AsyncClient) -> None:
    """By the moment of sending; what would lie in the future is now."""
    await experiment(api, "one")
    now = datetime.now(UTC)
    ahead = (now + timedelta(hours=2)).isoformat()
    shown = {"experiment": "one", "variant": "blue", "exposed_at": ahead}

    await expose(api, {"user_id": "corrected"} | shown, sent_at=ahead)
    await expose(api, {"user_id": "future"} | shown)

    for user in ("corrected", "future"):
        assigned_at = datetime.fromisoformat(
            (await api.get(f"/experiments/one/assignment/{user}")).json()["assigned_at"]
        )
        assert abs(assigned_at - now) < timedelta(seconds=30)


def test_a_ticket_is_good_for_its_client_and_until_the_next_day_ends() -> None:
    """It is the same for a whole day; what was altered, or signed by another key, is none."""
    key, now = b"k" * 32, datetime(2026, 1, 31, 12, tzinfo=UTC)
    ticket = tickets.write(key, "first client ü", now)

    assert tickets.read(key, ticket, now) == tickets.read(key, ticket, now + timedelta(days=1)) == "first client ü"
    assert tickets.write(key, "first client ü", now + timedelta(hours=11)) == ticket
    assert tickets.read(key, ticket, now + timedelta(days=2)) is None
    assert tickets.read(b"x" * 32, ticket, now) is None
    other = tickets.write(key, "second", now)
    assert tickets.read(key, f"{other.partition('.')[0]}.{ticket.partition('.')[2]}", now) is None
    for bad in ("", ".", "a.b", "ü.ü", ticket[:-2], "." + ticket):
        assert tickets.read(key, bad, now) is None


async def listen(url: str, found: list[dict[str, Any]], **options: Any) -> None:
    """Add the data of the events of a stream, until it ends."""
    async with httpx.AsyncClient(timeout=20) as web, web.stream("GET", url, **options) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            found += [json.loads(line.removeprefix("data: "))] if line.startswith("data: ") else []


async def all_told(told: list[list[dict[str, Any]]], number: int) -> None:
    """Wait until everybody was told so many events."""
    async with asyncio.timeout(SOON):
        while any(len(each) < number for each in told):  # noqa: ASYNC110 - of what has no event
            await asyncio.sleep(0.02)


def test_a_stream_tells_of_changes_soon_and_ends_with_the_server(tmp_path: Path) -> None:
    """By a key or a ticket; another client's changes are not told; nobody listens without either."""
    with running(tmp_path) as server:
        for query in ("", "?ticket=x.y"):
            assert httpx.get(f"{server.url}/sdk/stream{query}").status_code == 401
        told = asyncio.run(_changed(server))

    assert [len(each) for each in told] == [2, 2]
    assert told[0] == told[1]
    assert all(event["type"] == "refetchEvaluation" for event in told[0])
    assert told[0][0]["etag"] != told[0][1]["etag"]


async def _changed(server: RunningServer) -> list[list[dict[str, Any]]]:
    with server.client() as api, server.client(OTHER_TOKEN) as other:
        api.post("/flags", json={"key": "f", "type": "boolean", "default": False}).raise_for_status()
        bulk = api.post("/ofrep/v1/evaluate/flags", json={"context": {"targetingKey": "u"}}).json()
        told: list[list[dict[str, Any]]] = [[], []]
        by_ticket = asyncio.create_task(listen(bulk["eventStreams"][0]["url"], told[0]))
        by_key = asyncio.create_task(listen(f"{server.url}/sdk/stream", told[1], headers=dict(api.headers)))
        await all_told(told, 1)
        other.post("/flags", json={"key": "f", "type": "boolean", "default": False}).raise_for_status()
        await asyncio.sleep(1)  # in which nothing is told: it was another client's
        api.patch("/flags/f", json={"enabled": False}).raise_for_status()
        await all_told(told, 2)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.gather(by_ticket, by_key)
        return told


async def test_where_no_exposure_is_taken_their_places_are_those_in_the_body(api: httpx.AsyncClient) -> None:
    """422, with pointers from the top of the document."""
    answer = await expose(api, {"user_id": "u", "experiment": "none", "variant": "blue"}, {"user_id": "u"})

    faults = [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]
    assert answer.status_code == 422
    assert faults == [("/exposures/0/experiment", "unknown_experiment"), ("/exposures/1", "bad_shape")]
