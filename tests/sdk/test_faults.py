"""The client while its world breaks: servers that die, stop and were never there; processes that fork and end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.backends import free_port
from tests.sdk.scripted import KEY, ScriptedServer
from tests.sdk.test_client import SOON, until
from tests.servers import TOKEN, RunningServer, running

from upshot.sdk import ExperimentClient, delivery, lifetimes
from upshot.sdk.outbox import Item, Kind

VARIANTS = [{"name": "control"}, {"name": "blue"}]
PATIENT = 1.0
"""Seconds that nothing in the caller's path may take, on the slowest machine; what waits for a server takes longer."""
LONG = 3.5
"""Seconds that the end of a process may not take: the two that it waits, and what ends besides."""


def create(server: RunningServer) -> None:
    """An experiment that everybody is in."""
    with server.client() as http:
        answer = http.post("/experiments", json={"name": "Button", "primary_metric": "buy", "variants": VARIANTS})
        assert answer.status_code == 201


def counted(server: RunningServer) -> tuple[int, int]:
    """How many users were exposed, and how many events are counted."""
    with server.client() as http:
        found = http.get("/experiments/button/results").json()
        types = http.get("/events/types").json()["event_types"]
    return found["summary"]["total_users"], sum(each["count"] for each in types)


@contextmanager
def stopped(server: RunningServer) -> Iterator[None]:
    """The server stands still for the time of a block: it takes connections and answers nothing."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_server_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """What the queue took is counted once each, however often the server dies under it."""
    port = free_port()
    server = RunningServer(tmp_path, port=port)
    try:
        create(server)
        client = ExperimentClient(server.url, TOKEN, timeout=2, queue_size=100_000)
        assert client.ready(10)
        stopping = threading.Event()
        told: list[str] = []

        def tell() -> None:
            while not stopping.is_set():
                user = f"user-{len(told)}"
                client.variant("button", user)
                client.track(user, "buy")
                told.append(user)
                time.sleep(0.001)

        thread = threading.Thread(target=tell)
        thread.start()
        for _ in range(3):
            time.sleep(1.2)
            server.kill()
            time.sleep(0.5)
            server = RunningServer(tmp_path, port=port)
        stopping.set()
        thread.join()

        assert client.flush(60)
        stats = client.stats
        client.close()
        assert (stats.dropped, stats.refused, stats.failed, stats.conflicts) == (0, 0, 0, 0)
        assert until(lambda: counted(server) == (len(told), len(told))), (counted(server), len(told))
    finally:
        server.stop()


@pytest.mark.slow
def test_a_server_that_was_never_there_comes_later(tmp_path: Path) -> None:
    """With a file decisions are as the last time, without one there are none; both go on when the server comes."""
    port = free_port()
    with running(tmp_path / "first", port=port) as server:
        create(server)
        url = server.url
        file = tmp_path / "snapshot.json"
        before = ExperimentClient(url, TOKEN, snapshot_file=file)
        assert before.ready(10)
        given = {f"user-{number}": before.variant("button", f"user-{number}", expose=False) for number in range(50)}
        before.close()

    kept = ExperimentClient(url, TOKEN, snapshot_file=file, timeout=1)
    empty = ExperimentClient(url, TOKEN, timeout=1)
    with_file = {user: kept.variant("button", user) for user in given}
    without = empty.variant("button", "user-1")
    assert not empty.ready(0.5)
    empty.track("user-1", "buy")
    again = RunningServer(tmp_path / "first", port=port)
    try:
        assert with_file == given
        assert without.reason == "no_configuration"
        assert empty.ready(40)
        assert empty.variant("button", "user-1").variant == given["user-1"].variant
        assert kept.flush(40)
        assert empty.flush(40)
        assert until(lambda: counted(again) == (50, 1))
    finally:
        kept.close()
        empty.close()
        again.stop()


class SendingAtOnce(ExperimentClient):
    """A broken client that sends where it is called."""

    def track(self, *arguments: Any, **named: Any) -> None:
        """Send in the caller's thread."""
        with self._transport.open_client(self._settings, self._settings.timeout) as http, self._lock:
            super().track(*arguments, **named)
            step = self._protocol.next(time.monotonic(), self._clock.now(), hurry=True)
            if not isinstance(step, float):
                self._transport.exchange(http, step)


def longest_of(taken: list[float]) -> float:
    """The third-longest time: a busy machine holds up one call or two, and who waits for a server is held up each time."""
    return sorted(taken)[-3]


def longest_call(client: ExperimentClient, name: str) -> float:
    """The seconds that the slowest of some calls took, but for two."""
    taken: list[float] = []
    for number in range(200):
        started = time.monotonic()
        client.variant("button", f"{name}-{number}", {"country": "US"})
        client.flag("banner", f"{name}-{number}", default=False)
        client.track(f"{name}-{number}", "buy")
        taken.append(time.monotonic() - started)
        if sum(each > PATIENT for each in taken) == 3:
            break
    return longest_of(taken)


def hurried(client: ExperimentClient) -> float:
    """How long it takes until a flush of 0.2 s gives up, at best of three."""
    taken = []
    for _ in range(3):
        started = time.monotonic()
        assert not client.flush(0.2)
        taken.append(time.monotonic() - started)
    return min(taken)


