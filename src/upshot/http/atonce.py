"""Answers that are in memory, written as soon as the head of their request is read.

Why: an application answers in a task of its own, by messages whose header fields uvicorn joins one by one. For what is only
looked up that is more work than the answer itself. Whatever has to be waited for, and whatever is out of the ordinary (a body,
a field that is there twice, HTTP/1.0, the end of the connection, an answer under way, a reader who does not keep up), goes to
the application as ever.

    BoundedProtocol.ANSWER = envelope.at_once
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeAlias

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

Fields: TypeAlias = Mapping[bytes, bytes]
Prompt: TypeAlias = tuple[bytes, bytes]
"""The header lines of an answer with the status 200, each with its end; and its content."""

_OF_BODIES = (b"content-length", b"transfer-encoding")

log = logging.getLogger(__name__)


class Answering(Protocol):
    """What has answers in memory."""

    def __call__(self, target: bytes, fields: Fields, scheme: str) -> Prompt | None:
        """The answer to a GET, whole; None: ask the application."""
        ...


def _nothing(target: bytes, fields: Fields, scheme: str) -> None:
    """No answer is in memory."""


class AtOnceProtocol(HttpToolsProtocol):
    """The httptools protocol of uvicorn, which asks for an answer at once before it asks the application."""

    __slots__ = ("_prompt",)

    ANSWER: ClassVar[Answering] = staticmethod(_nothing)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Nothing was asked yet."""
        HttpToolsProtocol.connection_made(self, transport)
        self._prompt: Prompt | None = None

    def on_headers_complete(self) -> None:
        """Look for an answer, or start the application."""
        if self._is_ordinary():
            fields = dict(self.headers)
            if len(fields) == len(self.headers) and fields.keys().isdisjoint(_OF_BODIES):
                try:
                    self._prompt = self.ANSWER(self.url, fields, self._scheme(fields))
                except Exception:
                    log.exception("an answer at once")  # the application says it in its own way
        if self._prompt is None:
            HttpToolsProtocol.on_headers_complete(self)

    def on_message_complete(self) -> None:
        """Write the answer that was found, or let the application go on."""
        if self._prompt is None:
            HttpToolsProtocol.on_message_complete(self)
            return
        (lines, content), self._prompt = self._prompt, None
        ours = [b"%s: %s\r\n" % field for field in self.server_state.default_headers]
        self.transport.write(b"".join([b"HTTP/1.1 200 OK\r\n", *ours, lines, b"\r\n", content]))
        self.on_response_complete()

    def _latest_cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # uvicorn's annotation forgets that there is none before the first request

    def _scheme(self, fields: Fields) -> str:
        """That of the connection, or what a trusted proxy says: uvicorn has a middleware for it, which is not passed here."""
        said, address = fields.get(b"x-forwarded-proto"), self.client[0] if self.client else None
        if said and isinstance(self.app, ProxyHeadersMiddleware) and address in self.app.trusted_hosts:
            return said.decode("latin-1").strip()
        return self.scheme or "http"

    def _is_ordinary(self) -> bool:
        parser, cycle = self.parser, self._latest_cycle()
        return (
            parser.get_method() == b"GET"
            and (cycle is None or cycle.response_complete)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )
