"""The protocol against raw sockets: slow clients, large or malformed heads, and good requests beside them."""

import asyncio
import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tests.punctual import Late, in_time, punctual
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from upshot.http.protocol import BoundedProtocol, problem_bytes

GOOD = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Hasty(BoundedProtocol):
    """The product's protocol with limits that a test can wait for."""

    HEAD_SECONDS: ClassVar[float] = 0.3
    BODY_SECONDS: ClassVar[float] = 0.3
    MINIMUM_RATE: ClassVar[int] = 1000
    LINGER_SECONDS: ClassVar[float] = 0.3


class Calm(Hasty):
    """For what is not about time: a busy machine must not end it."""

    HEAD_SECONDS: ClassVar[float] = 30
    BODY_SECONDS: ClassVar[float] = 30


class Crowded(Calm):
    """Two connections per address."""

    CONNECTIONS_PER_ADDRESS: ClassVar[int] = 2
    LINGER_SECONDS: ClassVar[float] = 30


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body, or behave as the path says."""
    path, size, more = scope["path"], 0, True
    if path == "/late":
        await asyncio.sleep(0.85)  # shortly before the third tick of a clock that started at 0
    while more and path != "/early":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    named = dict(scope["headers"]).get(b"x-name", b"")
    body = b"%s %d %s" % (path.encode(), size, named)
    fields = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(protocol: type[asyncio.Protocol]) -> Iterator[int]:
    """Run a real server in a thread and yield its port."""
    config = uvicorn.Config(application, http=protocol, loop="uvloop", lifespan="off", log_level="critical", ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.force_exit = server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve the hasty protocol to the tests of this module that are about time."""
    with serving(Hasty) as number:
        yield number


@pytest.fixture(scope="module")
def calm() -> Iterator[int]:
    """Serve the same without haste to the others."""
    with serving(Calm) as number:
        yield number


def connect(port: int, data: bytes = b"") -> socket.socket:
    """Open a connection and send the data."""
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(data)
    return client


def pieces(client: socket.socket) -> Iterator[bytes]:
    """What comes until the server closes. Who sends on after that is reset, which takes nothing from what came before."""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            yield piece


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes; a server that does not fails the test by the socket's timeout."""
    with client:
        return b"".join(pieces(client))


def heard(client: socket.socket) -> bytes:
    """The same, of somebody who has sent something at once.

    Raises:
        Late: the server has heard nothing in time, and has closed without a word.
    """
    if found := read_all(client):
        return found
    raise Late("the server has heard nothing in time")


def first_of(client: socket.socket) -> bytes:
    """What comes first, of a connection that ends with it."""
    with client:
        return next(pieces(client), b"")


def answer(client: socket.socket) -> bytes:
    """What comes first, where the server may find the client slow: once in three tries it was the machine that was.

    Raises:
        Late: the server waits no longer.
    """
    with contextlib.suppress(ConnectionResetError):
        if (found := client.recv(65536)) and b" 408 " not in found.partition(b"\r\n")[0]:
            return found
    raise Late("the server found the client slow")


def is_closed(client: socket.socket, seconds: float) -> bool:
    """Say whether the server has closed within the time; bytes that arrive are dropped."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    return True


def split_responses(data: bytes) -> list[bytes]:
    """Split what a connection brought at its status lines."""
    return re.split(rb"(?=HTTP/1\.1 \d)", data)[1:]


def trickle(client: socket.socket, data: bytes, pause: float, seconds: float) -> None:
    """Send byte after byte until the server closes or the time is over."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        for byte in itertools.takewhile(lambda _: time.monotonic() < end, itertools.cycle(data)):
            client.sendall(bytes([byte]))
            time.sleep(pause)


def assert_problem(response: bytes, status: int, code: str) -> None:
    """Check that the response is one whole problem document on a closing connection."""
    head, _, body = response.partition(b"\r\n\r\n")
    line, *fields = head.decode().lower().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    problem = json.loads(body)

    assert line.startswith(f"http/1.1 {status} ")
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert problem["type"] == f"/errors/{code}"
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    assert "{" not in problem["detail"]


def test_a_problem_is_rendered_with_its_length_and_headers() -> None:
    """The helper renders a whole response, with further header fields when asked."""
    response = problem_bytes(503, "busy", "Busy", "Come back.", [(b"retry-after", b"1")])

    assert_problem(response, 503, "busy")
    assert b"\r\nretry-after: 1\r\n" in response


