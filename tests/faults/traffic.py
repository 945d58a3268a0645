"""Constant load on a server while something else breaks: callers that note every answer, and what their promises are worth.

A caller assigns known and new users and sends events; what is refused it sends again, with the same ids, as clients do. A
check at the end asks everything again, of the sound server: what is new the second time had been lost.
"""

import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
from tests.backends import wait_until
from tests.faults.reporting import of, say
from tests.servers import TOKEN, RunningServer

KIND = "buy"
BUYERS = [f"buyer-{number}" for number in range(50)]
KNOWN = 100
PACE = 0.02  # seconds between two requests of one caller
HALVES = [{"name": name, "traffic_allocation": 50} for name in ("a", "b")]


class Answer(NamedTuple):
    """One answer: to what, when and how long after it was asked, and in which words; status 0 is none at all."""

    what: str
    at: float
    seconds: float
    status: int
    retry_after: str | None = None
    stored: bool = False  # as the answer says


class Caller:
    """One client, which asks until it is told to stop."""

    def __init__(self, server: RunningServer, experiments: Sequence[str], name: str, seed: int) -> None:
        self._client = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        self._experiments = experiments
        self._name = name
        self._random = random.Random(f"{seed}/{name}")
        self._refused: list[str] = []
        self.answers: list[Answer] = []
        self.assigned: dict[tuple[str, str], str] = {}
        self.unstored: set[tuple[str, str]] = set()  # answered, and said not to be stored yet
        self.unknown: set[tuple[str, str]] = set()  # asked for without an answer: they may be stored, or not
        self.sent: dict[str, list[dict[str, Any]]] = {}
        self.acknowledged: set[str] = set()
        self.flips = 0

    def run(self, stopping: threading.Event) -> None:
        """Ask, until `stopping` is set."""
        with closing(self._client):
            while not stopping.wait(PACE):
                choice = self._random.random()
                if choice < 0.3:
                    self.assign("known", f"{self._name}-known-{self._random.randrange(KNOWN)}")
                elif choice < 0.6:
                    self.assign("new", f"{self._name}-{len(self.assigned)}")
                elif choice < 0.75 and self._refused:
                    self._send(self._refused.pop())
                else:
                    name = f"{self._name}-{len(self.sent)}"
                    self.sent[name] = self._batch(name)
                    self._send(name)

    def assign(self, what: str, user: str) -> None:
        """Ask for a variant; it must be the one that was told before."""
        experiment = self._random.choice(self._experiments)
        content = self._ask(what, "GET", f"/experiments/{experiment}/assignment/{user}")
        key = experiment, user
        if content is None:
            self.unknown.add(key)
            return
        self.flips += self.assigned.setdefault(key, content["variant_id"]) != content["variant_id"]
        if not content["persisted"]:
            self.unstored.add(key)

    def _send(self, name: str) -> None:
        content = self._ask("events", "POST", "/events", self.sent[name])
        if content is None:
            self._refused.append(name)
        else:
            self.acknowledged.add(name)

    def _batch(self, name: str) -> list[dict[str, Any]]:
        return [
            {
                "user_id": self._random.choice(BUYERS),
                "event_type": KIND,
                "event_id": f"{name}-{number}",
                "properties": {"price": self._random.randrange(1, 1_000)},
            }
            for number in range(self._random.randint(1, 10))
        ]

    def _ask(self, what: str, method: str, path: str, content: Any = None) -> Any:
        """The content of a good answer, or None."""
        begun = time.monotonic()
        try:
            found = self._client.request(method, path, json=content)
        except httpx.TransportError:
            self.answers.append(Answer(what, begun, time.monotonic() - begun, 0))
            return None
        took, told = time.monotonic() - begun, found.json() if found.is_success else None
        stored = told is not None and told.get("persisted", True)
        self.answers.append(Answer(what, begun, took, found.status_code, found.headers.get("retry-after"), stored))
        return told


@dataclass
class Load:
    """Callers at work on one server."""

    server: RunningServer
    experiments: list[str]
    callers: list[Caller]
    said: list[str] = field(default_factory=list)  # by the server

    @property
    def answers(self) -> list[Answer]:
        """Every answer so far, of all callers."""
        return [answer for caller in self.callers for answer in caller.answers]

    @property
    def events(self) -> int:
        """How many events were acknowledged so far."""
        return sum(len(caller.sent[name]) for caller in self.callers for name in caller.acknowledged.copy())

    def until(self, events: int) -> None:
        """Go on until more events than that were acknowledged, however slow this machine is."""
        wait_until(lambda: self.events > events, what="enough events")


