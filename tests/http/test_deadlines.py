"""The deadlines of connections are those of the settings: a real server, and a client that stops in the middle."""

import math
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.servers import TOKEN, RunningServer, running

pytestmark = pytest.mark.slow

HEAD = f"POST /events HTTP/1.1\r\nHost: upshot\r\nAuthorization: Bearer {TOKEN}\r\n"
BODY = f"{HEAD}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
WHOLE = "GET /livez HTTP/1.1\r\nHost: upshot\r\n\r\n"


def closed_after(server: RunningServer, sent: str) -> tuple[float, bytes]:
    """How long the server waits for more, and what it said meanwhile."""
    address = urlsplit(server.url)
    assert address.hostname
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(sent.encode())
        began, said = time.monotonic(), b""
        while piece := connection.recv(65_536):
            said += piece
        return time.monotonic() - began, said


@pytest.mark.parametrize(
    ("setting", "sent", "status"),
    [("HEAD_SECONDS", HEAD, b" 408 "), ("BODY_SECONDS", BODY, b" 408 "), ("KEEP_ALIVE_SECONDS", WHOLE, b" 200 ")],
)
@pytest.mark.parametrize("seconds", [1, 3])
def test_a_client_that_stops_is_waited_for_as_long_as_is_set(
    tmp_path: Path, setting: str, sent: str, status: bytes, seconds: int
) -> None:
    """Neither shorter nor much longer, at best of three: of two values each is kept."""
    took: list[float] = []
    with running(tmp_path, environment={f"UPSHOT_{setting}": str(seconds)}) as server:
        while len(took) < 3 and min(took, default=math.inf) >= seconds + 1.7:
            lasted, said = closed_after(server, sent)
            took.append(lasted)

            assert status in said.split(b"\r\n")[0]
    assert seconds - 0.2 < min(took) < seconds + 1.7
