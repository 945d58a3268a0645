"""The requests of the product's page exactly as written there, and what every response, page and change keeps to."""

import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.servers import TOKEN

from upshot.http import pages
from upshot.http.app import create_app
from upshot.settings import Settings

JSON = {"Content-Type": "application/json"}
ARMS: list[dict[str, Any]] = [{"name": "a"}, {"name": "b"}]
FIRST = """{"name": "experiment18", "description": "test experiment", "status": "RUNNING", "primary_metric_name": "purchase",
 "variants": [{"variant_name": "variant1", "traffic_allocation_percent": 30, "configuration_json": {}},
              {"variant_name": "variant2", "traffic_allocation_percent": 70, "configuration_json": {}}]}"""
SECOND = """{"name": "Homepage CTA Test", "description": "Testing button colors",
 "variants": [{"name": "control", "weight": 0.5, "is_control": true}, {"name": "blue_button", "weight": 0.25},
              {"name": "green_button", "weight": 0.25}],
 "targeting": {"countries": ["US", "CA"], "min_version": "2.0.0"}}"""
EVENT = """{"user_id": "test-user-2", "type": "purchase", "properties": {"price": 1000.00, "currency": "USD"},
 "experiment_id": "6fae61db-a90b-4f35-889d-279fa5416fc4"}"""
DOCUMENTED_ID = "6fae61db-a90b-4f35-889d-279fa5416fc4"


