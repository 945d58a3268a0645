"""Users who keep their variant: by the hash, in a store of the application's, and as the server has stored it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.sdk.scripted import KEY, Reply, ScriptedServer, configuration, experiment, flag
from tests.sdk.test_client import SOON, until
from tests.sdk.test_faults import longest_of, stopped
from tests.servers import TOKEN, RunningServer, running

from upshot.sdk import ExperimentClient, StickyStore, stored

USERS = [f"user-{number}" for number in range(60)]
Sticky = StickyStore | Literal["server"] | None


class Shelf:
    """A store of variants in a dictionary, which counts what it is asked."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.looks = 0

    def get(self, experiment: str, user_id: str) -> str | None:
        """What was kept."""
        self.looks += 1
        return self.kept.get((experiment, user_id))

    def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep."""
        self.kept[experiment, user_id] = variant


class Broken(Shelf):
    """A store that fails."""

    def get(self, experiment: str, user_id: str) -> str | None:
        """Fail."""
        raise ConnectionError(experiment, user_id)

    def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Fail."""
        raise ConnectionError(experiment, user_id, variant)


def allocate(server: RunningServer, control: int, blue: int) -> None:
    """Change the shares."""
    with server.client() as http:
        found = http.get("/experiments/button").json()
        shares = [
            {"name": "control", "traffic_allocation": control}, {"name": "blue", "traffic_allocation": blue},
        ]  # fmt: skip
        answer = http.patch(f"/experiments/{found['id']}", json={"variants": shares})
        assert answer.status_code == 200, answer.text


def given(client: ExperimentClient) -> dict[str, str | None]:
    """The variants of all users."""
    return {user: client.variant("button", user, {"country": "US"}).variant for user in USERS}


@pytest.mark.slow
@pytest.mark.parametrize(("sticky", "stays"), [("server", True), ("store", True), (None, False)])
def test_a_changed_allocation_moves_nobody_who_keeps_a_variant(tmp_path: Path, sticky: str | None, stays: bool) -> None:  # noqa: FBT001
    """With a store or the server; by the hash alone, users move. A new process with the same store knows them, too."""
    shelf = Shelf()
    kind: Sticky = "server" if sticky == "server" else shelf if sticky else None
    with running(tmp_path) as server:
        with server.client() as http:
            variants = [{"name": "control"}, {"name": "blue"}]
            http.post("/experiments", json={"name": "Button", "variants": variants}).raise_for_status()
        with ExperimentClient(server.url, TOKEN, poll_seconds=0.1, sticky=kind, sticky_timeout=10) as first:
            assert first.ready(10)
            before = given(first)
            assert first.flush(SOON)
            version = first.version
            allocate(server, 90, 10)
            assert until(lambda: first.version != version)
            after = given(first)
        with ExperimentClient(server.url, TOKEN, sticky=kind, sticky_timeout=10) as second:
            assert second.ready(10)
            elsewhere = given(second)
            new = [second.variant("button", f"new-{number}").variant for number in range(60)]
            assert second.flush(SOON)
            conflicts = first.stats.conflicts + second.stats.conflicts

    assert (after == before) is stays
    assert (elsewhere == before) is stays
    assert new.count("control") > 40
    assert (conflicts == 0) is stays


def test_a_store_is_asked_first_and_told_what_is_new(
    script: ScriptedServer, connect: Callable[..., ExperimentClient]
) -> None:
    """By the experiment's key, however it was named; overrides go before it; a variant that is gone does not count."""
    shelf = Shelf()
    shelf.kept = {("button", "kept"): "green", ("button", "gone"): "purple", ("tried", "tester"): "control"}
    client = connect(sticky=shelf)

    assert client.variant("id-button", "kept").variant == "green"
    assert client.flag("banner", "kept", "") == "calm"
    assert client.choices("kept")["button"].variant == "green"
    fresh = client.variant("button", "gone")
    assert shelf.kept["button", "gone"] == fresh.variant
    assert client.variant("tried", "tester", {"country": "QA"}).variant == "blue"
    assert client.variant("tried", "other", {"country": "QA"}).reason == "overridden"
    assert client.variant("button", "null").reason == "invalid_user_id"
    assert set(shelf.kept) == {("button", "kept"), ("button", "gone"), ("tried", "tester"), ("tried", "kept")}
    client.flush(SOON)
    assert {item["user_id"]: item["variant"] for item in script.items("/exposures")}["kept"] == "green"


@pytest.mark.parametrize("status", ["paused", "completed"])
def test_who_keeps_a_variant_keeps_it_in_every_state(
    script: ScriptedServer, connect: Callable[..., ExperimentClient], status: str
) -> None:
    """As the server does; that is no exposure, and others get none."""
    shelf = Shelf()
    shelf.kept = {("button", "kept"): "green"}
    script.document = configuration(experiment(status=status))
    client = connect(sticky=shelf)

    assert client.variant("button", "kept").variant == "green"
    assert client.variant("button", "other").reason == "not_running"
    client.flush(SOON)
    assert script.items("/exposures") == []