@pytest.mark.slow
def test_a_server_that_stands_still_blocks_nobody(tmp_path: Path) -> None:
    """Decisions and events go on at once, and are sent when it moves again; a client that sends where it is called is caught."""
    with running(tmp_path) as server:
        create(server)
        with (
            ExperimentClient(server.url, TOKEN, timeout=2) as client,
            SendingAtOnce(server.url, TOKEN, timeout=2) as broken,
        ):
            assert client.ready(10)
            assert broken.ready(10)
            with stopped(server):
                taken = longest_call(client, "user")
                flushed = hurried(client)
                blocked = longest_call(broken, "other")

            assert taken < PATIENT < blocked
            assert flushed < PATIENT
            assert client.flush(60)
            assert client.stats.sent == 400


class SharingItsQueue(ExperimentClient):
    """A broken client whose children go on with what their parent has to send."""

    def _abandon(self) -> None:
        lines = {kind: tuple(line) for kind, line in self._outbox._lines.items()}
        super()._abandon()
        for kind, items in lines.items():
            for item in items:
                self._outbox.put(kind, item)


def in_child(work: Callable[[], None]) -> int:
    """The exit code of a forked child that works."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize(("kind", "doubled"), [(ExperimentClient, False), (SharingItsQueue, True)])
def test_a_forked_child_has_a_queue_and_a_thread_of_its_own(
    script: ScriptedServer,
    kind: type[ExperimentClient],
    doubled: bool,  # noqa: FBT001 - a parameter of pytest
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the parent has to send is sent once, by the parent; the child decides and sends by itself."""
    monkeypatch.setattr(delivery, "LINGER", 3_600)  # the thread leaves alone what it is not told to send
    client = kind(script.url, KEY, timeout=20)
    assert client.ready(SOON)
    client._outbox.put(Kind.EVENTS, Item(b'{"event_type":"of the parent"}'))

    def work() -> None:
        assert client.variant("button", "user-1").variant
        client.track("user-1", "of the child")
        assert client.flush(SOON)
        assert client.stats.sent == 2 + doubled
        assert any(thread.name == "upshot" for thread in threading.enumerate())

    assert in_child(work) == 0
    assert client.flush(SOON)
    client.close()
    sent = sorted(item["event_type"] for item in script.items("/events"))
    assert sent == ["of the child", *["of the parent"] * (1 + doubled)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_client_that_was_made_before_the_fork_begins_in_the_child(script: ScriptedServer) -> None:
    """As with gunicorn's preload: nothing runs before the first use."""
    client = ExperimentClient(script.url, KEY, timeout=20)
    threads = [thread.name for thread in threading.enumerate()]

    def work() -> None:
        assert client.ready(SOON)
        client.track("user-1", "of the child")
        assert client.flush(SOON)

    assert "upshot" not in threads
    assert in_child(work) == 0
    assert in_child(work) == 0
    assert len(script.items("/events")) == 2
    client.close()


_made: dict[str, ExperimentClient] = {}


def _work_in_pool(number: int) -> None:
    _made["client"].track(f"user-{number}", "of a worker")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_children_of_multiprocessing_send_what_they_have_when_they_end(
    script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they end without the ordinary end of a process, and nobody flushes."""
    monkeypatch.setattr(lifetimes, "AT_EXIT", SOON)  # how long that may take is the subject of another test
    client = _made["client"] = ExperimentClient(script.url, KEY, timeout=20)
    assert client.ready(SOON)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_work_in_pool, args=(number,)) for number in range(3)]

    for child in children:
        child.start()
    for child in children:
        child.join(2 * SOON)

    assert sorted(item["user_id"] for item in script.items("/events")) == ["user-0", "user-1", "user-2"]
    client.close()


PROGRAM = """
import sys
from upshot.sdk import {kind}
client = {kind}({url!r}, "k", timeout=1)
{body}
"""
PATIENTLY = (
    PROGRAM.replace("timeout=1", "timeout=20")
    + f"""
from upshot.sdk import lifetimes
lifetimes.AT_EXIT = {SOON}
"""
)
BODIES = {
    "ExperimentClient": 'client.track("user-1", "last words")',
    "AsyncExperimentClient": (
        "import asyncio\nasync def main():\n    await client.variant('button', 'user-1')\n"
        "    client.track('user-1', 'last words')\nasyncio.run(main())"
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_end_of_a_process_sends_what_waits(script: ScriptedServer, kind: str) -> None:
    """Without close and without flush. How long that may take is the subject of another test."""
    program = PATIENTLY.format(kind=kind, url=script.url, body=BODIES[kind])

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

    assert [item["event_type"] for item in script.items("/events")] == ["last words"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
def test_the_end_of_a_process_waits_two_seconds_at_most(tmp_path: Path, kind: str) -> None:
    """For a server that stands still, at best of three; the program says when its own work is done."""
    with running(tmp_path) as server:
        create(server)
        body = f"{BODIES[kind]}\nimport time; print(time.monotonic(), flush=True)"
        program = PROGRAM.format(kind=kind, url=server.url, body=body)
        taken: list[float] = []
        with stopped(server):
            while len(taken) < 3 and min(taken, default=LONG) >= LONG:
                done = subprocess.run(
                    [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
                )
                taken.append(time.monotonic() - float(done.stdout))

    assert 1.5 < min(taken) < LONG
