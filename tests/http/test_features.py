"""Layers, holdouts, overrides, winners and flags over HTTP: what is taken, what is refused and where, what users get."""

from collections import Counter
from typing import Any

import httpx
import pytest
from tests.http.world import ARMS, experiment, made, same_ids

USERS = [f"user-{number}" for number in range(120)]


async def got(api: httpx.AsyncClient, key: str, user: str) -> tuple[str | None, str]:
    """(variant, reason) of a user."""
    found = (await api.get(f"/experiments/{key}/assignment/{user}")).json()
    return found["variant"] and found["variant"]["name"], found["reason"]


async def refused(api: httpx.AsyncClient, path: str, **fields: Any) -> tuple[int, set[tuple[str, str]]]:
    """The status and the faults of a POST that is refused."""
    response = await api.post(path, json=fields)
    return response.status_code, {(fault["pointer"], fault["code"]) for fault in response.json().get("errors", ())}


async def test_experiments_in_a_layer_share_no_user(api: httpx.AsyncClient) -> None:
    """A key alone takes all that a layer has; its slices come back when an experiment is completed."""
    await made(api, "/layers", key="checkout", name="Checkout")
    first = await experiment(api, "first", layer={"layer": "checkout", "percentage": 40})
    second = await experiment(api, "second", layers=[{"layer": "checkout", "percentage": 60}])

    inside = [{user for user in USERS if (await got(api, key, user))[0]} for key in ("first", "second")]
    layer = (await api.get("/layers")).json()["layers"][0]
    full = await api.post("/experiments", json={"name": "third", "variants": ARMS, "layer": "checkout"})
    await api.post("/experiments/first/complete")
    third = await experiment(api, "third", layer={"layer": "checkout", "percentage": 40})

    assert first["layers"] == [{"layer": "checkout", "percentage": 40, "ranges": [[0, 400_000]]}]
    assert second["layers"][0]["ranges"] == [[400_000, 1_000_000]]
    assert inside[0] | inside[1] == set(USERS)
    assert not inside[0] & inside[1]
    assert (layer["key"], layer["free_percentage"]) == ("checkout", 0)
    assert Counter(each["key"] for each in layer["experiments"]) == {"first": 1, "second": 1}
    assert full.status_code == 409
    assert "only 0 % is free" in full.json()["detail"]
    assert third["layers"][0]["ranges"] == [[0, 400_000]]


async def test_a_draft_may_change_its_layers_and_a_running_experiment_may_not(api: httpx.AsyncClient) -> None:
    """What it gives up is free again, what it has is free to itself."""
    await made(api, "/layers", key="one")
    await made(api, "/layers", key="two")
    await experiment(api, "draft", status="draft", layer={"layer": "one", "percentage": 70})

    grown = await api.patch("/experiments/draft", json={"layers": [{"layer": "one", "percentage": 80}, "two"]})
    left = await api.patch("/experiments/draft", json={"layers": []})
    await api.post("/experiments/draft/start")
    late = await api.patch("/experiments/draft", json={"layers": ["one"]})

    assert [each["percentage"] for each in grown.json()["layers"]] == [80, 100]
    assert left.json()["layers"] == []
    assert late.status_code == 409
    assert [each["free_percentage"] for each in (await api.get("/layers")).json()["layers"]] == [100, 100]


async def test_a_layer_is_removed_when_nobody_is_in_it(api: httpx.AsyncClient) -> None:
    """Not before."""
    await made(api, "/layers", key="checkout")
    await experiment(api, "first", layer={"layer": "checkout", "percentage": 40})

    assert (await api.delete("/layers/checkout")).status_code == 409
    await api.post("/experiments/first/complete")
    assert (await api.delete("/layers/checkout")).status_code == 204
    assert (await api.delete("/layers/checkout")).status_code == 404


