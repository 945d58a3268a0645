"""GrowthBook's door, asked with the published SDK; and payloads of GrowthBook's that are taken over."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from growthbook import GrowthBook
from scipy.stats import chisquare
from tests.http.world import ARMS, made, same_ids

from upshot import growthbook, targeting

ORIGIN = "https://shop.example"
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "targeting.json").read_text(encoding="utf-8"))
PAYLOAD = {
    "checkout": {
        "defaultValue": "long",
        "rules": [
            {"condition": {"beta": True}, "force": "short"},
            {"key": "one-page", "name": "One page", "variations": ["long", "short"], "weights": [0.3, 0.7], "coverage": 0.5,
             "condition": {"$or": [{"country": {"$in": ["US", "CA"]}}, {"version": {"$vgte": "2.0.0"}}], "plan": {"$ne": "free"}},
             "meta": [{"key": "control"}, {"key": "one-page"}], "hashVersion": 2},
            {"force": "other"},
        ],
    },
    "price": {"defaultValue": 9.5, "rules": [{"variations": [9.5, 12], "namespace": ["n", 0, 0.5]}]},
    "list": {"defaultValue": [1]},
    "Off Switch": {"defaultValue": False},
    "odd": {"defaultValue": True, "rules": [{"force": False, "condition": {"a": {"$elemMatch": {"$eq": 1}}}}]},
}  # fmt: skip


def is_comparable(case: dict[str, Any]) -> bool:
    """Whether GrowthBook's SDK means the same: versions, patterns and orders of texts are its own, it compares lists and booleans
    otherwise, and a text that spells a number or a boolean equals that for us alone."""
    values = case.get("context", {}).values()
    own = any(word in json.dumps(case["rule"]) for word in ("semver", "version", "lt", "gt", "exists", "regex"))
    spelled = any(
        isinstance(value, str) and (targeting.number(value) is not None or value.lower() in {"true", "false"})
        for value in values
    )
    plain = all(isinstance(value, str) or type(value) is int for value in values)
    return "error" not in case and plain and not own and not spelled


async def key_of(api: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a browser's key."""
    wanted = {"name": "page", "scopes": ["assign"], "origins": [ORIGIN]} | fields
    return str((await made(api, "/api-keys", **wanted))["id"])


async def features(api: httpx.AsyncClient) -> dict[str, Any]:
    """The features as anybody can read them who knows the id of the key."""
    keys = (await api.get("/api-keys")).json()["api_keys"]
    key = keys[0]["id"] if keys else await key_of(api)
    answer = await api.get(f"/api/features/{key}", headers={"Authorization": ""})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["features"])


def evaluated(payload: dict[str, Any], flag: str, user: str, **attributes: Any) -> tuple[Any, str, str | None]:
    """(value, source, variation) by the published SDK."""
    shown: list[str] = []
    sdk = GrowthBook(
        attributes={"id": user} | attributes,
        features=payload,
        on_experiment_viewed=lambda **seen: shown.append(seen["result"].key),
    )
    found = sdk.eval_feature(flag)
    return found.value, found.source, shown[0] if shown else None


