"""Answers at once: only to ordinary requests, in their order, and the same that the application would have given."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
from tests.http.test_protocol import connect, heard, is_closed, read_all, serving, split_responses
from tests.punctual import punctual
from tests.servers import TOKEN, UNLIMITED

from upshot.http.app import create_app
from upshot.http.atonce import Answering, Fields, Prompt
from upshot.http.envelope import Envelope
from upshot.http.protocol import BoundedProtocol
from upshot.settings import Settings

LARGE = b"x" * 1_000_000
LAST = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PATH = "/experiments/e/assignment/"
MOVING = {"date", "x-request-id", "x-process-time", "ratelimit"}


def told(target: bytes, fields: Fields, scheme: str) -> Prompt | None:
    """What is in memory."""
    if target == b"/broken":
        raise RuntimeError("broken")
    content = {b"/known": b"at once", b"/large": LARGE}.get(target)
    return None if content is None else (b"content-length: %d\r\n" % len(content), content)


class Knowing(BoundedProtocol):
    """The product's protocol with an answer in memory."""

    ANSWER: ClassVar[Answering] = staticmethod(told)
    HEAD_SECONDS: ClassVar[float] = 60  # a busy machine is no slow client


class Hasty(Knowing):
    """With a limit that a test can wait for."""

    HEAD_SECONDS: ClassVar[float] = 0.3


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve it to the tests of this module; where it has nothing in memory an application says path and bytes of the body."""
    with serving(Knowing) as number:
        yield number


def asked(port: int, *requests: bytes) -> list[bytes]:
    """The contents of all answers to what is sent in one piece, and ends with a request that closes the connection."""
    found = split_responses(read_all(connect(port, b"".join((*requests, LAST)))))
    return [answer.partition(b"\r\n\r\n")[2].strip() for answer in found]


def first(client: socket.socket) -> bytes:
    """The content of the first answer."""
    found = b""
    while not found.partition(b"\r\n\r\n")[2]:
        found += client.recv(1_000)
    return found.partition(b"\r\n\r\n")[2].strip()


def get(path: str, more: str = "", version: str = "1.1") -> bytes:
    """A request."""
    return f"GET {path} HTTP/{version}\r\nHost: a\r\n{more}\r\n".encode()


def test_what_is_in_memory_is_answered_and_the_connection_goes_on(port: int) -> None:
    """One after another, of both kinds."""
    assert asked(port, get("/known"), get("/known")) == [b"at once", b"at once", b"/hello 0"]


@pytest.mark.parametrize(
    ("request_", "content"),
    [
        (b"POST /known HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"/known 0"),
        (get("/known", "Content-Length: 2\r\n") + b"ab", b"/known 2"),
        (get("/known", "Transfer-Encoding: chunked\r\n") + b"2\r\nab\r\n0\r\n\r\n", b"/known 2"),
        (get("/known", "X-Name: one\r\nX-Name: other\r\n"), b"/known 0 other"),
        (get("/broken"), b"/broken 0"),
        (get("/unknown"), b"/unknown 0"),
    ],
)
def test_what_is_out_of_the_ordinary_goes_to_the_application(port: int, request_: bytes, content: bytes) -> None:
    """Another method, a body, a field twice; and what breaks."""
    assert asked(port, request_) == [content, b"/hello 0"]


def test_so_does_an_upgrade(port: int) -> None:
    """Which nobody offers."""
    with connect(port, get("/known", "Connection: Upgrade\r\nUpgrade: websocket\r\n")) as client:
        assert first(client) == b"/known 0"


@pytest.mark.parametrize("request_", [get("/known", version="1.0"), get("/known", "Connection: close\r\n")])
def test_the_end_of_a_connection_is_the_applications(port: int, request_: bytes) -> None:
    """Which closes it."""
    assert asked(port, request_) == [b"/known 0"]


@pytest.mark.parametrize("path", ["/late", "/hello"])
def test_answers_have_the_order_of_their_requests(port: int, path: str) -> None:
    """What comes behind an answer under way waits for it."""
    assert asked(port, get(path), get("/known")) == [f"{path} 0".encode(), b"/known 0", b"/hello 0"]


def test_a_protocol_that_does_not_look_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: what is in memory overtakes what was asked before."""
    monkeypatch.setattr(Knowing, "_is_ordinary", lambda _protocol: True)

    with serving(Knowing) as port, connect(port, get("/late") + get("/known")) as client:
        assert first(client) == b"at once"


def test_a_reader_who_does_not_keep_up_gets_everything_in_time(port: int) -> None:
    """What he has not read is not piled up: the application waits until he does."""
    found = asked(port, *[get("/large")] * 20)

    assert len(found) == 21
    assert LARGE in found
    assert b"/large 0" in found


@punctual
def test_a_slow_head_after_it_is_refused() -> None:
    """Deadlines are those of every connection."""
    with serving(Hasty) as port:
        said = split_responses(heard(connect(port, get("/known") + b"GET /hel")))

    assert [answer.split(b" ", 2)[1] for answer in said] == [b"200", b"408"]


