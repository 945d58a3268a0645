"""The published OFREP provider of OpenFeature against a real server, with our hook for exposures and tracking."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.track import TrackingEventDetails
from tests.sdk.test_client import until
from tests.servers import TOKEN, RunningServer, running

from upshot.sdk import ExperimentClient
from upshot.sdk.openfeature import UpshotTracking

pytestmark = pytest.mark.slow

USER = EvaluationContext("user-1", {"country": "US"})
VALUES: dict[str, Any] = {"boolean": True, "string": "x", "integer": 7, "number": 2.0, "object": {"a": [1]}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes no evaluation for an exposure, with flags of every type and in every state."""
    settings = {"UPSHOT_OFREP_EXPOSES": "false"}
    with running(tmp_path_factory.mktemp("ofrep"), environment=settings) as started, started.client() as manager:
        arms = [{"name": "control"}, {"name": "blue"}]
        overrides = [{"variant": "blue", "users": ["tester"]}]
        made(manager, "/experiments", name="e", key="e", variants=arms, overrides=overrides, primary_metric="buy")
        made(manager, "/experiments", name="p", key="p", variants=arms)
        values = {"control": "plain", "blue": "bold"}
        for key in ("e", "p"):
            made(manager, "/flags", key=key, type="string", default="none", experiment={"key": key, "values": values})
        for kind, value in VALUES.items():
            made(manager, "/flags", key=kind, type=kind, default=value)
        made(manager, "/flags", key="off", type="boolean", default=True, enabled=False)
        made(manager, "/flags", key="all", type="boolean", default=False, rollout={"value": True})
        manager.post("/experiments/p/pause").raise_for_status()
        yield started


def made(manager: httpx.Client, path: str, **fields: Any) -> None:
    """Make something."""
    response = manager.post(path, json=fields)
    assert response.status_code == 201, response.text


@pytest.fixture
def features(server: RunningServer) -> Iterator[OpenFeatureClient]:
    """OpenFeature's client with the stock provider."""
    provider = OFREPProvider(server.url, headers_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})
    api.set_provider_and_wait(provider)
    yield api.get_client()
    api.shutdown()


def test_every_type_has_its_value(features: OpenFeatureClient) -> None:
    """A float flag with a whole value is a float, an integer flag an integer; another type is a mismatch."""
    assert features.get_boolean_value("boolean", default_value=False, evaluation_context=USER) is True
    assert features.get_string_value("string", "", USER) == "x"
    assert features.get_integer_value("integer", 0, USER) == 7
    assert features.get_float_value("number", 0.0, USER) == 2.0
    assert features.get_object_value("object", {}, USER) == {"a": [1]}
    assert features.get_float_details("integer", 0.5, USER).error_code is ErrorCode.TYPE_MISMATCH
    assert features.get_integer_details("number", 1, USER).error_code is ErrorCode.TYPE_MISMATCH


def test_every_reason_and_error_is_told(features: OpenFeatureClient) -> None:
    """As the specification has them."""
    tester = EvaluationContext("tester")

    assert features.get_string_details("e", "", USER).reason == Reason.SPLIT
    assert features.get_string_details("e", "", tester).reason == Reason.TARGETING_MATCH
    assert features.get_string_details("p", "", USER).reason == Reason.DISABLED
    assert features.get_boolean_details("off", default_value=False, evaluation_context=USER).reason == Reason.DISABLED
    assert features.get_boolean_details("all", default_value=False, evaluation_context=USER).reason == Reason.STATIC
    assert features.get_string_details("string", "", USER).reason == Reason.DEFAULT
    assert features.get_string_details("none", "", USER).error_code is ErrorCode.FLAG_NOT_FOUND
    assert features.get_string_details("e", "").error_code is ErrorCode.TARGETING_KEY_MISSING
    assert features.get_string_details("e", "", EvaluationContext("null")).error_code is ErrorCode.INVALID_CONTEXT
    assert features.get_string_details("e", "", USER).flag_metadata["experimentKey"] == "e"


def test_exposures_and_tracking_arrive_and_are_counted(server: RunningServer, features: OpenFeatureClient) -> None:
    """By the hook, once per user; without it nobody is exposed."""
    with server.client() as manager:

        def summary() -> dict[str, Any]:
            return dict(manager.get("/experiments/e/results").json()["summary"])

        features.get_string_details("e", "", EvaluationContext("silent"))
        before = summary()["total_users"]
        with ExperimentClient(server.url, TOKEN, poll_seconds=60) as upshot:
            tracking = UpshotTracking(upshot)
            features.add_hooks([tracking])
            for number in range(5):
                user = EvaluationContext(f"of-{number}", {"country": "US"})
                for _ in range(2):
                    features.get_string_details("e", "", user)
                tracking.track("buy", user, TrackingEventDetails(value=9.5, attributes={"currency": "EUR"}))
            assert upshot.flush(30)
        after = summary()

    assert before == 0
    assert (after["total_users"], after["total_events"]) == (5, 5)


def test_the_stream_of_a_real_server_brings_changes_soon(server: RunningServer) -> None:
    """Long before the next poll."""
    with server.client() as manager, ExperimentClient(server.url, TOKEN, poll_seconds=600, stream=True) as upshot:
        assert upshot.ready(10)
        assert until(lambda: upshot.flag("string", "user-1", "") == "x")
        manager.patch("/flags/string", json={"default": "y"}).raise_for_status()

        assert until(lambda: upshot.flag("string", "user-1", "") == "y")
        manager.patch("/flags/string", json={"default": "x"}).raise_for_status()
