"""A minimal HTTP/1.1 client on one keep-alive connection: cheap enough that the server, not the client, is the load.

Standard library only, since client processes of the load import nothing else.
"""

import json
import socket
from typing import Any
from urllib.parse import urlsplit


class NoAnswer(Exception):
    """The connection broke before the whole answer was there: the request may or may not have been carried out."""


class Wire:
    """One connection, opened when it is first needed and closed after a failure."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self._socket: socket.socket | None = None

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        return self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        """Status and JSON of a POST."""
        body = json.dumps(content).encode()
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return self._ask(f"POST {path} HTTP/1.1\r\n{self._head}{fields}\r\n".encode() + body)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: bytes) -> tuple[int, Any]:
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, timeout=30)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            return self._answer(self._socket)
        except OSError as error:
            self.close()
            raise NoAnswer from error

    def _answer(self, connection: socket.socket) -> tuple[int, Any]:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more(connection)
        head = received[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(received) < end + 4 + length:
            received += self._more(connection)
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head[9:12]), json.loads(received[end + 4 :])

    def _more(self, connection: socket.socket) -> bytes:
        if hasattr(
            socket, "TCP_QUICKACK"
        ):  # else a server that sends head and body apart waits 40 ms for our delayed ACK
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        return data
