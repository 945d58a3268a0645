"""The log of a real process: on standard error, as text or as JSON, of our code and of the web server's alike."""

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.cli.commands import CLEAN, upshot
from tests.servers import RunningServer, running

from upshot.cli.logs import Lines

pytestmark = pytest.mark.slow

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def logged(server: RunningServer) -> list[str]:
    """What a server that ends writes besides what it says to people."""
    assert server.process.stdout is not None
    server.process.send_signal(signal.SIGTERM)
    said = server.process.stdout.read().splitlines()
    return [line for line in said if not line.startswith(("Upshot", "Nobody", "No token", "  "))]


def attempt(server: RunningServer) -> str:
    """Try to sign in; the id of the request."""
    answer = httpx.post(
        f"{server.url}/auth/token", json={"email": "eve@example.com", "password": "x"}, headers={"X-Request-Id": "mine"}
    )
    assert answer.status_code == 401
    return answer.headers["x-request-id"]


def test_a_server_logs_objects_on_request(tmp_path: Path) -> None:
    """Each line is one, with its moment, level and logger; those of the web server, too."""
    with running(tmp_path, environment={"UPSHOT_LOG_FORMAT": "json", "UPSHOT_LOG_LEVEL": "info"}) as server:
        request = attempt(server)
        lines = [json.loads(line) for line in logged(server)]

    assert all(re.fullmatch(MOMENT, line["time"]) and line["level"] and line["logger"] for line in lines)
    assert {"upshot.security", "uvicorn.error"} <= {line["logger"] for line in lines}
    assert [line["event"] for line in lines if line.get("request_id") == request] == ["sign_in.failed"]
    assert not any("event" in line for line in lines if line["logger"] != "upshot.security")


@pytest.mark.parametrize("level", ["warning", "error"])
def test_a_server_logs_text_and_its_security_log_at_any_level(tmp_path: Path, level: str) -> None:
    """By default; nothing else is said of a server that is well."""
    with running(tmp_path, environment={"UPSHOT_LOG_LEVEL": level}) as server:
        attempt(server)
        lines = logged(server)

    assert len(lines) == 1
    assert re.fullmatch(rf'{MOMENT} WARNING upshot\.security: sign_in\.failed request_id="mine" .+', lines[0])


def test_a_worker_logs_in_the_same_way(tmp_path: Path) -> None:
    """What it did stands in its log, an object each."""
    environment = CLEAN | {"UPSHOT_LOG_FORMAT": "json", "UPSHOT_LOG_LEVEL": "info"}
    command = [sys.executable, "-m", "upshot", "worker", "--data-dir", str(tmp_path)]
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file) as worker,
    ):
        deadline = time.monotonic() + 120
        while "upshot.worker" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert "upshot.worker" in {line["logger"] for line in lines}
    assert all(re.fullmatch(MOMENT, line["time"]) and line["message"] for line in lines)


BLOCKING = """
import logging
from upshot.cli import logs, main
logs.Lines = lambda _file: logging.StreamHandler()
main()
"""


def refused(server: RunningServer, times: int) -> None:
    """Ask for what is refused and logged, more often than a pipe holds lines."""
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer nobody"}, timeout=5) as web:
        for _ in range(times):
            assert web.get("/experiments").status_code == 401


def test_a_log_that_nobody_reads_stops_no_server(tmp_path: Path) -> None:
    """Requests are answered as before, and it ends when it is told; one that waits for its reader is caught."""
    with running(tmp_path / "ours") as server:
        refused(server, 600)
        assert server.stop() == 0

    waiting = RunningServer(tmp_path / "blocking", sys.executable, "-c", BLOCKING, "serve")
    try:
        with pytest.raises(httpx.ReadTimeout):
            refused(waiting, 600)
    finally:
        waiting.kill()


class Busy(logging.Formatter):
    """While it says how many lines were lost, others fill the room."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.left = lines

    def format(self, record: logging.LogRecord) -> str:
        """The message."""
        if "lost" in record.msg:
            while self.left:
                self.left -= 1
                logging.getLogger("upshot.cli.logs").warning("x" * 1_000)
        return super().format(record)


@pytest.mark.parametrize("meanwhile", [0, 10])
def test_lines_that_are_lost_are_counted(meanwhile: int) -> None:
    """What does not find room is told when there is some again, also when it is taken at once."""
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    lines = Lines(writing, waiting=10)
    lines.setFormatter(Busy(meanwhile))
    log = logging.getLogger("upshot.cli.logs")
    log.addHandler(lines)
    wanted = 200 + meanwhile
    try:
        for _ in range(200):
            log.warning("x" * 1_000)
        said, accounted, deadline = b"", 0, time.monotonic() + 60
        while accounted < wanted and time.monotonic() < deadline:
            if select.select([reading], [], [], 0.1)[0]:
                said += os.read(reading, 65_536)
            lost = sum(
                map(int, re.findall(rb"(\d+) lines were lost", said))
            )  # told more than once when it catches up between
            accounted = len(re.findall(rb"^x{1000}$", said, re.MULTILINE)) + lost
    finally:
        log.removeHandler(lines)

    assert lost > 0
    assert accounted == wanted


@pytest.mark.parametrize(("trusted", "address"), [("127.0.0.1", "192.0.2.7"), ("192.0.2.1", "127.0.0.1")])
def test_an_address_is_what_a_proxy_says_that_is_trusted(tmp_path: Path, trusted: str, address: str) -> None:
    """The last one that it adds, not the first, which whoever asks may have written; and nobody else is believed."""
    with running(tmp_path, environment={"UPSHOT_LOG_FORMAT": "json", "UPSHOT_TRUSTED_PROXIES": trusted}) as server:
        forwarded = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Forwarded-Proto": "https"}
        answer = httpx.get(f"{server.url}/experiments", headers=forwarded | {"Authorization": "Bearer nobody"})
        (line,) = [json.loads(line) for line in logged(server)]

    assert line["address"] == address
    assert ("strict-transport-security" in answer.headers) is (address == "192.0.2.7")


def test_what_a_process_keeps_is_for_its_owners_eyes(tmp_path: Path) -> None:
    """The data folder and a backup of it, whatever the mask of the shell allows to others; the copy has the same secret."""
    mask = os.umask(0o022)
    try:
        assert upshot("doctor", "--data-dir", "data", cwd=tmp_path).returncode == 0
        (tmp_path / "data/secret").write_text("what seals the secrets of webhooks")
        assert upshot("backup", "copy", "--data-dir", "data", cwd=tmp_path).returncode == 0
        (tmp_path / "plain").mkdir()
    finally:
        os.umask(mask)

    open_to_others = {name: bool((tmp_path / name).stat().st_mode & 0o077) for name in ("data", "copy", "plain")}
    assert (tmp_path / "copy/secret").read_text() == (tmp_path / "data/secret").read_text()
    assert open_to_others == {"data": False, "copy": False, "plain": True}
