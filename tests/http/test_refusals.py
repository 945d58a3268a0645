"""What the HTTP edge turns away before any resource is asked: sizes, media types, methods, queries, strangers."""

import json
import re
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
from tests.http.test_hostile import is_problem
from tests.servers import TOKEN, RunningServer

from upshot.http.app import create_app
from upshot.settings import Settings

MEBIBYTE = 1024 * 1024
OPEN = {"/livez", "/health", "/readyz"}
SIGNED_IN = {("GET", "/auth/session"), ("POST", "/auth/logout")}
BODIES = (
    "/experiments",
    "/metric-definitions",
    "/events",
    "/events/batch",
    "/assignments",
    "/planner",
    "/experiments/none/import",
    "/experiments/none/assignments",
)
_DOCUMENT: dict[str, Any] = create_app(Settings(), {}).application.openapi()
OPERATIONS = [
    (method.upper(), re.sub(r"\{\w+\}", "none", path))
    for path, operations in _DOCUMENT["paths"].items()
    for method in operations
]


def peak_memory(server: RunningServer) -> int:
    """The most memory that the server has held so far, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def upload(server: RunningServer, path: str, mebibytes: int, *, chunked: bool) -> tuple[bytes, float]:
    """Send a large body until it is sent or the server hangs up; returns the answer and the seconds until it came."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {mebibytes * MEBIBYTE}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"{framing}\r\nConnection: close\r\n\r\n"
    )
    piece = b"x" * MEBIBYTE
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        started = time.monotonic()
        connection.sendall(head.encode())
        try:
            for _ in range(mebibytes):
                connection.sendall(framed)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has answered already and reads no more
        answer = connection.recv(65_536)
        return answer, time.monotonic() - started


def test_a_body_of_fifty_mebibytes_is_refused_without_being_held(server: RunningServer) -> None:
    """413 within seconds, with its length or in chunks, and the server's memory grows by less than one of the bodies."""
    before = peak_memory(server)

    for path in BODIES:
        for chunked in (False, True):
            answer, seconds = upload(server, path, 50, chunked=chunked)
            if seconds >= 5:  # a busy machine may hold up one
                answer, seconds = upload(server, path, 50, chunked=chunked)

            assert answer.startswith(b"HTTP/1.1 413 "), (path, answer[:200])
            assert b"content-type: application/problem+json" in answer
            assert seconds < 5

    assert peak_memory(server) - before < 50 * MEBIBYTE


async def test_another_content_type_is_refused(api: httpx.AsyncClient) -> None:
    """415: a body without the right Content-Type could come from a form on any page."""
    others = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/xml",
              "application/json-patch+json", "application/jsonx")  # fmt: skip

    for path in BODIES:
        for headers in ({}, *({"Content-Type": other} for other in others)):
            response = await api.post(path, content=b"{}", headers=headers)

            assert response.status_code == 415, (path, headers)
            assert is_problem(response)


async def test_a_compressed_body_is_refused(api: httpx.AsyncClient) -> None:
    """415, so that no bomb is ever unpacked."""
    for path in BODIES:
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
            headers = {"Content-Type": "application/json", "Content-Encoding": coding}

            response = await api.post(path, content=zlib.compress(b"{}"), headers=headers)

            assert response.status_code == 415, (path, coding)
            assert is_problem(response)


async def test_a_content_type_may_have_parameters_and_capitals(api: httpx.AsyncClient) -> None:
    """RFC 9110: media types are compared without case, parameters aside."""
    content = json.dumps({"user_id": "a", "event_type": "b"})

    for media_type in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;a=b"):
        response = await api.post("/events", content=content, headers={"Content-Type": media_type})

        assert response.status_code == 201, media_type


async def test_an_unknown_method_is_refused_with_those_allowed(api: httpx.AsyncClient) -> None:
    """405, for methods that the path lacks, for TRACE and for words that are no methods; Allow names all that it has."""
    for path in {path for _, path in OPERATIONS}:
        known = {method for method, other in OPERATIONS if other == path}
        for method in {"PUT", "TRACE", "FOO", "DELETE", "PATCH"} - known:
            response = await api.request(method, path)

            assert response.status_code == 405, (method, path)
            assert is_problem(response)
            assert set(response.headers["allow"].split(", ")) == known, (method, path)


def test_a_real_server_refuses_trace_and_words_that_are_no_methods(server: RunningServer) -> None:
    """The parser in front of the application turns away what it does not know; nothing is sent back to the caller."""
    with server.client() as client:
        traced, unknown = (
            client.request("TRACE", "/livez", headers={"X-Secret": "c4n4ry"}),
            client.request("FOO", "/livez"),
        )

    assert traced.status_code == 405
    assert "c4n4ry" not in traced.text
    assert unknown.status_code in {400, 405}
    assert is_problem(unknown)


