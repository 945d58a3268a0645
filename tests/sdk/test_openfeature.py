"""The OpenFeature provider, and the hook for other providers, with the published SDK of OpenFeature."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationOptions, FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.track import TrackingEventDetails
from tests.sdk.scripted import KEY, Reply, ScriptedServer, configuration, experiment, flag, scripted
from tests.sdk.test_client import SOON, until

from upshot.sdk import ExperimentClient
from upshot.sdk.openfeature import UpshotProvider, UpshotTracking
from upshot.sdk.testing import Exposure, FakeClient

VALUES = {"control": "plain", "blue": "bold", "green": "calm"}
USER = EvaluationContext("user-1", {"country": "US", "tags": ["a"]})
HALF = {"value": True, "targeting": {}, "steps": [{"at": None, "share": 1_000_000}]}
FLAGS = (
    flag("banner", "string", "none", experiment="id-button", values=VALUES),
    flag("tried", "string", "none", experiment="id-tried", values=VALUES),
    flag("shipped", "string", "none", experiment="id-shipped", values=VALUES),
    flag("paused", "string", "none", experiment="id-paused", values=VALUES),
    flag("off", default=True, enabled=False),
    flag("plain", default=True),
    flag("rolled", rollout=HALF),
    flag("ruled", rollout=HALF | {"targeting": {"countries": ["US"]}}),
    flag("part", rollout=HALF | {"steps": [{"at": None, "share": 999_999}]}),
    flag("count", "integer", 3),
    flag("rate", "number", 1.0),
    flag("shape", "object", {"a": [1, 2]}),
)
DOCUMENT = configuration(
    experiment(),
    experiment("tried", overrides=[{"variant": "blue", "users": [], "targeting": {"countries": ["US"]}}]),
    experiment("shipped", status="completed", winner="green"),
    experiment("paused", status="paused"),
    flags=FLAGS,
)


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    """A server with flags of every kind."""
    with scripted(DOCUMENT) as started:
        yield started


@pytest.fixture
def upshot(script: ScriptedServer) -> Iterator[ExperimentClient]:
    """A client of it."""
    with ExperimentClient(script.url, KEY, poll_seconds=0.1, timeout=20) as client:
        yield client
        api.shutdown()


@pytest.fixture
def features(upshot: ExperimentClient) -> OpenFeatureClient:
    """OpenFeature's client with our provider."""
    api.set_provider_and_wait(UpshotProvider(upshot, patience=SOON))
    return api.get_client()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("banner", Reason.SPLIT), ("tried", Reason.TARGETING_MATCH), ("shipped", Reason.STATIC), ("paused", Reason.DISABLED),
    ],
)  # fmt: skip
def test_flags_of_experiments_have_their_values_reasons_and_metadata(
    features: OpenFeatureClient, key: str, reason: Reason
) -> None:
    """The variant is the experiment's, which the metadata name."""
    found = features.get_string_details(key, "default", USER)

    assert (found.reason, found.error_code) == (reason, None)
    if reason is Reason.DISABLED:
        assert (found.value, found.variant, found.flag_metadata) == ("none", None, {"version": "one"})
    else:
        assert found.value == VALUES[found.variant or ""]
        assert found.flag_metadata == {"version": "one", "experimentKey": "button" if key == "banner" else key}


def test_flags_of_every_type_are_resolved(features: OpenFeatureClient) -> None:
    """Numbers are of the type that is asked for; a default may be an integer where a float is meant."""
    assert features.get_boolean_value("plain", False, USER) is True
    assert features.get_integer_value("count", 0, USER) == 3
    assert features.get_float_value("rate", 0, USER) == 1.0
    assert features.get_object_value("shape", [], USER) == {"a": [1, 2]}
    assert features.get_boolean_details("off", False, USER).reason == Reason.DISABLED
    assert features.get_boolean_details("plain", False, USER).reason == Reason.DEFAULT
    assert features.get_boolean_details("rolled", False, USER).reason == Reason.STATIC
    assert features.get_boolean_details("ruled", False, USER).reason == Reason.TARGETING_MATCH
    assert features.get_boolean_details("part", False, USER).reason == Reason.SPLIT