@pytest.mark.parametrize(
    ("start", "drip", "code"),
    [
        (b"GET /hel", b"", "head_timeout"),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ", b"x", "head_timeout"),
        (UPLOAD % 10, b"", "body_timeout"),
        (UPLOAD % 10_000, b"x", "body_timeout"),
        (CHUNKED + b"1;x=", b"x", "body_timeout"),
        (CHUNKED + b"0\r\nx: ", b"x", "body_timeout"),
    ],
    ids=[
        "half line",
        "dripping header",
        "silent body",
        "dripping body",
        "endless extension",
        "endless trailer",
    ],
)
@punctual
def test_a_slow_request_is_refused_in_time(port: int, start: bytes, drip: bytes, code: str) -> None:
    """However the client dawdles, the deadline of its phase ends the connection with a 408."""
    began = time.monotonic()
    client = connect(port, start)
    dripper = threading.Thread(target=trickle, args=(client, drip, 0.02, 0.5))
    dripper.start()

    response = heard(client)
    took = time.monotonic() - began
    dripper.join()

    assert_problem(response, 408, code)
    in_time(took, 1, 0.25)


@pytest.mark.parametrize("data", [b"", b"\r\n"])
@punctual
def test_a_mute_connection_is_closed_in_time(port: int, data: bytes) -> None:
    """A client that sends no request is not answered."""
    began = time.monotonic()

    assert read_all(connect(port, data)) == b""
    in_time(time.monotonic() - began, 1, 0.25)


@pytest.mark.parametrize("start", [b"", b"GET /hel", b"GET / HTTP/1.1\r\nX: ", UPLOAD % 10])
def test_the_stock_protocol_leaves_slow_clients_open(start: bytes) -> None:
    """Negative control: without this module the same clients stay, so the tests above can fail."""
    with serving(HttpToolsProtocol) as port, connect(port, start) as client:
        assert not is_closed(client, 0.8)


@punctual
def test_a_slow_second_head_is_refused_after_the_first_response(port: int) -> None:
    """Each head of a kept connection has its own clock."""
    with connect(port, GOOD) as client:
        assert b"/hello" in answer(client)
        time.sleep(0.4)
        began = time.monotonic()
        client.sendall(GOOD[:-3])

        assert_problem(heard(client), 408, "head_timeout")
        in_time(time.monotonic() - began, 1, 0.25)


@punctual
def test_a_head_that_began_during_a_response_has_its_time_after_it(port: int) -> None:
    """While the application answers, the next head costs nobody anything."""
    with connect(port, GOOD.replace(b"/hello", b"/late") + GOOD[:9]) as client:
        assert b"/late" in answer(client)
        time.sleep(0.15)
        client.sendall(GOOD[9:])

        assert b"/hello" in answer(client)


@punctual
def test_the_clock_of_a_connection_starts_before_its_first_byte(port: int) -> None:
    """A client cannot double its time by staying mute at first."""
    began = time.monotonic()
    client = connect(port)
    time.sleep(0.25)
    client.sendall(b"GET /hel")

    assert_problem(heard(client), 408, "head_timeout")
    in_time(time.monotonic() - began, 0.5)


@punctual
def test_a_slow_but_steady_body_is_accepted(port: int) -> None:
    """A body three times as long as the deadline arrives, because it keeps the rate."""
    with connect(port, UPLOAD % 4000) as client:
        for _ in range(20):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # as the answer will say
                client.sendall(b"x" * 200)
            time.sleep(0.05)

        assert b"/count 4000" in answer(client)


@punctual
def test_a_body_that_stops_after_a_fast_start_is_refused(port: int) -> None:
    """A burst earns no credit: each stretch of the deadline must bring its bytes."""
    assert_problem(heard(connect(port, UPLOAD % 10**6 + b"x" * 60_000)), 408, "body_timeout")


@punctual
def test_an_application_that_reads_slowly_is_not_the_clients_fault(port: int) -> None:
    """While uvicorn has paused reading, time does not count against the client."""
    size = 1_000_000
    with connect(port, (UPLOAD % size).replace(b"/count", b"/late") + b"x" * size) as client:
        assert b"/late %d" % size in answer(client)


@punctual
def test_a_client_that_awaits_100_continue_is_not_slow(port: int) -> None:
    """The client may not send before the application reads."""
    head = (UPLOAD % 2).replace(b"/count", b"/late").replace(b"Host", b"Expect: 100-continue\r\nHost")
    with connect(port, head) as client:
        assert answer(client).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"xy")

        assert b"/late 2" in answer(client)


@punctual
def test_a_body_that_goes_on_after_its_answer_ends(port: int) -> None:
    """A request answered before its body came is not answered twice, and its body not awaited for ever."""
    client = connect(port, (UPLOAD % 10**6).replace(b"/count", b"/early"))
    response = heard(client)

    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.count(b"HTTP/1.1") == 1


