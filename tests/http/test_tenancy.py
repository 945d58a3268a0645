"""Every operation with every kind of credential, about one's own, another client's and nobody's things.

The table has a cell for each (operation, credential, thing). A credential that is good for nothing gets 401, one that is not
good for this 403, before anything is looked at; and what another client has cannot be told from what nobody has: not by the
status, nor the body, nor a header, nor by the time that an answer takes.
"""

import re
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from tests.faults.reporting import say
from tests.http.world import Client, bearer, populate
from tests.servers import UNLIMITED

from upshot.control.accesstables import api_keys
from upshot.control.sqlaccounts import SqlAccounts, _key_of
from upshot.control.transaction import SqlTransaction
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.settings import Settings

pytestmark = pytest.mark.slow

BODIES: dict[str, Any] = {
    "post /experiments": {"name": "new", "variants": [{"name": "a"}, {"name": "b"}]},
    "patch /experiments/{experiment_id}": {"name": "taken over"},
    "post /experiments/{experiment_id}/assignments": {"users": ["visitor"]},
    "post /experiments/{experiment_id}/import": {"events": [{"user_id": "visitor", "event_type": "purchase"}]},
    "post /experiments/{experiment_id}/shares": {},
    "post /metric-definitions": {"event_type": "visit"},
    "patch /metric-definitions/{key}": {"name": "taken over"},
    "post /assignments": {"user_id": "visitor"},
    "post /identities": {"anonymous_id": "visitor", "user_id": "visitor-signed-in"},
    "post /events": {"user_id": "visitor", "event_type": "visit"},
    "post /events/batch": [{"user_id": "visitor", "event_type": "visit"}],
    "post /planner": {"baseline": {"kind": "conversion", "rate": 0.1}, "lift": 0.1},
    "post /users": {"email": "new@example.com", "role": "viewer", "password": "four unrelated wordy things"},
    "patch /users/{user_id}": {"name": "taken over"},
    "post /me/password": {"current_password": "no", "new_password": "four unrelated wordy things"},
    "post /api-keys": {"name": "new", "scopes": ["assign"]},
    "post /api-keys/{key_id}/rotate": {},
    "patch /client": {"approvals": []},
    "post /webhooks": {"url": "https://hooks.example.com/", "occasions": ["experiment.started"]},
    "patch /webhooks/{webhook_id}": {"form": "slack"},
    "post /flags": {"key": "new", "type": "boolean", "default": True},
    "patch /flags/{flag_key}": {"enabled": False},
    "post /layers": {"key": "new"},
    "post /holdouts": {"key": "new", "percentage": 1},
    "post /import/growthbook": {"features": {"taken": {"defaultValue": True}}},
    "post /exposures": {"exposures": [{"user_id": "visitor", "experiment": "mine", "variant": "a"}]},
    "post /ofrep/v1/evaluate/flags": {"context": {"targetingKey": "visitor"}},
    "post /ofrep/v1/evaluate/flags/{flag_key}": {"context": {"targetingKey": "visitor"}},
}
PUBLIC = {
    "/livez",
    "/readyz",
    "/health",
    "/auth/token",
    "/auth/refresh",
    "/auth/session",
    "/auth/factor",
    "/auth/invitation",
    "/auth/logout",
}
_DOCUMENT: dict[str, Any] = create_app(Settings(), {}).application.openapi()
PUBLIC |= {"/api/features/{public_key}"}  # by the id of a key, which its own tests try
PUBLIC |= {path for path in _DOCUMENT["paths"] if path.startswith("/auth/oidc")}
OPERATIONS = [
    (method, path) for path, operations in _DOCUMENT["paths"].items() for method in operations if path not in PUBLIC
]
GOOD_FOR_NOTHING = ("nothing", "no key", "revoked key", "expired key", "expired token")
MILLISECOND = 0.001
CHANGING = ("x-request-id", "x-process-time", "date", "ratelimit", "ratelimit-policy")


