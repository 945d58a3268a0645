"""The SDK decides as every implementation does, and says why where it cannot."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.scripted import configuration, experiment, flag

from upshot.clock import FixedClock
from upshot.errors import ConfigurationError
from upshot.sdk import ExperimentClient

FOLDER = Path(__file__).parents[2] / "vectors"
DECISIONS = json.loads((FOLDER / "decisions.json").read_text(encoding="utf-8"))
ASSIGNMENT = json.loads((FOLDER / "assignment.json").read_text(encoding="utf-8"))
AWAY = "http://127.0.0.1:9"
KEY = "upk_of_a_test"


def kept(folder: Path, document: Any) -> Path:
    """A snapshot file with the document."""
    file = folder / "snapshot.json"
    content = {"etag": '"kept"', "confirmed_at": "2026-01-01T00:00:00+00:00", "document": document}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@contextmanager
def deciding(folder: Path, document: Any, **options: Any) -> Iterator[ExperimentClient]:
    """A client whose server is away, and which decides by a snapshot file."""
    client = ExperimentClient(AWAY, KEY, snapshot_file=kept(folder, document), **options)
    try:
        yield client
    finally:
        client.close(0)


def at(client: ExperimentClient, moment: str) -> None:
    """Let the client's clock stand still."""
    client._clock = FixedClock(datetime.fromisoformat(moment))  # type: ignore[assignment]


def wrong(client: ExperimentClient) -> int:
    """How many golden answers the client gets wrong."""
    count = 0
    for case in DECISIONS["cases"]:
        at(client, case["now"])
        for key, wanted in case["experiments"].items():
            choice = client.variant(key, case["user_id"], case["context"], expose=False)
            count += (choice.variant, choice.reason) != (wanted["variant"], wanted["reason"])
        for key, wanted in case["flags"].items():
            default = type(wanted["value"])()
            found = client.flag_details(key, case["user_id"], default, case["context"], expose=False)
            count += (found.value, found.reason, found.variant) != (
                wanted["value"],
                wanted["reason"],
                wanted["variant"],
            )
    return count


def test_golden_decisions_through_the_client(tmp_path: Path) -> None:
    """All experiments and flags of the vectors; a configuration without layers and holdouts is caught."""
    careless = json.loads(json.dumps(DECISIONS["document"]))
    for entry in careless["experiments"]:
        entry["layers"], entry["holdouts"] = [], []

    with deciding(tmp_path, DECISIONS["document"]) as client:
        assert wrong(client) == 0
    with deciding(tmp_path, careless) as client:
        assert wrong(client) > 0


def test_golden_choices_through_the_client(tmp_path: Path) -> None:
    """All of assignment.json, each salt and weights as an experiment of its own; another salt is caught."""
    cases = ASSIGNMENT["choose"]

    def misses(salt: str) -> int:
        entries = [
            experiment(f"case-{number}", salt=case["salt"] + salt, variants=[
                {"id": str(place), "name": str(place), "is_control": place == 0, "weight": weight, "config": None}
                for place, weight in enumerate(case["weights"])
            ])
            for number, case in enumerate(cases)
        ]  # fmt: skip
        with deciding(tmp_path, configuration(*entries)) as client:
            found = [client.variant(f"case-{number}", case["user_id"]).variant for number, case in enumerate(cases)]
        return sum(name != str(case["index"]) for name, case in zip(found, cases, strict=True))

    assert misses("") == 0
    assert misses("x") > 0


def test_a_choice_says_what_and_why(tmp_path: Path) -> None:
    """With the configuration of its variant; without one, the reason."""
    everybody, nobody = experiment("all"), experiment("none", targeting={"countries": ["DE"]})
    with deciding(tmp_path, configuration(everybody, nobody, experiment("old", status="paused"))) as client:
        given = client.variant("all", "user-1", {"country": "US"})
        refused = client.variant("none", "user-1", {"country": "US"})

        assert (given.key, given.reason, given.config) == ("all", "assigned", {"color": given.variant})
        assert given.is_control == (given.variant == "control")
        assert (refused.variant, refused.reason, refused.is_control) == (None, "not_targeted", False)
        assert (given.or_else("x"), refused.or_else("x")) == (given.variant, "x")
        assert client.variant("id-all", "user-1") is given
        assert client.variant("nothing", "user-1").reason == "unknown_experiment"
        assert client.variant("old", "user-1").reason == "not_running"
        assert client.choices("user-1") == {"all": given, "none": refused}


