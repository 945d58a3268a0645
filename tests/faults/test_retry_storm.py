"""A retry storm: everybody whom an outage turned away comes back at once, and the server is itself again soon.

The clients are one process of their own, so that they do not share an interpreter with the measurement.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.backends.daemon import server_folder
from tests.backends.postgresql import USER, postgresql
from tests.faults.reporting import percentile, say
from tests.faults.traffic import Load, check, load
from tests.servers import TOKEN, RunningServer, running

ROOT = Path(__file__).parents[2]
CLIENTS = 400
CAP = 100
OUTAGE_SECONDS = 10.0
STEADY_SECONDS = 10.0  # after the storm has begun the server is as quick as before
WINDOW_SECONDS = 2.0
SLOWER = 3.0  # times the p99 before the outage still is as quick
AT_LEAST = 0.25  # and so many seconds always are: other work shares the machine
GOODPUT = 0.8
TRIES = 6

pytestmark = pytest.mark.slow


async def storm(url: str, seed: int) -> None:
    """What the clients' process does: each sends one batch of events until it is taken, as a client should that can wait."""
    chance = random.Random(seed)
    answers: list[tuple[int, str | None]] = []

    async def call(client: httpx.AsyncClient, number: int) -> bool:
        events = [{"user_id": "u", "event_type": "storm", "event_id": f"storm-{number}"}]
        for attempt in range(TRIES):
            try:
                answer = await client.post("/events", json=events)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                continue  # an idle connection was closed while this was on its way: it goes out again, with the same id
            answers.append((answer.status_code, answer.headers.get("retry-after")))
            if answer.is_success:
                return True
            await asyncio.sleep(int(answer.headers.get("retry-after", "1")) + chance.random() * 0.1 * 2**attempt)
        return False

    headers = {"Authorization": f"Bearer {TOKEN}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits) as client:
        done = await asyncio.gather(*(call(client, number) for number in range(CLIENTS)))
    print(json.dumps({"done": sum(done), "answers": answers}))  # noqa: T201


@dataclass
class Storm:
    """What was seen."""

    done: int = 0
    peak: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    waits: Counter[str | None] = field(default_factory=Counter)  # the Retry-After of 503s
    before: float = 0
    steady: float = float("inf")

    def report(self) -> None:
        """Print the figures."""
        say(
            f"{self.done} of {CLIENTS} clients were served; answers {dict(self.statuses)}, Retry-After {dict(self.waits)}"
        )
        say(f"at most {self.peak} requests under way; p99 before {self.before:.3f} s, again {self.steady:.1f} s after")


@contextmanager
def peaks(server: RunningServer) -> Iterator[list[int]]:
    """How many requests are under way, asked all the time."""
    found: list[int] = []
    stopping = threading.Event()

    def watch() -> None:
        with server.client() as client:
            while not stopping.wait(0.01):
                text = client.get("/metrics").raise_for_status().text
                if under_way := re.search(r"^upshot_requests_under_way (\d+)", text, re.MULTILINE):
                    found.append(int(under_way[1]) - 1)  # without the one that asks

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join(30)


def stormed(folder: Path, seed: int, cap: int, outage: float, after: float) -> Storm:
    """So many seconds without the database, then everybody at once, then a look at how it goes on."""
    found = Storm()
    with server_folder(USER) as place, postgresql(place) as database:
        stores = {"DATABASE_URL": database.url, "UPSHOT_EVENTS_URL": database.url}
        with running(folder, environment=stores | {"UPSHOT_CONCURRENT_REQUESTS": str(cap)}) as server:
            with load(server, seed, callers=2) as working, peaks(server) as under_way:
                command = [sys.executable, "-m", "tests.faults.test_retry_storm", server.url, str(seed)]
                clients = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                time.sleep(3)
                paused = time.monotonic()
                database.pause()
                time.sleep(outage)
                database.resume()
                over = time.monotonic()
                said = json.loads(clients.communicate("go\n", timeout=60)[0])
                time.sleep(max(0, over + after - time.monotonic()))
            kept = check(server, working)
    assert kept.faults == (0, 0, 0, 0, 0)
    found.done, found.peak = said["done"], max(under_way)
    found.statuses.update(status for status, _ in said["answers"])
    found.waits.update(wait for status, wait in said["answers"] if status == 503)
    found.before = quickness(working, 0, paused)
    limit = max(SLOWER * found.before, AT_LEAST)
    moments = (over + step / 2 for step in range(int(2 * STEADY_SECONDS)))
    found.steady = next((m - over for m in moments if quickness(working, m, m + WINDOW_SECONDS) <= limit), found.steady)
    found.report()
    return found


def quickness(working: Load, begun: float, over: float) -> float:
    """The p99 of good answers in a stretch; endless when one was refused."""
    asked = [answer for answer in working.answers if begun <= answer.at <= over]
    return percentile([a.seconds if a.status in {200, 201} else float("inf") for a in asked], 0.99)


def test_a_retry_storm_is_survived_with_a_cap(tmp_path: Path, seed: int) -> None:
    """Four clients for every request that may be under way: the rest is turned away at once, and comes again at other times."""
    found = stormed(tmp_path, seed, CAP, OUTAGE_SECONDS, STEADY_SECONDS + WINDOW_SECONDS)
    assert found.peak <= CAP
    assert set(found.statuses) <= {200, 201, 503}
    assert found.statuses[503] > 0
    assert len(found.waits) > 1
    assert None not in found.waits
    assert found.done >= GOODPUT * CLIENTS
    assert found.steady <= STEADY_SECONDS


def test_a_server_without_a_cap_is_caught(tmp_path: Path, seed: int) -> None:
    """The negative control: the same watch sees more under way than the cap."""
    assert stormed(tmp_path, seed, 100_000, 1, 0).peak > CAP


if __name__ == "__main__":
    sys.stdin.readline()
    asyncio.run(storm(sys.argv[1], int(sys.argv[2])))
