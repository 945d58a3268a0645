"""The client for threads on a real socket: what is told to the server, and what becomes of it when that answers otherwise."""

import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.scripted import KEY, Reply, ScriptedServer, configuration, experiment

from upshot.errors import UpshotError
from upshot.sdk import ExperimentClient, Occasion

Connect = Callable[..., ExperimentClient]
SOON = 30.0


def until(reached: Callable[[], Any], seconds: float = SOON) -> bool:
    """Wait until something is so, at most so many seconds; whether it is."""
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(reached())


def test_exposures_and_events_reach_the_server(script: ScriptedServer, connect: Connect) -> None:
    """With the key, the variant, the moment and what is known of the user; the event has an id, so that a retry counts once."""
    client = connect()

    choice = client.variant("button", "user-1", {"country": "US", "list": ["x"], "rate": float("inf"), "n": 3})
    client.track("user-1", "purchase", {"price": Decimal("25.5"), "at": datetime(2026, 1, 1, tzinfo=UTC)})
    client.track("user-1", "purchase", timestamp=datetime(2026, 1, 2, tzinfo=UTC), event_id="mine")

    assert client.flush(SOON)
    [shown] = script.items("/exposures")
    first, second = script.items("/events")
    assert script.asked_for("/exposures")[0].headers["authorization"] == f"Bearer {KEY}"
    assert {name: shown[name] for name in ("user_id", "experiment", "variant", "context")} == {
        "user_id": "user-1", "experiment": "id-button", "variant": choice.variant, "context": {"country": "US", "n": 3},
    }  # fmt: skip
    assert datetime.fromisoformat(shown["exposed_at"]).tzinfo is not None
    assert first["properties"] == {"price": 25.5, "at": "2026-01-01T00:00:00+00:00"}
    assert len(first["event_id"]) == 36
    assert (second["event_id"], second["timestamp"]) == ("mine", "2026-01-02T00:00:00+00:00")
    assert client.stats.sent == 3
    assert client.stats.queued == 0


def test_an_exposure_is_told_once_and_only_where_there_is_one(script: ScriptedServer, connect: Connect) -> None:
    """Not for prefetched choices, overrides, flags' defaults or silent questions; then by `expose`, once as well."""
    client = connect()

    for _ in range(3):
        client.variant("button", "user-1")
        client.flag("banner", "user-1", "")
        client.variant("button", "user-2", expose=False)
        client.flag("banner", "user-3", "", expose=False)
        client.choices("user-4")
        client.variant("tried", "user-5", {"country": "QA"})
        client.flag("banner", "user-6", "")
        client.expose("tried", "user-5", "blue", {"country": "QA"})
        client.expose("button", "user-2", "blue")
        client.expose("button", "null", "blue")
    client.flush(SOON)

    assert client.variant("tried", "user-5", {"country": "QA"}).reason == "overridden"
    assert sorted(item["user_id"] for item in script.items("/exposures")) == ["user-1", "user-2", "user-6"]
    assert client.stats.refused == 3  # of the user that is none


def test_exposures_can_be_turned_off(script: ScriptedServer, connect: Connect) -> None:
    """What is told with `expose` is told all the same."""
    client = connect(exposures=False)

    client.variant("button", "user-1")
    client.flag("banner", "user-1", "")
    client.expose("button", "user-2", "blue")
    client.flush(SOON)

    assert [item["user_id"] for item in script.items("/exposures")] == ["user-2"]