@punctual
def test_good_requests_are_answered_beside_half_open_connections() -> None:
    """Fifty slow clients do not delay a good one."""
    with serving(BoundedProtocol) as port, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(port, b"GET /hel"))
        client = stack.enter_context(connect(port))
        began = time.monotonic()
        for _ in range(20):
            client.sendall(GOOD)
            assert b"/hello 0" in client.recv(65536)

        in_time(time.monotonic() - began, 0.5)


@punctual
def test_a_connection_is_kept_between_requests(port: int) -> None:
    """The head's clock does not run on an idle connection."""
    with connect(port, GOOD) as client:
        assert b"/hello 0" in answer(client)
        for _ in range(2):
            time.sleep(0.35)
            client.sendall(GOOD)
            assert b"/hello 0" in answer(client)


def test_pipelined_requests_are_answered_in_order(calm: int) -> None:
    """Requests that come in one piece, with bodies and without, have their answers in their order."""
    data = GOOD + UPLOAD % 3 + b"abc" + GOOD.replace(b"/hello", b"/late")
    last = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    response = read_all(connect(calm, data + last))

    order = [response.index(part) for part in (b"/hello 0", b"/count 3", b"/late 0")]
    assert sorted(order) == order
    assert (response.count(b"HTTP/1.1 200"), response.count(b"/hello 0")) == (4, 2)


@pytest.mark.parametrize(
    "bad", [b"\x00\x01garbage\r\n\r\n", CHUNKED + b"no length\r\n"], ids=["head", "body of a queued request"]
)
def test_a_refusal_waits_for_the_answers_before_it(calm: int, bad: bytes) -> None:
    """A client that pipelines does not take the refusal for the answer to an earlier request."""
    response = read_all(connect(calm, GOOD.replace(b"/hello", b"/late") + GOOD + bad))
    first, second, refusal = split_responses(response)

    assert b"/late 0" in first
    assert b"/hello 0" in second
    assert_problem(refusal, 400, "malformed_request")


def test_a_request_of_http_1_0_needs_no_host(calm: int) -> None:
    """The Host header field came with HTTP/1.1."""
    assert b"/hello 0" in read_all(connect(calm, b"GET /hello HTTP/1.0\r\n\r\n"))


def test_trailers_do_not_become_headers(calm: int) -> None:
    """A field after the body must not look like one that was judged with the head."""
    with connect(calm, CHUNKED.replace(b"/count", b"/late") + b"0\r\nX-Name: forged\r\n\r\n") as client:
        response = client.recv(65536)

    assert b"/late 0" in response
    assert b"forged" not in response


def test_an_upgrade_that_is_not_offered_is_ignored(calm: int) -> None:
    """A client that offers HTTP/2 is answered in HTTP/1.1."""
    head = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connect(calm, head) as client:
        assert b"/hello 0" in client.recv(65536)


def padded(field: bytes) -> bytes:
    """Insert a header field into the good request."""
    return GOOD.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")


