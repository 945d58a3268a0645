"""A visitor who signs in is one user: what was given before is kept, and what is bought after counts."""

import re
from typing import Any

import httpx
import pytest
from tests.servers import OTHER_TOKEN

from upshot.experiments import Experiment
from upshot.http.app import create_app
from upshot.operations import experiments
from upshot.settings import Settings

OTHER = {"Authorization": f"Bearer {OTHER_TOKEN}"}
VARIANTS = [{"name": "a"}, {"name": "b"}]


async def create(api: httpx.AsyncClient, key: str = "shop", **fields: Any) -> dict[str, Any]:
    """A running experiment."""
    body = {"name": key, "key": key, "primary_metric": "purchase", "variants": VARIANTS} | fields
    return dict((await api.post("/experiments", json=body)).json())


async def variant_of(api: httpx.AsyncClient, own: str, key: str = "shop") -> str:
    """What an id gets when it is asked for by itself; the answer is about that id."""
    answer = (await api.get(f"/experiments/{key}/assignment/{own}")).json()
    assert answer["user_id"] == own
    return str(answer["variant"]["name"])


async def link(api: httpx.AsyncClient, anonymous_id: str, user_id: str, **sent: Any) -> dict[str, Any]:
    """Link two ids; the answer with its status."""
    answer = await api.post("/identities", json={"anonymous_id": anonymous_id, "user_id": user_id}, **sent)
    return {"status": answer.status_code, **answer.json()}


async def result(api: httpx.AsyncClient, key: str = "shop") -> dict[str, Any]:
    """The result."""
    return dict((await api.get(f"/experiments/{key}/results?format=full")).json())


async def ids_by_variant(api: httpx.AsyncClient, key: str = "shop") -> dict[str, list[str]]:
    """Ids that nobody was asked about yet, by the variant that the hash gives them."""
    app: Any = api._transport.app  # type: ignore[attr-defined]
    experiment: Experiment = await experiments.read(app.application.state.stores, "first", key)
    found: dict[str, list[str]] = {}
    for number in range(200):
        decision = experiment.decide(f"id-{number}", {})
        assert decision.variant is not None
        found.setdefault(decision.variant.name, []).append(f"id-{number}")
    return found


async def test_a_visitor_who_signs_in_and_buys_is_one_user(api: httpx.AsyncClient) -> None:
    """The first variant stays, under both ids and signed out again; the result has one user with one purchase."""
    await create(api)
    ids = await ids_by_variant(api)
    visitor, user = ids["a"][0], ids["b"][0]
    assert await variant_of(api, visitor) == "a"

    assert await link(api, visitor, user) == {"status": 201, "linked": 1, "known": 0, "conflicts": 0, "rejected": []}

    assert await variant_of(api, user) == "a"
    assert await variant_of(api, visitor) == "a"
    await api.post("/events", json={"user_id": user, "type": "purchase", "properties": {"price": 10}})
    await api.post("/events", json={"user_id": visitor, "type": "view"})
    found = await result(api)
    assert (found["summary"]["total_users"], found["summary"]["total_events"]) == (1, 1)
    by_name = {variant["name"]: variant for variant in found["variants"]}
    assert by_name["a"]["metrics"]["purchase"]["users_with_events"] == 1
    assert (found["health"]["identity_conflicts"], found["health"]["withdrawn"], found["health"]["crossovers"]) == (
        0,
        {},
        0,
    )
    assert await link(api, visitor, user) == {"status": 200, "linked": 0, "known": 1, "conflicts": 0, "rejected": []}


async def test_what_was_done_before_the_sign_in_counts_from_the_first_exposure(api: httpx.AsyncClient) -> None:
    """Also when the user was exposed only later, on another device, to the same variant."""
    await create(api)
    ids = await ids_by_variant(api)
    visitor, user = ids["a"][:2]
    await variant_of(api, visitor)
    await api.post("/events", json={"user_id": user, "type": "purchase"})
    await variant_of(api, user)
    assert (await result(api))["summary"]["total_users"] == 2

    assert (await link(api, visitor, user))["conflicts"] == 0

    found = await result(api)
    assert (found["summary"]["total_users"], found["summary"]["total_events"]) == (1, 1)