@dataclass(frozen=True)
class Answer:
    """What can be seen of an answer, without what differs from one to the next."""

    status: int
    headers: tuple[tuple[str, str], ...]
    text: str


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application of its own."""
    made = create_app(Settings(data_dir=data_dir, scheduler="celery", **UNLIMITED), {})
    async with made.lifespan():
        yield made


@pytest.fixture
async def asking(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who asks it, so far without a credential."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://upshot") as client:
        yield client


async def ask(api: httpx.AsyncClient, method: str, path: str, ids: Mapping[str, str], secret: str | None) -> Answer:
    """The answer to an operation about these things."""
    own = dict(ids)
    if "/assignment/" in path:
        own["user_id"] = "visitor"
    target = re.sub(r"\{(\w+)\}", lambda found: own[found[1]], path)
    response = await api.request(method, target, json=BODIES.get(f"{method} {path}"), headers=bearer(secret))
    headers = tuple(sorted((name, text) for name, text in response.headers.items() if name not in CHANGING))
    text = response.text
    if path.endswith("/flags/{flag_key}"):
        text = text.replace(own["flag_key"], "what was asked")  # OpenFeature has it said in errors
    return Answer(response.status_code, tuple(pair for pair in headers if pair[0] != "content-length"), text)


def nobodys(ids: Mapping[str, str]) -> dict[str, str]:
    """Ids of the same form that nobody has."""
    return {name: str(uuid.uuid4())[: len(text)] if name != "key_id" else "0" * 10 for name, text in ids.items()}


def is_about_things(path: str) -> bool:
    """Whether an operation names something that could be another client's."""
    names = set(re.findall(r"\{(\w+)\}", path))
    return bool(names - {"user_id"}) or ("user_id" in names and path.startswith("/users"))


async def leaks(api: httpx.AsyncClient, one: Client, other: Client, cells: Counter[str]) -> list[str]:
    """Where an operation tells more than it may. Counts what it asked."""
    found = []
    for method, path in OPERATIONS:
        things = (("own", one.ids), ("foreign", other.ids), ("nobody's", nobodys(one.ids)))
        for credential in (
            "nothing",
            "no key",
            "revoked key",
            "expired key",
            "expired token",
            "other client",
            "viewer",
        ):
            secret = {"nothing": None, "no key": "upk_nonsense"}.get(credential, one.credentials.get(credential))
            if credential == "other client":
                secret = other.credentials["key"]
            if credential == "viewer" and "/me/sessions/" in path:
                continue  # they would sign themselves out
            answers = {}
            for thing, ids in things if is_about_things(path) and credential != "other client" else things[:1]:
                answers[thing] = await ask(api, method, path, ids, secret)
                cells[credential] += 1
            if credential in GOOD_FOR_NOTHING and any(answer.status != 401 for answer in answers.values()):
                found.append(f"{method} {path} with {credential}: {sorted({a.status for a in answers.values()})}")
            if credential == "viewer" and len(set(answers.values())) > 1 and answers["own"].status == 403:
                found.append(f"{method} {path}: what a viewer is refused depends on the thing")
            if credential == "other client" and is_about_things(path):
                nobody = await ask(api, method, path, nobodys(one.ids), secret)
                cells["other client"] += 1
                if answers["own"] != nobody or nobody.status not in {403, 404}:
                    found.append(f"{method} {path}: foreign {answers['own']} is not {nobody}")
    return found


async def test_no_cell_of_the_table_leaks(app: Envelope, asking: httpx.AsyncClient) -> None:
    """At least 600 cells; zero leaks; and both clients have afterwards what they had before."""
    one, other = await populate(app, asking, "one"), await populate(app, asking, "other")
    before = [await states(asking, client) for client in (one, other)]
    cells: Counter[str] = Counter()

    found = [*await leaks(asking, one, other, cells), *await leaks(asking, other, one, cells)]

    say(f"{sum(cells.values())} cells: {dict(cells)}")
    assert found == []
    assert sum(cells.values()) >= 600
    after = [await states(asking, client) for client in (one, other)]
    changed = [pair for pair in zip(chain(*before), chain(*after), strict=True) if pair[0] != pair[1]]
    assert changed == []


async def states(api: httpx.AsyncClient, client: Client) -> list[str]:
    """The things that others asked about, as their own client sees them."""
    ids, headers = client.ids, bearer(client.credentials["key"])
    paths = (
        f"/experiments/{ids['experiment_id']}",
        f"/metric-definitions/{ids['key']}",
        f"/users/{ids['user_id']}",
        f"/users/{ids['user_id']}/sessions",
        f"/webhooks/{ids['webhook_id']}",
        f"/flags/{ids['flag_key']}",
        "/approvals",
    )
    told = (await api.get(f"/webhooks/{ids['webhook_id']}/deliveries", headers=headers)).json()["deliveries"]
    shared = [
        str(part)
        for kind in ("layer", "holdout")
        for part in (await api.get(f"/{kind}s", headers=headers)).json()[f"{kind}s"]
        if part["key"] == ids[f"{kind}_key"]
    ]
    key = (await api.get(f"/api-keys/{ids['key_id']}", headers=headers)).json()
    return [*[(await api.get(path, headers=headers)).text for path in paths], str((key["active"], key["expires_at"])),
            *shared, *[str(delivery) for delivery in told if delivery["id"] == ids["delivery_id"]]]  # fmt: skip