async def test_flags_are_resolved_where_it_is_awaited(features: OpenFeatureClient) -> None:
    """The same values."""
    assert await features.get_integer_value_async("count", 0, USER) == 3
    assert (await features.get_string_details_async("nothing", "d", USER)).error_code == ErrorCode.FLAG_NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "key", "default", "context", "code"),
    [
        ("string", "nothing", "d", USER, ErrorCode.FLAG_NOT_FOUND),
        ("boolean", "count", False, USER, ErrorCode.TYPE_MISMATCH),
        ("integer", "rate", 7, USER, ErrorCode.TYPE_MISMATCH),
        ("float", "count", 7.0, USER, ErrorCode.TYPE_MISMATCH),
        ("integer", "plain", 7, USER, ErrorCode.TYPE_MISMATCH),
        ("object", "banner", {}, USER, ErrorCode.TYPE_MISMATCH),
        ("string", "banner", "d", None, ErrorCode.TARGETING_KEY_MISSING),
        ("string", "banner", "d", EvaluationContext("", {"country": "US"}), ErrorCode.TARGETING_KEY_MISSING),
        ("string", "nothing", "d", None, ErrorCode.FLAG_NOT_FOUND),
    ],
)
def test_what_cannot_be_resolved_gives_the_default_and_the_code(
    features: OpenFeatureClient, kind: str, key: str, default: Any, context: EvaluationContext | None, code: ErrorCode
) -> None:
    """With a message, and the reason ERROR."""
    found = getattr(features, f"get_{kind}_details")(key, default, context)

    assert (found.value, found.reason, found.error_code) == (default, Reason.ERROR, code)
    assert found.error_message


def test_a_flag_that_is_the_same_for_all_needs_no_user(features: OpenFeatureClient) -> None:
    """Nor does one that is off."""
    assert features.get_boolean_details("plain", False).reason == Reason.DEFAULT
    assert features.get_boolean_details("off", False).reason == Reason.DISABLED


def test_exposures_and_events_are_told(
    script: ScriptedServer, upshot: ExperimentClient, features: OpenFeatureClient
) -> None:
    """An exposure for the variant of a running experiment only; an event with its value and attributes; shutdown sends them."""
    for key in ("banner", "tried", "shipped", "paused", "part"):
        features.get_string_value(key, "d", USER)
    features.track("purchase", USER, TrackingEventDetails(25.5, {"currency": "USD", "value": 1.0}))
    features.track("nobody")
    api.shutdown()

    [shown], [event] = script.items("/exposures"), script.items("/events")
    assert (shown["user_id"], shown["experiment"], shown["context"]) == ("user-1", "id-button", {"country": "US"})
    assert (event["user_id"], event["event_type"]) == ("user-1", "purchase")
    assert event["properties"] == {"currency": "USD", "value": 25.5}
    assert upshot.stats.refused == 1  # of nobody


def test_exposures_can_be_told_by_a_hook_instead(script: ScriptedServer, upshot: ExperimentClient) -> None:
    """Only of the evaluations that it is attached to."""
    api.set_provider_and_wait(UpshotProvider(upshot, expose=False, patience=SOON))
    features = api.get_client()
    hook = FlagEvaluationOptions(hooks=[UpshotTracking(upshot)])

    features.get_string_value("banner", "d", USER)
    features.get_string_value("banner", "d", EvaluationContext("user-2"), hook)
    features.get_string_value("tried", "d", USER, hook)
    features.get_boolean_value("part", False, USER, hook)
    upshot.flush(SOON)

    assert [item["user_id"] for item in script.items("/exposures")] == ["user-2"]