def test_another_configuration_is_used_at_the_next_poll(
    script: ScriptedServer, connect: Connect, tmp_path: Path
) -> None:
    """And kept in the file, which only its owner may read; listeners are told, and one that fails harms nobody."""
    file = tmp_path / "snapshot.json"
    client = connect(poll_seconds=0.05, snapshot_file=file)
    told: list[Occasion] = []

    def fail(_: Occasion) -> None:
        raise RuntimeError

    client.watch(fail)
    client.watch(told.append)
    script.document, script.etag = configuration(experiment("other")), '"two"'

    assert until(lambda: client.variant("other", "user-1").variant)
    assert client.variant("button", "user-1").reason == "unknown_experiment"
    assert until(lambda: told.count(Occasion.CHANGED) == 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    client.unwatch(told.append)
    again = ExperimentClient("http://127.0.0.1:9", KEY, snapshot_file=file)
    assert again.variant("other", "user-1").variant
    assert again.stats.configuration == "two"
    assert (again.stats.age or 0) > 0
    again.close(0)


def test_a_file_that_cannot_be_written_changes_nothing(script: ScriptedServer, tmp_path: Path) -> None:
    """It is told."""
    errors: list[UpshotError] = []
    client = ExperimentClient(script.url, KEY, snapshot_file=tmp_path / "no" / "folder", on_error=errors.append)

    assert client.ready(SOON)
    assert client.variant("button", "user-1").variant
    assert until(lambda: errors)
    assert client.stats.last_error == "snapshot_file"
    client.close(0.2)


def test_a_stream_tells_of_changes_at_once(script: ScriptedServer, connect: Connect) -> None:
    """With a poll of an hour; without a stream nothing would come. The end of the client ends it."""
    script.streaming = True
    client = connect(poll_seconds=3_600, stream=True)
    assert until(lambda: script.streams)
    before = len(script.asked_for("/sdk/config"))

    script.tell(": alive\n\n")
    script.document, script.etag = configuration(experiment("other")), '"two"'
    script.tell('id: "two"\nevent: message\ndata: {"type":"refetchEvaluation","etag":"\\"two\\""}\n\n')

    assert until(lambda: client.variant("other", "user-1").variant)
    assert len(script.asked_for("/sdk/config")) <= before + 2
    assert script.asked_for("/sdk/stream")[0].headers["accept"] == "text/event-stream"
    client.close(2)
    assert until(lambda: not [thread for thread in threading.enumerate() if thread.name == "upshot-stream"])


def test_without_the_stream_polling_goes_on(script: ScriptedServer, connect: Connect) -> None:
    """A server that has none answers 404."""
    client = connect(poll_seconds=0.05, stream=True)
    script.document, script.etag = configuration(experiment("other")), '"two"'

    assert until(lambda: client.variant("other", "user-1").variant)
    assert until(lambda: script.asked_for("/sdk/stream"))


def test_a_key_that_is_refused_keeps_the_queue_and_is_told_once(script: ScriptedServer) -> None:
    """When it is good again, everything is sent."""
    refused = {"code": "unauthenticated"}
    errors: list[UpshotError] = []
    script.replies = {path: lambda _: Reply(401, refused) for path in ("/sdk/config", "/events")}
    client = ExperimentClient(script.url, KEY, on_error=errors.append)
    client.track("user-1", "purchase")
    assert not client.flush(0.3)

    assert until(lambda: client.stats.last_error)
    assert (client.stats.queued, client.stats.sent, client.stats.last_error) == (1, 0, "unauthenticated")
    assert until(lambda: len(errors) == 2)  # of what is sent, and of the configuration
    assert [error.code for error in errors] == ["unauthenticated"] * 2
    script.replies = {}
    assert client.flush(60)
    assert client.stats.sent == 1
    client.close(1)


def test_a_quota_that_is_used_up_is_respected(script: ScriptedServer, connect: Connect) -> None:
    """Nothing is sent before the server says so, and then it counts once."""
    client = connect()
    moments: list[float] = []

    def busy(asked: Any) -> Reply:
        moments.append(time.monotonic())
        return (
            Reply(429, {"code": "quota_exceeded"}, {"Retry-After": "1"})
            if len(moments) == 1
            else Reply(201, {"accepted": 1, "duplicates": 0, "conflicts": 0, "rejected": []})
        )

    script.replies["/events"] = busy
    client.track("user-1", "purchase")

    assert client.flush(SOON)
    assert moments[1] - moments[0] >= 1.0
    assert script.items("/events")[0] == script.items("/events")[1]
    assert client.stats.sent == 1


def test_what_is_too_much_for_the_queue_is_counted(script: ScriptedServer, connect: Connect) -> None:
    """The oldest are kept; the application is told once."""
    errors: list[UpshotError] = []
    client = connect(queue_size=5, on_error=errors.append)
    gate = threading.Event()

    def slow(asked: Any) -> Reply:
        gate.wait(SOON)
        return Reply(201, {"accepted": 5, "duplicates": 0, "conflicts": 0, "rejected": []})

    script.replies["/events"] = slow
    for number in range(8):
        client.track("user-1", f"event-{number}")

    assert (client.stats.queued, client.stats.dropped) == (5, 3)
    gate.set()
    assert client.flush(SOON)
    assert [item["event_type"] for item in script.items("/events")] == [f"event-{number}" for number in range(5)]
    assert [error.code for error in errors] == ["too_large"]
    client.track("user-1", "later")
    assert client.flush(SOON)
    assert client.stats.sent == 6


def test_what_cannot_be_sent_is_counted_and_holds_up_nobody(script: ScriptedServer, connect: Connect) -> None:
    """Bad ids, numbers that JSON has not, moments without an offset, endless nesting."""
    client = connect()
    endless: dict[str, Any] = {}
    endless["again"] = endless
    bad: list[tuple[Any, Any, Any, Any]] = [
        ("null", "purchase", {}, None), ("user-1", "", {}, None), ("user-1", 7, {}, None), ("user-1", "x" * 201, {}, None),
        ("user-1", "purchase", {"price": float("nan")}, None), ("user-1", "purchase", {"text": "\ud800"}, None),
        ("user-1", "purchase", endless, None), ("user-1", "purchase", 7, None),
        ("user-1", "purchase", {}, datetime(2026, 1, 1)), ("user-1", "purchase", {}, "yesterday"),  # noqa: DTZ001
    ]  # fmt: skip

    for user_id, kind, properties, timestamp in bad:
        client.track(user_id, kind, properties, timestamp=timestamp)
    client.track("user-1", "purchase", {"object": object()})

    assert client.flush(SOON)
    assert (client.stats.refused, client.stats.sent) == (len(bad), 1)


def test_a_lost_exposure_is_told_anew(script: ScriptedServer, connect: Connect) -> None:
    """When the user comes again, after the server refused it."""
    client = connect()
    script.replies["/exposures"] = lambda _: Reply(400, {"code": "malformed"})
    client.variant("button", "user-1")
    client.flush(SOON)
    script.replies = {}

    client.variant("button", "user-1")
    client.flush(SOON)

    assert [item["user_id"] for item in script.items("/exposures")] == ["user-1", "user-1"]
    assert (client.stats.sent, client.stats.refused) == (1, 1)


def test_eight_threads_lose_nothing_and_double_nothing(script: ScriptedServer, connect: Connect) -> None:
    """Every event once, every exposure once, and everybody the same variant."""
    client = connect(queue_size=100_000)

    def work(thread: int) -> list[str | None]:
        for number in range(500):
            client.track(f"user-{number}", "seen", {"thread": thread})
        return [client.variant("button", f"user-{number}").variant for number in range(500)]

    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(work, range(8))]

    assert client.flush(SOON)
    assert all(each == found[0] for each in found)
    events = script.items("/events")
    assert len({event["event_id"] for event in events}) == len(events) == 4_000
    users = [item["user_id"] for item in script.items("/exposures")]
    assert len(set(users)) == len(users) == 500
    assert client.stats.dropped == 0


def test_after_its_end_a_client_decides_and_drops(script: ScriptedServer, connect: Connect) -> None:
    """Closing twice is closing once."""
    client = connect()
    client.close()
    client.close()

    client.track("user-1", "purchase")

    assert client.variant("button", "user-1").variant
    assert (client.stats.dropped, client.stats.last_error) == (2, "closed")
    assert until(lambda: not [thread for thread in threading.enumerate() if thread.name == "upshot"])


def test_a_client_that_fails_to_tell_is_no_reason_to_end(script: ScriptedServer, connect: Connect) -> None:
    """An application's on_error may raise."""

    def fail(error: UpshotError) -> None:
        raise RuntimeError(error.code)

    client = connect(on_error=fail)
    script.replies["/events"] = lambda _: Reply(400, {"code": "malformed"})
    client.track("user-1", "purchase")
    client.flush(SOON)
    script.replies = {}
    client.track("user-1", "purchase")

    assert client.flush(SOON)
    assert client.stats.sent == 1


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Every client of a test ends with it."""
    yield
    assert until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("upshot")])
