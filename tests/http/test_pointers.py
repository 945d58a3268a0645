"""The JSON pointers of faults: each names a place of what was sent, or one that is missing there, and none is named twice."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from upshot.errors import Fault, Invalid, pointer
from upshot.http.body import document, validated
from upshot.http.definitions import MetricDefinitionIn, MetricDefinitionPatch
from upshot.http.intake import AssignManyIn, EventsIn, IdentityIn, ImportIn, UserIn
from upshot.http.planning import PlanRequest
from upshot.http.wire import ExperimentIn, ExperimentPatch, In

MODELS: tuple[type[BaseModel], ...] = (
    AssignManyIn, EventsIn, ExperimentIn, ExperimentPatch, IdentityIn, ImportIn, MetricDefinitionIn, MetricDefinitionPatch,
    PlanRequest, UserIn,
)  # fmt: skip
NAMES = sorted(
    {name for model in MODELS for name in model.model_fields} | {"str", "int", "a/b", "~", "value", "variant_name", ""}
)

scalars = st.none() | st.booleans() | st.integers(-10, 10) | st.floats(-2, 2) | st.sampled_from(["", "a", "str"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
)
documents = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)


def wrong(faults: Sequence[Fault], sent: Any) -> list[str]:
    """The pointers that name what was not sent, or what another fault named."""
    pointers = [fault.pointer for fault in faults]
    found = [place for place in pointers if pointers.count(place) > 1]
    for fault in faults:
        parts = fault.pointer.split("/")[1:]
        if not _leads_somewhere(sent, parts[:-1] if fault.code == "missing" else parts):
            found.append(fault.pointer)
    return found


def _leads_somewhere(value: Any, parts: Sequence[str]) -> bool:
    """Whether there is a value where a pointer's parts lead."""
    for part in parts:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return False
    return True


def faults_of(model: type[BaseModel], sent: Any) -> Sequence[Fault]:
    """What is wrong with a document."""
    try:
        validated(model, document(json.dumps(sent).encode()))
    except Invalid as error:
        return error.faults
    return ()


@given(st.sampled_from(MODELS), documents)
def test_every_pointer_names_a_place_that_was_sent(model: type[BaseModel], sent: Any) -> None:
    """Whatever is sent as a body; a missing field is named where it should be."""
    assert wrong(faults_of(model, sent), sent) == []


class Careless(In):
    """A broken variant: alternatives that are not told apart."""

    number: Annotated[int | float, Field(ge=0)] | None = None
    users: list[str | UserIn] = Field(default_factory=list)


@pytest.mark.parametrize("sent", [{"number": "a"}, {"users": [{"user_id": 5}]}, {"users": [5]}])
def test_the_names_of_alternatives_are_caught(sent: Any) -> None:
    """As pydantic tells them: one place several times, with parts that nobody sent."""
    assert wrong(faults_of(Careless, sent), sent)


@pytest.mark.parametrize(
    ("path", "sent", "pointers"),
    [
        ("/experiments", {"metrics": [5, {"key": 1}], "name": "n", "variants": [{"name": "a"}, {"name": "b"}]}, ["/metrics/0"]),
        (
            "/experiments",
            {"name": "n", "variants": [{"variant_name": "", "traffic_allocation_percent": "5"}, {"weight": -1, "name": "b"}]},
            ["/variants/0/variant_name", "/variants/0/traffic_allocation_percent", "/variants/1/weight"],
        ),
        ("/experiments", {"variants": [{}, {"name": "b"}]}, ["/name", "/variants/0/name"]),
        ("/experiments", [], [""]),
        ("/experiments/e/assignments", {"users": ["a", 5, "", {"user_id": 1}]}, ["/users/1", "/users/2", "/users/3/user_id"]),
        ("/experiments/e/assignments", {"users": ["a\tb"]}, ["/users/0"]),
        (
            "/experiments/e/assignments",
            {"users": ["a", {"user_id": "b", "context": {"a\tb": 1}}, {"user_id": "c", "context": {"\t": 1}}]},
            ["/users/1/context", "/users/2/context"],
        ),
        ("/assignments", {"user_id": "a", "context": {"x/y": [], "~": {"str": 1}}}, ["/context/x~1y", "/context/~0"]),
        ("/planner", {"entry": [1], "variants": "two", "power": 2}, ["/entry/0", "/variants", "/power"]),
        ("/planner", {"variants": [1, 0.5], "baseline": {"value": True}}, ["/baseline/value", "/variants/1"]),
        ("/metric-definitions", {"key": "k", "level": "a", "steps": [{"event_type": 1}, {}]}, ["/steps/0/event_type", "/level"]),
    ],
)  # fmt: skip
async def test_faults_name_their_places(api: httpx.AsyncClient, path: str, sent: Any, pointers: list[str]) -> None:
    """Over HTTP, in every body with alternatives, by the names that were sent."""
    variants = [{"name": "a"}, {"name": "b"}]
    assert (await api.post("/experiments", json={"name": "e", "key": "e", "variants": variants})).status_code == 201

    refused = await api.post(path, json=sent)

    assert refused.status_code == 422
    assert sorted(fault["pointer"] for fault in refused.json()["errors"]) == sorted(pointers)


@pytest.mark.parametrize(("parts", "text"), [([], ""), (["a", 0], "/a/0"), (["a/b", "~1", ""], "/a~1b/~01/")])
def test_pointers_are_written_as_rfc_6901_says(parts: list[str | int], text: str) -> None:
    """~ as ~0 and / as ~1, and the whole document as nothing."""
    assert pointer(*parts) == text


async def test_a_property_is_named_by_a_pointer_that_leads_there(api: httpx.AsyncClient) -> None:
    """Also in an event, where the name holds a slash."""
    sent = {"user_id": "u", "type": "buy", "properties": {"a/b": {"~": "x" * 100_000}}}

    refused = await api.post("/events", json=sent)

    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/0/properties/a~1b/~0"]
