"""Servers for tests: in this process, or a real one, on a free port with a data folder of its own, killed or stopped at will."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from upshot.http.envelope import Envelope

TOKEN = "first-token-for-tests"  # noqa: S105 - of a server that lives for one test
OTHER_TOKEN = "second-token-for-tests"  # noqa: S105
_CLIENTS = f"{TOKEN}:first,{OTHER_TOKEN}:second"
UNLIMITED: dict[str, Any] = {
    f"limit_{kind}": "off"
    for kind in (
        "events",
        "assignments",
        "management",
        "results",
        "export",
        "login_account",
        "login_address",
        "refresh",
        "keys",
    )
}
"""Settings of servers whose tests ask faster than people do; those of the limits say their own."""


def _variables() -> dict[str, str]:
    return {f"UPSHOT_{name.upper()}": text for name, text in UNLIMITED.items()}


class RunningServer:
    """One server process on one data folder."""

    def __init__(self, data_dir: Path, *command: str, port: int = 0, environment: dict[str, str] | None = None) -> None:
        self._command = command or (sys.executable, "-m", "upshot", "serve")
        self._arguments = ["--port", str(port), "--data-dir", str(data_dir)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("UPSHOT_")}
        self._environment = inherited | {"TOKEN_CLIENT_ID_MAP": _CLIENTS} | _variables() | (environment or {})
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.process = subprocess.Popen(
            [*self._command, *self._arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = self.process.stdout
        assert output is not None
        seen = []
        while line := output.readline():
            seen.append(line)
            if found := re.search(r"serves on (http://\S+)", line):
                self.url = found[1]
                break
        else:
            raise AssertionError(f"the server did not start: {''.join(seen)}")
        try:
            self._wait_until_ready()
        except AssertionError:
            self.kill()
            raise

    def client(self, token: str = TOKEN) -> httpx.Client:
        """A client with a token."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def read_on(self, lines: int) -> str:
        """The next lines that the server prints."""
        assert self.process.stdout is not None
        return "".join(self.process.stdout.readline() for _ in range(lines))

    def kill(self) -> None:
        """kill −9, this process only."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("the server was not ready within two minutes")


@asynccontextmanager
async def asking(app: Envelope, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    """An application in this process for the time of a block, asked with a token, or by a stranger."""
    transport, headers = httpx.ASGITransport(app), {} if token is None else {"Authorization": f"Bearer {token}"}
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://upshot", headers=headers) as api:
        yield api


@contextmanager
def running(
    data_dir: Path, *command: str, port: int = 0, environment: dict[str, str] | None = None
) -> Iterator[RunningServer]:
    """A server process for the time of a block."""
    server = RunningServer(data_dir, *command, port=port, environment=environment)
    try:
        yield server
    finally:
        server.stop()
