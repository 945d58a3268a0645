"""What every response carries, added in one place around the whole application; and a bound on work under way.

`X-Request-Id` (the caller's own if it is well-formed), `X-Process-Time` (seconds), and the headers that keep a browser from
doing anything with an API's answer. The documentation pages may load their own scripts; nothing else may.
"""

import functools
import os
import re
import time
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upshot.http.problems import problem, retry_after
from upshot.telemetry import REQUESTS, UNDER_WAY

_HEALTH = {"/livez", "/readyz", "/health", "/metrics"}  # who watches a busy server must not take it for a dead one
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Swagger UI and ReDoc start from a script in the page, and ReDoc searches in a worker.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; worker-src blob:; frame-ancestors 'none'"
)
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
_API = [
    *_ALWAYS,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_PAGES = [
    *_ALWAYS,
    (b"content-security-policy", _PAGE_POLICY),
]


class Envelope:
    """The outermost application."""

    def __init__(self, app: ASGIApp, application: FastAPI, pages: tuple[str, ...], most: int) -> None:
        self._app = app
        self.application = application
        self._pages = pages
        self._most = most
        self._under_way = 0
        UNDER_WAY.set_function(lambda: self._under_way)

    def lifespan(self) -> AbstractAsyncContextManager[object]:
        """Opens and closes the application where no server does."""
        return self.application.router.lifespan_context(self.application)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass the application's lifespan through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        headers = _PAGES if scope["path"].startswith(self._pages) else _API

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _counter(message["status"]).inc()
                took = f"{time.perf_counter() - started:.6f}".encode()
                message["headers"] = [
                    *message.get("headers", ()), *headers, (b"x-request-id", request_id), (b"x-process-time", took),
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


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(16).hex().encode()


@functools.cache
def _counter(status: int) -> Counter:
    """The counter of a status; finding it by its label costs more than counting."""
    return REQUESTS.labels(status)
