"""The experiment doctor and the tail of events, on the application."""

import asyncio
import shlex
from typing import Any

import httpx
import pytest
from tests.servers import OTHER_TOKEN

TWO = [{"name": "a"}, {"name": "b"}]
OTHER = {"Authorization": f"Bearer {OTHER_TOKEN}"}


@pytest.fixture
async def experiment(api: httpx.AsyncClient) -> dict[str, Any]:
    """A running experiment that waits for `purchase`."""
    made = await api.post(
        "/experiments", json={"name": "it's one", "key": "one", "primary_metric": "purchase", "variants": TWO}
    )
    return dict(made.json())


async def send(api: httpx.AsyncClient, *events: dict[str, Any]) -> None:
    """Send events."""
    assert (await api.post("/events", json={"events": list(events)})).status_code == 201


async def examined(api: httpx.AsyncClient, reference: str = "one") -> dict[str, Any]:
    """What the doctor says."""
    response = await api.get(f"/experiments/{reference}/doctor")
    assert response.status_code == 200, response.text
    return dict(response.json())


def codes(found: dict[str, Any]) -> list[str]:
    """The findings."""
    return [finding["code"] for finding in found["findings"]]


async def test_an_experiment_without_anything_is_told_what_to_do_first(
    api: httpx.AsyncClient, experiment: dict[str, Any]
) -> None:
    """All parts of the answer are there, and what does not exist is null."""
    found = await examined(api, experiment["id"])

    assert codes(found) == ["no_assignments", "no_events"]
    assert found["experiment"] == {"id": experiment["id"], "key": "one", "name": "it's one", "status": "running"}
    assert found["last"] == {"assignment": None, "exposure": None, "event": None}
    assert found["counts"] == {
        "assigned_users": 0, "exposed_users": 0, "joined_users": 0, "join_rate": None, "events_before_exposure": 0,
        "users_before_exposure": 0, "events_of_unknown_users": 0, "unknown_users": 0, "duplicates": 0, "late_events": 0,
        "events_ahead_of_clock": 0,
    }  # fmt: skip
    assert found["awaited"] == [
        {"event_type": "purchase", "metrics": ["purchase", "revenue"], "events": 0, "last_at": None, "near_misses": []}
    ]
    assert (found["received"], found["clock_skew_seconds"]) == ([], None)