BAD = {
    "large field": (padded(b"X: " + b"x" * 16_384), 431, "head_too_large"),
    "many fields": (padded(b"\r\n".join([b"X: y"] * 3000)), 431, "head_too_large"),
    "endless head": (GOOD[:-2] + b"X: " + b"x" * 300_000, 431, "head_too_large"),
    "endless trailer": (CHUNKED + b"0\r\nX: " + b"x" * 600_000, 431, "head_too_large"),
    "pipelined large head": (GOOD[:-2] + b"\r\n" + padded(b"X: " + b"x" * 16_384), 431, "head_too_large"),
    "long target": (GOOD.replace(b"/hello", b"/" + b"x" * 8192), 414, "target_too_long"),
    "very long target": (GOOD.replace(b"/hello", b"/" + b"x" * 70_000), 414, "target_too_long"),
    "endless target": (b"GET /" + b"x" * 9_000, 414, "target_too_long"),
    "parameters": (
        GOOD.replace(b"/hello", b"/hello?" + b"&".join([b"a=1"] * 51)),
        414,
        "too_many_parameters",
    ),
    "no host": (GOOD.replace(b"Host: a\r\n", b""), 400, "host_required"),
    "two hosts": (padded(b"Host: a"), 400, "host_required"),
    "two lengths": (padded(b"Content-Length: 1\r\nContent-Length: 2"), 400, "malformed_request"),
    "length, coding": (padded(b"Content-Length: 4\r\nTransfer-Encoding: chunked"), 400, "malformed_request"),
    "coding, length": (padded(b"Transfer-Encoding: chunked\r\nContent-Length: 4"), 400, "malformed_request"),
    "unknown coding": (padded(b"Transfer-Encoding: gzip"), 400, "unsupported_coding"),
    "two codings": (padded(b"Transfer-Encoding: gzip, chunked"), 400, "unsupported_coding"),
    "smuggling": (
        padded(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d" % len(GOOD)) + GOOD,
        400,
        "upgrade_with_body",
    ),
    "bad chunk": (CHUNKED + b"no length\r\n", 400, "malformed_request"),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00", 400, "malformed_request"),
    "nul": (padded(b"X: a\x00b"), 400, "malformed_request"),
    "control byte": (padded(b"X: a\x01b"), 400, "malformed_request"),
    "bad target": (GOOD.replace(b"/hello", b"http://[/"), 400, "malformed_request"),
}


@pytest.mark.parametrize(("data", "status", "code"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_with_a_problem_and_closed(calm: int, data: bytes, status: int, code: str) -> None:
    """One problem document comes last, whole, though the client may have sent more."""
    *_, refusal = split_responses(read_all(connect(calm, data)))

    assert_problem(refusal, status, code)


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace(b"/hello", b"/hello?" + b"&".join([b"a=1"] * 50)),
        GOOD.replace(b"/hello", b"/" + b"&" * 60),
        GOOD.replace(b"/hello", b"/" + b"x" * 8191),
        padded(b"X: " + b"x" * (16_384 - len(padded(b"X: ")))),
    ],
    ids=["50 parameters", "ampersands in a path", "longest target", "largest head"],
)
def test_a_request_at_its_limit_is_answered(calm: int, data: bytes) -> None:
    """A limit names the largest value that passes."""
    with connect(calm, data) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_large_body_does_not_count_as_head(calm: int) -> None:
    """Head, body and the next head may share the pieces in which they arrive."""
    with connect(calm, UPLOAD % 300_000 + b"x" * 300_000 + GOOD[:5]) as client:
        assert b"/count 300000" in client.recv(65536)
        client.sendall(GOOD[5:])

        assert b"/hello 0" in client.recv(65536)


def test_a_large_head_is_refused_also_when_its_last_piece_is_small(calm: int) -> None:
    """No piece is larger than the limit, but the whole head is."""
    with connect(calm, GOOD[:-2] + b"X: " + b"x" * 10_000) as client:
        time.sleep(0.1)
        client.sendall(b"x" * 6_320)
        time.sleep(0.1)
        client.sendall(b"x" * 10 + b"\r\nY: " + b"y" * 4_000 + b"\r\n\r\n")

        assert_problem(read_all(client), 431, "head_too_large")


def test_the_heads_of_a_connection_do_not_add_up(calm: int) -> None:
    """The limit is that of one head."""
    large = padded(b"X: " + b"x" * 8_000)
    with connect(calm) as client:
        for _ in range(3):
            client.sendall(large)
            assert b"/hello 0" in client.recv(65536)
        client.sendall(large[:5])
        time.sleep(0.05)
        client.sendall(large[5:])

        assert b"/hello 0" in client.recv(65536)


@punctual
def test_a_refused_client_is_dropped_even_if_it_goes_on_sending(port: int) -> None:
    """The answer is not destroyed by unread bytes, and the connection does not outlive its lingering."""
    client = connect(port, b"garbage\r\n\r\n")
    began = time.monotonic()
    trickle(client, b"x", 0.01, 2)
    client.close()

    in_time(time.monotonic() - began, 1.5)


def test_connections_beyond_the_cap_are_refused_until_one_closes() -> None:
    """The third of two allowed gets 503 with Retry-After; a place given back can be taken."""
    with serving(Crowded) as port, connect(port, GOOD) as first, connect(port, GOOD) as second:
        assert b"/hello 0" in first.recv(65536)
        assert b"/hello 0" in second.recv(65536)

        refusal = read_all(connect(port))
        first.close()

        assert_problem(refusal, 503, "too_many_connections")
        assert b"\r\nretry-after: 1\r\n" in refusal
        deadline = time.monotonic() + 20
        while b"/hello 0" not in first_of(connect(port, GOOD)):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the server has not heard yet that a place is free


def test_refused_connections_that_linger_are_bounded_too() -> None:
    """Beyond twice the cap a connection is dropped without an answer."""
    with serving(Crowded) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(port))
        last = stack.enter_context(connect(port))

        with contextlib.suppress(ConnectionResetError):
            assert last.recv(65536) == b""


def test_no_cap_is_kept_when_it_is_zero() -> None:
    """Behind a proxy all connections have one address."""

    class Uncapped(Calm):
        CONNECTIONS_PER_ADDRESS: ClassVar[int] = 0

    with serving(Uncapped) as port, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port, GOOD)) for _ in range(20)]

        assert all(b"/hello 0" in client.recv(65536) for client in clients)
