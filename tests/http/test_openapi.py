"""The OpenAPI document against the running product: what Schemathesis generates from it, the server must keep to."""

import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from schemathesis.engine import events, from_schema
from tests.http.world import PASSWORD
from tests.servers import TOKEN, RunningServer

from upshot.http.app import create_app
from upshot.settings import Settings

SECONDS = 120
OTHERS_SECONDS, OTHERS_CASES = 60, 300
TARGET_BYTES = 8_192
PARAMETERS = 50

# What JSON Schema cannot say, so that a request which fits the schema may still be refused with 422:
_RULES = {
    "/experiments": "shares sum to 100, names differ, one control, the grammar of targeting and metrics; a cursor is opaque",
    "/experiments/{experiment_id}": "as above",
    "/experiments/{experiment_id}/complete": "a variant of the experiment",
    "/metric-definitions": "which fields a kind has and needs, the grammar of rules on properties; a cursor is opaque",
    "/metric-definitions/{key}": "as above",
    "/experiments/{experiment_id}/assignment/{user_id}": "a user id and the names of attributes hold no control characters",
    "/experiments/{experiment_id}/assignments": "as above",
    "/assignments": "as above",
    "/identities": "two ids that differ, neither of them linked elsewhere, without control characters",
    "/planner": "one source of a baseline, an effect that is not zero, users or days, definitions, an experiment that exists",
    "/events": "one of two names of the type, identifiers, an experiment that exists, the size and depth of properties",
    "/events/batch": "as above",
    "/events/recent": "a cursor is opaque",
    "/experiments/{experiment_id}/results": "dates in order, IANA time zones, metrics, variants of the experiment",
    "/experiments/{experiment_id}/results/export": "as above",
    "/api-keys": "origins as browsers send them, names of more than blanks, writing scopes for browsers",
    "/api-keys/{key_id}/rotate": "a body",
    "/auth/invitation": "addresses, passwords that are not easily guessed",
    "/auth/token": "one of two grants",
    "/auth/session": "texts hold no NUL",
    "/auth/factor": "as above",
    "/auth/refresh": "as above",
    "/users": "addresses, passwords that are not easily guessed",
    "/users/{user_id}": "names of printable characters",
    "/me/password": "passwords that are not easily guessed",
    "/webhooks": "https URLs of the public internet",
    "/webhooks/{webhook_id}": "as above",
    "/audit": "a cursor is opaque",
    "/flags": "an experiment that exists and its variants, values of the type, steps in order, the grammar of targeting",
    "/flags/{flag_key}": "as above",
    "/import/growthbook": "keys that are free",
    "/layers": "names of printable characters",
    "/holdouts": "percentages of 4 decimals, names of printable characters",
    "/exposures": "experiments and variants that exist, identifiers, moments",
    "/ofrep/v1/evaluate/flags": "a targetingKey that is a user id, at most 50 attributes",
    "/ofrep/v1/evaluate/flags/{flag_key}": "as above",
}
# Items are judged one by one: a bad one among good ones is answered by its index, with the success of the others.
_BATCHES = ("/events", "/events/batch", "/exposures", "/experiments/{experiment_id}/import", "/identities")
# Every query parameter arrives as text: what Schemathesis means as a wrong type is a context like any other.
_TEXTS = ("/experiments/{experiment_id}/assignment/{user_id}",)
# 400: a path must not hold control characters, whatever it names. 413: a body has its bytes counted, not its items.
# 403: a sign-in by cookie from elsewhere, a key that is no person, what needs a second one.
_ACCEPTED = ["2xx", 400, 401, 403, 404, 409]
_REFUSED = [400, 401, 403, 404, 405, 409, 413, 415, 422]
_OF_OPERATIONS = "".join(
    f"""
[[operations]]
include-path = "{path}"
checks.positive_data_acceptance.expected-statuses = {_ACCEPTED + [413, 422] * (path in _RULES)}
checks.negative_data_rejection.expected-statuses = {_REFUSED + [200, 201] * (path in _BATCHES + _TEXTS)}
"""
    for path in sorted({*_RULES, *_BATCHES})
)


