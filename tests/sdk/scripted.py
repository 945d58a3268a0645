"""A small server on a real socket that answers as a test says and keeps what it was asked: for what Upshot does not answer."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "upk_of_a_test"
ETAG = '"one"'


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def items(self) -> list[dict[str, Any]]:
        """The events or exposures in it."""
        body = json.loads(self.content)
        found: list[dict[str, Any]] = body["events"] if self.path == "/events" else body["exposures"]
        return found


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def experiment(key: str = "button", *, status: str = "running", **more: Any) -> dict[str, Any]:
    """An experiment of a configuration: three equal variants."""
    variants = [
        {"id": f"{key}-{name}", "name": name, "is_control": name == "control", "weight": 1, "config": {"color": name}}
        for name in ("control", "blue", "green")
    ]
    parts = {"id": f"id-{key}", "key": key, "status": status, "phase": 1, "salt": f"salt-{key}", "traffic": 1_000_000}
    rest: dict[str, Any] = {
        "targeting": {},
        "variants": variants,
        "layers": [],
        "holdouts": [],
        "overrides": [],
        "winner": None,
    }
    return parts | rest | more


def flag(key: str, kind: str = "boolean", default: Any = False, **more: Any) -> dict[str, Any]:  # noqa: FBT002 - a value
    """A flag of a configuration."""
    parts = {"key": key, "type": kind, "default": default, "enabled": True, "salt": f"salt-{key}"}
    return parts | {"experiment": None, "values": {}, "rollout": None} | more


def configuration(*experiments: dict[str, Any], flags: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """A configuration."""
    return {"format": 1, "experiments": list(experiments), "flags": list(flags)}


class ScriptedServer:
    """Answers each path by a function of the request, or always the same; streams to whom asks for the stream."""

    def __init__(self, document: Any) -> None:
        self.asked: list[Asked] = []
        self.document = document
        self.etag = ETAG
        self.replies: dict[str, Callable[[Asked], Reply]] = {}
        self.streaming = False
        self.streams: list[Any] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def asked_for(self, path: str) -> list[Asked]:
        """The requests of a path."""
        return [each for each in self.asked if each.path == path]

    def items(self, path: str) -> list[dict[str, Any]]:
        """All events or exposures that came, however often."""
        return [item for each in self.asked_for(path) for item in each.items]

    def tell(self, text: str) -> None:
        """Write into every open stream."""
        for stream in self.streams:
            stream.write(text.encode())
            stream.flush()

    def close(self) -> None:
        """End."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, asked: Asked) -> Reply:
        """What a request gets."""
        if asked.path in self.replies:
            return self.replies[asked.path](asked)
        if asked.path == "/sdk/config":
            if asked.headers.get("if-none-match") == self.etag:
                return Reply(304, headers={"ETag": self.etag})
            return Reply(200, self.document, {"ETag": self.etag})
        if asked.path in {"/events", "/exposures"}:
            return Reply(201, {"accepted": len(asked.items), "duplicates": 0, "conflicts": 0, "rejected": []})
        return Reply(404, {"code": "not_found"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, content)
                server.asked.append(asked)
                if self.path == "/sdk/stream" and server.streaming:
                    self._stream()
                    return
                reply = server.answer(asked)
                body = b"" if reply.body is None else json.dumps(reply.body).encode()
                if isinstance(reply.body, bytes):
                    body = reply.body
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _serve  # noqa: N815 - the names of the standard library

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.flush()
                server.streams.append(self.wfile)
                self.close_connection = True
                self.rfile.read(1)  # until the reader goes away

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@contextmanager
def scripted(document: Any) -> Iterator[ScriptedServer]:
    """A scripted server for the time of a block."""
    server = ScriptedServer(document)
    try:
        yield server
    finally:
        server.close()