def test_the_hook_serves_providers_of_others() -> None:
    """Such as the stock OFREP provider, whose evaluations have the same metadata; without them there is no exposure."""

    def split(variant: str, metadata: dict[str, Any], reason: Reason = Reason.SPLIT) -> InMemoryFlag[str]:
        found = FlagResolutionDetails("x", reason=reason, variant=variant, flag_metadata=metadata)
        return InMemoryFlag(variant, {variant: "x"}, context_evaluator=lambda *_: found)

    known = {"experimentKey": "button"}
    flags = {
        "a": split("blue", known),
        "b": split("green", {}),
        "c": split("tried", known, Reason.TARGETING_MATCH),
        "d": split("", known),
    }
    api.set_provider_and_wait(InMemoryProvider(flags))
    fake = FakeClient()
    tracking = UpshotTracking(fake)
    features = api.get_client()
    features.add_hooks([tracking])

    for key in flags:
        features.get_string_value(key, "d", USER)
    features.get_string_value("a", "d")
    tracking.track("purchase", USER, TrackingEventDetails(2.0))
    api.shutdown()

    assert fake.exposures == [Exposure("button", "user-1", "blue")]
    assert [(event.user_id, event.event_type, event.properties) for event in fake.events] == [
        ("user-1", "purchase", {"value": 2.0})
    ]


def test_a_provider_without_a_configuration_becomes_ready_by_itself(
    script: ScriptedServer, upshot: ExperimentClient
) -> None:
    """Until then there are defaults, and a configuration that cannot be read is named so."""
    script.replies["/sdk/config"] = lambda _: Reply(200, {"format": 99})
    provider = UpshotProvider(upshot, patience=0.3)
    happened: list[ProviderEvent] = []
    for event in ProviderEvent:
        api.add_handler(event, lambda _, event=event: happened.append(event))  # type: ignore[misc]

    with pytest.raises(ProviderNotReadyError):
        api.set_provider_and_wait(provider)
    features = api.get_client()
    assert until(lambda: provider.resolve_string_details("banner", "d", USER).error_code == ErrorCode.PARSE_ERROR)
    assert features.get_string_details("banner", "d", USER).error_code is not None
    script.replies = {}

    assert until(lambda: ProviderEvent.PROVIDER_READY in happened)
    assert until(lambda: features.get_string_details("banner", "d", USER).error_code is None)
    assert until(lambda: ProviderEvent.PROVIDER_ERROR in happened)


def test_without_any_answer_the_provider_is_not_ready() -> None:
    """The code says so."""
    with ExperimentClient("http://127.0.0.1:9", KEY) as client:
        provider = UpshotProvider(client, patience=0.05)

        with pytest.raises(ProviderNotReadyError):
            provider.initialize(EvaluationContext())
        found = provider.resolve_boolean_details("plain", True, USER)

    assert (found.value, found.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)


def test_changes_staleness_and_errors_are_provider_events(
    script: ScriptedServer, features: OpenFeatureClient, tmp_path: Path
) -> None:
    """In the order in which they happen."""
    happened: list[tuple[ProviderEvent, str]] = []

    def handler(event: ProviderEvent) -> Any:
        def handle(details: EventDetails) -> None:
            happened.append((event, details.provider_name))

        return handle

    for event in ProviderEvent:
        features.add_handler(event, handler(event))
    time.sleep(0.05)
    happened.clear()

    def came(event: ProviderEvent) -> bool:
        return until(lambda: (event, "Upshot") in happened)

    script.document, script.etag = configuration(experiment("other")), '"two"'
    assert came(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    script.replies["/sdk/config"] = lambda _: Reply(503)
    assert came(ProviderEvent.PROVIDER_STALE)
    script.replies["/sdk/config"] = lambda _: Reply(403, {"code": "forbidden"})
    assert came(ProviderEvent.PROVIDER_ERROR)
    happened.clear()
    script.replies = {}
    assert came(ProviderEvent.PROVIDER_READY)


@pytest.fixture(autouse=True)
def _openfeature_is_as_new() -> Iterator[None]:
    """Its state is one for the whole process."""
    yield
    api.shutdown()
