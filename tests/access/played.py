"""A provider that a test plays: a real HTTP server which answers whatever the test wants, and remembers what it was asked."""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import Key, RSAKey

CALLBACK = "https://upshot.example/auth/oidc/callback"
CLIENT = "upshot"
ACCESS_TOKEN = "an-access-token-of-tests"  # noqa: S105 - good for nothing


def rsa_key(owner: str, name: str = "first") -> RSAKey:
    """Somebody's key of a name; the same one every time."""
    return _rsa_key(owner, name)


@cache
def _rsa_key(_owner: str, name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Reply:
    """What is answered: the pieces of a body, with so many seconds between them."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: int = 1
    seconds: float = 0.0


def said(document: object, **parts: Any) -> Reply:
    """A reply with a JSON document."""
    return Reply(body=json.dumps(document).encode(), **parts)


class PlayedProvider:
    """The server: at first a well-behaved provider with one key; what it answers at a path can be replaced."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.issuer = f"http://127.0.0.1:{server.server_address[1]}"
        self.asked: list[Asked] = []
        self.replies: dict[str, Reply] = {}
        self.publish(rsa_key("the provider"))
        self.describe()

    def describe(self, **changes: Any) -> None:
        """Change what the discovery document says."""
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }
        self.replies["/.well-known/openid-configuration"] = said(document | changes)

    def publish(self, *keys: Key) -> None:
        """Change the keys."""
        self.replies["/keys"] = said({"keys": [key.as_dict(private=False) for key in keys]})

    def issue(self, token: str, **more: Any) -> None:
        """Change what the token endpoint answers."""
        answer = {"id_token": token, "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 60}
        self.replies["/token"] = said(answer | more)

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked.path == path for asked in self.asked)


def raw(header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes, sign: Callable[[bytes], bytes]) -> str:
    """A token from its parts, whatever they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = b".".join(map(_encoded, parts))
    return (signed + b"." + _encoded(sign(signed))).decode()


def by(key: RSAKey) -> Callable[[bytes], bytes]:
    """Sign as RS256 does, with a key."""
    private = key.private_key
    assert private is not None
    return lambda signed: private.sign(signed, PKCS1v15(), SHA256())


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


@contextmanager
def played_provider() -> Iterator[PlayedProvider]:
    """A server on a free port of the loopback, for the time of a block."""
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            path = self.path.partition("?")[0]
            played.asked.append(Asked(path, dict(self.headers), body))
            reply = played.replies.get(path, Reply(404))
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            size = -(-len(reply.body) // reply.pieces) or 1
            try:
                for start in range(0, len(reply.body), size):
                    ending.wait(reply.seconds)
                    self.wfile.write(reply.body[start : start + size])
            except OSError:
                self.close_connection = True  # the other side had enough

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played = PlayedProvider(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield played
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
