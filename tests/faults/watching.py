"""What is seen of a server from outside while something else breaks: its health, and how its answers look."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from tests.faults.reporting import percentile, say
from tests.faults.traffic import Answer
from tests.servers import RunningServer

ANSWERED_SECONDS = 6.0


class Watch:
    """What /livez and /readyz say, asked all the time."""

    def __init__(self, server: RunningServer) -> None:
        self.live: list[Answer] = []
        self.ready: list[Answer] = []
        self._url = server.url

    @contextmanager
    def running(self) -> Iterator["Watch"]:
        """Ask for the time of the block."""
        stopping = threading.Event()
        threads = [
            threading.Thread(target=self._ask, args=(what, into, stopping))
            for what, into in (("livez", self.live), ("readyz", self.ready))
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stopping.set()
            for thread in threads:
                thread.join(20)

    def until(self, status: int, since: float, seconds: float = 30) -> float:
        """Wait until /readyz says so; how many seconds after that moment."""
        while time.monotonic() < since + seconds:
            for answer in self.ready:
                if answer.at + answer.seconds >= since and answer.status == status:
                    return answer.at + answer.seconds - since
            time.sleep(0.02)
        raise AssertionError(f"/readyz did not answer {status} within {seconds} seconds")

    def _ask(self, what: str, into: list[Answer], stopping: threading.Event) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not stopping.wait(0.05):
                begun = time.monotonic()
                try:
                    status = client.get(f"/{what}").status_code
                except httpx.TransportError:
                    status = 0
                into.append(Answer(what, begun, time.monotonic() - begun, status))


def report_answers(answers: Sequence[Answer], during: Sequence[tuple[float, float]]) -> float:
    """Print what callers were answered while it was broken; the share of assignments that were."""
    asked = [a for a in answers if any(begun <= a.at <= over for begun, over in during)]
    for what in ("known", "new", "events"):
        found = [a for a in asked if a.what == what]
        took = [a.seconds for a in found]
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        statuses = dict(sorted(Counter(a.status for a in found).items()))
        say(f"meanwhile {what}: {statuses}; p50 {p50:.3f} s, p99 {p99:.2f} s, max {max(took):.2f} s")
    assignments = [a for a in asked if a.what != "events"]
    share = sum(a.status == 200 for a in assignments) / len(assignments)
    say(f"assignments in known experiments answered meanwhile: {share:.2%} of {len(assignments):,}")
    return share


def unfit(answers: Sequence[Answer], *, allowed: frozenset[int] = frozenset({200, 201, 202, 503})) -> list[Answer]:
    """The answers that no client should get: another status, too late, or without a time to try again."""
    return [
        a
        for a in answers
        if a.status not in allowed
        or a.seconds > ANSWERED_SECONDS
        or (a.status in {503, 507} and not (a.retry_after or "").isdecimal())
    ]


def states(server: RunningServer) -> dict[str, str]:
    """What /readyz says of each part; what waits is a part of its own."""
    found: dict[str, str] = httpx.get(f"{server.url}/readyz", timeout=5).json()["backends"]
    return found
