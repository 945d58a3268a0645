"""Databases and brokers that are paused, killed and started again under load: promises are kept, the rest is refused fast.

PostgreSQL and Redis are real ones; a check at the end reads results and asks everything again.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.backends import process, redis, wait_until
from tests.backends.daemon import server_folder
from tests.backends.postgresql import USER, PostgreSQL, postgresql
from tests.faults.reporting import say
from tests.faults.traffic import HALVES, Answer, Kept, Load, check, load
from tests.faults.watching import Watch, report_answers, states, unfit
from tests.servers import RunningServer, running

PAUSED_SECONDS = 10.0
KILLED_SECONDS = 2.0
STEADY_SECONDS = 1.0
RED_SECONDS = 2.0
GREEN_SECONDS = 10.0
ENOUGH = 1_000  # events; of fewer, "none is lost" says little
SPOOL_BYTES = str(64 << 20)
WORKER = (sys.executable, "-m", "upshot", "worker")
EARLY = (sys.executable, str(Path(__file__).with_name("broken_server.py")), "serve")

pytestmark = pytest.mark.slow


class Unwaited(RunningServer):
    """A server that is not ready after its start, and need not be."""

    def _wait_until_ready(self) -> None:
        """It has said where it serves."""


@pytest.fixture(scope="module")
def database_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL that nobody else uses: it is paused and killed here."""
    with server_folder(USER) as folder, postgresql(folder) as server:
        yield server


def on(database: str, **more: str) -> dict[str, str]:
    """The environment of a server whose stores are both in one database."""
    return {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database} | more


def paused(server: Any, seconds: float = PAUSED_SECONDS) -> None:
    """SIGSTOP for so long."""
    server.pause()
    time.sleep(seconds)
    server.resume()


def killed(server: Any, seconds: float = KILLED_SECONDS) -> None:
    """kill −9, and a start from its disk after so long."""
    server.kill()
    time.sleep(seconds)
    server.restart()


def broken(load: Load, watch: Watch, outages: list[Callable[[], None]]) -> list[tuple[float, float]]:
    """One outage after the other; when each of them was. Prints, and demands, when readiness changed."""
    times = []
    for outage in outages:
        time.sleep(STEADY_SECONDS)
        begun = time.monotonic()
        outage()
        over = time.monotonic()
        red, green = watch.until(503, begun), watch.until(200, over)
        wait_until(partial(stored_since, load, over), what="the event store")
        again = min(a.at + a.seconds for a in load.answers if good(a, over)) - over
        say(f"away for {over - begun:.1f} s: /readyz 503 after {red:.2f} s, 200 {green:.2f} s after the end; "
            f"the first event was stored {again:.2f} s after it")  # fmt: skip
        assert red <= RED_SECONDS
        assert green <= GREEN_SECONDS
        assert again <= GREEN_SECONDS
        times.append((begun, over))
    time.sleep(STEADY_SECONDS)
    return times


def stored_since(load: Load, since: float) -> bool:
    """Whether events were taken since then."""
    return any(good(answer, since) for answer in load.answers)


def good(answer: Answer, since: float) -> bool:
    """Whether events were taken at that time."""
    return answer.what == "events" and answer.status in {200, 201, 202} and answer.at + answer.seconds >= since


def outages_of(
    server: RunningServer, seed: int, outages: list[Callable[[], None]]
) -> tuple[Load, list[tuple[float, float]]]:
    """Load, outages, and what must hold of every answer meanwhile."""
    process_id = server.process.pid
    with Watch(server).running() as watch, load(server, seed) as working:
        times = broken(working, watch, outages)
        working.until(ENOUGH)
    assert server.process.pid == process_id
    assert server.process.poll() is None
    slowest = max(answer.seconds for answer in watch.live)
    say(f"/livez: {len(watch.live)} answers, the slowest in {slowest:.2f} s; the server said {len(working.said)} lines")
    assert {answer.status for answer in watch.live} == {200}
    assert not [line for line in working.said if "Traceback" in line]
    assert not unfit(working.answers)
    wait_until(lambda: set(states(server)) <= {"control", "events", "queue", "cache"}, 30, "the rest")
    return working, times


def test_a_database_that_is_paused_and_killed_costs_no_promise(
    database_server: PostgreSQL, tmp_path: Path, seed: int
) -> None:
    """Twice each, under load; known experiments are assigned all the time."""
    database = database_server.database("outages")
    outages: list[Callable[[], None]] = [lambda: paused(database_server), lambda: killed(database_server)] * 2
    with running(tmp_path, environment=on(database)) as server:
        working, times = outages_of(server, seed, outages)
        share = report_answers(working.answers, times)
        found = check(server, working)
    found.report()
    assert found.events > ENOUGH
    assert found.unstored > 100
    assert found.faults == (0, 0, 0, 0, 0)
    assert share == 1


def test_a_server_that_answers_before_the_commit_is_caught(
    database_server: PostgreSQL, tmp_path: Path, seed: int
) -> None:
    """The negative control: the same outages, the same check."""
    database = database_server.database("early")
    with running(tmp_path, *EARLY, environment=on(database, BREAK="early")) as server, load(server, seed) as working:
        for _ in range(2):
            time.sleep(1)
            killed(database_server, 0.5)
        time.sleep(1)
    with running(tmp_path, environment=on(database)) as server:
        found = check(server, working)
    found.report()
    assert found.lost_events > 0
    assert found.lost_assignments > 0


