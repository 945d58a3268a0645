"""Backups under load: what was acknowledged before one was begun is in it, and a restored copy answers as the original.

The embedded stores by `upshot backup`, PostgreSQL by pg_basebackup.
"""

import copy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.backends import postgresql as module
from tests.backends.daemon import give, server_folder
from tests.backends.postgresql import USER, PostgreSQL, postgresql
from tests.faults.reporting import of, say
from tests.faults.traffic import HALVES, KIND, Kept, Load, check, load
from tests.servers import RunningServer, running

CONTROL_COPIES = 10  # at most
ENOUGH = 100  # events before a backup is begun
SENTINELS = 400  # asked for at once: at any moment some are assigned and not relayed
RELAYED_SECONDS = 2.0

pytestmark = pytest.mark.slow

Restored = Callable[[Path], AbstractContextManager[RunningServer]]


def assigned_last(server: RunningServer) -> str:
    """An experiment whose users are assigned until the last moment: not all of their exposures are relayed yet."""
    with server.client() as client:
        made = client.post("/experiments", json={"name": "last", "variants": HALVES}).raise_for_status().json()["id"]

        def assign(number: int) -> None:
            client.get(f"/experiments/{made}/assignment/last-{number}").raise_for_status()

        with ThreadPoolExecutor(8) as several:
            list(several.map(assign, range(SENTINELS)))
    return str(made)


def as_of(working: Load, moment: list[tuple[dict[Any, str], set[str]]]) -> Load:
    """The same load, as if everything that was promised after a moment had not been answered."""
    callers = []
    for caller, (assigned, acknowledged) in zip(working.callers, moment, strict=True):
        then = copy.copy(caller)
        then.assigned, then.acknowledged = assigned, acknowledged
        then.unknown = caller.unknown | (caller.assigned.keys() - assigned.keys())
        callers.append(then)
    return Load(working.server, working.experiments, callers)


def backed_up_under_load(
    server: RunningServer, seed: int, folder: Path, back_up: Callable[[Path], None], restored: Restored
) -> tuple[Kept, int]:
    """What a backup lacks: of the promises made before it was begun, and of the last users' exposures."""
    with load(server, seed) as working:
        time.sleep(1)
        working.until(ENOUGH)
        moment = [(caller.assigned.copy(), caller.acknowledged.copy()) for caller in working.callers]
        last = assigned_last(server)
        begun = time.monotonic()
        back_up(folder / "copy")
        say(f"a backup under load took {time.monotonic() - begun:.2f} s")
    begun = time.monotonic()
    with restored(folder / "copy") as again:
        say(f"restored, and ready, in {time.monotonic() - begun:.2f} s")
        with again.client() as client:
            exposed = client.get(f"/experiments/{last}/results").raise_for_status().json()["summary"]["total_users"]
        kept = check(again, as_of(working, moment))
    kept.report()
    missing = SENTINELS - exposed
    say(of(missing, SENTINELS, "exposures lost of the users that were assigned last"))
    return kept, missing


def answers(server: RunningServer) -> list[Any]:
    """All results, without what depends on the moment of asking."""
    with server.client() as client:
        experiments = client.get("/experiments").raise_for_status().json()["experiments"]
        return [_result(client, experiment["id"]) for experiment in experiments]


def _result(client: httpx.Client, experiment: str) -> Any:
    found = client.get(f"/experiments/{experiment}/results", params={"event_type": KIND}).raise_for_status().json()
    for expected in ("days_needed", "decide_at", "cost_of_waiting"):  # the users of a day, up to now
        del found["summary"][expected]
    return {name: value for name, value in found.items() if name in {"variants", "summary", "comparisons"}}


def by_command(data: Path, target: Path) -> None:
    """`upshot backup`, as an operator makes one."""
    command = [sys.executable, "-m", "upshot", "backup", str(target), "--data-dir", str(data)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def by_copying(data: Path, target: Path) -> None:
    """The negative control: the files of a running server, one after the other, as a busy machine copies them."""
    target.mkdir()
    for path in sorted(data.glob("*.db*"), reverse=True):
        if path.name == "control.db-wal":
            time.sleep(RELAYED_SECONDS)
        shutil.copy(path, target)


def test_a_backup_of_a_running_server_has_everything_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """Of both embedded stores, beside the load; and of a stopped one, which answers as before."""
    data = tmp_path / "data"
    with running(data) as server:
        kept, missing = backed_up_under_load(server, seed, tmp_path, lambda to: by_command(data, to), running)
        before = answers(server)
    assert kept.events > ENOUGH
    assert kept.faults == (0, 0, 0, 0, 0)
    assert missing == 0
    by_command(data, tmp_path / "quiet")
    with running(tmp_path / "quiet") as again:
        assert answers(again) == before


def test_a_copy_of_the_files_is_caught(tmp_path: Path, seed: int) -> None:
    """The two stores at different moments, in the wrong order: exposures are in neither."""
    data = tmp_path / "data"
    with running(data) as server:
        assert any(torn(server, seed, tmp_path / f"{number}", data) for number in range(CONTROL_COPIES))


def torn(server: RunningServer, seed: int, folder: Path, data: Path) -> bool:
    """Whether a copy of the files lacks something, or cannot be used at all."""
    folder.mkdir()
    try:
        kept, missing = backed_up_under_load(server, seed, folder, lambda to: by_copying(data, to), running)
    except (AssertionError, httpx.HTTPStatusError) as error:
        say(f"the copy cannot be used: {error}")
        return True
    return any((missing, *kept.faults))


def test_a_base_backup_of_postgresql_has_everything_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """pg_basebackup, from which a new server recovers."""
    started: list[PostgreSQL] = []
    with server_folder(USER) as folder, postgresql(folder) as primary:

        def by_basebackup(target: Path) -> None:
            where = ("-h", "127.0.0.1", "-p", str(primary._port), "-U", "upshot", "-X", "stream", "-c", "fast")
            module._run("pg_basebackup", *where, "-D", str(folder / target.name))

        def restored(target: Path) -> AbstractContextManager[RunningServer]:
            started.append(PostgreSQL(folder / target.name))
            return running(tmp_path / f"{target.name}-server", environment=on(started[-1].url))

        give(folder, USER)
        try:
            with running(tmp_path / "server", environment=on(primary.url)) as server:
                kept, missing = backed_up_under_load(server, seed, tmp_path, by_basebackup, restored)
                before = answers(server)
                by_basebackup(tmp_path / "quiet")
                with restored(tmp_path / "quiet") as again:
                    assert answers(again) == before
        finally:
            for copied in started:
                copied.stop()
    assert kept.events > ENOUGH
    assert kept.faults == (0, 0, 0, 0, 0)
    assert missing == 0


def on(database: str) -> dict[str, str]:
    """The environment of a server whose stores are both in one database."""
    return {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database}