async def test_the_table_finds_an_experiment_that_is_shown_to_others(
    app: Envelope, asking: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that forgets the client in one query."""
    one, other = await populate(app, asking, "one"), await populate(app, asking, "other")
    honest = SqlTransaction.experiment

    async def forgetful(self: SqlTransaction, client: str, reference: str) -> Any:
        found = await honest(self, client, reference)
        return found if found or self._writing else await honest(self, "one", reference)

    monkeypatch.setattr(SqlTransaction, "experiment", forgetful)

    assert any("/experiments/{experiment_id}" in leak for leak in await leaks(asking, one, other, Counter()))


async def test_the_table_finds_a_key_that_others_may_end(
    app: Envelope, asking: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, of keys."""
    one, other = await populate(app, asking, "one"), await populate(app, asking, "other")

    async def forgetful(self: SqlAccounts, client: str, key_id: str) -> Any:
        row = (await self._connection.execute(select(api_keys).where(api_keys.c.id == key_id))).one_or_none()
        return row and _key_of(row)

    monkeypatch.setattr(SqlAccounts, "key", forgetful)

    assert any("/api-keys/{key_id}" in leak for leak in await leaks(asking, one, other, Counter()))


async def test_every_scope_opens_its_own_operations_only(app: Envelope, asking: httpx.AsyncClient) -> None:
    """With a key of one scope every operation answers 403, but those that need that scope; the refusal names what is missing."""
    one = await populate(app, asking, "one")
    opened: dict[str, set[str]] = {}
    for scope in ("assign", "events:write", "results:read", "experiments:write"):
        for method, path in OPERATIONS:
            answer = await ask(asking, method, path, nobodys(one.ids), one.credentials[f"only {scope}"])
            if answer.status != 403:
                opened.setdefault(scope, set()).add(f"{method} {path}")
            else:
                assert "scope" in answer.text or "people" in answer.text, (method, path, answer.text)

    assert {path.split()[1] for path in opened["assign"]} == {
        "/experiments/{experiment_id}/assignment/{user_id}",
        "/experiments/{experiment_id}/assignments",
        "/assignments",
        "/sdk/config",
        "/exposures",
        "/identities",
        "/ofrep/v1/evaluate/flags",
        "/ofrep/v1/evaluate/flags/{flag_key}",
    }
    assert opened["events:write"] == {"post /events", "post /events/batch", "post /exposures", "post /identities"}
    assert all(path.startswith(("get ", "post /planner")) for path in opened["results:read"])
    assert opened["experiments:write"] - opened["results:read"] >= {
        "post /experiments",
        "patch /experiments/{experiment_id}",
        "delete /metric-definitions/{key}",
        "post /experiments/{experiment_id}/start",
    }
    assert not any(
        path.split()[1].startswith(("/users", "/api-keys", "/audit", "/metrics")) and "/me" not in path
        for paths in opened.values()
        for path in paths
        if not path.endswith(("/metric-definitions", "/metric-definitions/{key}"))
    )


async def test_what_is_foreign_takes_as_long_as_what_nobody_has(app: Envelope, asking: httpx.AsyncClient) -> None:
    """The median times of the two answers differ by a millisecond at most, at best of three: a noisy machine may disturb one
    run, a difference shows in each."""
    one, other = await populate(app, asking, "one"), await populate(app, asking, "other")
    differences: list[float] = []
    while len(differences) < 3 and min(differences, default=1) > MILLISECOND:
        differences.append(await difference(asking, one, other))

    assert min(differences) <= MILLISECOND


async def difference(asking: httpx.AsyncClient, one: Client, other: Client) -> float:
    """By how many seconds the median times differ in which one hears that there is no such experiment."""
    took: dict[str, list[float]] = {"foreign": [], "nobody's": []}
    for _ in range(200):
        for thing, reference in (("foreign", one.ids["experiment_id"]), ("nobody's", str(uuid.uuid4()))):
            began = time.perf_counter()
            response = await asking.get(f"/experiments/{reference}", headers=bearer(other.credentials["key"]))
            took[thing].append(time.perf_counter() - began)
            assert response.status_code == 404

    medians = {thing: statistics.median(times) for thing, times in took.items()}
    say(str({thing: f"{median * 1000:.2f} ms" for thing, median in medians.items()}))
    return abs(medians["foreign"] - medians["nobody's"])
