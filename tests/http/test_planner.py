"""Plans over HTTP: every example of the documents, what is refused and where, and the shape of the answer."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from upshot.http.app import create_app
from upshot.http.planning import PlanAnswer
from upshot.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "planner.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
GIVEN: dict[str, Any] = {"baseline": {"value": 0.05, "users_per_day": 2_000}}


@pytest.fixture
async def visited(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with 40 visitors, ten of whom bought, an experiment with purchases, and a definition."""
    events: list[dict[str, Any]] = [{"user_id": f"u{n}", "type": "visit", "event_id": f"v{n}"} for n in range(40)]
    events += [
        {"user_id": f"u{n}", "type": "purchase", "properties": {"price": 10 + n}, "event_id": f"p{n}"}
        for n in range(10)
    ]
    assert (await api.post("/events", json=events[:40])).is_success
    body = {"name": "Checkout", "primary_metric": "purchase", "variants": [{"name": "a"}, {"name": "b"}]}
    assert (await api.post("/experiments", json=body)).is_success
    for number in range(20):
        assert (await api.get(f"/experiments/checkout/assignment/u{number}")).is_success
    assert (await api.post("/events", json=events[40:])).is_success
    definition = {"key": "revenue_per_visitor", "kind": "sum", "event_type": "purchase", "minimum_effect": 0.03}
    assert (await api.post("/metric-definitions", json=definition)).is_success
    return api


async def test_the_examples_of_the_page_work(visited: httpx.AsyncClient) -> None:
    """Each body gives a plan of the documented shape, with users, or an effect that users can show."""
    for example in EXAMPLES:
        response = await visited.post("/planner", json=example)

        assert response.status_code == 200, response.text
        found = response.json()
        assert found == PlanAnswer.model_validate(found).model_dump(mode="json")
        assert found["users"] > 0
        assert found["detectable"]["absolute"] is not None
        assert found["curve"]


async def test_the_examples_of_the_openapi_document_work(visited: httpx.AsyncClient) -> None:
    """What is shown beside a field can be sent in it."""
    document = create_app(Settings(), {}).application.openapi()["components"]["schemas"]
    fields = document["PlanRequest"]["properties"]
    examples = {name: field["examples"] for name, field in fields.items() if "examples" in field}
    assert examples.keys() >= {"metric", "entry", "variants", "relative_effect"}

    for name, shown in examples.items():
        for value in shown:
            body = {"metric": "purchase", "entry": "visit", "relative_effect": 0.1} | {name: value}
            assert (await visited.post("/planner", json=body)).status_code == 200, (name, value)
    for value in document["BaselineIn"]["properties"]["value"]["examples"]:
        body = {"baseline": {"value": value}, "relative_effect": 0.1}
        assert (await visited.post("/planner", json=body)).status_code == 200


