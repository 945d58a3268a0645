"""Two clients on one server: neither sees, changes or can even guess at what belongs to the other."""

import re
import uuid
from typing import Any

import httpx
import pytest
from tests.servers import OTHER_TOKEN

from upshot.http.app import create_app
from upshot.settings import Settings

OTHER = {"Authorization": f"Bearer {OTHER_TOKEN}"}
BODIES: dict[str, Any] = {
    "patch /experiments/{experiment_id}": {"name": "taken over"},
    "post /experiments/{experiment_id}/assignments": {"users": ["visitor"]},
    "post /experiments/{experiment_id}/import": {
        "assignments": [{"user_id": "visitor", "variant": "a", "assigned_at": "2026-01-31T12:00:00Z"}],
        "events": [{"user_id": "visitor", "event_type": "purchase"}],
    },
    "post /experiments/{experiment_id}/shares": {},
    "patch /metric-definitions/{key}": {"name": "taken over"},
}
_PATHS: dict[str, Any] = create_app(Settings(), {}).application.openapi()["paths"]
OPERATIONS = [
    (method, path) for path, operations in _PATHS.items() for method in operations if "{experiment_id}" in path
]
DEFINITIONS = [(method, path) for path, operations in _PATHS.items() for method in operations if "{key}" in path]


async def create(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """An experiment of the first client, unless the headers say otherwise."""
    body = {"name": "mine", "variants": [{"name": "a"}, {"name": "b"}]} | fields
    return dict((await api.post("/experiments", json=body)).json())


async def ask(api: httpx.AsyncClient, method: str, path: str, reference: str) -> tuple[int, str, str]:
    """The second client's answer: status, type, and body without what the question itself named."""
    target = re.sub(r"\{(experiment_id|key)\}", reference, path.replace("{user_id}", "visitor"))
    response = await api.request(method, target, json=BODIES.get(f"{method} {path}"), headers=OTHER)
    return response.status_code, response.headers["content-type"], response.text


@pytest.mark.parametrize("status", ["draft", "running"])
async def test_a_foreign_experiment_looks_like_none(api: httpx.AsyncClient, status: str) -> None:
    """For every operation, another client's id or key gives exactly what a random one gives: 404, and nothing changes."""
    mine = await create(api, status=status, key="my-key")

    for method, path in OPERATIONS:
        nobody = await ask(api, method, path, str(uuid.uuid4()))

        assert nobody[0] == 404, (method, path)
        assert await ask(api, method, path, mine["id"]) == nobody, (method, path)
        assert await ask(api, method, path, "my-key") == nobody, (method, path)
    assert (await api.get(f"/experiments/{mine['id']}")).json() == mine


async def test_a_foreign_metric_looks_like_none(api: httpx.AsyncClient) -> None:
    """For every operation, also of one version, another client's key gives what one that nobody has gives: 404."""
    mine = (await api.post("/metric-definitions", json={"key": "secret", "event_type": "order"})).json()

    for method, path in [*DEFINITIONS, ("get", "/metric-definitions/{key}?version=1")]:
        nobody = await ask(api, method, path, str(uuid.uuid4()))

        assert nobody[0] == 404, (method, path)
        assert await ask(api, method, path, "secret") == nobody, (method, path)
    assert (await api.get("/metric-definitions/secret")).json() == mine
    assert len(DEFINITIONS) == 3


async def test_a_foreign_metric_means_nothing(api: httpx.AsyncClient) -> None:
    """An experiment that names it takes it for an event type."""
    await api.post("/metric-definitions", json={"key": "secret", "kind": "sum", "event_type": "order"})
    body = {"name": "theirs", "metrics": ["secret"], "variants": [{"name": "a"}, {"name": "b"}]}

    made = (await api.post("/experiments", json=body, headers=OTHER)).json()
    result = await api.get(f"/experiments/{made['id']}/results?metrics=secret", headers=OTHER)

    assert made["plan"]["definitions"] == {}
    assert result.json()["variants"][0]["metrics"]["secret"]["kind"] == "conversion"


async def test_lists_and_counts_hold_only_what_is_ones_own(api: httpx.AsyncClient) -> None:
    """Experiments, metrics, assignments everywhere and event types of one client are not in the answers of the other."""
    await create(api)
    await api.post("/metric-definitions", json={"event_type": "secret"})
    await api.post("/events", json={"user_id": "visitor", "event_type": "secret"})

    experiments = await api.get("/experiments", headers=OTHER)
    found = await api.get("/experiments?search=mine", headers=OTHER)
    assignments = await api.post("/assignments", json={"user_id": "visitor"}, headers=OTHER)
    types = await api.get("/events/types", headers=OTHER)
    metrics = [await api.get(f"/metric-definitions{query}", headers=OTHER) for query in ("", "?search=secret")]

    assert [answer.json() for answer in metrics] == [{"metric_definitions": [], "next_cursor": None}] * 2
    assert experiments.json() == found.json() == {"experiments": [], "next_cursor": None}
    assert assignments.json() == {"assignments": []}
    assert types.json() == {"event_types": []}


async def test_two_clients_may_use_the_same_words(api: httpx.AsyncClient) -> None:
    """Keys, user ids and event ids are each client's own: an equal one of another is no conflict and no duplicate."""
    metric = {"key": "same", "event_type": "order"}
    event = {"user_id": "visitor", "event_type": "purchase", "event_id": "e1"}
    body = {"name": "mine", "key": "same", "variants": [{"name": "a"}, {"name": "b"}]}

    made = [await api.post("/experiments", json=body, headers=headers) for headers in ({}, OTHER)]
    recorded = [await api.post("/events", json=event, headers=headers) for headers in ({}, OTHER)]
    assigned = [await api.get("/experiments/same/assignment/visitor", headers=headers) for headers in ({}, OTHER)]

    defined = [await api.post("/metric-definitions", json=metric, headers=headers) for headers in ({}, OTHER)]
    assert [(response.status_code, response.json()["version"]) for response in defined] == [(201, 1)] * 2
    assert [response.status_code for response in made] == [201, 201]
    assert [response.json()["accepted"] for response in recorded] == [1, 1]
    assert [response.json()["experiment_id"] for response in assigned] == [response.json()["id"] for response in made]
    assert [response.json()["is_new"] for response in assigned] == [True, True]


async def test_an_event_cannot_name_a_foreign_experiment(api: httpx.AsyncClient) -> None:
    """It is refused as one that names no experiment at all."""
    mine = await create(api)

    foreign, unknown = [
        await api.post(
            "/events", json={"user_id": "visitor", "event_type": "a", "experiment_id": reference}, headers=OTHER
        )
        for reference in (mine["id"], str(uuid.uuid4()))
    ]

    assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text)
    assert foreign.status_code == 422


