"""Slow clients: two hundred half-open connections on a real server, and good traffic beside them that does not notice.

Four forms: half a request line, a header that comes byte by byte, a body that does not come, and nobody who says anything.
"""

import select
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.faults.reporting import percentile, say
from tests.faults.wire import NoAnswer, Wire
from tests.servers import TOKEN, RunningServer, running

EACH = 50
CLOSED_SECONDS = 35.0
QUICK_SECONDS = 30.0  # so long is waited for the forms that are closed after ten
CONTROL_SECONDS = 13.0
PACE = 0.02  # seconds between two requests: 50 per second
FLOOR = 0.005  # seconds that a p99 may grow by in any case: the drips take time on the same machine
FORMS = {
    "half a request line": b"GET /experi",
    "a byte per second": b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    "silent body": b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer "
    + TOKEN.encode() + b"\r\nContent-Length: 100\r\n\r\n",
    "mute": b"",
}  # fmt: skip
QUICK = ("half a request line", "a byte per second", "mute")
STOCK = """
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from upshot.cli import main, server
server.BoundedProtocol = HttpToolsProtocol
main()
"""

pytestmark = pytest.mark.slow


@dataclass
class Traffic:
    """Good requests, one after another: how long each took, and how many went wrong."""

    took: list[float] = field(default_factory=list)
    errors: list[object] = field(default_factory=list)

    @contextmanager
    def flowing(self, server: RunningServer, experiment: str) -> Iterator[None]:
        """For the time of the block."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(Wire(server.url, TOKEN), experiment, stopping))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(30)

    def _run(self, wire: Wire, experiment: str, stopping: threading.Event) -> None:
        due, number = time.monotonic(), 0
        while not stopping.is_set():
            began = time.monotonic()
            try:
                if number % 2:
                    status, _ = wire.post("/events", {"user_id": f"u{number}", "event_type": "seen"})
                else:
                    status, _ = wire.get(f"/experiments/{experiment}/assignment/u{number}")
            except NoAnswer:
                status = 0
            self.took.append(time.monotonic() - began)
            if status not in {200, 201}:
                self.errors.append(status)
            number, due = number + 1, due + PACE
            time.sleep(max(0, due - time.monotonic()))
        wire.close()


@contextmanager
def half_open(server: RunningServer, each: int, forms: Iterable[str] = FORMS) -> Iterator[dict[socket.socket, str]]:
    """Connections of several forms, and which form each has."""
    address = urlsplit(server.url).hostname, urlsplit(server.url).port
    with ExitStack() as stack:
        opened = {}
        for form, start in ((form, FORMS[form]) for form in forms):
            for _ in range(each):
                client = stack.enter_context(socket.create_connection(address, timeout=5))
                client.sendall(start)
                opened[client] = form
        yield opened


def _readable(clients: Iterable[socket.socket]) -> list[socket.socket]:
    """Those that can be read within a tenth of a second; the process may have more files than `select` can name."""
    by_number = {client.fileno(): client for client in clients}
    asked = select.poll()
    for number in by_number:
        asked.register(number, select.POLLIN)
    return [by_number[number] for number, _ in asked.poll(100)]


def closings(opened: dict[socket.socket, str], seconds: float) -> dict[str, list[float]]:
    """Drip, and note after how many seconds the server ends each connection, until all are or the time is over."""
    began, drip = time.monotonic(), 1.0
    waiting, found = dict(opened), {form: list[float]() for form in opened.values()}
    while waiting and (passed := time.monotonic() - began) < seconds:
        for client in _readable(waiting):
            try:
                ended = not client.recv(65_536)
            except ConnectionError:
                ended = True
            if ended:
                found[waiting.pop(client)].append(time.monotonic() - began)
        if passed >= drip:
            drip += 1
            for client in [client for client, form in waiting.items() if form == "a byte per second"]:
                try:
                    client.send(b"x")
                except ConnectionError:
                    found[waiting.pop(client)].append(time.monotonic() - began)
    for form, after in found.items():
        say(f"{form}: {len(after)} closed, the last one after {max(after, default=0):.1f} s")
    return found


def prepared(server: RunningServer) -> str:
    """An experiment to ask for."""
    with server.client() as client:
        body = {"name": "one", "status": "running", "variants": [{"name": "a"}, {"name": "b"}]}
        made: str = client.post("/experiments", json=body).raise_for_status().json()["id"]
        return made


def test_two_hundred_slow_clients_are_closed_and_nobody_else_notices(tmp_path: Path) -> None:
    """All within 35 s; good requests have no error, and a p99 of at most twice that of a server without such clients, which is
    asked at the same time, since the machine may be busy at any (and some milliseconds).
    """
    idle, beside = Traffic(), Traffic()
    with (
        running(tmp_path / "idle") as left_alone,
        running(tmp_path / "beside") as server,
        idle.flowing(left_alone, prepared(left_alone)),
        beside.flowing(server, prepared(server)),
        half_open(server, EACH) as opened,
    ):
        found = closings(opened, CLOSED_SECONDS)
    p99 = [percentile(traffic.took, 0.99) for traffic in (idle, beside)]
    for name, traffic in (("idle", idle), ("beside", beside)):
        took = [1_000 * percentile(traffic.took, share) for share in (0.5, 0.99, 1)]
        say(f"{name}: {len(traffic.took)} requests, {len(traffic.errors)} errors, p50, p99 and maximum {took} ms")

    assert {form: len(after) for form, after in found.items()} == dict.fromkeys(FORMS, EACH)
    assert idle.errors + beside.errors == []
    assert len(beside.took) >= 1_000
    assert p99[1] <= 2 * p99[0] + FLOOR


def quickly_closed(server: RunningServer, seconds: float) -> dict[str, int]:
    """How many of five connections are gone before long, of each form that has the shortest deadline."""
    with half_open(server, 5, QUICK) as opened:
        return {form: len(after) for form, after in closings(opened, seconds).items()}


def test_the_shortest_deadline_ends_the_quick_forms(tmp_path: Path) -> None:
    """After ten seconds, long before the body that does not come."""
    with running(tmp_path) as server:
        assert quickly_closed(server, QUICK_SECONDS) == dict.fromkeys(QUICK, 5)


def test_a_server_with_uvicorns_own_protocol_is_caught(tmp_path: Path) -> None:
    """The negative control: the same server without our deadlines keeps what ours closes."""
    with running(tmp_path, sys.executable, "-c", STOCK, "serve") as server:
        assert quickly_closed(server, CONTROL_SECONDS) != dict.fromkeys(QUICK, 5)