async def test_the_published_sdk_decides_by_our_payload(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares, targeting, overrides by context, traffic, the kill switch, the winner, a rollout."""
    same_ids(monkeypatch)
    await made(
        api, "/experiments", name="driver", key="driver", targeting={"countries": ["US"]}, traffic_percentage=80,
        variants=[{"name": "control", "weight": 1}, {"name": "blue", "weight": 3}],
        overrides=[{"variant": "blue", "targeting": {"attribute": "qa", "operator": "eq", "value": True}},
                   {"variant": "control", "users": ["tester"]}],
    )  # fmt: skip
    await made(
        api,
        "/flags",
        key="f",
        type="string",
        default="grey",
        experiment={"key": "driver", "values": {"control": "red", "blue": "#00f"}},
    )
    await made(api, "/flags", key="r", type="boolean", default=False, rollout={"value": True, "percentage": 25})
    running = await features(api)

    found = [evaluated(running, "f", f"user-{number}", country="us") for number in range(2_000)]
    counts = [sum(each[2] == name for each in found) for name in ("control", "blue", None)]
    assert chisquare(counts, [400, 1_200, 400]).pvalue > 0.001
    assert {each[0] for each in found} == {"red", "#00f", "grey"}
    assert evaluated(running, "f", "user-1", country="DE")[:2] == ("grey", "defaultValue")
    assert evaluated(running, "f", "user-1", qa=True)[:2] == ("#00f", "force")
    assert abs(sum(evaluated(running, "r", f"user-{number}")[0] for number in range(2_000)) - 500) < 80
    assert "tester" not in json.dumps(running)

    await api.post("/experiments/driver/pause")
    assert evaluated(await features(api), "f", "user-1", country="US")[:2] == ("grey", "defaultValue")
    await api.post("/experiments/driver/complete", json={"winner": "blue"})
    assert evaluated(await features(api), "f", "user-1", country="DE")[:2] == ("#00f", "force")
    await api.patch("/flags/f", json={"enabled": False})
    assert evaluated(await features(api), "f", "user-1")[:2] == ("grey", "defaultValue")


async def test_layers_and_holdouts_keep_users_apart_here_too(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No user is in two experiments of a layer, and the same users are left out of both; without filters they would meet."""
    same_ids(monkeypatch)
    await made(api, "/layers", key="l")
    await made(api, "/holdouts", key="h", percentage=20)
    for key, share in (("one", 50), ("two", 50)):
        await made(api, "/experiments", name=key, key=key, variants=ARMS, layer={"layer": "l", "percentage": share})
        await made(
            api, "/flags", key=key, type="boolean", default=False, experiment={"key": key, "values": {"blue": True}}
        )
    payload = await features(api)
    careless = json.loads(json.dumps(payload))
    for feature in careless.values():
        feature["rules"][0].pop("filters")

    def inside(of: dict[str, Any]) -> list[set[int]]:
        return [{n for n in range(800) if evaluated(of, key, f"user-{n}")[2]} for key in ("one", "two")]

    one, two = inside(payload)
    assert not one & two
    assert abs(len(one | two) - 640) < 4 * 800**0.5
    assert set.intersection(*inside(careless))


@pytest.mark.parametrize("case", [case for case in VECTORS["cases"] if is_comparable(case)], ids=str)
def test_conditions_mean_what_rules_mean(case: dict[str, Any]) -> None:
    """Wherever both know what is asked."""
    payload = {
        "f": {"defaultValue": False, "rules": [{"force": True, "condition": growthbook.condition_of(case["rule"])}]}
    }

    assert evaluated(payload, "f", "u", **case["context"])[0] == case["matches"]


async def test_the_payload_is_for_pages_of_the_keys_origins(api: httpx.AsyncClient) -> None:
    """And for servers, which send no origin; ids of other keys open nothing, a secret key neither."""
    key = await key_of(api)
    secret = await made(api, "/api-keys", name="secret", scopes=["assign"])
    writing = await key_of(api, name="writing", scopes=["events:write"])
    stranger = {"Authorization": ""}

    page = await api.get(f"/api/features/{key}", headers=stranger | {"Origin": ORIGIN})
    evil = await api.get(f"/api/features/{key}", headers=stranger | {"Origin": "https://evil.example"})

    assert page.headers["access-control-allow-origin"] == ORIGIN
    assert page.headers["x-sse-support"] == "enabled"
    assert evil.status_code == 403
    for other in (secret["id"], secret["key"], writing, "none", "public%20x"):
        assert (await api.get(f"/api/features/{other}", headers=stranger)).status_code == 404
        assert (await api.get(f"/sub/{other}", headers=stranger)).status_code == 404
    by_id = {"Authorization": f"Bearer public {key}"}
    assert (await api.get("/sdk/config", headers=by_id)).status_code == 401


async def test_a_payload_is_taken_over(api: httpx.AsyncClient) -> None:
    """Flags, drafts of experiments with their rule, shares and traffic, rollouts; what cannot be is told."""
    response = await api.post("/import/growthbook", json={"features": PAYLOAD, "dateUpdated": "2026-01-01T00:00:00Z"})

    found = response.json()
    flag = (await api.get("/flags/checkout")).json()
    experiment = (await api.get(f"/experiments/{flag['experiment']['id']}")).json()
    assert found["flags"] == ["checkout", "price", "off-switch", "odd"]
    assert [(part["feature"], part["rule"]) for part in found["left"]] == [
        ("checkout", 2),
        ("price", 0),
        ("list", -1),
        ("odd", 0),
    ]
    assert found["experiments"] == [experiment["id"]]
    assert flag["experiment"]["values"] == {"control": "long", "one-page": "short"}
    assert flag["rollout"] == {
        "value": "short",
        "steps": [{"percentage": 100, "at": None}],
        "targeting": {"attribute": "beta", "operator": "eq", "value": True},
    }
    assert (experiment["status"], experiment["key"], experiment["traffic_percentage"]) == ("draft", "one-page", 50)
    assert [(arm["name"], arm["traffic_allocation"]) for arm in experiment["variants"]] == [
        ("control", 30),
        ("one-page", 70),
    ]
    rule = targeting.parse(experiment["targeting"])
    assert targeting.matches(rule, {"country": "US", "plan": "pro"})
    assert targeting.matches(rule, {"version": "2.1.0"})
    assert not targeting.matches(rule, {"country": "US", "plan": "free"})
    assert not targeting.matches(rule, {"country": "DE"})


@pytest.mark.parametrize("body", [{}, {"features": {}}, {"features": []}, {"features": {"a": 1}}])
async def test_what_is_no_payload_is_refused(api: httpx.AsyncClient, body: Any) -> None:
    """As a whole."""
    assert (await api.post("/import/growthbook", json=body)).status_code == 422


async def test_taking_over_twice_changes_nothing(api: httpx.AsyncClient) -> None:
    """Keys are taken; it says so."""
    await api.post("/import/growthbook", json={"features": PAYLOAD})
    before = (await api.get("/flags")).json()

    again = (await api.post("/import/growthbook", json={"features": PAYLOAD})).json()

    assert again["flags"] == []
    assert (await api.get("/flags")).json() == before
