"""Real servers for tests: each started privately on free ports of the loopback, and stopped at the end.

A server that cannot be had is skipped loudly, with how to have it; where CI is set, or TEST_REQUIRE names it, that is a
failure instead: a missing installation step cannot hide.
"""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest


def unavailable(server: str, how: str) -> NoReturn:
    """Skip the test because a server is not installed; fail instead where it is required."""
    required = os.environ.get("TEST_REQUIRE", "").split(",")
    message = f"{server}: not installed, so not run; to have it: {how}"
    if os.environ.get("CI") or server in required:
        pytest.fail(message)
    pytest.skip(message)


def program(server: str, how: str, *places: str) -> str:
    """The first of the places (names on PATH, or paths) where a program is; skips or fails when there is none."""
    for place in places:
        if found := shutil.which(place):
            return found
    unavailable(server, how)


def _ports() -> Iterator[int]:
    """Ports below those that the system gives to whoever connects (from 32,768), who may take one before its server does; each
    process of the tests has its own.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw7").removeprefix("gw")
    first = 16_000 + int(worker) % 8 * 2_000
    return itertools.cycle(random.Random(os.getpid()).sample(range(first, first + 2_000), 2_000))


_own_ports = _ports()


def free_port() -> int:
    """A port of the loopback that nobody listens on, and nobody was given lately."""
    for port in _own_ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_until(answers: Callable[[], bool], seconds: float = 180, what: str = "the server") -> None:
    """Poll until something answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} did not answer within {seconds} seconds")


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(
    *command: str,
    log: Path,
    environment: dict[str, str] | None = None,
    user: str | int | None = None,
    ending: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a process group of its own; the whole group is ended, and waited for, at the end."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,
            user=user,
        )
    try:
        yield child
    finally:
        _end(child, ending)


def _end(child: subprocess.Popen[bytes], ending: signal.Signals) -> None:
    for attempt in (ending, signal.SIGKILL):
        try:
            os.killpg(child.pid, attempt)
            os.killpg(child.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            continue
        return