def configuration(seconds: int, token: str | None = TOKEN, examples: int = 10) -> schemathesis.Config:
    """All checks, every phase, one seed."""
    headers = f'headers = {{ Authorization = "Bearer {token}" }}' if token else ""
    return schemathesis.Config.from_str(f"""
seed = 20260131
max-time = {seconds}
continue-on-failure = true
{headers}
[generation]
max-examples = {examples}
no-shrink = true
[checks]
positive_data_acceptance.expected-statuses = {_ACCEPTED}
negative_data_rejection.expected-statuses = {_REFUSED}
{_OF_OPERATIONS}""")


@schemathesis.hook("before_call")
def with_a_key_of_its_own(_context: object, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Keys are made up anew for every request: one stands for one request, and chance makes the same short ones again."""
    if case.headers and re.fullmatch("[A-Za-z0-9_-]{1,255}", str(case.headers.get("idempotency-key", ""))):
        case.headers["idempotency-key"] = uuid.uuid4().hex


def faults_of(
    url: str,
    seconds: int,
    token: str | None = TOKEN,
    examples: int = 10,
    until: Iterable[str] | None = None,
    cases: int | None = None,
) -> tuple[list[str], Counter[str]]:
    """What Schemathesis finds at a server, and how many requests each operation answered with success, all of them under "".

    It stops early when for each beginning in `until` a fault was found, or after so many cases.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=configuration(seconds, token, examples))
    faults, asked = list[str](), Counter[str]()
    stream = from_schema(schema).execute()
    for event in stream:
        found_all = until is not None and all(any(fault.startswith(begins) for fault in faults) for begins in until)
        if found_all or (cases is not None and asked[""] >= cases):
            stream.stop()
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            asked[""] += len(event.recorder.cases)
            for case, interaction in event.recorder.interactions.items():
                method = interaction.request.method
                if interaction.response and interaction.response.status_code < 300 and method != "OPTIONS":
                    asked[f"{method} {event.recorder.cases[case].value.operation.path}"] += 1
            for case, checks in event.recorder.checks.items():
                answer = event.recorder.interactions[case].response
                for check in checks:
                    if check.failure_info is not None and not (answer and over_the_limits(answer)):
                        failure = check.failure_info.failure
                        faults.append(
                            f"{check.name} at {failure.operation}: {failure.message}\n{check.failure_info.code_sample}"
                        )
    return faults, asked


def over_the_limits(answer: schemathesis.Response) -> bool:
    """Whether the request was refused before it was looked at, because its target is too long or has too many parameters."""
    target = str(answer.request.url).partition("://")[2]
    return answer.status_code == 414 and (len(target) > TARGET_BYTES or target.count("&") >= PARAMETERS)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An application on a free port, for the time of a block."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    started = threading.Event()
    original = server.startup

    async def startup(*arguments: Any, **named: Any) -> None:
        await original(*arguments, **named)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def unbounded(schema: Any, place: str = "") -> list[str]:
    """Where numbers that have no bounds on both sides are, beside words that mean nothing in JSON Schema."""
    found = []
    if isinstance(schema, dict):
        kind = schema.get("type")
        low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
        if kind in ("number", "integer") and not (low & schema.keys() and high & schema.keys()):
            found.append(place)
        found += [f"{place}/{word}" for word in ("gt", "ge", "lt", "le", "multiple_of") if word in schema]
        found += [fault for name, part in schema.items() for fault in unbounded(part, f"{place}/{name}")]
    elif isinstance(schema, list):
        found += [fault for index, part in enumerate(schema) for fault in unbounded(part, f"{place}/{index}")]
    return found


def test_every_number_of_a_request_says_its_bounds() -> None:
    """In the bodies that are read here, and in queries; by the words of JSON Schema. What lies within them is enforced, too."""
    document = create_app(Settings(), {}).application.openapi()
    schemas = document["components"]["schemas"]
    bodies = {name: schema for name, schema in schemas.items() if name.endswith(("In", "Patch", "Request", "Shape"))}

    assert unbounded(bodies) == []
    assert {"ExperimentIn", "ExperimentPatch", "VariantIn", "PlanIn", "PlanRequest", "BaselineIn"} <= bodies.keys()
    assert (
        unbounded(
            [operation.get("parameters", []) for path in document["paths"].values() for operation in path.values()]
        )
        == []
    )
    share = schemas["VariantIn"]["properties"]["traffic_allocation"]["anyOf"][0]
    assert (share["type"], share["minimum"], share["maximum"]) == ("number", 0, 1e15)


