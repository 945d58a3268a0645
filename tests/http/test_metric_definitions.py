"""Metric definitions and analysis plans over HTTP: what is taken, what is refused and with which pointer, and what comes back."""

import typing
from typing import Any

import httpx
import pytest

from upshot import metrics
from upshot.http.app import create_app
from upshot.http.definitions import MetricDefinitionIn, MetricDefinitionOut, MetricDefinitionPatch
from upshot.metrics import Kind
from upshot.settings import Settings

RATIO: dict[str, Any] = {
    "key": "ctr", "kind": "ratio", "direction": "increase", "name": "Click-through", "minimum_effect": 0.02,
    "numerator": {"of": "count", "event_type": "click", "where": {"attribute": "ad", "operator": "exists", "value": True}},
    "denominator": {"of": "sum", "event_types": ["view", "scroll"], "value": "times"},
}  # fmt: skip
STORED = {"version", "created_at", "archived_at"}
PATH = "/metric-definitions"


async def define(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A definition that was made."""
    response = await api.post(PATH, json={"key": "orders", "kind": "count", "event_type": "order"} | fields)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def experiment(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """An experiment that was made."""
    response = await api.post("/experiments", json={"name": "one", "variants": [{"name": "a"}, {"name": "b"}]} | fields)
    assert response.status_code == 201, response.text
    return dict(response.json())


def content(found: dict[str, Any]) -> dict[str, Any]:
    """What a definition says, without what the store says of it."""
    return {name: value for name, value in found.items() if name not in STORED}


async def test_a_definition_comes_back_as_it_was_sent(api: httpx.AsyncClient) -> None:
    """201 with its place; fields at their default, and null, are left out."""
    response = await api.post(PATH, json=RATIO | {"winsorize": None, "kind": "ratio", "role": None})

    made = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == "/metric-definitions/ctr"
    assert made.keys() >= STORED
    assert (made["version"], made["archived_at"]) == (1, None)
    assert content(made) == metrics.describe(metrics.define(RATIO))
    assert (await api.get("/metric-definitions/ctr")).json() == made
    assert (await api.get(PATH)).json() == {"metric_definitions": [made], "next_cursor": None}


async def test_a_key_may_be_any_text_when_it_is_encoded(api: httpx.AsyncClient) -> None:
    """What is not plain in a path is percent-encoded; the Location can be followed as it is."""
    for key in ("Order Completed", "größe", "a%2Fb", "a?b#c", "ctr:new", "🚀", "..."):
        response = await api.post(PATH, json={"key": key, "event_type": "order"})

        assert response.status_code == 201, key
        assert (await api.get(response.headers["location"])).json() == response.json()
        assert response.json()["key"] == key


async def test_a_conversion_is_named_after_its_event_type(api: httpx.AsyncClient) -> None:
    """Unless it is given a key; any other kind needs one."""
    found = await api.post(PATH, json={"event_type": "order", "window": "7d"})
    refused = await api.post(PATH, json={"event_type": "order", "kind": "count"})

    assert found.json()["key"] == "order"
    assert refused.json()["errors"] == [{"pointer": "/key", "code": "missing", "message": "a metric needs a key"}]


async def test_a_change_makes_a_version_and_null_takes_a_field_away(api: httpx.AsyncClient) -> None:
    """The versions before stay readable; a version that is not the present one is 409."""
    first = await define(api, value="total", window="7d")

    second = (await api.patch(f"{PATH}/orders", json={"kind": "sum", "window": None, "version": 1})).json()
    stale = await api.patch(f"{PATH}/orders", json={"name": "x", "version": 1})

    assert content(second) == {"key": "orders", "kind": "sum", "event_type": "order", "value": "total"}
    assert second["version"] == 2
    assert stale.status_code == 409
    assert (await api.get(f"{PATH}/orders?version=1")).json() == first
    assert (await api.get(f"{PATH}/orders?version=2")).json() == second
    assert (await api.get(f"{PATH}/orders")).json() == second
    assert (await api.get(f"{PATH}/orders?version=3")).status_code == 404


async def test_a_key_cannot_be_changed(api: httpx.AsyncClient) -> None:
    """Experiments refer to it."""
    await define(api)

    response = await api.patch(f"{PATH}/orders", json={"key": "others"})

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/key"


async def test_a_key_is_defined_once(api: httpx.AsyncClient) -> None:
    """409 until it is archived; then it is free, and its versions can still be read by their numbers."""
    await define(api)
    again = await api.post(PATH, json={"key": "orders", "event_type": "order"})

    gone, twice = await api.delete(f"{PATH}/orders"), await api.delete(f"{PATH}/orders")

    assert again.status_code == 409
    assert (gone.status_code, gone.content) == (204, b"")
    assert twice.status_code == 404
    assert (await api.get(f"{PATH}/orders")).status_code == 404
    assert (await api.patch(f"{PATH}/orders", json={"kind": "sum"})).status_code == 404
    assert (await api.get(f"{PATH}/orders?version=1")).json()["archived_at"] is not None
    assert (await define(api))["version"] == 2


async def test_a_list_is_searched_and_walked_through(api: httpx.AsyncClient) -> None:
    """The last changed first; each once, whatever the size of a page."""
    for key in ("a", "b", "c", "d"):
        await define(api, key=key, description=f"about {key}")
    await api.patch(f"{PATH}/b", json={"name": "Changed"})

    for limit in (1, 2, 3, 4, 5):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await api.get(PATH, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))).json()
            found += [definition["key"] for definition in page["metric_definitions"]]
            cursor = page["next_cursor"]
        assert found == ["b", "d", "c", "a"]
    for search, keys in (("ABOUT c", ["c"]), ("changed", ["b"]), ("nothing", []), ("count", [])):
        answer = (await api.get(PATH, params={"search": search})).json()
        assert [definition["key"] for definition in answer["metric_definitions"]] == keys


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "median"}, "/kind"),
        ({"sql": "x"}, "/sql"),
        ({"level": 0.5}, ""),
        ({"window": "soon"}, "/window"),
        ({"where": {"attribute": "a", "operator": "like", "value": 1}}, "/where/operator"),
        ({"where": []}, "/where"),
        ({"winsorize": {"lower": 60, "upper": 40}}, "/winsorize"),
        ({"winsorize": {"upper": 100}}, "/winsorize/upper"),
        ({"winsorize": {"most": 9}}, "/winsorize/most"),
        ({"event_type": None}, "/event_type"),
        ({"event_types": ["a", ""]}, "/event_types/1"),
        ({"kind": "ratio", "event_type": None, "numerator": {"event_type": "a"}}, "/denominator"),
        ({"kind": "ratio", "event_type": None, "numerator": {"of": "max"}}, "/numerator/of"),
        ({"kind": "funnel", "event_type": None, "steps": [{"event_type": "a"}, {"of": "sum"}]}, "/steps/1/of"),
        ({"kind": "funnel", "event_type": None, "steps": [{"event_type": "a"}, {}]}, "/steps/1/event_type"),
        ({"kind": "quantile"}, "/level"),
        ({"kind": "threshold", "at_least": 0}, "/at_least"),
        ({"kind": "retention", "delay": "7d"}, "/window"),
        ({"complete_windows": True}, "/complete_windows"),
        ({"margin": 2}, "/margin"),
        ({"covariate": " age"}, "/covariate"),
        ({"key": "a/b"}, "/key"),
        ({"key": ".."}, "/key"),
        ({"version": 1}, "/version"),
    ],
)
async def test_a_fault_is_named_with_its_place(api: httpx.AsyncClient, body: dict[str, Any], pointer: str) -> None:
    """422 with a pointer into the body, whoever found it: the shape, or the rules of metrics."""
    response = await api.post(PATH, json={"key": "orders", "kind": "count", "event_type": "order"} | body)

    assert response.status_code == 422
    assert pointer in {error["pointer"] for error in response.json()["errors"]}


def test_the_shapes_have_the_fields_of_definitions() -> None:
    """Every field that some kind has can be sent and is shown, and there is no other."""
    known = {
        "key", "kind", "event_type", "event_types", "where", "value", "numerator", "denominator", "steps", "level", "per",
        "of", "at_least", "delay", "window", "complete_windows", "winsorize", "direction", "role", "minimum_effect",
        "margin", "covariate", "lookback", "name", "description",
    }  # fmt: skip

    assert set(MetricDefinitionIn.model_fields) == known
    assert set(MetricDefinitionPatch.model_fields) == known - {"key"} | {"version"}
    assert set(MetricDefinitionOut.model_fields) == known | STORED
    words = typing.get_args(typing.get_args(MetricDefinitionIn.model_fields["kind"].annotation)[0])
    assert set(words) == {str(kind) for kind in Kind}


def test_every_field_is_described() -> None:
    """In the OpenAPI document, in words."""
    schemas = create_app(Settings(), {}).application.openapi()["components"]["schemas"]

    for model in ("MetricDefinitionIn", "SourceShape", "QuantityShape", "WinsorizeShape", "PlanIn"):
        for name, field in schemas[model]["properties"].items():
            assert field.get("description"), (model, name)


async def test_a_plan_is_taken_and_shown(api: httpx.AsyncClient) -> None:
    """Options with what is in force; the definitions that the experiment refers to are locked at its start."""
    await define(api)
    draft = await experiment(
        api, metrics=["orders"], status="draft", plan={"planned_users": 1_000, "spending": "pocock"}
    )
    started = (await api.post(f"/experiments/{draft['id']}/start")).json()

    options = {"stopping": None, "alpha": 0.05, "planned_users": 1_000, "spending": "pocock", "adjust": True,
               "allocation": "fixed", "prior_lift_sd": None}  # fmt: skip
    assert draft["plan"] == options | {
        "in_force": "group_sequential", "locked_at": None, "changes": [], "definitions": {},
    }  # fmt: skip
    assert started["plan"] == draft["plan"] | {
        "locked_at": started["started_at"],
        "definitions": {"orders": {"key": "orders", "kind": "count", "event_type": "order", "version": 1}},
    }


async def test_a_change_of_a_locked_plan_is_shown(api: httpx.AsyncClient) -> None:
    """Options that are not named stay; null takes one back to its default; the experiment shows each change."""
    made = await experiment(api, plan={"stopping": "fixed", "planned_users": 500})
    path = f"/experiments/{made['id']}"

    changed = (await api.patch(path, json={"plan": {"alpha": 0.01, "planned_users": None}})).json()

    assert (changed["plan"]["stopping"], changed["plan"]["in_force"]) == ("fixed", "fixed")
    shown = {(c["field"], c["before"], c["after"]) for c in changed["plan"]["changes"]}
    assert shown == {("alpha", 0.05, 0.01), ("planned_users", 500, None)}
    assert {c["at"] for c in changed["plan"]["changes"]} == {changed["updated_at"]}
    assert (await api.get(path)).json() == changed


@pytest.mark.parametrize(
    ("plan", "pointer"),
    [
        ({"alpha": 0.5}, "/plan/alpha"),
        ({"stopping": "whenever"}, "/plan/stopping"),
        ({"stopping": "group_sequential"}, "/plan/planned_users"),
        ({"planned_users": 1}, "/plan/planned_users"),
        ({"definitions": {}}, "/plan/definitions"),
        ({"locked_at": None}, "/plan/locked_at"),
        ("fixed", "/plan"),
    ],
)
async def test_a_plan_that_breaks_a_rule_is_refused(api: httpx.AsyncClient, plan: Any, pointer: str) -> None:
    """At creation and at a change, with the same place; what is locked cannot be sent."""
    made = await experiment(api)
    body = {"name": "one", "variants": [{"name": "a"}, {"name": "b"}], "plan": plan}

    answers = [
        await api.post("/experiments", json=body),
        await api.patch(f"/experiments/{made['id']}", json={"plan": plan}),
    ]

    for response in answers:
        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert (await api.get(f"/experiments/{made['id']}")).json() == made