async def test_what_is_no_layer_holdout_or_share_is_refused(api: httpx.AsyncClient) -> None:
    """With the place of each fault, and nothing is stored."""
    arms = {"name": "x", "variants": ARMS}

    assert await refused(api, "/layers", key="Über") == (422, {("/key", "string_pattern_mismatch")})
    assert await refused(api, "/experiments", **arms, layer="none") == (422, {("/layers/0/layer", "unknown_layer")})
    assert (await refused(api, "/experiments", **arms, layer=7))[0] == 422
    assert (await refused(api, "/experiments", **arms, layer={"layer": "a", "percentage": 0}))[0] == 422
    assert (await refused(api, "/holdouts", key="h", percentage=101))[0] == 422
    assert await refused(api, "/holdouts", key="h", percentage=0.00001) == (422, {("/percentage", "bad_percentage")})
    assert (await refused(api, "/experiments/none/complete", winner="blue"))[0] == 404
    assert (await api.get("/layers")).json() == {"layers": []}
    assert (await api.get("/holdouts")).json() == {"holdouts": []}
    assert (await api.get("/experiments")).json()["experiments"] == []


async def test_a_holdout_is_attached_to_what_starts_and_taken_off_when_it_ends(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By tag, or to everything; experiments that had started before are left alone."""
    same_ids(monkeypatch)
    await experiment(api, "before")
    await made(api, "/holdouts", key="everything", percentage=50)
    await made(api, "/holdouts", key="web", percentage=1, tags=["web"])
    draft = await experiment(api, "draft", status="draft", tags=["web"])
    started = (await api.post("/experiments/draft/start")).json()
    running = await experiment(api, "running")

    held = [user for user in USERS if (await got(api, "running", user)) == (None, "held_out")]
    ended = await api.post("/holdouts/everything/end")
    again = await api.post("/holdouts/everything/end")
    entered = [await got(api, "running", user) for user in held]

    assert (await api.get("/experiments/before")).json()["holdouts"] == []
    assert (draft["holdouts"], started["holdouts"], running["holdouts"]) == ([], ["everything", "web"], ["everything"])
    assert abs(len(held) - 60) < 4 * 30**0.5
    assert ended.json()["ended_at"]
    assert (again.status_code, (await api.post("/holdouts/none/end")).status_code) == (409, 404)
    assert {reason for _, reason in entered} == {"assigned"}
    assert (await api.get("/experiments/draft")).json()["holdouts"] == ["web"]


async def test_an_override_shows_a_variant_and_stores_nothing(api: httpx.AsyncClient) -> None:
    """In a draft, too; afterwards the user is like any other."""
    overrides = [
        {"variant": "blue", "users": ["tester"]},
        {"variant": "control", "targeting": {"attribute": "qa", "operator": "eq", "value": "yes"}},
    ]
    await experiment(api, "tried", status="draft", overrides=overrides, primary_metric="buy")

    in_draft = await got(api, "tried", "tester")
    await api.post("/experiments/tried/start")
    path = "/experiments/tried/assignment/"
    answers = [(await api.get(path + target)).json() for target in ("tester", "other?qa=yes", "other")]
    together = (await api.post("/assignments", json={"user_id": "tester"})).json()["assignments"]
    many = (await api.post("/experiments/tried/assignments", json={"users": ["tester", "third"]})).json()["assignments"]
    results = (await api.get("/experiments/tried/results")).json()

    assert in_draft == ("blue", "overridden")
    assert [(each["variant"]["name"], each["reason"], each["persisted"]) for each in answers[:2]] == [
        ("blue", "overridden", False),
        ("control", "overridden", False),
    ]
    assert answers[2]["reason"] == "assigned"
    assert [each["reason"] for each in together] == ["overridden"]
    assert [each["reason"] for each in many] == ["overridden", "assigned"]
    assert results["summary"]["total_users"] == 1  # "other", by a reading without an override
    assert (await api.patch("/experiments/tried", json={"overrides": []})).json()["overrides"] == []
    assert (await got(api, "tried", "tester"))[1] == "assigned"


async def test_who_had_entered_before_an_override_counts_no_longer(api: httpx.AsyncClient) -> None:
    """Those whom it names at once, those whom its rule meets when they come; others stay."""
    await experiment(api, "tried", primary_metric="buy")
    for user in ("named", "met", "other"):
        await got(api, "tried", user)

    async def counted() -> tuple[int, dict[str, int]]:
        found = (await api.get("/experiments/tried/results?format=full")).json()
        return found["summary"]["total_users"], found["health"]["withdrawn"]

    before = await counted()
    rule = {"attribute": "qa", "operator": "eq", "value": "yes"}
    overrides = [{"variant": "blue", "users": ["named", "stranger"]}, {"variant": "blue", "targeting": rule}]
    await api.patch("/experiments/tried", json={"overrides": overrides})
    named = await counted()
    for _ in range(2):
        await got(api, "tried", "met?qa=yes")
        await got(api, "tried", "stranger?qa=yes")
    met = await counted()

    assert (before, named, met) == ((3, {}), (2, {"override": 1}), (1, {"override": 2}))


async def test_who_was_only_given_a_variant_ahead_of_time_has_not_entered(api: httpx.AsyncClient) -> None:
    """An override that names them leaves nobody out: once it is gone, they enter as others do."""
    await experiment(api, "tried", primary_metric="buy")
    await api.post("/experiments/tried/assignments", json={"users": ["named"]})

    await api.patch("/experiments/tried", json={"overrides": [{"variant": "blue", "users": ["named"]}]})
    await got(api, "tried", "named")
    await api.patch("/experiments/tried", json={"overrides": []})
    entered = await got(api, "tried", "named")
    results = (await api.get("/experiments/tried/results?format=full")).json()

    assert entered[1] == "assigned"
    assert (results["summary"]["total_users"], results["health"]["withdrawn"]) == (1, {})


async def test_a_flag_comes_back_as_it_was_made_and_is_listed_by_key(api: httpx.AsyncClient) -> None:
    """201 with its place; pages of flags."""
    driver = await experiment(api, "driver")
    wanted = {
        "key": "banner", "description": "why", "type": "object", "default": {"text": "old"}, "enabled": True,
        "experiment": {"key": "driver", "values": {"blue": {"text": "new"}}},
        "rollout": {"value": {}, "steps": [{"percentage": 5, "at": None}, {"percentage": 100, "at": "2030-01-01T00:00:00Z"}],
                    "targeting": {"countries": ["US"]}},
    }  # fmt: skip
    response = await api.post("/flags", json=wanted)
    flag = response.json()
    for key in ("a", "z"):
        await made(api, "/flags", key=key, type="boolean", default=False)

    first = (await api.get("/flags?limit=2")).json()
    rest = (await api.get(f"/flags?limit=2&cursor={first['next_cursor']}")).json()

    assert response.headers["location"] == "/flags/banner"
    assert (await api.get("/flags/banner")).json() == flag
    own = {"experiment": {"id": driver["id"], "values": {"blue": {"text": "new"}}}}
    assert {name: flag[name] for name in wanted} == wanted | own
    assert [each["key"] for each in (*first["flags"], *rest["flags"])] == ["a", "banner", "z"]
    assert rest["next_cursor"] is None


async def test_a_flag_is_changed_by_whoever_saw_its_version(api: httpx.AsyncClient) -> None:
    """The kill switch, another default, no experiment; an old version is refused."""
    await experiment(api, "driver")
    await made(
        api, "/flags", key="banner", type="integer", default=1, experiment={"key": "driver", "values": {"blue": 2}}
    )

    off = await api.patch("/flags/banner", json={"enabled": False, "version": 1})
    old = await api.patch("/flags/banner", json={"default": 3, "version": 1})
    alone = await api.patch("/flags/banner", json={"experiment": None, "default": 5})

    assert (off.json()["enabled"], off.json()["version"]) == (False, 2)
    assert old.status_code == 409
    assert (alone.json()["experiment"], alone.json()["default"], alone.json()["version"]) == (None, 5, 3)
    assert (await api.delete("/flags/banner")).status_code == 204
    assert (await api.get("/flags/banner")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"type": "boolean", "default": 1}, "/default", "bad_type"),
        ({"type": "number", "default": "1"}, "/default", "bad_type"),
        ({"experiment": {"key": "none", "values": {"blue": ""}}}, "/experiment/key", "unknown_experiment"),
        ({"experiment": {"key": "driver", "values": {"red": ""}}}, "/experiment/values", "unknown_variant"),
        ({"experiment": {"key": "driver", "values": {"blue": 1}}}, "/experiment/values", "bad_type"),
        ({"rollout": {"value": 1}}, "/rollout/value", "bad_type"),
        ({"rollout": {"value": "", "targeting": {"x": 1}}}, "/rollout/targeting/x", "unknown_key"),
        ({"rollout": {"value": "", "steps": [{"percentage": 1}, {"percentage": 2}]}}, "/rollout/steps", "not_ascending"),
        ({"rollout": {"value": "", "steps": [{"percentage": 1, "at": "now"}]}}, "/rollout/steps/0/at", "bad_timestamp"),
    ],
)  # fmt: skip
async def test_a_flag_that_breaks_a_rule_is_refused(
    api: httpx.AsyncClient, fields: dict[str, Any], pointer: str, code: str
) -> None:
    """When it is made; nothing is stored."""
    await experiment(api, "driver")

    assert await refused(api, "/flags", **{"key": "banner", "type": "string", "default": ""} | fields) == (
        422,
        {(pointer, code)},
    )
    assert (await api.get("/flags")).json()["flags"] == []


async def test_keys_are_taken_once(api: httpx.AsyncClient) -> None:
    """409 for the second flag, layer or holdout of a key."""
    for path, fields in (
        ("/flags", {"type": "boolean", "default": True}),
        ("/layers", {}),
        ("/holdouts", {"percentage": 1}),
    ):
        await made(api, path, key="same", **fields)
        assert (await refused(api, path, key="same", **fields))[0] == 409


async def test_everything_that_is_made_or_changed_is_in_the_audit_log(api: httpx.AsyncClient) -> None:
    """With what it was and became."""
    await made(api, "/layers", key="checkout")
    await api.delete("/layers/checkout")
    await made(api, "/holdouts", key="h", percentage=1)
    await api.post("/holdouts/h/end")
    await made(api, "/flags", key="f", type="boolean", default=True)
    await api.patch("/flags/f", json={"enabled": False})
    await api.delete("/flags/f")

    entries = (await api.get("/audit")).json()["entries"]

    assert [entry["action"] for entry in reversed(entries)] == [
        "layer.created", "layer.deleted", "holdout.created", "holdout.ended", "flag.created", "flag.changed", "flag.deleted",
    ]  # fmt: skip
    assert (entries[1]["before"]["enabled"], entries[1]["after"]["enabled"]) == (True, False)


async def test_a_draft_that_drives_a_flag_is_not_deleted(api: httpx.AsyncClient) -> None:
    """409 names the flags; without them it can be."""
    await experiment(api, "driver", status="draft")
    driven = {"key": "driver", "values": {"blue": True}}
    for key in ("banner", "price"):
        await made(api, "/flags", key=key, type="boolean", default=False, experiment=driven)

    refusal = await api.delete("/experiments/driver")
    await api.patch("/flags/banner", json={"experiment": None})
    of_one = await api.delete("/experiments/driver")
    await api.delete("/flags/price")

    assert (refusal.status_code, of_one.status_code) == (409, 409)
    assert refusal.json()["detail"].endswith("first: banner, price.")
    assert of_one.json()["detail"].endswith("first: price.")
    assert (await api.delete("/experiments/driver")).status_code == 204