async def test_a_name_in_another_case_is_found(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """`Purchase` is sent, `purchase` is waited for; after it is mended, all is well."""
    await api.get("/experiments/one/assignment/u1")
    await send(api, {"user_id": "u1", "event_type": "Purchase"}, {"user_id": "u1", "event_type": "visit"})

    found = await examined(api)

    assert codes(found) == ["name_mismatch"]
    [finding] = found["findings"]
    assert finding["severity"] == "problem"
    assert "“Purchase”" in finding["message"]
    assert "“purchase”" in finding["message"]
    assert finding["remedy"]
    [awaited] = found["awaited"]
    assert [(near["event_type"], near["events"]) for near in awaited["near_misses"]] == [("Purchase", 1)]
    assert {part["event_type"] for part in found["received"]} == {"Purchase", "visit"}

    await api.patch("/experiments/one", json={"primary_metric": "Purchase"})
    mended = await examined(api)
    assert codes(mended) == ["all_well"]
    assert mended["counts"]["join_rate"] == 1.0
    assert mended["last"]["assignment"]
    assert mended["last"]["exposure"]
    assert mended["last"]["event"]


async def test_ids_that_differ_and_events_that_come_first_are_found(
    api: httpx.AsyncClient, experiment: dict[str, Any]
) -> None:
    """Events of ids that were never assigned, and of a user before the assignment; linking the ids mends both."""
    await send(api, {"user_id": "early", "event_type": "purchase"})
    await asyncio.sleep(0.002)
    await api.get("/experiments/one/assignment/early")
    await api.get("/experiments/one/assignment/cookie-1")
    await send(
        api, {"user_id": "account-1", "event_type": "purchase"}, {"user_id": "account-1", "event_type": "purchase"}
    )

    found = await examined(api)

    assert codes(found) == ["events_before_exposure", "unknown_users"]
    assert {finding["severity"] for finding in found["findings"]} == {"problem"}
    counts = found["counts"]
    assert (counts["events_before_exposure"], counts["users_before_exposure"]) == (1, 1)
    assert (counts["events_of_unknown_users"], counts["unknown_users"]) == (2, 1)
    assert (counts["assigned_users"], counts["exposed_users"], counts["joined_users"]) == (2, 2, 0)

    await api.post("/identities", json={"anonymous_id": "cookie-1", "user_id": "account-1"})
    mended = (await examined(api))["counts"]
    assert (mended["unknown_users"], mended["joined_users"]) == (0, 1)


async def test_assignments_without_exposures_are_found(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """Answers for many users at once are none."""
    await api.post("/experiments/one/assignments", json={"users": ["u1", "u2"]})
    await send(api, {"user_id": "u1", "event_type": "purchase"})

    found = await examined(api)

    assert codes(found)[0] == "no_exposures"
    assert found["counts"]["assigned_users"] == 2
    assert found["last"]["assignment"] is not None
    assert found["last"]["exposure"] is None


async def test_clocks_and_repeats_are_counted(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """A moment in the year 2100 is ahead; what came again is a duplicate."""
    await api.get("/experiments/one/assignment/u1")
    ahead = {"user_id": "u1", "event_type": "purchase", "timestamp": "2100-01-01T00:00:00Z", "event_id": "x"}
    await send(api, ahead)
    await api.post("/events", json=ahead)

    found = await examined(api)

    assert codes(found) == ["duplicates", "clock_ahead"]
    assert (found["counts"]["duplicates"], found["counts"]["events_ahead_of_clock"]) == (1, 1)


async def test_the_calls_work_as_they_stand(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """They name the server that was asked, and a shell reads them as one word each."""
    curls = (await examined(api))["curls"]

    assign, event, results = (shlex.split(curls[name]) for name in ("assign", "event", "results"))
    assert assign == [
        "curl",
        "-H",
        "Authorization: Bearer $TOKEN",
        "http://upshot/experiments/one/assignment/test-user-1",
    ]
    assert (await api.get(assign[-1])).status_code == 200
    content = event[event.index("-d") + 1]
    sent = await api.post(event[-1], content=content, headers={"Content-Type": "application/json"})
    assert sent.status_code == 201, sent.text
    assert (await api.get(results[-1])).json()["summary"]["total_events"] == 1
    assert codes(await examined(api)) == ["all_well"]


async def test_a_draft_and_an_end_are_said(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """A draft is not running, nor is what is over."""
    await api.post("/experiments", json={"name": "draft", "status": "draft", "variants": TWO})
    await api.post("/experiments/one/complete")

    assert codes(await examined(api, "draft"))[0] == "not_running"
    assert "not_running" in codes(await examined(api))


async def test_what_is_not_there_is_not_found(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """Nor is what is another client's."""
    missing = await api.get("/experiments/none/doctor")
    foreign = await api.get("/experiments/one/doctor", headers=OTHER)

    assert (missing.status_code, foreign.status_code) == (404, 404)
    assert missing.json()["detail"] == foreign.json()["detail"]


async def test_the_tail_tells_each_event_once(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """From the newest ones on; another client sees none of them."""
    assert (await api.get("/events/recent")).json() == {"events": [], "after": None}
    await send(api, *({"user_id": f"u{n}", "event_type": "visit", "event_id": f"e{n}"} for n in range(5)))

    first = (await api.get("/events/recent?limit=3")).json()
    assert [event["event_id"] for event in first["events"]] == ["e2", "e3", "e4"]
    nothing = (await api.get("/events/recent", params={"after": first["after"]})).json()
    assert nothing == {"events": [], "after": first["after"]}
    bought = {"user_id": "u1", "event_type": "purchase", "event_id": "p", "properties": {"price": 10.5, "é": [None]},
              "timestamp": "2026-01-31T12:00:00Z", "experiment_id": "one"}  # fmt: skip
    await send(api, bought)
    [event] = (await api.get("/events/recent", params={"after": first["after"], "limit": 200})).json()["events"]

    assert event["properties"] == {"price": 10.5, "é": [None]}
    assert event["experiment_id"] == experiment["id"]
    assert (event["timestamp"], event["event_id"], event["user_id"]) == ("2026-01-31T12:00:00Z", "p", "u1")
    assert event["received_at"] > event["timestamp"]
    assert (await api.get("/events/recent", headers=OTHER)).json()["events"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "after=x",
        "after=MQ==",
        "after=MS4yLjMuNA==",
        "after=é",
        "after=OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjAuMA==",
    ],
)
async def test_a_bad_question_of_the_tail_is_refused(api: httpx.AsyncClient, query: str) -> None:
    """422 that names the parameter."""
    response = await api.get(f"/events/recent?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"
