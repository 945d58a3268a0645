"""Durability seen from outside: between a request and its 2xx the kernel was asked to sync the store's log, and did.

kill −9 cannot tell a synced commit from one in the kernel's memory; strace can. Skipped where strace cannot run.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.faults.reporting import of, say
from tests.faults.wire import Wire
from tests.servers import TOKEN, running

REQUESTS = 40
BROKEN = (sys.executable, str(Path(__file__).with_name("broken_server.py")), "serve")
SOUND = (sys.executable, "-m", "upshot", "serve")
CONTROL_LOG, EVENTS_LOG = "control.db-wal", "events.db.wal"
_SYNC = re.compile(r"(\d+\.\d+) f(?:data)?sync\(\d+<(.*)>\) += 0 <(\d+\.\d+)>")


class Span(NamedTuple):
    """From when to when something took place, by the machine's clock."""

    begun: float
    ended: float


def _strace_works() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not _strace_works(), reason="strace cannot run here")]


def test_every_answer_comes_after_a_sync_of_the_store(tmp_path: Path) -> None:
    """One client, one request at a time: each first assignment and each event had a sync of its own."""
    unsynced = answers_without_a_sync(tmp_path, *SOUND)
    assert unsynced == {CONTROL_LOG: 0, EVENTS_LOG: 0}


def test_answers_before_the_commit_are_caught(tmp_path: Path) -> None:
    """The negative control for both stores: a server that acknowledges early."""
    unsynced = answers_without_a_sync(tmp_path, *BROKEN, environment={"BREAK": "early"})
    assert unsynced[CONTROL_LOG] > 0
    assert unsynced[EVENTS_LOG] > 0


def test_a_control_store_that_does_not_wait_for_the_disk_is_caught(tmp_path: Path) -> None:
    """The negative control for SQLite: synchronous=NORMAL, which a kill −9 cannot tell from FULL."""
    assert answers_without_a_sync(tmp_path, *BROKEN, environment={"BREAK": "unsynced"})[CONTROL_LOG] > REQUESTS / 2


def answers_without_a_sync(folder: Path, *command: str, environment: dict[str, str] | None = None) -> dict[str, int]:
    """For each store's log, how many acknowledged writes had no sync of it between request and answer."""
    traced = ("strace", "-D", "-ff", "-ttt", "-T", "-y", "-e", "trace=fsync,fdatasync", "-o", str(folder / "trace"))
    with running(folder / "data", *traced, *command, environment=environment) as server:
        with server.client() as client:
            arms = [{"name": name} for name in ("a", "b")]
            experiment = client.post("/experiments", json={"name": "synced", "variants": arms}).json()["id"]
        wire = Wire(server.url, TOKEN)
        asked: dict[str, list[Span]] = {CONTROL_LOG: [], EVENTS_LOG: []}
        for number in range(REQUESTS):
            begun = time.time()
            status, _ = wire.get(f"/experiments/{experiment}/assignment/user-{number}")
            asked[CONTROL_LOG].append(Span(begun, time.time()))
            assert status == 200
        for number in range(REQUESTS):
            begun = time.time()
            event = {"user_id": f"user-{number}", "event_type": "buy", "event_id": f"event-{number}"}
            status, _ = wire.post("/events", event)
            asked[EVENTS_LOG].append(Span(begun, time.time()))
            assert status == 201
        wire.close()
    syncs = _syncs(folder)
    unsynced = {}
    for log, spans in asked.items():
        during = [[sync for sync in syncs.get(log, ()) if _within(sync, span)] for span in spans]
        unsynced[log] = sum(not found for found in during)
        say(of(unsynced[log], len(spans), f"answers without a sync of {log}") + f"; {sum(map(len, during))} syncs")
    return unsynced


def _within(sync: Span, span: Span) -> bool:
    return span.begun <= sync.begun and sync.ended <= span.ended


def _syncs(folder: Path) -> dict[str, list[Span]]:
    """The syncs that strace saw, by the file's name; one trace per thread, so that no call is split over two lines."""
    found: dict[str, list[Span]] = {}
    for trace in folder.glob("trace.*"):
        for began, path, took in _SYNC.findall(trace.read_text()):
            found.setdefault(Path(path).name, []).append(Span(float(began), float(began) + float(took)))
    return found