async def test_who_saw_two_variants_is_left_out_and_keeps_the_users_own(api: httpx.AsyncClient) -> None:
    """Counted as a conflict; the anonymous id gets what the user has from now on."""
    await create(api)
    await create(api, key="other")
    ids = await ids_by_variant(api)
    visitor, user, third = ids["a"][0], ids["b"][0], ids["b"][1]
    for own in (visitor, user, third):
        await variant_of(api, own)
        await api.post("/events", json={"user_id": own, "type": "purchase"})

    assert await link(api, visitor, user) == {"status": 201, "linked": 1, "known": 0, "conflicts": 1, "rejected": []}

    assert [await variant_of(api, own) for own in (visitor, user)] == ["b", "b"]
    found = await result(api)
    health = found["health"]
    assert (found["summary"]["total_users"], found["summary"]["total_events"]) == (1, 1)
    assert (health["identity_conflicts"], health["withdrawn"], health["crossovers"]) == (1, {"identity_conflict": 1}, 1)
    assert "identity_conflicts" in {warning["code"] for warning in health["warnings"]}
    rows = (await api.get("/experiments/shop/results/export?format=ndjson")).text.splitlines()
    assert len(rows) == 1
    assert third in rows[0]


async def test_an_id_that_was_linked_first_is_assigned_as_the_user(api: httpx.AsyncClient) -> None:
    """One by one, ahead of time and everywhere; whichever id is asked for first, there is one user."""
    await link(api, "visitor", "user")
    await create(api)
    await create(api, key="paused", status="draft")

    many = (await api.post("/experiments/shop/assignments", json={"users": ["visitor", "somebody", "user"]})).json()
    everywhere = (await api.post("/assignments", json={"user_id": "visitor"})).json()

    names = {part["user_id"]: part["variant"]["name"] for part in many["assignments"]}
    assert list(names) == ["visitor", "somebody", "user"]
    assert names["visitor"] == names["user"] == await variant_of(api, "visitor")
    assert [(p["user_id"], p["variant"]["name"]) for p in everywhere["assignments"]] == [("visitor", names["user"])]
    assert (await result(api))["summary"]["total_users"] == 1
    await api.post("/experiments/shop/complete")
    assert await variant_of(api, "visitor") == names["user"]
    assert (await api.get("/experiments/paused/assignment/visitor")).json()["reason"] == "not_running"


async def test_many_are_judged_one_by_one(api: httpx.AsyncClient) -> None:
    """Good ones are linked, each bad one is answered with its index, its field and a code; up to a thousand at once."""
    sent = [
        {"anonymous_id": "a", "user_id": "u"}, {"anonymous_id": "a", "user_id": "v"}, {"anonymous_id": "u", "user_id": "w"},
        {"anonymous_id": "b", "user_id": "a"}, {"anonymous_id": "b", "user_id": "b"}, {"anonymous_id": "null", "user_id": "u"},
        {"anonymous_id": "c", "user_id": " u"}, {"anonymous_id": "d"}, {"anonymous_id": 1, "user_id": "u"}, "e",
        {"anonymous_id": "f", "user_id": "u", "more": 1}, {"anonymous_id": "g" * 201, "user_id": "u"},
        {"anonymous_id": "b", "user_id": "u"},
    ]  # fmt: skip

    answer = await api.post("/identities", json={"identities": sent})

    assert answer.status_code == 201
    assert {name: answer.json()[name] for name in ("linked", "known", "conflicts")} == {
        "linked": 2, "known": 0, "conflicts": 0,
    }  # fmt: skip
    assert [(part["index"], part["pointer"], part["code"]) for part in answer.json()["rejected"]] == [
        (1, "/anonymous_id", "linked_elsewhere"), (2, "/anonymous_id", "is_linked"), (3, "/user_id", "is_linked"),
        (4, "/anonymous_id", "same_id"), (5, "/anonymous_id", "placeholder"), (6, "/user_id", "outer_white_space"),
        (7, "/user_id", "missing"), (8, "/anonymous_id", "string_type"), (9, "", "model_type"), (10, "/more", "extra_forbidden"),
        (11, "/anonymous_id", "string_too_long"),
    ]  # fmt: skip
    many = [{"anonymous_id": f"visitor-{n:040}", "user_id": f"user-{n:040}"} for n in range(1_000)]
    assert (await api.post("/identities", json={"identities": many})).json()["linked"] == 1_000
    assert (await api.post("/identities", json={"identities": [*many, many[0]]})).status_code == 422