async def test_a_plan_is_whole(visited: httpx.AsyncClient) -> None:
    """Users per variant add up, the curve holds the plan, the analysis plan starts an experiment, and nothing is NaN."""
    response = await visited.post("/planner", json=GIVEN | {"relative_effect": 0.1, "variants": [2, 1, 1]})
    found = response.json()

    assert not re.search(r"[:\[,](NaN|-?Infinity)", response.text)
    assert found["users"] == sum(variant["users"] for variant in found["variants"])
    assert [variant["share"] for variant in found["variants"]] == [0.5, 0.25, 0.25]
    assert (found["comparisons"], found["alpha_per_comparison"], found["required_power"]) == (2, 0.025, 0.8)
    assert found["power"] == pytest.approx(0.8, abs=1e-3)
    assert found["days"] in {point["days"] for point in found["curve"]}
    assert found["reasons"] == {}
    body = {"name": "Planned", "variants": [{"name": name} for name in "abc"], "plan": found["plan"]}
    made = await visited.post("/experiments", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["plan"]["planned_users"] == found["users"]


async def test_a_measured_baseline_says_where_it_is_from(visited: httpx.AsyncClient) -> None:
    """Entry events and experiments; a definition's minimum effect is what is planned for where nothing else is asked."""
    entered = (
        await visited.post("/planner", json={"metric": "purchase", "entry": "visit", "days": 28, "users": 100})
    ).json()
    inside = (await visited.post("/planner", json={"experiment": "checkout", "run_for_days": 7})).json()
    defined = (await visited.post("/planner", json={"metric": "revenue_per_visitor", "entry": ["visit"]})).json()

    baseline = entered["baseline"]
    assert (baseline["source"], baseline["metric"], baseline["users"], baseline["value"]) == (
        "entry",
        "purchase",
        40,
        0.25,
    )
    assert baseline["start"] < baseline["end"]
    assert (inside["baseline"]["source"], inside["baseline"]["metric"], inside["days"]) == ("experiment", "purchase", 7)
    assert inside["baseline"]["value"] is not None
    assert (defined["baseline"]["kind"], defined["effect"]["relative"]) == ("sum", 0.03)


async def test_a_number_that_does_not_exist_is_null_with_a_reason(visited: httpx.AsyncClient) -> None:
    """Nobody has caused such an event: there is no value, hence no plan."""
    found = (
        await visited.post("/planner", json={"metric": "purchase", "entry": "never", "relative_effect": 0.1})
    ).json()

    assert (found["users"], found["days"], found["plan"], found["curve"]) == (None, None, None, [])
    assert {variant["users"] for variant in found["variants"]} == {None}
    assert found["baseline"]["reason"] == "no_users"
    assert {found["reasons"][name] for name in ("users", "days", "detectable", "power", "curve")} == {"no_users"}


UNPLANNABLE: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [""]),
    (GIVEN, [""]),
    (GIVEN | {"entry": "visit", "users": 10}, [""]),
    (GIVEN | {"relative_effect": 0}, ["/relative_effect"]),
    (GIVEN | {"relative_effect": 0.1, "absolute_effect": 0.1}, ["/absolute_effect"]),
    (GIVEN | {"relative_effect": 0.1, "size": 5}, ["/size"]),
    (GIVEN | {"users": 1}, ["/users"]),
    (GIVEN | {"users": 10, "run_for_days": 10}, ["/run_for_days"]),
    (GIVEN | {"users": 10, "users_per_day": 10}, ["/users_per_day"]),
    (GIVEN | {"users": 10, "history_days": 10}, ["/history_days"]),
    (GIVEN | {"users": 10, "adjust": False}, ["/adjust"]),
    (GIVEN | {"users": 10, "stopping": "fixed", "looks": 3}, ["/looks"]),
    (GIVEN | {"users": 10, "power": 1}, ["/power"]),
    (GIVEN | {"users": "10"}, ["/users"]),
    (GIVEN | {"users": 10, "kind": "sum"}, ["/baseline/standard_deviation"]),
    ({"baseline": {"value": 5}, "users": 10}, ["/baseline/value"]),
    ({"baseline": {"value": 0.5, "sd": 1}, "users": 10}, ["/baseline/sd"]),
    ({"baseline": {}, "users": 10}, ["/baseline/value"]),
    ({"entry": "visit", "users": 10}, ["/metric"]),
    ({"entry": "visit", "metric": "purchase", "kind": "sum", "users": 10}, ["/kind"]),
    ({"entry": [" visit", "visit", "a\n"], "metric": "purchase", "users": 10}, ["/entry", "/entry"]),
    ({"entry": "visit", "metric": {"kind": "sum"}, "users": 10}, ["/metric/event_type"]),
    ({"experiment": "none", "users": 10}, ["/experiment"]),
    ({"experiment": "checkout", "history_days": 7, "users": 10}, ["/history_days"]),
]


async def test_what_cannot_be_planned_is_a_problem_with_pointers(visited: httpx.AsyncClient) -> None:
    """422, and every fault has its place."""
    for body, pointers in UNPLANNABLE:
        response = await visited.post("/planner", json=body)

        assert response.status_code == 422, body
        assert response.headers["content-type"] == "application/problem+json"
        assert [fault["pointer"] for fault in response.json()["errors"]] == pointers, body


async def test_extreme_numbers_are_planned_or_refused(api: httpx.AsyncClient) -> None:
    """Never an error of the server: the smallest and largest of what the document allows."""
    for value, deviation, effect, rate in (
        (1e15, 1e15, 1e15, 1e12), (-1e15, 2e-15, 5e-324, 1e-300), (0, 1e15, 1e-15, 1e-12), (5e-324, 2e-15, 0.5, 1e12),
        (1e-9, None, 0.5, 1e-300), (1 - 1e-9, None, -0.5, 1e12), (1e-9, None, 5e-324, 1), (0.5, None, 1e-300, 1e12),
    ):  # fmt: skip
        baseline = {"value": value, "users_per_day": rate, "variance_reduction": 0.999999}
        kind = {"kind": "conversion"} if deviation is None else {"kind": "sum"}
        given = {"baseline": baseline | ({} if deviation is None else {"standard_deviation": deviation})} | kind
        for asked in ({"relative_effect": effect}, {"absolute_effect": effect}, {"users": 2}, {"users": 10**12},
                      {"run_for_days": 1}, {"run_for_days": 10_000}, {"relative_effect": effect, "users": 10**12}):  # fmt: skip
            for stopping in ("fixed", "group_sequential", "always_valid"):
                response = await api.post("/planner", json=given | asked | {"stopping": stopping})
                assert response.status_code == 200, (given, asked, response.text)
                assert not re.search(r"[:\[,](NaN|-?Infinity)", response.text)
