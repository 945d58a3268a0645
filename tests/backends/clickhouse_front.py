"""ClickHouse's engine behind the part of its HTTP interface that clients use: `clickhouse_front.py folder port`.

There is no wheel with the server's program; chDB is its engine as a library. One statement runs at a time. The user is
"default", without a password.
"""

import base64
import gzip
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame  # type: ignore[import-untyped]

# What a client says in the URL that is no setting of the engine.
NO_SETTINGS = {
    "query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check", "quota_key", "role",
    "compress", "decompress", "wait_end_of_query", "buffer_size", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "enable_http_compression", "client_protocol_version", "user", "password",
    "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
INSERT = re.compile(rb"\s*(INSERT\s+INTO\s.+?)\s+FORMAT\s+(\w+)[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
DECODERS = {"gzip": gzip.decompress, "lz4": lz4.frame.decompress}
ALLOWED = "Basic " + base64.b64encode(b"default:").decode()
AUTHENTICATION_FAILED = 516


class Engine:
    """The engine over one folder."""

    def __init__(self, folder: str) -> None:
        self._connection = chdb.connect(folder)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def run(self, statement: bytes, database: str, form: str, settings: Mapping[str, str]) -> tuple[bytes, int]:
        """What a statement answers, and how many rows it wrote."""
        with self._lock, self._session(database, settings):
            if insert := INSERT.match(statement):
                inserting = self._connection.send_insert(insert[1].decode(), insert[2].decode())
                try:
                    inserting.append(statement[insert.end() :])
                    return b"", inserting.finish().rows_written
                finally:
                    inserting.cancel()
            result = self._connection.query(statement.decode(), form)
            return result.bytes() or b"", result.rows_written()

    @contextmanager
    def _session(self, database: str, settings: Mapping[str, str]) -> Iterator[None]:
        self._connection.query(f"USE `{database}`")
        try:
            for name, value in settings.items():
                escaped = value.replace("\\", "\\\\").replace("'", "\\'")
                self._connection.query(f"SET {name} = '{escaped}'")
            yield
        finally:
            for name in settings:
                self._connection.query(f"SET {name} = DEFAULT")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: Engine

    def do_GET(self) -> None:
        """A ping, or a query in the URL."""
        if self.path == "/ping":
            self._answer(200, b"Ok.\n", {})
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """A query, or an insert with its data."""
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        statement = b"\n".join(filter(None, [asked.get("query", "").encode(), self._body()]))
        form = self.headers.get("X-ClickHouse-Format") or asked.get("default_format") or "TabSeparated"
        settings = {name: value for name, value in asked.items() if name not in NO_SETTINGS}
        if self.headers.get("Authorization", ALLOWED) != ALLOWED:
            return self._fail(403, f"Code: {AUTHENTICATION_FAILED}. DB::Exception: Authentication failed.")
        try:
            answer, written = self.engine.run(statement, asked.get("database") or "default", form, settings)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client is told
            return self._fail(500, str(error))
        headers = {"X-ClickHouse-Summary": json.dumps({"written_rows": str(written)}), "X-ClickHouse-Format": form}
        return self._answer(200, answer, headers)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing of requests."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding")
        return DECODERS[encoding](body) if encoding else body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _fail(self, status: int, error: str) -> None:
        message = error[max(error.find("Code: "), 0) :]
        code = re.match(r"Code: (\d+)", message)
        self._answer(status, message.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    request_queue_size = 128


def main(folder: str, port: str) -> None:
    """Serve until the process is ended."""
    Handler.engine = Engine(folder)
    Server(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