@pytest.mark.parametrize("spool", ["0", SPOOL_BYTES], ids=["refusing", "spooling"])
def test_a_broker_that_is_paused_and_killed_costs_no_event(
    database_server: PostgreSQL, tmp_path: Path, seed: int, spool: str
) -> None:
    """Without a spool events are refused; with one they are taken, and stored when the broker is back."""
    database = database_server.database("broker")
    (tmp_path / "broker").mkdir()
    with redis.running(tmp_path / "broker") as broker:
        queued = on(database, QUEUE_URL=f"{broker.url}?stale=2")
        outages: list[Callable[[], None]] = [lambda: killed(broker, 3), lambda: paused(broker, 3)]
        with (
            working_on(queued, tmp_path),
            running(tmp_path / "server", environment=queued | {"UPSHOT_SPOOL_BYTES": spool}) as server,
        ):
            working, times = outages_of(server, seed, outages)
            share = report_answers(working.answers, times)
            wait_until(lambda: states(server)["queue"].startswith("ok"), 20, "the queue")
            wait_until(lambda: drained(server, working), 30, "the worker")
    statuses = {a.status for a in working.answers if a.what == "events"}
    assert statuses == ({202} if spool != "0" else {202, 503})
    assert share == 1
    found = checked(database, tmp_path, working)
    assert found.events > ENOUGH


def drained(server: RunningServer, working: Load) -> bool:
    """Whether every event that was taken is counted."""
    with server.client() as client:
        types = client.get("/events/types").json()["event_types"]
    return int(sum(kind["count"] for kind in types)) >= working.events


def checked(database: str, folder: Path, working: Load) -> Kept:
    """The check by a server without a queue: it says what is new."""
    with running(folder / "sound", environment=on(database)) as server:
        found = check(server, working)
    found.report()
    assert found.faults == (0, 0, 0, 0, 0)
    return found


@contextmanager
def working_on(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """A worker for the time of the block."""
    with ExitStack() as exits:
        exits.enter_context(process(*WORKER, log=folder / "worker.log", environment=environment))
        yield


def test_a_server_may_start_before_its_database(database_server: PostgreSQL, tmp_path: Path) -> None:
    """It lives, is not ready, refuses what needs the database, and comes up with it."""
    database = database_server.database("late")
    database_server.stop()
    begun = time.monotonic()
    server = Unwaited(tmp_path, environment=on(database))
    try:
        say(f"serves {time.monotonic() - begun:.1f} s after the start")
        with server.client() as client:
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code == 503
            for method, path in (("GET", "/experiments"), ("GET", "/experiments/x/assignment/u"), ("POST", "/events")):
                answer = client.request(method, path, json={"user_id": "u", "event_type": "buy"})
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.elapsed.total_seconds() <= 6
            database_server.restart()
            begun = time.monotonic()
            wait_until(lambda: client.get("/readyz").status_code == 200, GREEN_SECONDS, "readiness")
            say(f"ready {time.monotonic() - begun:.1f} s after the database")
            assert client.post("/experiments", json={"name": "late", "variants": HALVES}).status_code == 201
    finally:
        server.stop()


def test_assignments_never_read_the_replica(database_server: PostgreSQL, tmp_path: Path) -> None:
    """One that is behind delays lists and results only; one that dies takes nothing but these with it."""
    database = database_server.database("replicated")
    with server_folder(USER) as folder, database_server.replica(folder) as replica:
        copy = f"{replica.url.rpartition('/')[0]}/replicated"
        with running(tmp_path, environment=on(database, READ_DATABASE_URL=copy)) as server, server.client() as client:
            first = made(client, "first")
            replica.catch_up()
            with replica.lagging():
                second = made(client, "second")
                for experiment in (first, second):
                    assert assigned(client, experiment, "u") == (200, True)
                everywhere = client.post("/assignments", json={"user_id": "v"}).json()["assignments"]
                assert {answer["experiment_id"] for answer in everywhere} == {first, second}
                assert names(client) == {"first"}
                assert users(client, first) == 0
            replica.catch_up()
            assert names(client) == {"first", "second"}
            wait_until(lambda: users(client, first) == 1, 20, "the exposure")
            replica.kill()
            for _ in range(10):  # more than a circuit breaker takes
                assert client.get("/experiments").status_code == 503
            answers = [assigned(client, second, f"user-{number}") for number in range(50)]
            assert client.post("/assignments", json={"user_id": "w"}).status_code == 200
            assert set(answers) == {(200, True)}
            assert client.get(f"/experiments/{first}/results").status_code == 503


def made(client: httpx.Client, name: str) -> str:
    """A new experiment's id."""
    answer = client.post("/experiments", json={"name": name, "variants": HALVES}).raise_for_status()
    return str(answer.json()["id"])


def assigned(client: httpx.Client, experiment: str, user: str) -> tuple[int, bool]:
    """The status, and whether the assignment is stored."""
    answer = client.get(f"/experiments/{experiment}/assignment/{user}")
    return answer.status_code, bool(answer.json().get("persisted"))


def names(client: httpx.Client) -> set[str]:
    """The names in the list of experiments."""
    return {experiment["name"] for experiment in client.get("/experiments").raise_for_status().json()["experiments"]}


def users(client: httpx.Client, experiment: str) -> int:
    """How many users the result counts."""
    found = client.get(f"/experiments/{experiment}/results").raise_for_status().json()
    return int(found["summary"]["total_users"])
