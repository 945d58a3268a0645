"""What every response carries, added in one place around the whole application; and a bound on work under way.

What needs no application is answered here at once (`atonce`), and carries the same.

`X-Request-Id` (the caller's own if it is well-formed), `X-Process-Time` (seconds), what the application put into the scope's
`state["headers"]` (a list, as ASGI servers take it), and the headers that keep a browser from doing anything with an API's
answer. The documentation pages may load their own scripts; nothing else may.
"""

import functools
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from fastapi import FastAPI
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upshot.http import pages
from upshot.http.atonce import Fields, Prompt
from upshot.http.problems import problem, retry_after
from upshot.telemetry import REQUESTS, UNDER_WAY

_HEALTH = {"/livez", "/readyz", "/health", "/metrics"}  # who watches a busy server must not take it for a dead one
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_OWN_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
)
# Swagger UI starts from a script in the page, both style it from scripts, and ReDoc searches in a worker.
_DOCUMENTATION_POLICY = (
    f"default-src 'none'; script-src 'self' {pages.SCRIPTS}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; worker-src blob:; form-action 'self'; base-uri 'none'; object-src 'none'; "
    "frame-ancestors 'none'"
).encode()

_Headers: TypeAlias = list[tuple[bytes, bytes]]
_Told: TypeAlias = tuple[bytes, _Headers]


def _headers(readers: bytes, *others: tuple[bytes, bytes]) -> tuple[_Headers, _Headers]:
    """What an answer carries without TLS and over it. `readers`: the origins whose pages may take it in."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", readers),
        (b"x-frame-options", b"DENY"),
        *others,
    ]
    return headers, [*headers, (b"strict-transport-security", b"max-age=63072000; includeSubDomains")]


_FOR_PAGES = ("/events", "/exposures", "/beacon", "/sdk/", "/ofrep/", "/api/features/", "/sub/")
_DATA = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_API = _headers(b"same-origin", *_DATA)
_INGEST = _headers(b"cross-origin", *_DATA)  # asked by pages of other sites
_PAGE = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"geolocation=(), camera=(), microphone=(), payment=(), usb=()"),
)
_OWN = _headers(b"same-origin", (b"content-security-policy", _OWN_POLICY), *_PAGE)
_AT_ONCE = [b"".join(b"%s: %s\r\n" % field for field in fields) for fields in _INGEST]
_DOCUMENTATION = _headers(b"same-origin", (b"content-security-policy", _DOCUMENTATION_POLICY), *_PAGE)


class Envelope:
    """The outermost application.

    Args:
        app: what it passes requests to.
        application: what that is, or is in front of.
        most: how many requests may be under way.
        told: content and header fields that are in memory, by path, query and credential.
    """

    def __init__(
        self,
        app: ASGIApp,
        application: FastAPI,
        most: int,
        told: Callable[[bytes, bytes, bytes], _Told | None] | None = None,
    ) -> None:
        self._app = app
        self.application = application
        self._most = most
        self._told = told
        self._under_way = 0
        UNDER_WAY.set_function(lambda: self._under_way)

    def lifespan(self) -> AbstractAsyncContextManager[object]:
        """Opens and closes the application where no server does."""
        return self.application.router.lifespan_context(self.application)

    def at_once(self, target: bytes, fields: Fields, scheme: str) -> Prompt | None:
        """The answer to a GET that nobody has to be asked for; with the same header fields as any other."""
        started = time.perf_counter()
        if self._told is None or b"/assignment/" not in target:
            return None
        path, _, query = target.partition(b"?")
        told = self._told(path, query, fields.get(b"authorization", b""))
        if told is None:
            return None
        content, own = told
        _counter(200).inc()
        lines = [
            b"content-length: %d\r\ncontent-type: application/json\r\n" % len(content),
            _AT_ONCE[scheme == "https"],
        ]
        lines += [b"%s: %s\r\n" % field for field in own]
        request_id, took = _request_id(fields.get(b"x-request-id")), time.perf_counter() - started
        lines.append(b"x-request-id: %s\r\nx-process-time: %.6f\r\n" % (request_id, took))
        return b"".join(lines), content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass the application's lifespan through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(next((value for name, value in scope["headers"] if name == b"x-request-id"), None))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        headers = self._headers_of(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _counter(message["status"]).inc()
                took = f"{time.perf_counter() - started:.6f}".encode()
                own = message.get("headers", ())
                message["headers"] = [
                    *own, *_beside(own, headers), *state.get("headers", ()), (b"x-request-id", request_id),
                    (b"x-process-time", took),
                ]  # fmt: skip
            await send(message)

        if self._under_way >= self._most and scope["path"] not in _HEALTH:
            busy = problem(
                503,
                "overloaded",
                "Try again later",
                "Too many requests are under way.",
                headers={"Retry-After": retry_after(1)},
            )
            await busy(scope, receive, send_with_headers)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._under_way -= 1

    def _headers_of(self, scope: Scope) -> _Headers:
        path = scope["path"]
        if path.startswith(pages.DOCUMENTATION):
            kind = _DOCUMENTATION
        elif path == "/" or path.startswith(pages.OWN):
            kind = _OWN
        else:
            kind = _INGEST if path.startswith(_FOR_PAGES) or "/assignment/" in path else _API
        return kind[scope.get("scheme") == "https"]


def _beside(own: Iterable[tuple[bytes, bytes]], headers: _Headers) -> _Headers:
    """What is added to a response's own headers; who says how long to keep an answer is not contradicted."""
    if any(name == b"cache-control" for name, _ in own):
        return [header for header in headers if header[0] != b"cache-control"]
    return headers


def _request_id(own: bytes | None) -> bytes:
    """The caller's own, if it is well-formed, or a new one."""
    return own if own is not None and _REQUEST_ID.fullmatch(own) else os.urandom(16).hex().encode()


@functools.cache
def _counter(status: int) -> Counter:
    """The counter of a status; finding it by its label costs more than counting."""
    return REQUESTS.labels(status)
