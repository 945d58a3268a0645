"""kill −9 of workers in mid-batch: what the queue took is stored once, and what cannot be read is among the dead letters.

A server hands events to a real broker, one to three times each; workers store them in PostgreSQL and are killed at random. The
checker reads results, then sends everything again to a server without a queue: what is new the second time had been lost.
"""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from tests.backends.postgresql import PostgreSQL
from tests.faults.reporting import of, say
from tests.faults.wire import Wire
from tests.faults.workers import STALE, Bench, bench_of
from tests.servers import TOKEN, RunningServer

from upshot.eventqueue.adapters import EXHAUSTED

KILLS = {"redis": 24, "rabbitmq": 16}
CONTROL_KILLS = {"early": 4, "anew": 1}  # what `anew` doubles needs no kill
BUYERS = [f"buyer-{number}" for number in range(50)]
KIND = "buy"
QUIET = STALE + 1  # seconds without a change, after which nothing more comes
DRAINED_SECONDS = 30
STOPPED_SECONDS = 10

Batch = list[dict[str, Any]]


@dataclass
class Findings:
    """What the checker found out."""

    messages: int = 0
    events: int = 0
    counted: int = 0
    lost: int = 0
    doubled: int = 0
    sum_off: float = 0
    poison: int = 0
    poison_missing: int = 0
    poison_twice: int = 0
    exhausted: int = 0  # good messages that were handed out too often; replayed
    waiting: int = 0
    drained: float = 0
    stops: list[tuple[int, float]] = field(default_factory=list)  # exit codes and seconds
    surprises: Counter[str] = field(default_factory=Counter)

    def report(self) -> None:
        """Print the figures."""
        say(of(self.lost, self.events, f"events lost, sent in {self.messages:,} messages"))
        say(of(self.doubled, self.events, "events counted twice in results"))
        say(of(self.poison_missing, self.poison, f"poison messages not in the dead letters; {self.poison_twice} twice"))
        say(f"good messages that were handed out too often, and replayed: {self.exhausted}")
        say(f"drained {self.drained:.1f} s after the last start, {self.waiting} messages left")
        say(f"stopped in {max(seconds for _, seconds in self.stops):.1f} s at most; {dict(self.surprises)}")


class Sender:
    """A client that sends events, one to three times each, until it is told to stop; its log is what must be counted."""

    def __init__(self, url: str, seed: int) -> None:
        self._wire = Wire(url, TOKEN)
        self._random = random.Random(f"{seed}/sender")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: list[Batch] = []
        self.messages = 0
        self.surprises: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        self._wire.close()

    def _run(self) -> None:
        again: list[Batch] = []
        while not self._stopping.wait(0.002):
            if again and self._random.random() < 0.5:
                batch = again.pop(self._random.randrange(len(again)))
            else:
                batch = self._batch()
                self.sent.append(batch)
                again += [batch] * self._random.randrange(3)
            status, _ = self._wire.post("/events", batch)
            self.messages += 1
            if status != 202:
                self.surprises[f"events answered {status}"] += 1

    def _batch(self) -> Batch:
        return [
            {
                "user_id": self._random.choice(BUYERS),
                "event_type": KIND,
                "event_id": f"{len(self.sent)}-{number}",
                "properties": {"price": self._random.randrange(1, 1_000)},
            }
            for number in range(self._random.randint(1, 40))
        ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_killed_workers_lose_nothing_and_count_nothing_twice(
    kind: str, tmp_path: Path, postgresql_server: PostgreSQL, seed: int
) -> None:
    """Kills in mid-batch, duplicates and poison; then all is stored, once, and the poison is buried."""
    with bench_of(kind, tmp_path, postgresql_server) as bench:
        found = killed_under_load(bench, seed, KILLS[kind])
    found.report()
    assert found.messages > 300
    assert (found.lost, found.doubled, found.sum_off) == (0, 0, 0)
    assert found.poison >= found.messages // 100
    assert (found.poison_missing, found.waiting) == (0, 0)
    assert found.drained <= DRAINED_SECONDS
    assert {code for code, _ in found.stops} == {0}
    assert max(seconds for _, seconds in found.stops) <= STOPPED_SECONDS
    assert not found.surprises


@pytest.mark.slow
@pytest.mark.parametrize("fault", CONTROL_KILLS)
def test_a_broken_worker_is_caught(fault: str, tmp_path: Path, postgresql_server: PostgreSQL, seed: int) -> None:
    """The negative controls: one that acknowledges before it appends loses, one without identities doubles."""
    with bench_of("redis", tmp_path, postgresql_server) as bench:
        found = killed_under_load(bench, seed, CONTROL_KILLS[fault], fault)
    found.report()
    assert found.lost > 0 if fault == "early" else found.counted > found.events


def killed_under_load(bench: Bench, seed: int, kills: int, fault: str = "") -> Findings:
    """Send, kill and restart so many times; stop in order under load, drain, and check."""
    moments = random.Random(seed)
    found, poison = Findings(), set[bytes]()
    with bench.server(queued=True) as server:
        experiment = _prepare(server)
        workers = [bench.worker(fault) for _ in range(2)]
        with Sender(server.url, seed) as sender:
            for _ in range(kills):
                _poison(bench, moments, poison, sender.messages)
                oldest = workers.pop(0)
                oldest.wait()
                time.sleep(moments.uniform(0, 0.8))
                oldest.kill()
                workers.append(bench.worker(fault))
            workers[0].wait()
            time.sleep(moments.uniform(0, 0.8))
            found.stops.append(workers[0].stop())
        _poison(bench, moments, poison, sender.messages)
        workers[1].kill()
        last, started = bench.worker(fault), time.monotonic()
        found.drained = _drain(bench, server) - started
        _check_dead_letters(bench, server, poison, found)
        found.stops.append(last.stop())
        found.waiting = bench.waiting
    found.messages, found.surprises = sender.messages, found.surprises + sender.surprises
    with bench.server(queued=False) as sound:
        _check_events(sound, experiment, sender.sent, found)
    return found


def _prepare(server: RunningServer) -> str:
    """A running experiment, and the exposed users whose events will be counted."""
    with server.client() as client:
        variants = [{"name": "a"}, {"name": "b"}]
        experiment = str(client.post("/experiments", json={"name": "worker", "variants": variants}).json()["id"])
        for buyer in BUYERS:
            client.get(f"/experiments/{experiment}/assignment/{buyer}").raise_for_status()
    return experiment


def _poison(bench: Bench, moments: random.Random, poison: set[bytes], messages: int) -> None:
    """Put bodies that nobody can read among the messages, one in a hundred: no JSON, a version to come, no events."""
    bodies = (b"\xff not a message %d", b'[9,"client %d",[]]', b'[1,"client %d",[]]')
    fresh = [moments.choice(bodies) % number for number in range(len(poison), 1 + messages // 100)]
    bench.poison(fresh)
    poison.update(fresh)


def _drain(bench: Bench, server: RunningServer) -> float:
    """Wait until nothing comes any more; returns when the last thing came."""
    wire, begun = Wire(server.url, TOKEN), time.monotonic()
    state, since = (-1, -1), begun
    while time.monotonic() - since < QUIET and time.monotonic() - begun < 2 * DRAINED_SECONDS:
        found = bench.waiting, sum(kind["count"] for kind in wire.get("/events/types")[1]["event_types"])
        if found != state or found[0]:
            state, since = found, time.monotonic()
        time.sleep(0.3)
    wire.close()
    return since


def _check_dead_letters(bench: Bench, server: RunningServer, poison: set[bytes], found: Findings) -> None:
    """Compare them with the poison; what is no poison was handed out too often, and is replayed."""
    letters = bench.asked(lambda queue: queue.dead_letters(100_000))
    good = [letter for letter in letters if letter.body not in poison]
    found.surprises += Counter(f"buried: {letter.reason}" for letter in good if letter.reason != EXHAUSTED)
    found.exhausted = len(good)
    if good:
        bench.asked(lambda queue: queue.replay([letter.id for letter in good]))
        _drain(bench, server)
    buried = Counter(letter.body for letter in letters if letter.body in poison)
    found.poison, found.poison_missing = len(poison), len(poison - buried.keys())
    found.poison_twice = buried.total() - len(buried)


def _check_events(server: RunningServer, experiment: str, sent: list[Batch], found: Findings) -> None:
    """Compare what was sent with the results; then send it again and see what the server calls new."""
    wire = Wire(server.url, TOKEN)
    variants = wire.get(f"/experiments/{experiment}/results?event_type={KIND}")[1]["variants"]
    found.counted = sum(variant["event_counts"].get(KIND, 0) for variant in variants)
    total = sum(variant["metrics"]["revenue"]["sum"] for variant in variants)
    events = [event for batch in sent for event in batch]
    found.events, found.sum_off = len(events), abs(total - sum(event["properties"]["price"] for event in events))
    for start in range(0, len(events), 5_000):
        status, content = wire.post("/events", events[start : start + 5_000])
        assert status in {200, 201}
        found.lost += content["accepted"]
    found.doubled = max(0, found.counted - (found.events - found.lost))
    wire.close()