@dataclass
class Kept:
    """What became of the promises."""

    assignments: int = 0
    unstored: int = 0
    events: int = 0
    lost_assignments: int = 0
    flips: int = 0
    lost_events: int = 0
    doubled_events: int = 0
    exposures_off: int = 0

    def report(self) -> None:
        """Print the figures."""
        say(of(self.lost_assignments, self.assignments, f"assignments lost; {self.unstored:,} were stored later"))
        say(of(self.flips, self.assignments, "assignments with another variant"))
        say(of(self.lost_events, self.events, "acknowledged events lost"))
        say(of(self.doubled_events, self.events, "events counted twice in results"))
        say(f"exposures too few or too many: {self.exposures_off}")

    @property
    def faults(self) -> tuple[int, ...]:
        """All of it that must be zero."""
        return self.lost_assignments, self.flips, self.lost_events, self.doubled_events, self.exposures_off


@contextmanager
def load(server: RunningServer, seed: int, callers: int = 6, experiments: int = 3) -> Iterator[Load]:
    """Callers that ask for the time of the block; all experiments and some users are known to the server before."""
    with ExitStack() as exits:
        made = _prepared(server, experiments)
        working = Load(server, made, [Caller(server, made, f"caller{n}", seed) for n in range(callers)])
        threading.Thread(target=_listen, args=(server, working.said), daemon=True).start()
        for caller in working.callers:
            for number in range(KNOWN // 4):
                caller.assign("before", f"{caller._name}-known-{number}")
        stopping = threading.Event()
        for caller in working.callers:
            thread = threading.Thread(target=caller.run, args=(stopping,))
            thread.start()
            exits.callback(thread.join, 60)
        exits.callback(stopping.set)
        yield working


def _prepared(server: RunningServer, number: int) -> list[str]:
    with server.client() as client:
        made = [
            client.post("/experiments", json={"name": f"load {n}", "variants": HALVES}).raise_for_status().json()["id"]
            for n in range(number)
        ]
        for buyer in BUYERS:
            client.get(f"/experiments/{made[0]}/assignment/{buyer}").raise_for_status()
    return made


def _listen(server: RunningServer, said: list[str]) -> None:
    """Take what the server says: a full pipe would stop it."""
    assert server.process.stdout is not None
    with suppress(ValueError):  # closed at the end
        said.extend(server.process.stdout)


def check(server: RunningServer, load: Load) -> Kept:
    """Compare what was promised with what a server has now; it may be another one on the same stores."""
    found = Kept(flips=sum(caller.flips for caller in load.callers))
    with server.client() as client:
        _check_assignments(client, load, found)
        _check_events(client, load, found)
    return found


def _check_assignments(client: httpx.Client, load: Load, found: Kept) -> None:
    for experiment in load.experiments:
        told = {user: v for c in load.callers for (e, user), v in c.assigned.items() if e == experiment}
        unknown = {user for c in load.callers for e, user in c.unknown if e == experiment} - told.keys()
        found.assignments += len(told)
        found.unstored += sum(e == experiment for c in load.callers for e, _ in c.unstored)
        results = client.get(f"/experiments/{experiment}/results").raise_for_status().json()
        exposed = results["summary"]["total_users"] - (len(BUYERS) if experiment == load.experiments[0] else 0)
        found.exposures_off += max(len(told) - exposed, exposed - len(told) - len(unknown), 0)
        for users in _parts(told, 1_000):
            answer = client.post(f"/experiments/{experiment}/assignments", json={"users": users}).raise_for_status()
            for stored in answer.json()["assignments"]:
                found.lost_assignments += stored["is_new"]
                found.flips += not stored["is_new"] and stored["variant_id"] != told[stored["user_id"]]


def _check_events(client: httpx.Client, load: Load, found: Kept) -> None:
    batches = [(name in c.acknowledged, batch) for c in load.callers for name, batch in c.sent.items()]
    for good in (True, False):
        events = [event for acknowledged, batch in batches if acknowledged is good for event in batch]
        found.events += len(events) * good
        for part in _parts(events, 5_000):
            new = client.post("/events", json=part).raise_for_status().json()["accepted"]
            found.lost_events += new * good
    variants = client.get(f"/experiments/{load.experiments[0]}/results", params={"event_type": KIND}).json()["variants"]
    counted = sum(variant["event_counts"].get(KIND, 0) for variant in variants)
    found.doubled_events = counted - sum(len(batch) for _, batch in batches)


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    listed = list(items)
    return (listed[start : start + size] for start in range(0, len(listed), size))