def test_a_connection_that_says_no_more_is_closed(port: int) -> None:
    """After uvicorn's five seconds."""
    with connect(port, get("/known")) as client:
        assert is_closed(client, 20)


# The whole application


class Quiet(uvicorn.Server):
    """A server beside a test, which has the signals."""

    def capture_signals(self) -> Any:
        """None."""
        return nullcontext()


@asynccontextmanager
async def served(app: Envelope, **more: Any) -> AsyncIterator[tuple[httpx.AsyncClient, list[bytes]]]:
    """An application on a socket, and what was answered at once."""
    at_once: list[bytes] = []

    def noted(target: bytes, fields: Fields, scheme: str) -> Prompt | None:
        found = app.at_once(target, fields, scheme)
        if found is not None:
            at_once.append(target)
        return found

    class Noting(BoundedProtocol):
        ANSWER: ClassVar[Answering] = staticmethod(noted)

    server = Quiet(uvicorn.Config(app, http=Noting, lifespan="off", log_config=None, server_header=False, **more))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with app.lifespan():
            serving = asyncio.create_task(server.serve([listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as api:
                arms = [{"name": "control"}, {"name": "blue"}]
                (await api.post("/experiments", json={"name": "e", "key": "e", "variants": arms})).raise_for_status()
                yield api, at_once
            server.should_exit = True
            await serving


async def remembered(api: httpx.AsyncClient, at_once: list[bytes], target: str, **headers: str) -> httpx.Response:
    """The first answer at once, which comes soon: what was told twice is remembered, and looked up again every second."""
    for _ in range(200):
        at_once.clear()
        answer = await api.get(target, headers=headers)
        if at_once:
            return answer
    raise AssertionError("nothing is answered at once")


def lasting(answer: httpx.Response) -> list[tuple[str, str]]:
    """The header fields that are the same whenever it is asked."""
    return sorted((name, value) for name, value in answer.headers.items() if name not in MOVING)


@pytest.mark.parametrize("target", ["u1", "u%201", "%C3%BC?country=US&plan=pro"])
async def test_it_is_the_answer_of_the_route(data_dir: Path, target: str) -> None:
    """Bytes and header fields, what is left of the quota, and the caller's own request id; and it is counted."""
    app = create_app(Settings(data_dir=data_dir), {TOKEN: "first"})
    async with served(app) as (api, at_once):
        prompt = await remembered(api, at_once, PATH + target, **{"X-Request-Id": "mine"})
        route = await api.get(PATH + target, headers={"Authorization": f"bearer  {TOKEN}"})
        counted = [await answered(api)]
        await remembered(api, at_once, PATH + target)
        counted.append(await answered(api))

    assert prompt.content == route.content
    assert lasting(prompt) == lasting(route)
    assert prompt.headers.keys() == route.headers.keys()
    assert prompt.headers["x-request-id"] == "mine"
    assert len(route.headers["x-request-id"]) == 32
    assert prompt.headers["ratelimit"].startswith('"assignments";r=')
    assert counted[1] >= counted[0] + 2  # with the question


async def answered(api: httpx.AsyncClient) -> float:
    """How many requests were answered with 200."""
    lines = (await api.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith('upshot_requests_total{status="200"}'))


async def test_what_has_changed_is_not_told_again(data_dir: Path) -> None:
    """The very next answer has the override."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {TOKEN: "first"})
    async with served(app) as (api, at_once):
        before = (await remembered(api, at_once, PATH + "u1")).json()["variant"]["name"]
        other = {"control": "blue", "blue": "control"}[before]
        await api.patch("/experiments/e", json={"overrides": [{"variant": other, "users": ["u1"]}]})
        after = (await api.get(PATH + "u1")).json()

    assert (after["variant"]["name"], after["reason"]) == (other, "overridden")


async def test_a_quota_holds(data_dir: Path) -> None:
    """What is in memory costs as much as anything."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED | {"limit_assignments": "1/h burst 20"}), {TOKEN: "first"})
    async with served(app) as (api, at_once):
        statuses = [(await api.get(PATH + "u1")).status_code for _ in range(25)]

    assert statuses == [200] * 20 + [429] * 5
    assert at_once


@pytest.mark.parametrize(("trusted", "secure"), [("127.0.0.1", True), ("10.0.0.0/8", False)])
async def test_a_trusted_proxy_is_believed_that_it_has_tls(data_dir: Path, trusted: str, secure: bool) -> None:  # noqa: FBT001
    """Then, and only then, browsers are told to keep to it."""
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {TOKEN: "first"})
    async with served(app, proxy_headers=True, forwarded_allow_ips=trusted) as (api, at_once):
        prompt = await remembered(api, at_once, PATH + "u1", **{"X-Forwarded-Proto": "https"})
        route = await api.get(PATH + "u1", headers={"Authorization": f"bearer  {TOKEN}", "X-Forwarded-Proto": "https"})

    assert ("strict-transport-security" in prompt.headers) is secure
    assert lasting(prompt) == lasting(route)