async def test_a_plan_rests_on_what_is_ones_own(api: httpx.AsyncClient) -> None:
    """Another client's experiment cannot be measured in, and its events and definitions are not there to plan from."""
    mine = await create(api, key="my-key", primary_metric="purchase")
    await api.post("/metric-definitions", json={"key": "secret", "kind": "sum", "event_type": "purchase"})
    await api.post("/events", json={"user_id": "visitor", "event_type": "visit"})

    refused = [
        await api.post("/planner", json={"experiment": reference, "users": 100}, headers=OTHER)
        for reference in (str(uuid.uuid4()), mine["id"], "my-key")
    ]
    measured = [
        (await api.post("/planner", json={"entry": "visit", "metric": "secret", "users": 100}, headers=headers)).json()
        for headers in ({}, OTHER)
    ]

    assert {(response.status_code, response.text) for response in refused} == {(422, refused[0].text)}
    assert [plan["baseline"]["users"] for plan in measured] == [1, 0]
    assert [plan["baseline"]["kind"] for plan in measured] == ["sum", "conversion"]


async def test_a_foreign_cursor_tells_nothing(api: httpx.AsyncClient) -> None:
    """A cursor is a place in a list, no key to it: with another client's cursor one still sees one's own."""
    for number in range(3):
        await create(api)
        await api.post("/metric-definitions", json={"event_type": f"event-{number}"})

    for path, name in (("/experiments", "experiments"), ("/metric-definitions", "metric_definitions")):
        cursor = (await api.get(f"{path}?limit=1")).json()["next_cursor"]
        response = await api.get(f"{path}?limit=1&cursor={cursor}", headers=OTHER)

        assert response.json() == {name: [], "next_cursor": None}
