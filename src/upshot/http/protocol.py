"""What a client may cost a connection before the application sees its request: time, bytes and sockets.

Owns the deadlines and sizes of receiving a request, and the problem document that ends a connection which
breaks them. It must not know routes, tenants or bodies: those limits belong to the application.

Why: uvicorn has no deadline for receiving: half a request line, one header byte a second, a silent body and
a mute connection stay open for ever. Its parser holds a head of any size and passes requests without Host;
trailers join the headers of a request that already runs; the body of an upgrade request is read as the next.

    uvicorn.Config(app, http=BoundedProtocol)
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import ClassVar, Final, TypeAlias
from weakref import WeakKeyDictionary

from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from upshot.http.atonce import AtOnceProtocol

# Plain integers: they are compared several times per request, and an enum member costs a lookup each time.
_IDLE: Final = 0  # between requests; uvicorn's keep-alive timer runs
_WAITING: Final = 1  # connected, or sent bytes, but no byte of a request line yet
_HEAD: Final = 2
_BODY: Final = 3
_REFUSED: Final = 4  # nothing more is read from this client

_Fields: TypeAlias = Iterable[tuple[bytes, bytes]]

# code: status, title, detail with the protocol's limits
_PROBLEMS: Final = {
    "malformed_request": (400, "Request is not valid HTTP", "These bytes are not an HTTP/1.1 request."),
    "host_required": (400, "Request must name one host", "Send exactly one Host header field."),
    "unsupported_coding": (400, "Transfer coding is not supported", "Send one Transfer-Encoding, chunked."),
    "upgrade_with_body": (400, "Upgrade request has a body", "Send it without the Upgrade header field."),
    "head_timeout": (408, "Request head is too slow", "It must be complete within {0.HEAD_SECONDS:g} s."),
    "body_timeout": (408, "Request body is too slow", "At least {0.MINIMUM_RATE} bytes/s are needed."),
    "target_too_long": (414, "Request target is too long", "It may have {0.TARGET_BYTES} bytes."),
    "too_many_parameters": (414, "Too many query parameters", "There may be {0.QUERY_PARAMETERS}."),
    "head_too_large": (431, "Request head is too large", "It may have {0.HEAD_BYTES} bytes."),
    "too_many_connections": (503, "Too many connections", "{0.CONNECTIONS_PER_ADDRESS} are allowed."),
}


def problem_bytes(status: int, code: str, title: str, detail: str, headers: _Fields = ()) -> bytes:
    """Render a whole closing HTTP/1.1 response whose body is a problem document (RFC 9457)."""
    problem = {"type": f"/errors/{code}", "title": title, "status": status, "detail": detail, "code": code}
    body = json.dumps(problem).encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"cache-control: no-store",
        b"x-content-type-options: nosniff",
        b"content-security-policy: default-src 'none'; frame-ancestors 'none'",
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", body])


class BoundedProtocol(AtOnceProtocol):
    """The httptools protocol of uvicorn with answers at once, deadlines, sizes and a connection cap, changed in a subclass."""

    # uvicorn fills 28 instance attributes; beyond 30 CPython stops sharing their keys and every access slows.
    __slots__ = ("_body", "_chunk", "_held", "_judged", "_overhead", "_phase", "_safe", "_timed", "_timer")

    HEAD_SECONDS: ClassVar[float] = 10.0  # from the connection, or from the first byte after a response
    BODY_SECONDS: ClassVar[float] = 30.0  # a longer body must bring MINIMUM_RATE in each such stretch
    MINIMUM_RATE: ClassVar[int] = 1024  # bytes of body per second
    HEAD_BYTES: ClassVar[int] = 16_384
    TARGET_BYTES: ClassVar[int] = 8_192
    QUERY_PARAMETERS: ClassVar[int] = 50
    CONNECTIONS_PER_ADDRESS: ClassVar[int] = 256  # 0: no cap; a proxy's clients all have the proxy's address
    LINGER_SECONDS: ClassVar[float] = 1.0  # bytes of a refused client are read and dropped for so long

    _addresses: ClassVar[WeakKeyDictionary[ServerState, Counter[str]]] = WeakKeyDictionary()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the head's clock, or refuse the connection when its address has too many."""
        super().connection_made(transport)
        self._phase = self._timed = _WAITING  # _timed: the phase whose clock the timer is
        self._timer: asyncio.TimerHandle | None = None
        self._safe = min(self.TARGET_BYTES, self.HEAD_BYTES)  # neither limit is broken by so few bytes
        self._chunk = 0  # bytes in the latest piece of data
        self._overhead = 0  # bytes since a piece of body or an end of message: head, chunk frame or trailer
        self._body = 0  # bytes of body in this stretch
        self._held = False  # the application, not the client, was slow in this stretch
        self._judged: HTTPScope | None = None  # the scope of the latest complete head
        self._fault: str | None = None
        address = self.client[0] if self.client else ""
        counts = self._addresses.setdefault(self.server_state, Counter())
        counts[address] += 1
        cap = self.CONNECTIONS_PER_ADDRESS if address else 0
        if not cap or counts[address] <= cap:
            self._restart_timer(self.HEAD_SECONDS)
        elif counts[address] <= 2 * cap:
            self._refuse("too_many_connections")
        else:
            # Refused connections linger; without a second bound a flood of them would take every socket.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock and give the address its place back."""
        super().connection_lost(exc)
        self._stop_timer()
        address = self.client[0] if self.client else ""
        counts = self._addresses[self.server_state]
        counts[address] -= 1
        if not counts[address]:
            del counts[address]

    def data_received(self, data: bytes) -> None:
        """Parse what came; a request that is complete in one piece touches no timer."""
        if self._phase == _REFUSED:
            return
        if self._phase == _IDLE:
            self._phase = _WAITING
        self._chunk = len(data)
        self._overhead += self._chunk
        AtOnceProtocol.data_received(self, data)
        if self._phase != _IDLE or self._timer is not None or self.scope is not self._judged:
            self._follow_phase()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the signature is uvicorn's
        """Answer whatever stopped the parser: a limit of this class, or bytes that are not HTTP."""
        self._refuse(self._fault or "malformed_request")

    def on_headers_complete(self) -> None:
        """Judge the head, start the application and enter the body."""
        self._fault = self._head_fault()
        if self._fault is not None:
            # The only way to stop the parser; uvicorn then calls send_400_response.
            raise ValueError(self._fault)
        AtOnceProtocol.on_headers_complete(self)
        self.headers = []  # trailers must not join the headers that the application reads
        self._judged = self.scope
        self._phase = _BODY
        self._body = 0

    def on_body(self, body: bytes) -> None:
        """Count what the client delivered and note when the application holds it back."""
        AtOnceProtocol.on_body(self, body)
        self._overhead = 0
        self._body += len(body)
        self._held = self._held or self.flow.read_paused

    def on_message_complete(self) -> None:
        """Leave the request; what follows in the same chunk is the next one, with its own clock."""
        AtOnceProtocol.on_message_complete(self)
        self._phase = self._timed = _IDLE
        self._overhead = 0

    def _should_upgrade(self) -> bool:
        # A websocket would leave this protocol, and with it every limit.
        return False

    def _head_fault(self) -> str | None:
        url, headers = self.url, self.headers
        if url.count(b"&") >= self.QUERY_PARAMETERS <= url.partition(b"?")[2].count(b"&"):
            return "too_many_parameters"
        if self._overhead > self._safe or self._chunk > self._safe:
            # The bytes may hold a body or another request; only now are exact sizes worth their price.
            if len(url) > self.TARGET_BYTES:
                return "target_too_long"
            line = len(self.parser.get_method()) + len(url) + len("  HTTP/1.1\r\n\r\n")
            if line + sum(len(name) + len(value) + 4 for name, value in headers) > self.HEAD_BYTES:
                return "head_too_large"
        hosts = codings = 0
        for name, _ in headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings += 1
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            return "host_required"
        return self._framing_fault() if codings or self.parser.should_upgrade() else None

    def _framing_fault(self) -> str | None:
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:
            return "unsupported_coding"  # llhttp notices some, but after the application was started
        has_body = codings or dict(self.headers).get(b"content-length", b"0") != b"0"
        return "upgrade_with_body" if has_body and self.parser.should_upgrade() else None

    def _follow_phase(self) -> None:
        if self._phase in {_IDLE, _WAITING} and self.scope is not self._judged:
            self._phase = _HEAD
        phase = self._phase
        if phase == _REFUSED:
            return
        if phase == _IDLE:
            self._stop_timer()
        elif phase == _HEAD and len(self.url) > self.TARGET_BYTES:
            self._refuse("target_too_long")
        elif self._overhead > self.HEAD_BYTES:
            self._refuse("head_too_large")
        elif phase != self._timed:
            if phase == _BODY:
                self._start_stretch()
            elif self._timed != _WAITING:
                self._start_head()
            self._timed = phase

    def _start_head(self) -> None:
        cycle = self._latest_cycle()
        if cycle is not None and not cycle.response_complete:
            cycle.on_response = self._on_last_response
        self._unset_keepalive_if_required()
        self._restart_timer(self.HEAD_SECONDS)

    def _start_stretch(self) -> None:
        self._held = self.flow.read_paused
        self._restart_timer(self.BODY_SECONDS)

    def _expire(self) -> None:
        self._timer = None
        cycle = self._latest_cycle()
        if cycle is not None and cycle.response_complete:
            cycle = None
        if cycle is None and self._phase != _HEAD:
            self.transport.close()  # mute so far, or still sending the body of a request that has its answer
        elif cycle is None:
            self._refuse("head_timeout")
        elif self._phase != _BODY:
            self._restart_timer(self.HEAD_SECONDS)
        elif self._body < self.MINIMUM_RATE * self.BODY_SECONDS and not (
            self._held or self.pipeline or cycle.waiting_for_100_continue
        ):
            self._refuse("body_timeout")
        else:
            self._body = 0
            self._start_stretch()

    def _refuse(self, code: str) -> None:
        self._phase = _REFUSED
        self._stop_timer()
        self._unset_keepalive_if_required()
        status, title, detail = _PROBLEMS[code]
        self.logger.info("Refused a request of %s: %d %s", self.client, status, code)
        retry = [(b"retry-after", b"1")] if status == HTTPStatus.SERVICE_UNAVAILABLE else []
        headers = self.server_state.default_headers + retry
        content = problem_bytes(status, code, title, detail.format(self), headers)
        cycle = self._latest_cycle()
        if cycle is None or cycle.response_complete:
            self._part(content)
        elif self.pipeline or not cycle.more_body:
            # Responses have the order of their requests, so those still being answered go first.
            if cycle.more_body:
                self.pipeline[0] = (cycle, partial(self._part_in_turn, cycle, content))
            else:
                cycle.on_response = partial(self._on_last_response, content)
        elif cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._part(content)

    def _on_last_response(self, parting: bytes | None = None) -> None:
        self.on_response_complete()
        if parting is not None:
            self._part(parting)
        elif self._phase in {_WAITING, _HEAD} and self.cycle.response_complete:
            self._start_head()

    async def _part_in_turn(self, cycle: RequestResponseCycle, content: bytes, *_: object) -> None:
        cycle.disconnected = True
        self._part(content)

    def _part(self, content: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.transport.write(content)
        if self.transport.can_write_eof():
            # Closing a socket with unread bytes resets it, and a reset destroys the answer on its way.
            self.transport.write_eof()
            self.flow.resume_reading()
            self._timer = self.loop.call_later(self.LINGER_SECONDS, self.transport.abort)
        else:
            self.transport.close()

    def _restart_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