@pytest.mark.parametrize(
    ("user_id", "context", "reason"),
    [
        ("", {}, "invalid_user_id"),
        ("null", {}, "invalid_user_id"),
        (" user", {}, "invalid_user_id"),
        ("\ud800", {}, "invalid_user_id"),
        ("u" * 300, {}, "invalid_user_id"),
        (7, {}, "invalid_user_id"),
        (None, {}, "invalid_user_id"),
        ("user-1", None, "invalid_context"),
        ("user-1", "US", "invalid_context"),
        ("user-1", {"country": object()}, "not_targeted"),
        ("user-1", {"country": ["US"]}, "assigned"),
        ("user-1", {"country": {"a": 1}}, "not_targeted"),
        ("user-1", {"country": float("nan")}, "not_targeted"),
    ],
)
def test_nothing_that_is_given_raises(tmp_path: Path, user_id: Any, context: Any, reason: str) -> None:
    """Who cannot be recorded gets no variant; a context that is none neither."""
    button = experiment("button", targeting={"countries": ["US"]})
    flags = (flag("banner", experiment="id-button", values={"control": True, "blue": True, "green": True}),)
    with deciding(tmp_path, configuration(button, flags=flags)) as client:
        fitting = {"country": "US"} if context == {} else context

        assert client.variant("button", user_id, fitting).reason == reason
        assert client.variant("button", user_id, fitting, expose=False).reason == reason
        assert client.flag("banner", user_id, False, fitting) is (reason == "assigned")
        client.choices(user_id, fitting)
        assert client.variant(["button"], user_id, context).reason == "unknown_experiment"  # type: ignore[arg-type]
        assert client.flag(["banner"], user_id, "d", context) == "d"  # type: ignore[arg-type]
        client.track(user_id, "purchase", context)
        client.expose("button", user_id, "blue", context)


def test_a_flag_gives_a_value_of_the_type_of_its_default(tmp_path: Path) -> None:
    """Else the default, with the error's code."""
    flags = (
        flag("on", default=True), flag("text", "string", "x"), flag("count", "integer", 3),
        flag("rate", "number", 1.0), flag("shape", "object", {"a": 1}),
        flag("part", rollout={"value": True, "targeting": {}, "steps": [{"at": None, "share": 500_000}]}),
    )  # fmt: skip
    with deciding(tmp_path, configuration(flags=flags)) as client:
        values = [client.flag("on", "u", False), client.flag("text", "u", ""), client.flag("count", "u", 0)]
        values += [client.flag("rate", "u", 0.0), client.flag("shape", "u", {})]
        mismatches: list[tuple[str, Any]] = [
            ("on", 0),
            ("count", False),
            ("count", 0.0),
            ("rate", 1),
            ("text", None),
            ("shape", []),
        ]

        assert values == [True, "x", 3, 1.0, {"a": 1}]
        for key, default in mismatches:
            found = client.flag_details(key, "u", default)
            assert (found.value, found.reason, found.error_code) == (default, "ERROR", "TYPE_MISMATCH"), key
        assert client.flag_details("nothing", "u", "d").error_code == "FLAG_NOT_FOUND"
        assert client.flag_details("on", "", False).value is True
        assert client.flag_details("part", "", False).error_code == "TARGETING_KEY_MISSING"
        assert client.flag_details("on", "u", False).reason == "DEFAULT"


def test_without_any_configuration_there_are_defaults(tmp_path: Path) -> None:
    """With neither server nor file; a file that cannot be read is none."""
    (tmp_path / "broken").write_text("{")
    for file in (None, tmp_path / "missing", tmp_path / "broken", tmp_path):
        client = ExperimentClient(AWAY, KEY, snapshot_file=file)

        assert client.variant("button", "user-1").reason == "no_configuration"
        assert client.choices("user-1") == {}
        found = client.flag_details("banner", "user-1", "d")
        assert (found.value, found.reason, found.error_code) == ("d", "ERROR", "PROVIDER_NOT_READY")
        assert client.ready(0.05) is False
        client.close(0)


@pytest.mark.parametrize(
    "options",
    [{"url": "upshot:8000"}, {"key": ""}, {"key": "a\nb"}, {"poll_seconds": 0}, {"queue_size": 0}, {"timeout": -1}],
)
def test_a_client_that_cannot_work_is_not_made(options: dict[str, Any]) -> None:
    """It says so at once, in the words of the setting."""
    with pytest.raises(ConfigurationError):
        ExperimentClient(**{"url": AWAY, "key": KEY} | options)
