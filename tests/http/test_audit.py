"""The audit log over HTTP: every change is in it, with who, what, before, after and the request; and approvals."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.test_tenancy import BODIES
from tests.http.world import PASSWORD, bearer, populate, stores_of
from tests.servers import UNLIMITED

from upshot.access import Role, system
from upshot.access.sessions import Means
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import people, signin
from upshot.operations.people import Wanted
from upshot.settings import Settings

_DOCUMENT: dict[str, Any] = create_app(Settings(), {}).application.openapi()
NO_CHANGES = {
    "/experiments/{experiment_id}/assignments", "/assignments", "/identities", "/events", "/events/batch", "/exposures",
    "/planner", "/auth/token", "/auth/refresh", "/auth/session", "/auth/invitation", "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{flag_key}",
}  # fmt: skip
VARIANTS = [{"name": "a"}, {"name": "b"}]


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application of its own."""
    made = create_app(Settings(data_dir=data_dir, **UNLIMITED), {})
    async with made.lifespan():
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who asks it."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://upshot") as client:
        yield client


async def person(app: Envelope, name: str, role: Role = Role.ADMIN) -> dict[str, str]:
    """The headers of a person who signed in."""
    stores = stores_of(app)
    user, _ = await people.create(
        stores, system("default", "tests"), Wanted(f"{name}@example.com", name, role), PASSWORD
    )
    return bearer((await signin.with_password(stores, "default", user.email, PASSWORD, Means.TOKENS)).access)


async def trail(web: httpx.AsyncClient, headers: dict[str, str], **query: str) -> list[dict[str, Any]]:
    """The audit log, the newest first."""
    return list((await web.get("/audit", params=query, headers=headers)).json()["entries"])


async def test_an_entry_says_who_did_what_and_what_differs(app: Envelope, web: httpx.AsyncClient) -> None:
    """Of a change only the parts that changed, with the id of the request."""
    ann = await person(app, "ann")
    made = (await web.post("/experiments", json={"name": "One", "variants": VARIANTS}, headers=ann)).json()

    changed = await web.patch(
        f"/experiments/{made['id']}", json={"name": "Two"}, headers=ann | {"X-Request-Id": "my-own-id"}
    )

    entry = (await trail(web, ann))[0]
    assert changed.headers["x-request-id"] == "my-own-id"
    assert (entry["action"], entry["object_kind"], entry["object_id"]) == (
        "experiment.changed",
        "experiment",
        made["id"],
    )
    assert (entry["actor_kind"], entry["actor_name"], entry["request_id"]) == ("user", "ann@example.com", "my-own-id")
    assert (entry["before"], entry["after"]) == ({"name": "One", "version": 1}, {"name": "Two", "version": 2})


async def test_every_operation_that_changes_something_is_in_the_log(app: Envelope, web: httpx.AsyncClient) -> None:
    """Each successful one adds an entry; those of events and assignments are data, not changes."""
    client = await populate(app, web, "default")
    admin = bearer(client.credentials["admin"])
    silent, done = [], 0
    for path, operations in _DOCUMENT["paths"].items():
        for method in operations.keys() - {"get"}:
            if path in NO_CHANGES:
                continue
            before = len(await trail(web, admin, limit="200"))
            target = re.sub(r"\{(\w+)\}", lambda found: client.ids[found[1]], path)
            answer = await web.request(method, target, json=BODIES.get(f"{method} {path}"), headers=admin)
            if path == "/auth/logout":
                admin = await person(app, "another")
            if answer.is_success:
                done += 1
                if len(await trail(web, admin, limit="200")) <= before:
                    silent.append(f"{method} {path}")

    assert silent == []
    assert done >= 10


async def test_a_failed_change_leaves_no_entry(app: Envelope, web: httpx.AsyncClient) -> None:
    """Both or none: they are one transaction."""
    ann = await person(app, "ann")
    await web.post("/experiments", json={"name": "One", "key": "one", "variants": VARIANTS}, headers=ann)
    before = await trail(web, ann)

    answers = [
        await web.post("/experiments", json={"name": "Two", "key": "one", "variants": VARIANTS}, headers=ann),
        await web.patch("/experiments/one", json={"name": "x", "version": 9}, headers=ann),
        await web.post("/experiments/one/start", headers=ann),
        await web.delete("/experiments/one", headers=ann),
    ]

    assert [answer.status_code for answer in answers] == [409] * 4
    assert await trail(web, ann) == before


async def test_no_secret_is_in_the_log(app: Envelope, web: httpx.AsyncClient) -> None:
    """Neither a password, nor a hash, nor a key, nor an invitation, nor a token."""
    client = await populate(app, web, "default")
    admin = bearer(client.credentials["admin"])
    key = (await web.post("/api-keys", json={"name": "k", "scopes": ["assign"]}, headers=admin)).json()["key"]
    user = (await web.post("/users", json={"email": "n@example.com", "role": "viewer"}, headers=admin)).json()

    text = (await web.get("/audit?limit=200", headers=admin)).text

    secrets = [PASSWORD, "argon2", key[-38:], user["invitation"], *client.credentials.values()]
    assert [secret for secret in secrets if secret in text] == []
    assert user["id"] in text


async def test_the_log_is_exported_whole(app: Envelope, web: httpx.AsyncClient) -> None:
    """As NDJSON and CSV, over all pages; a cell that a spreadsheet would take for a formula is harmless."""
    ann = await person(app, "ann")
    await web.post(
        "/experiments", json={"name": "=cmd|' /C calc'!A0", "key": "formula", "variants": VARIANTS}, headers=ann
    )
    for number in range(210):
        await web.patch("/experiments/formula", json={"description": f"{number}"}, headers=ann)

    lines = (await web.get("/audit/export", headers=ann)).text.splitlines()
    table = await web.get("/audit/export?format=csv", headers=ann)

    rows = list(csv.DictReader(io.StringIO(table.text)))
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == len(rows) >= 213
    assert table.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    assert json.loads(rows[0]["after"])["description"] == "209"
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