async def test_a_bad_query_is_refused(api: httpx.AsyncClient) -> None:
    """422 with the parameter named; nothing is guessed, clipped or repeated."""
    queries = ("limit=1&limit=2", "limit=1&%6cimit=2", "search=&search=", "limit=-1", "limit=0", "limit=201", "limit=" + "9" * 30,
               "limit=" + "9" * 5_000, "limit=1.5", "limit=nan", "limit=", "status=deleted", "cursor=a", "cursor=",
               "cursor=%F0%9F%99%82", "cursor=LTE=", "cursor=MA==", "cursor=" + "OTk5" * 20, "cursor=" + "O" * 101,
               "search=" + "a" * 201)  # fmt: skip

    for query in queries:
        for path in ("/experiments", "/metric-definitions"):
            if path == "/metric-definitions" and query.startswith("status"):
                continue  # which has none, and lets be what it does not know
            response = await api.get(f"{path}?{query}")

            assert response.status_code == 422, (path, query)
            assert is_problem(response)
            assert "99999" not in response.text


async def test_a_version_that_cannot_be_is_refused(api: httpx.AsyncClient) -> None:
    """422, whatever the key."""
    for version in ("0", "-1", "1.5", "a", "", "2147483648", "9" * 5_000, "1&version=2"):
        response = await api.get(f"/metric-definitions/none?version={version}")

        assert response.status_code == 422, version
        assert is_problem(response)


async def test_a_query_with_nul_is_refused(api: httpx.AsyncClient) -> None:
    """400: PostgreSQL could not compare anything with it."""
    for path in ("/experiments", "/metric-definitions"):
        for query in ("search=a%00", "%00=a", "cursor=%00"):
            response = await api.get(f"{path}?{query}")

            assert response.status_code == 400, (path, query)
            assert is_problem(response)


async def test_a_query_that_is_not_utf8_is_refused(api: httpx.AsyncClient) -> None:
    """400: repaired text would be another text. What is UTF-8 is taken, whatever language it is in."""
    for query in ("search=%FF", "search=%ED%A0%80", "%C0%AF=1"):
        response = await api.get(f"/experiments?{query}")

        assert response.status_code == 400, query
        assert is_problem(response)
    assert (await api.get("/experiments?search=%C3%A9&%E6%BC%A2=%F0%9F%99%82")).status_code == 200


def test_a_real_server_bounds_what_a_request_asks(server: RunningServer) -> None:
    """51 query parameters or a target of over 8 KiB are 414."""
    with server.client() as client:
        many = client.get("/experiments?" + "&".join(f"a{index}=1" for index in range(51)))
        long = client.get("/experiments/none/assignment/a?" + "&".join(f"a{index}=" + "x" * 999 for index in range(9)))

    assert [many.status_code, long.status_code] == [414, 414]
    assert is_problem(many)
    assert is_problem(long)


async def test_a_stranger_is_turned_away_from_every_route(api: httpx.AsyncClient) -> None:
    """401 with WWW-Authenticate whatever else is wrong with the request; only the health of the process is public."""
    del api.headers["Authorization"]
    values = ("Bearer wrong", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Token {TOKEN}", f"Bearer {TOKEN}x",
              f"Bearer{TOKEN}",              f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
              f"Bearer {TOKEN}, Bearer {TOKEN}", f"Bearer \xff{TOKEN}")  # fmt: skip
    strangers = [[], *([(b"authorization", value.encode("latin-1"))] for value in values)]

    for method, path in OPERATIONS:
        for headers in strangers:
            response = await api.request(method, path, content=b"{", headers=headers)

            if path in OPEN:
                assert response.status_code == 200
                continue
            if path.startswith("/api/features/"):  # by the id of a key, which is public
                assert response.status_code == 404
                continue
            if path.startswith("/auth/") and (method, path) not in SIGNED_IN:
                assert response.status_code in {400, 401, 403, 404, 415, 422}, (
                    method,
                    path,
                )  # one signs in without a token
                continue
            assert response.status_code == 401, (method, path, headers)
            assert response.headers["www-authenticate"].startswith("Bearer ")
            assert is_problem(response) or (path.startswith("/ofrep/") and response.json()["errorCode"] == "GENERAL")


async def test_some_pages_need_no_token(api: httpx.AsyncClient) -> None:
    """A browser opens the documentation, an orchestrator the health, without a token."""
    del api.headers["Authorization"]

    for path in ("/livez", "/health", "/readyz", "/docs", "/redoc", "/openapi.json", "/assets/docs/swagger-ui.css"):
        response = await api.get(path)

        assert response.status_code == 200, path