def test_a_rollout_is_no_exposure_of_who_keeps_a_variant(
    script: ScriptedServer, connect: Callable[..., ExperimentClient]
) -> None:
    """The experiment is over without a winner, so that the flag's rollout gives the value, and not the variant."""
    shelf = Shelf()
    shelf.kept = {("button", "kept"): "green"}
    rollout = {"value": "rolled", "targeting": {}, "steps": [{"at": None, "share": 1_000_000}]}
    banner = flag("banner", "string", "none", experiment="id-button", values={"green": "calm"}, rollout=rollout)
    script.document = configuration(experiment(status="completed"), flags=(banner,))
    client = connect(sticky=shelf)

    found = client.flag_details("banner", "kept", "")

    assert (found.value, found.experiment) == ("rolled", None)


def test_a_store_that_fails_is_no_reason_to_fail(connect: Callable[..., ExperimentClient]) -> None:
    """The hash decides."""
    by_hash = connect()
    client = connect(sticky=Broken())

    assert given(client) == given(by_hash)


def answered(name: str | None, reason: str = "assigned") -> Callable[[Any], Reply]:
    """What the server says of one user."""
    variant = None if name is None else {"id": name, "name": name, "is_control": False, "config": None}
    row = {"experiment_id": "id-button", "experiment_key": "button", "variant": variant, "reason": reason}
    return lambda _: Reply(200, {"assignments": [row]})


ASKED = "/experiments/id-button/assignments"


def test_the_server_is_asked_once_per_user(script: ScriptedServer, connect: Callable[..., ExperimentClient]) -> None:
    """Its answer goes before the hash; the exposure is told when there is one."""
    script.replies[ASKED] = answered("green")
    client = connect(sticky="server")

    for user in USERS[:10]:
        for _ in range(3):
            assert client.variant("button", user, {"country": "US"}, expose=False).variant == "green"
    client.variant("button", USERS[0])
    client.flush(SOON)

    assert len(script.asked_for(ASKED)) == 10
    assert [(item["user_id"], item["variant"]) for item in script.items("/exposures")] == [(USERS[0], "green")]


def test_all_experiments_are_one_question(script: ScriptedServer, connect: Callable[..., ExperimentClient]) -> None:
    """What the server does not say is asked one by one, or decided here."""
    script.replies["/assignments"] = answered("green")
    client = connect(sticky="server")

    first = client.choices("user-1")
    again = client.choices("user-1")

    assert first["button"].variant == again["button"].variant == "green"
    assert first["tried"].variant is not None
    assert len(script.asked_for("/assignments")) == 1
    assert script.asked_for(ASKED) == []


def test_who_has_no_variant_on_the_server_has_none(
    script: ScriptedServer, connect: Callable[..., ExperimentClient]
) -> None:
    """With the server's reason: it may know something newer than our configuration."""
    script.replies[ASKED] = answered(None, "held_out")
    client = connect(sticky="server")

    assert client.variant("button", "user-1").reason == "held_out"


def test_while_the_server_does_not_answer_the_hash_decides_until_it_does(
    script: ScriptedServer, connect: Callable[..., ExperimentClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first caller hears that it cannot say, the others do not wait at all; then the server's answer holds."""
    monkeypatch.setattr(stored, "_PAUSE", 3_600)  # until the test says that it is over
    by_hash = connect().variant("button", "user-1", expose=False).variant
    other = "green" if by_hash != "green" else "blue"
    script.replies[ASKED] = lambda _: Reply(503)
    client = connect(sticky="server")

    first = client.variant("button", "user-1", expose=False)
    asked = len(script.asked_for(ASKED))
    for user in USERS:
        client.variant("button", user, expose=False)
    assert len(script.asked_for(ASKED)) == asked == 1

    script.replies[ASKED] = answered(other)
    assert client._stored is not None
    client._stored._not_before = 0
    client._wake()
    assert first.variant == by_hash
    assert until(lambda: client.variant("button", "user-1", expose=False).variant == other)
    assert until(lambda: len(script.asked_for(ASKED)) >= len(USERS))  # all are asked for in the background


@pytest.mark.slow
def test_a_server_that_stands_still_holds_a_decision_up_for_its_timeout_at_most(tmp_path: Path) -> None:
    """Once, at best of three clients; what was decided meanwhile is the server's, as soon as it moves again."""
    with running(tmp_path) as server:
        with server.client() as http:
            variants = [{"name": "control"}, {"name": "blue"}]
            http.post("/experiments", json={"name": "Button", "variants": variants}).raise_for_status()
        held_up: list[float] = []
        while len(held_up) < 3 and min(held_up, default=2) >= 2:
            with ExperimentClient(server.url, TOKEN, sticky="server", sticky_timeout=0.5, timeout=2) as client:
                assert client.ready(10)
                with stopped(server):
                    first, *others = [waited(client, user) for user in ("user-0", *USERS)]
                held_up.append(first)
                assert longest_of(others) < 0.3
                assert client.flush(60)
                assert client.stats.conflicts == 0
        assert 0.3 < min(held_up) < 2


def waited(client: ExperimentClient, user: str) -> float:
    """How long a decision took."""
    started = time.monotonic()
    client.variant("button", user)
    return time.monotonic() - started


def test_a_key_of_the_url_is_quoted(script: ScriptedServer, connect: Callable[..., ExperimentClient]) -> None:
    """An experiment's id comes from the configuration, and is no path."""
    script.document = configuration(experiment(id="../events?x=1"))
    script.etag = '"two"'
    client = connect(sticky="server")
    client.variant("button", "user-1")

    assert any(each.path == "/experiments/..%2Fevents%3Fx%3D1/assignments" for each in script.asked)
    assert KEY in script.asked[0].headers["authorization"]