async def create(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A new experiment."""
    response = await api.post("/experiments", json={"name": "one", "variants": ARMS} | fields)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def test_the_first_experiment_is_created_as_written(api: httpx.AsyncClient) -> None:
    """Percentages, capitals in the status and the older field names are understood; answers use our names only."""
    response = await api.post("/experiments", content=FIRST, headers=JSON)

    made = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/experiments/{made['id']}"
    assert (made["name"], made["status"], made["primary_metric"]) == ("experiment18", "running", "purchase")
    assert [(arm["name"], arm["traffic_allocation"], arm["is_control"]) for arm in made["variants"]] == [
        ("variant1", 30, True),
        ("variant2", 70, False),
    ]
    assert not {"primary_metric_name", "variant_name", "weight", "configuration_json"} & {*made, *made["variants"][0]}


async def test_the_second_experiment_is_created_as_written(api: httpx.AsyncClient) -> None:
    """Weights that sum to 1, a control that is named, and targeting by country and version."""
    response = await api.post("/experiments", content=SECOND, headers=JSON)

    made = response.json()
    assert response.status_code == 201
    assert made["key"] == "homepage-cta-test"
    assert [arm["traffic_allocation"] for arm in made["variants"]] == [50, 25, 25]
    assert made["targeting"] == {"countries": ["US", "CA"], "min_version": "2.0.0"}


async def test_an_assignment_and_an_event_work_as_written(api: httpx.AsyncClient) -> None:
    """GET …/assignment/test-user-18 gives a stored variant; the event with `type` and `experiment_id` is accepted."""
    made = (await api.post("/experiments", content=FIRST, headers=JSON)).json()

    assigned = await api.get(f"/experiments/{DOCUMENTED_ID}/assignment/test-user-18".replace(DOCUMENTED_ID, made["id"]))
    recorded = await api.post("/events", content=EVENT.replace(DOCUMENTED_ID, made["id"]), headers=JSON)

    assert assigned.status_code == 200
    assert assigned.json().keys() == {
        "experiment_id", "experiment_key", "user_id", "variant", "variant_id", "assigned_at", "reason", "is_new", "persisted",
    }  # fmt: skip
    assert (assigned.json()["user_id"], assigned.json()["is_new"], assigned.json()["persisted"]) == (
        "test-user-18",
        True,
        True,
    )
    assert assigned.json()["variant"].keys() == {"id", "name", "is_control", "config"}
    assert recorded.status_code == 201
    assert recorded.json() == {"accepted": 1, "duplicates": 0, "conflicts": 0, "rejected": []}


@pytest.mark.parametrize("word", ["active", "ACTIVE", "Running", "running", "DRAFT"])
async def test_status_words_are_understood_in_any_case(api: httpx.AsyncClient, word: str) -> None:
    """`active` means running; the answer and the filter of the list use the product's word."""
    made = await create(api, status=word)

    listed = (await api.get("/experiments", params={"status": word})).json()

    assert made["status"] == ("draft" if word == "DRAFT" else "running")
    assert [found["id"] for found in listed["experiments"]] == [made["id"]]


async def test_every_response_says_its_time_and_its_request(api: httpx.AsyncClient) -> None:
    """X-Process-Time, X-Request-Id and the protecting headers, on successes, errors, pages and files."""
    asked = (("GET", "/experiments"), ("GET", "/nowhere"), ("PUT", "/experiments"), ("POST", "/events"), ("GET", "/livez"),
             ("GET", "/experiments/none/assignment/u"), ("GET", "/docs"), ("GET", "/assets/docs/none.js"))  # fmt: skip

    for method, path in asked:
        response = await api.request(method, path)

        assert float(response.headers["x-process-time"]) > 0
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "server" not in response.headers


async def test_the_callers_request_id_is_kept(api: httpx.AsyncClient) -> None:
    """So that one id follows a request through a system; what could forge a log line is replaced."""
    kept = await api.get("/livez", headers={"X-Request-Id": "abc-1.2_3"})
    replaced = [
        await api.get("/livez", headers={"X-Request-Id": text}) for text in ("a b", "", "a" * 129, "a\tb", "a/b")
    ]

    assert kept.headers["x-request-id"] == "abc-1.2_3"
    assert all(re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"]) for response in replaced)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_documentation_needs_no_other_host(api: httpx.AsyncClient, page: str) -> None:
    """What a page loads is served by this process, and its policy lets its own inline script run and no other."""
    response = await api.get(page)

    links = re.findall(r'(?:src|href)="([^"]*)"', response.text)
    files = [await api.get(link) for link in links]
    assert links
    assert not re.search(r"(?:https?:)?//[a-z]", response.text)
    assert [file.status_code for file in files] == [200] * len(links)
    assert any("javascript" in file.headers["content-type"] and len(file.content) > 100_000 for file in files)
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert "unsafe" not in policy["script-src"]
    assert all(source in policy["script-src"] for source in pages.script_sources(response.content))
    changed = response.content.replace(b"</body>", b"<script>alert(1)</script></body>")
    assert not all(source in policy["script-src"] for source in pages.script_sources(changed))
    assert policy["connect-src"] == "'self'"
    assert "/openapi.json" in response.text


async def test_a_life_passes_through_every_state(api: httpx.AsyncClient) -> None:
    """draft → running ⇄ paused → completed → archived; any other move is 409 and names the allowed ones."""
    made = await create(api, status="draft")
    allowed = {"draft": {"start"}, "running": {"pause", "complete"}, "paused": {"resume", "complete"}, "completed": {"archive"},
               "archived": {"nothing"}}  # fmt: skip
    actions = {"start", "pause", "resume", "complete", "archive"}

    for action, state in (("start", "running"), ("pause", "paused"), ("resume", "running"), ("pause", "paused"),
    ("complete", "completed"),
                          ("archive", "archived"), ("", "")):  # fmt: skip
        now = (await api.get(f"/experiments/{made['id']}")).json()["status"]
        for other in actions - allowed[now]:
            refused = await api.post(f"/experiments/{made['id']}/{other}")
            assert refused.status_code == 409, (now, other)
            assert set(refused.json()["detail"].rpartition("can ")[2].strip(".").split(" or ")) == allowed[now]
        if action:
            moved = await api.post(f"/experiments/{made['id']}/{action}")
            assert (moved.status_code, moved.json()["status"]) == (200, state)
    ended = (await api.get(f"/experiments/{made['id']}")).json()
    assert ended["started_at"] < ended["ended_at"]


async def test_a_change_of_allocation_opens_a_phase(api: httpx.AsyncClient) -> None:
    """It binds new users only: who was assigned keeps the variant; texts open none."""
    made = await create(api)
    path = f"/experiments/{made['id']}"
    before = [(await api.get(f"{path}/assignment/user-{number}")).json()["variant_id"] for number in range(20)]

    renamed = await api.patch(path, json={"name": "another"})
    changed = await api.patch(path, json={"variants": [{"name": "a", "weight": 9}, {"name": "b", "weight": 1}]})

    after = [(await api.get(f"{path}/assignment/user-{number}")).json()["variant_id"] for number in range(20)]
    assert (renamed.status_code, changed.status_code) == (200, 200)
    assert (len(renamed.json()["phases"]), len(changed.json()["phases"])) == (1, 2)
    assert changed.json()["phases"][1]["traffic_allocation"] == {"a": 90, "b": 10}
    assert after == before


async def test_a_variant_with_users_cannot_be_removed(api: httpx.AsyncClient) -> None:
    """409 that says what to do instead; at an allocation of 0 it stays, and gets no new users. One without users can go."""
    made = await create(api, variants=[*ARMS, {"name": "c"}, {"name": "d", "weight": None}])
    path = f"/experiments/{made['id']}"
    taken = {(await api.get(f"{path}/assignment/user-{number}")).json()["variant"]["name"] for number in range(60)}

    refused = await api.patch(path, json={"variants": ARMS})
    closed = await api.patch(
        path,
        json={
            "variants": [{"name": name, "weight": weight} for name, weight in zip("abcd", (1, 1, 0, 0), strict=True)]
        },
    )

    later = {(await api.get(f"{path}/assignment/later-{number}")).json()["variant"]["name"] for number in range(40)}
    added = await api.patch(path, json={"variants": [{"name": name} for name in "abcde"]})
    removed = await api.patch(path, json={"variants": [{"name": name} for name in "abcd"]})
    assert taken == set("abcd")
    assert refused.status_code == 409
    assert "0" in refused.json()["detail"]
    assert closed.status_code == 200
    assert later == {"a", "b"}
    assert [added.status_code, removed.status_code] == [200, 200]


async def test_a_change_of_another_version_is_refused(api: httpx.AsyncClient) -> None:
    """409 for a version that is not the present one, and nothing changes; without a version the last one wins."""
    made = await create(api)
    path = f"/experiments/{made['id']}"

    first = await api.patch(path, json={"description": "first", "version": made["version"]})
    second = await api.patch(path, json={"description": "second", "version": made["version"]})
    unasked = await api.patch(path, json={"hypothesis": "third"})

    assert [first.status_code, second.status_code, unasked.status_code] == [200, 409, 200]
    assert (await api.get(path)).json()["description"] == "first"


async def test_only_a_draft_can_be_deleted(api: httpx.AsyncClient) -> None:
    """204 and gone for a draft, 409 for any other; its key is free again."""
    draft, runs = await create(api, status="draft", key="draft"), await create(api, key="runs")

    gone, refused = await api.delete(f"/experiments/{draft['id']}"), await api.delete(f"/experiments/{runs['id']}")

    assert (gone.status_code, gone.content) == (204, b"")
    assert refused.status_code == 409
    assert (await api.get("/experiments/draft")).status_code == 404
    assert (await api.delete(f"/experiments/{draft['id']}")).status_code == 404
    assert (await create(api, key="draft"))["key"] == "draft"


async def test_cursors_walk_through_all(api: httpx.AsyncClient) -> None:
    """Every experiment once, newest first, whatever the size of a page; the last page has no cursor."""
    made = [(await create(api, name=f"number {number}"))["id"] for number in range(7)]

    for limit in (1, 2, 3, 7, 8):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (
                await api.get("/experiments", params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
            ).json()
            found += [experiment["id"] for experiment in page["experiments"]]
            cursor = page["next_cursor"]

        assert found == made[::-1]


async def test_a_user_id_may_be_any_text_when_it_is_encoded(api: httpx.AsyncClient) -> None:
    """Slashes, percent signs and any script arrive as they were,
    and name the same user everywhere. (A client takes `..` for a step up.)"""
    made = await create(api)
    user_ids = ("a/b", "a//b", "/", "../..", "a b", "a+b", "a%2Fb", "a?b#c", "é", "e\u0301", "漢字", "🙂", "a;b=c", "a\\b",
                "user@example.com", '"quoted"', "null.", "x" * 200)  # fmt: skip

    for user_id in user_ids:
        asked = (await api.get(f"/experiments/{made['id']}/assignment/{quote(user_id, safe='')}")).json()
        again = (await api.post(f"/experiments/{made['id']}/assignments", json={"users": [user_id]})).json()[
            "assignments"
        ][0]

        assert asked.get("user_id") == user_id, (user_id, asked)
        assert (again["variant_id"], again["is_new"]) == (asked["variant_id"], False)


async def test_the_lane_answers_as_the_route_does(api: httpx.AsyncClient) -> None:
    """The thin lane in front of FastAPI and the route behind it give the same status, type and bytes for the same user."""
    made = await create(api, targeting={"countries": ["US"]}, key="targeted")
    await create(api, status="draft", key="draft")
    envelope = api._transport.app  # type: ignore[attr-defined]  # the transport of the fixture
    route = httpx.AsyncClient(
        transport=httpx.ASGITransport(envelope.application),
        base_url="http://route",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    paths = ("targeted/assignment/u1?country=US", "targeted/assignment/u1", "targeted/assignment/nobody?country=FR",
             "targeted/assignment/%C3%A9%2Fb?country=US&name=%E6%BC%A2", "draft/assignment/u1", f"{made['id']}/assignment/u1",
             "none/assignment/u1", "targeted/assignment/null", "targeted/assignment/%FF", "targeted/assignment/u%0A",
             "targeted/assignment/u1?a=1&a=2", "targeted/assignment/", "targeted/assignment/a/b?country=US")  # fmt: skip

    async with route:
        for path in paths:
            await api.get(f"/experiments/{path}")  # so that nobody is new any more
            lane, routed = await api.get(f"/experiments/{path}"), await route.get(f"/experiments/{path}")

            assert (lane.status_code, lane.content) == (routed.status_code, routed.content), path
            assert lane.headers["content-type"] == routed.headers["content-type"]


def test_the_openapi_document_lists_the_documented_operations() -> None:
    """Each method and path of the product's page that exists so far."""
    paths = create_app(Settings(), {}).application.openapi()["paths"]

    found = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    assert found >= {
        "GET /health", "GET /livez", "GET /readyz", "GET /metrics", "POST /experiments", "GET /experiments",
        "GET /experiments/{experiment_id}", "PATCH /experiments/{experiment_id}", "DELETE /experiments/{experiment_id}",
        *(f"POST /experiments/{{experiment_id}}/{action}" for action in ("start", "pause", "resume", "complete", "archive")),
        "GET /experiments/{experiment_id}/assignment/{user_id}", "POST /experiments/{experiment_id}/assignments",
        "POST /assignments",
        "POST /events", "POST /events/batch", "GET /events/types", "GET /events/recent",
        "GET /experiments/{experiment_id}/results", "GET /experiments/{experiment_id}/doctor",
        "GET /experiments/{experiment_id}/results/export", "POST /experiments/{experiment_id}/import",
        "POST /metric-definitions", "GET /metric-definitions", "GET /metric-definitions/{key}",
        "PATCH /metric-definitions/{key}", "DELETE /metric-definitions/{key}", "POST /planner",
    }  # fmt: skip