async def test_a_start_can_need_a_second_person(app: Envelope, web: httpx.AsyncClient) -> None:
    """One asks, another agrees; the log has both."""
    ann, bob = await person(app, "ann"), await person(app, "bob", Role.EDITOR)
    await web.patch("/client", json={"approvals": ["start", "complete"]}, headers=ann)
    made = (
        await web.post("/experiments", json={"name": "E", "status": "draft", "variants": VARIANTS}, headers=ann)
    ).json()

    asked = await web.post(f"/experiments/{made['id']}/start", headers=ann)
    waiting = (await web.get("/approvals?state=pending", headers=bob)).json()["approvals"]
    own = await web.post(f"/approvals/{asked.json()['id']}/approve", headers=ann)
    agreed = await web.post(f"/approvals/{asked.json()['id']}/approve", headers=bob)
    again = await web.post(f"/approvals/{asked.json()['id']}/approve", headers=bob)

    assert (asked.status_code, asked.json()["state"]) == (202, "pending")
    assert [approval["id"] for approval in waiting] == [asked.json()["id"]]
    assert (own.status_code, agreed.status_code, again.status_code) == (403, 200, 409)
    assert agreed.json()["status"] == "running"
    actions = [(entry["action"], entry["actor_name"]) for entry in await trail(web, ann, object_id=made["id"])]
    assert actions[:3] == [("experiment.started", "bob@example.com"), ("approval.approved", "bob@example.com"),
                           ("approval.requested", "ann@example.com")]  # fmt: skip


async def test_what_was_changed_since_is_asked_for_again(app: Envelope, web: httpx.AsyncClient) -> None:
    """Nobody agrees to what they have not seen."""
    ann, bob = await person(app, "ann"), await person(app, "bob")
    await web.patch("/client", json={"approvals": ["start"]}, headers=ann)
    made = (
        await web.post("/experiments", json={"name": "E", "status": "draft", "variants": VARIANTS}, headers=ann)
    ).json()
    first = (await web.post(f"/experiments/{made['id']}/start", headers=ann)).json()
    await web.patch(f"/experiments/{made['id']}", json={"name": "Another"}, headers=ann)

    outdated = await web.post(f"/approvals/{first['id']}/approve", headers=bob)
    second = (await web.post(f"/experiments/{made['id']}/start", headers=ann)).json()
    twice = await web.post(f"/experiments/{made['id']}/start", headers=bob)
    states = {found["id"]: found["state"] for found in (await web.get("/approvals", headers=ann)).json()["approvals"]}

    assert outdated.status_code == 409
    assert twice.status_code == 409
    assert states == {first["id"]: "withdrawn", second["id"]: "pending"}
    assert (await web.post(f"/approvals/{second['id']}/approve", headers=bob)).json()["status"] == "running"


async def test_keys_and_tokens_are_no_persons(app: Envelope, web: httpx.AsyncClient) -> None:
    """They can neither ask nor agree, and an experiment cannot be started by creating it."""
    client = await populate(app, web, "default")
    admin, key = bearer(client.credentials["admin"]), bearer(client.credentials["key"])
    await web.patch("/client", json={"approvals": ["start"]}, headers=admin)
    mine = client.ids["experiment_id"]

    created = await web.post("/experiments", json={"name": "now", "variants": VARIANTS}, headers=admin)
    asked = await web.post(f"/experiments/{mine}/start", headers=key)
    agreed = await web.post(f"/approvals/{client.ids['approval_id']}/approve", headers=key)

    assert [answer.status_code for answer in (created, asked, agreed)] == [409, 403, 403]
    assert (await web.get(f"/experiments/{mine}", headers=admin)).json()["status"] == "draft"


async def test_what_is_rejected_or_impossible_is_not_done(app: Envelope, web: httpx.AsyncClient) -> None:
    """Who asked may withdraw; what the state forbids is refused at once; other actions need nobody."""
    ann, bob = await person(app, "ann"), await person(app, "bob")
    made = (await web.post("/experiments", json={"name": "E", "variants": VARIANTS}, headers=ann)).json()
    await web.patch("/client", json={"approvals": ["start", "complete"]}, headers=ann)
    path = f"/experiments/{made['id']}"

    impossible = await web.post(f"{path}/start", headers=ann)
    paused = await web.post(f"{path}/pause", headers=ann)
    asked = (await web.post(f"{path}/complete", headers=ann)).json()
    withdrawn = await web.post(f"/approvals/{asked['id']}/reject", headers=ann)
    late = await web.post(f"/approvals/{asked['id']}/approve", headers=bob)

    assert [answer.status_code for answer in (impossible, paused, withdrawn, late)] == [409, 200, 200, 409]
    assert withdrawn.json()["state"] == "rejected"
    assert (await web.get(path, headers=ann)).json()["status"] == "paused"


@pytest.mark.parametrize(
    "body", [{"approvals": ["pause"]}, {"approvals": "start"}, {"approvals": ["start"] * 3}, {"other": 1}]
)
async def test_only_what_can_be_chosen_is_taken(app: Envelope, web: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """The rest is refused, and nothing is changed."""
    ann = await person(app, "ann")

    refused = await web.patch("/client", json=body, headers=ann)

    assert refused.status_code == 422
    assert (await web.get("/client", headers=ann)).json() == {
        "client": "default",
        "approvals": [],
        "second_factor": False,
    }