def test_a_union_that_loses_its_bounds_is_found() -> None:
    """The control: what pydantic writes of bounds on a union."""

    class Careless(BaseModel):
        number: Annotated[int | float, Field(ge=0, le=1)]

    assert unbounded(Careless.model_json_schema())


@pytest.mark.slow
def test_the_server_keeps_to_its_openapi_document(server: RunningServer) -> None:
    """No server error, no undocumented status, type, header or shape; no refusal of the valid nor acceptance of the invalid."""
    faults, asked = faults_of(server.url, SECONDS)

    assert faults == []
    assert asked[""] > 1_000


ASSIGNING = {"POST /assignments", "POST /experiments/{experiment_id}/assignments",
             "GET /experiments/{experiment_id}/assignment/{user_id}", "GET /sdk/config", "POST /exposures",
             "POST /ofrep/v1/evaluate/flags", "POST /ofrep/v1/evaluate/flags/{flag_key}"}  # fmt: skip
RECORDING = {"POST /events", "POST /events/batch", "POST /exposures"}
LINKING = {"POST /identities"}
OPEN = {"GET /livez", "GET /readyz", "GET /health"}
OPENED: dict[str, Callable[[str], bool]] = {
    "nothing": lambda operation: operation in OPEN,
    "expired": lambda operation: operation in OPEN,
    "assign": lambda operation: operation in OPEN | ASSIGNING | LINKING,
    "events:write": lambda operation: operation in OPEN | RECORDING | LINKING,
    "browser": lambda operation: operation in OPEN,  # Schemathesis is no page of its origin
    "results:read": lambda operation: operation.startswith("GET ") or operation == "POST /planner",
    "viewer": lambda operation: operation.startswith("GET ") or operation in {"POST /planner", "POST /auth/logout"},
}


def credentials_of(server: RunningServer) -> dict[str, str | None]:
    """A credential of every kind."""
    found: dict[str, str | None] = {"nothing": None}
    with server.client() as client:
        for scope in ("assign", "events:write", "results:read"):
            made = client.post("/api-keys", json={"name": scope, "scopes": [scope]})
            found[scope] = made.json()["key"]
        browser = {"name": "browser", "scopes": ["assign", "events:write"], "origins": ["https://shop.example.com"]}
        found["browser"] = client.post("/api-keys", json=browser).json()["key"]
        gone = client.post("/api-keys", json={"name": "gone", "scopes": ["admin"]}).json()
        client.delete(f"/api-keys/{gone['id']}")
        found["expired"] = gone["key"]
        person = {"email": "vic@example.com", "role": "viewer", "password": PASSWORD}
        client.post("/users", json=person)
        signed = client.post("/auth/token", json={"email": person["email"], "password": PASSWORD, "client": "first"})
        found["viewer"] = signed.json()["access_token"]
    return found


@pytest.mark.slow
def test_no_kind_of_credential_opens_more_than_it_says(server: RunningServer) -> None:
    """The same checks with every kind of credential: whatever is generated, success is had where its scopes say so only."""
    for kind, credential in credentials_of(server).items():
        faults, asked = faults_of(server.url, OTHERS_SECONDS, credential, examples=2, cases=OTHERS_CASES)
        succeeded = [operation for operation in asked if operation and not OPENED[kind](operation)]

        assert faults == [], kind
        assert succeeded == [], kind
        assert asked[""] > 100, kind


@pytest.mark.slow
def test_a_route_that_raises_or_breaks_its_promise_is_found() -> None:
    """The control: the same run on an application with a crash and a broken promise names both."""
    app = FastAPI()

    @app.get("/crash")
    async def crash(number: int) -> int:
        return 1 // (number - number)

    @app.get("/promise", responses={200: {"model": dict[str, int]}})
    async def promise() -> Any:
        return ["no", "object"]

    wanted = ("not_a_server_error at GET /crash", "response_schema_conformance at GET /promise")

    with serving(app) as url:
        faults, _ = faults_of(url, SECONDS, until=wanted)

    assert [begins for begins in wanted if not any(fault.startswith(begins) for fault in faults)] == []
