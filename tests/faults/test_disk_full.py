"""A disk that fills up under load and gets room again: what was acknowledged is there, and no restart is needed.

The embedded stores lie on a small tmpfs, which only root may mount.
"""

import errno
import os
import random
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import pytest
from tests.backends import wait_until
from tests.faults.reporting import say
from tests.faults.traffic import Load, check, load
from tests.faults.watching import report_answers, states, unfit
from tests.servers import running

from upshot import eventstore
from upshot.errors import Unavailable
from upshot.events import Event
from upshot.eventstore import Verdict

DISK = "64m"
ROOM = 20 << 20  # bytes: enough for a log that is about to be checkpointed, not for the checkpoint
BATCH = 300
BATCHES = 30
FULL_SECONDS = (10.0, 3.0)
RECOVERED_SECONDS = 5.0
SPARE = 64 << 10  # bytes that are left when the disk is called full; the load takes them

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a disk that can be filled: only root may mount one, so not run")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "upshot-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, spare: int = SPARE) -> Path:
    """A file that takes what is free, but for a little."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        while True:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            try:
                os.posix_fallocate(file.fileno(), 0, max(free - spare, 1))
            except OSError as error:  # the server took some of it meanwhile
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return filler


def test_a_full_disk_costs_no_promise_and_needs_no_restart(disk: Path, seed: int) -> None:
    """Twice: filled under load, held, freed; assignments in known experiments are answered all the time."""
    data = disk / "data"
    times = []
    with running(data) as server:
        with load(server, seed) as working:
            for seconds in FULL_SECONDS:
                time.sleep(1)
                begun = time.monotonic()
                filler = fill(disk)
                time.sleep(seconds)
                filler.unlink()
                over = time.monotonic()
                times.append((begun, over))
                wait_until(partial(recovered, working, over), 30, "the server")
                say(f"full for {over - begun:.1f} s; all was taken again {time.monotonic() - over:.2f} s after it")
                assert time.monotonic() - over <= RECOVERED_SECONDS
        share = report_answers(working.answers, times)
        say(f"the server said {len(working.said)} lines: {Counter(line[:80] for line in working.said).most_common(5)}")
        refused = [a for a in working.answers if a.status in {503, 507}]
        assert refused
        assert not unfit(working.answers, allowed=frozenset({200, 201, 503, 507}))
        assert not [line for line in working.said if "Traceback" in line]
        wait_until(lambda: "pending" not in states(server), 20, "what waits to be stored")
        found = check(server, working)
    found.report()
    assert found.faults == (0, 0, 0, 0, 0)
    assert share == 1
    with sqlite3.connect(data / "control.db") as control:
        assert control.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with duckdb.connect(str(data / "events.db")) as events:
        assert events.execute("SELECT count(*) FROM events").fetchall()[0][0] >= found.events
    with running(data) as restarted:
        again = check(restarted, working)
    assert again.faults == (0, 0, 0, 0, 0)


async def test_a_checkpoint_that_finds_the_disk_full_needs_no_restart(disk: Path) -> None:
    """DuckDB ends the use of its file then, and the index of identities its own; both are opened again."""
    store = await eventstore.connect(f"duckdb:///{disk / 'events.db'}")
    filler = fill(disk, ROOM)
    acknowledged, reasons = 0, []
    for number in range(BATCHES):
        try:
            acknowledged += len(await store.append("one", large(f"{number}")))
        except Unavailable as error:
            reasons.append(str(error.__cause__))
    assert any("autocheckpoint failed" in reason for reason in reasons)
    filler.unlink()
    acknowledged += len(await store.append("one", large("afterwards")))
    assert await store.ping() == "ok"
    [found] = await store.event_types("one")
    new = [verdict for n in range(BATCHES) for verdict in await store.append("one", large(f"{n}"))].count(
        Verdict.ACCEPTED
    )
    await store.close()
    everything = (BATCHES + 1) * BATCH
    say(f"{acknowledged} events acknowledged, {found.events} stored, {new} new when all were sent again")
    assert acknowledged <= found.events == everything - new


def large(name: str) -> list[Event]:
    """Events that make the log long: it is checkpointed when it has 16 MiB."""
    noise = random.Random(name).randbytes(1_500).hex()
    return [
        Event(f"{name}-{n}", "u", "buy", 1_767_225_600_000_000, 1_767_225_600_000_001, 9.5, f'{{"x":"{noise}{n}"}}',
              None, 0, n)
        for n in range(BATCH)
    ]  # fmt: skip


def recovered(load: Load, since: float) -> bool:
    """Whether a new user's assignment is stored and events are, for somebody who asked since then."""
    taken = {answer.what for answer in load.answers if answer.at >= since and answer.stored}
    return {"new", "events"} <= taken
