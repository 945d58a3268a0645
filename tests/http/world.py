"""What is made over HTTP for tests; and two clients with one of everything each, and credentials of every kind."""

import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers import UNLIMITED

from upshot.access import Caller, Role, Scope, system
from upshot.access.passwords import Passwords
from upshot.access.sessions import Means
from upshot.clock import FixedClock, SystemClock
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.operations import Stores, keys, people, signin, webhooks
from upshot.operations.people import Wanted
from upshot.settings import Settings
from upshot.webhooks import Delivery, Occasion

WITHIN = 5.0
"""Seconds in which every process refuses what was revoked: what is promised, whatever is remembered for how long."""

PASSWORD = "four unrelated wordy things"  # noqa: S105 - of accounts that live for one test
ALL = frozenset({Scope.ADMIN})
ARMS = [{"name": "control"}, {"name": "blue"}]


@dataclass
class Client:
    """One client's things by kind of id, and its credentials by name."""

    name: str
    ids: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)


async def made(api: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """What was made by a POST."""
    response = await api.post(path, json=fields)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def experiment(api: httpx.AsyncClient, key: str, **fields: Any) -> dict[str, Any]:
    """An experiment of two equal variants that was made."""
    return await made(api, "/experiments", name=key, key=key, variants=ARMS, **fields)


def same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ids, and with them the salts of hashes, be the same in every run: what is counted of hashes then is, too."""
    chance = random.Random(7)
    monkeypatch.setattr(SystemClock, "new_id", lambda _: str(uuid.UUID(int=chance.getrandbits(128), version=4)))


def stores_of(app: Envelope) -> Stores:
    """The stores of a running application."""
    stores: Stores = app.application.state.stores
    return stores


@asynccontextmanager
async def standing_still(
    data_dir: Path, tokens: dict[str, str], *admins: str, **settings: Any
) -> AsyncIterator[Envelope]:
    """A running application whose clock stands still and that hashes passwords quickly, with admins of these names."""
    made = create_app(Settings(data_dir=data_dir, **UNLIMITED | settings), tokens)
    async with made.lifespan():
        stores = stores_of(made)
        object.__setattr__(stores, "clock", FixedClock(stores.clock.now()))
        object.__setattr__(stores, "passwords", Passwords(memory_kib=8))
        for name in admins:
            wanted = Wanted(f"{name}@example.com", name.title(), Role.ADMIN)
            await people.create(stores, system("default", "tests"), wanted, PASSWORD)
        yield made


def advance(app: Envelope, **parts: float) -> None:
    """Let time pass there."""
    clock = stores_of(app).clock
    assert isinstance(clock, FixedClock)
    clock.advance(**parts)


async def populate(app: Envelope, api: httpx.AsyncClient, name: str) -> Client:
    """A client with an experiment, a metric, two people with a session each, a key and an approval that waits."""
    stores, caller = stores_of(app), system(name, "tests")
    client = Client(name)
    admin, _ = await people.create(stores, caller, Wanted("ann@example.com", "Ann", Role.ADMIN), PASSWORD)
    viewer, _ = await people.create(stores, caller, Wanted("vic@example.com", "Vic", Role.VIEWER), PASSWORD)
    signed = await signin.with_password(stores, name, admin.email, PASSWORD, Means.TOKENS)
    watching = await signin.with_password(stores, name, viewer.email, PASSWORD, Means.TOKENS)
    whole, text = await keys.create(stores, caller, name="whole", scopes=ALL)
    client.credentials |= {"admin": signed.access, "viewer": watching.access, "key": text}
    for scope in Scope:
        _, text = await keys.create(stores, caller, name=f"only {scope}", scopes=frozenset({scope}))
        client.credentials[f"only {scope}"] = text
    client.credentials |= await _ended(stores, caller, signed.access)
    headers = {"Authorization": f"Bearer {client.credentials['key']}"}
    body = {"name": "mine", "key": "mine", "variants": [{"name": "a"}, {"name": "b"}], "status": "draft"}
    made = (await api.post("/experiments", json=body, headers=headers)).json()
    await api.post("/metric-definitions", json={"key": f"secret-of-{name}", "event_type": "order"}, headers=headers)
    await api.patch("/client", json={"approvals": ["start"]}, headers=headers)
    signed_in = {"Authorization": f"Bearer {signed.access}"}
    waiting = (await api.post(f"/experiments/{made['id']}/start", headers=signed_in)).json()
    await api.patch("/client", json={"approvals": []}, headers=headers)
    client.ids |= {
        "experiment_id": made["id"],
        "key": f"secret-of-{name}",
        "user_id": viewer.id,
        "key_id": whole.id,
        "approval_id": waiting["id"],
        "session_id": watching.session.id,
    }
    flag = {"key": f"flag-of-{name}", "type": "boolean", "default": False}
    await api.post("/flags", json=flag, headers=headers)
    await api.post("/layers", json={"key": f"layer-of-{name}"}, headers=headers)
    await api.post("/holdouts", json={"key": f"holdout-of-{name}", "percentage": 1}, headers=headers)
    client.ids |= {f"{kind}_key": f"{kind}-of-{name}" for kind in ("flag", "layer", "holdout")}
    shared = await api.post(f"/experiments/{made['id']}/shares", json={}, headers=headers)
    client.ids["share_id"] = shared.json()["id"]
    hook, _ = await webhooks.create(stores, caller, "https://hooks.example.com/", sorted(Occasion), "standard")
    now = stores.clock.now()
    told = Delivery(stores.clock.new_id(), hook.id, Occasion.STARTED, "{}", now, None, delivered_at=now)
    async with stores.control.transaction(name) as transaction:
        await transaction.hooks.add_deliveries(name, [told])
    client.ids |= {"webhook_id": hook.id, "delivery_id": told.id}
    return client


async def _ended(stores: Stores, caller: Caller, access: str) -> dict[str, str]:
    """Credentials that were good once."""
    revoked, text = await keys.create(stores, caller, name="revoked", scopes=ALL)
    await keys.revoke(stores, caller, revoked.id)
    _, short = await keys.create(stores, caller, name="expired", scopes=ALL, lifetime=timedelta(microseconds=1))
    claims = stores.keyring.read(access, stores.clock.now())
    assert claims is not None
    old = stores.keyring.issue(
        claims.client, claims.user, claims.session, "old", stores.clock.now() - timedelta(days=1)
    )
    return {"revoked key": text, "expired key": short, "expired token": old}


def bearer(secret: str | None) -> dict[str, Any]:
    """The headers of a request with that credential."""
    return {} if secret is None else {"Authorization": f"Bearer {secret}"}