@pytest.mark.parametrize(
    ("sent", "pointer", "code"),
    [
        ({"anonymous_id": "x", "user_id": "x"}, "/anonymous_id", "same_id"),
        ({"anonymous_id": "visitor", "user_id": "other"}, "/anonymous_id", "linked_elsewhere"),
        ({"anonymous_id": "x", "user_id": "visitor"}, "/user_id", "is_linked"),
        ({"anonymous_id": "user", "user_id": "x"}, "/anonymous_id", "is_linked"),
        ({"anonymous_id": "x", "user_id": "guest"}, "/user_id", "placeholder"),
        ({"identities": [{"anonymous_id": "x", "user_id": ""}]}, "/identities/0/user_id", "string_too_short"),
        ({"identities": []}, "/identities", "too_short"),
        ({"identities": [], "user_id": "x"}, "/user_id", "extra_forbidden"),
        ([], "", "model_type"),
        ({}, "/anonymous_id", "missing"),
    ],
)
async def test_a_request_of_which_nothing_can_be_taken_is_refused(
    api: httpx.AsyncClient, sent: Any, pointer: str, code: str
) -> None:
    """As a problem that names the place of what was sent."""
    await link(api, "visitor", "user")

    answer = await api.post("/identities", json=sent)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (pointer, code) in [(part["pointer"], part["code"]) for part in answer.json()["errors"]]


async def test_links_of_one_client_are_nothing_to_another(api: httpx.AsyncClient) -> None:
    """Equal ids of two clients have nothing in common, and what is linked elsewhere cannot be told."""
    await link(api, "visitor", "user")
    for headers in ({}, OTHER):
        await api.post("/experiments", json={"name": "shop", "key": "shop", "variants": VARIANTS}, headers=headers)
    await api.get("/experiments/shop/assignment/visitor", headers=OTHER)
    await api.get("/experiments/shop/assignment/user", headers=OTHER)

    theirs = (await api.get("/experiments/shop/results", headers=OTHER)).json()
    answer = await link(api, "user", "visitor", headers=OTHER)

    assert theirs["summary"]["total_users"] == 2
    assert (answer["status"], answer["linked"]) == (201, 1)
    assert await variant_of(api, "user") == await variant_of(api, "visitor")


async def test_links_are_charged_one_by_one(data_dir: Any) -> None:
    """As assignments are, by their number."""
    app = create_app(Settings(data_dir=data_dir, limit_assignments="1/h burst 5"), {"t" * 32: "first"})
    headers = {"Authorization": f"Bearer {'t' * 32}"}
    sent = [{"anonymous_id": f"a{n}", "user_id": "u"} for n in range(4)]
    transport = httpx.ASGITransport(app)
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://upshot", headers=headers) as client,
    ):
        first = await client.post("/identities", json={"identities": sent})
        second = await client.post("/identities", json={"identities": sent})

    assert (first.status_code, second.status_code) == (201, 429)
    assert re.search(r"r=1\b", first.headers["ratelimit"])
