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
}
_PATHS: dict[str, Any] = create_app(Settings(), {}).application.openapi()["paths"]
OPERATIONS = [
    (method, path) for path, operations in _PATHS.items() for method in operations if "{experiment_id}" in path
]


async def create(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """An experiment of the first client, unless the headers say otherwise."""
    body = {"name": "mine", "variants": [{"name": "a"}, {"name": "b"}]} | fields
    return dict((await api.post("/experiments", json=body)).json())


async def ask(api: httpx.AsyncClient, method: str, path: str, reference: str) -> tuple[int, str, str]:
    """The second client's answer: status, type, and body without what the question itself named."""
    target = re.sub(r"\{user_id\}", "visitor", path).replace("{experiment_id}", reference)
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


async def test_lists_and_counts_hold_only_what_is_ones_own(api: httpx.AsyncClient) -> None:
    """Experiments, assignments everywhere and event types of one client are not in the answers of the other."""
    await create(api)
    await api.post("/events", json={"user_id": "visitor", "event_type": "secret"})

    experiments = await api.get("/experiments", headers=OTHER)
    found = await api.get("/experiments?search=mine", headers=OTHER)
    assignments = await api.post("/assignments", json={"user_id": "visitor"}, headers=OTHER)
    types = await api.get("/events/types", headers=OTHER)

    assert experiments.json() == found.json() == {"experiments": [], "next_cursor": None}
    assert assignments.json() == {"assignments": []}
    assert types.json() == {"event_types": []}


async def test_two_clients_may_use_the_same_words(api: httpx.AsyncClient) -> None:
    """Keys, user ids and event ids are each client's own: an equal one of another is no conflict and no duplicate."""
    event = {"user_id": "visitor", "event_type": "purchase", "event_id": "e1"}
    body = {"name": "mine", "key": "same", "variants": [{"name": "a"}, {"name": "b"}]}

    made = [await api.post("/experiments", json=body, headers=headers) for headers in ({}, OTHER)]
    recorded = [await api.post("/events", json=event, headers=headers) for headers in ({}, OTHER)]
    assigned = [await api.get("/experiments/same/assignment/visitor", headers=headers) for headers in ({}, OTHER)]

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


async def test_a_foreign_cursor_tells_nothing(api: httpx.AsyncClient) -> None:
    """A cursor is a place in a list, no key to it: with another client's cursor one still sees one's own."""
    for _ in range(3):
        await create(api)
    cursor = (await api.get("/experiments?limit=1")).json()["next_cursor"]

    response = await api.get(f"/experiments?limit=1&cursor={cursor}", headers=OTHER)

    assert response.json() == {"experiments": [], "next_cursor": None}
