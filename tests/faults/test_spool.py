"""kill −9 of a process that fills and drains a spool: what was acknowledged was handed on, or waits for the next process."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.faults.reporting import of, say

from upshot.eventqueue import spool as module
from upshot.eventqueue.spool import Publish, Spool
from upshot.events import Event

ROOT = Path(__file__).parents[2]
KILLS = 20
CONTROL_KILLS = 4
ACKNOWLEDGED = 100  # events at least before a kill
CALLERS = 20
CAPACITY = 100 << 20


class AnswersFirst(Spool):
    """A fault: it answers before it writes."""

    async def append(self, client: str, events: Sequence[Event]) -> None:
        """Keep events, later."""
        self.later = asyncio.create_task(super().append(client, events))
        await asyncio.sleep(0)


class ForgetsFirst(Spool):
    """A fault: it forgets before the queue has taken the events."""

    async def drain(self, publish: Publish) -> int:
        """Hand on what waits."""
        taken: list[tuple[str, list[Event]]] = []

        async def take(client: str, events: list[Event]) -> None:
            taken.append((client, events))

        handed = await super().drain(take)
        await asyncio.sleep(1)
        for client, events in taken:
            await publish(client, events)
        return handed


KINDS = {kind.__name__: kind for kind in (Spool, AnswersFirst, ForgetsFirst)}


def event(name: str) -> Event:
    """An event that is told apart by its id."""
    return Event(name, "user", "buy", 1_767_225_600_000_000, 1_767_225_600_000_001, 9.5, "{}", None, 0, 7)


async def work(kind: str, folder: Path, run: str) -> None:
    """What the child does until it is killed: callers that append, and a queue that takes events, slowly; it says what it did."""
    module.SEGMENT, module.BATCH = 20_000, 50
    spool = KINDS[kind](folder, CAPACITY)

    async def publish(_client: str, events: list[Event]) -> None:
        await asyncio.sleep(0.002)
        os.write(1, "".join(f"published {event.event_id}\n" for event in events).encode())

    async def call(caller: int) -> None:
        for number in range(1_000_000):
            name = f"{run}-{caller}-{number}"
            await spool.append("one", [event(name)])
            os.write(1, f"acknowledged {name}\n".encode())

    async with asyncio.TaskGroup() as callers:
        for caller in range(CALLERS):
            callers.create_task(call(caller))
        while True:
            await asyncio.sleep(0.01)
            await spool.drain(publish)


def killed(kind: str, folder: Path, run: str, seconds: float) -> dict[str, set[str]]:
    """Run a child, kill it so long after it acknowledged enough; what it acknowledged and published."""
    said = folder.with_name(f"said-{run}")
    with said.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.test_spool", kind, str(folder), run], cwd=ROOT, stdout=output
        )
        while said.read_bytes().count(b"acknowledged") < ACKNOWLEDGED:
            assert child.poll() is None
            time.sleep(0.005)
        time.sleep(seconds)
        child.kill()
        child.wait()
    found: dict[str, set[str]] = {"acknowledged": set(), "published": set()}
    for line in said.read_text(encoding="utf-8").splitlines():
        what, name = line.split()
        found[what].add(name)
    return found


async def lost(kind: str, kills: int, folder: Path, seed: int) -> int:
    """How many acknowledged events are gone after so many kills of processes that follow one another."""
    moments = random.Random(seed)
    acknowledged: set[str] = set()
    published: set[str] = set()
    for run in range(kills):
        found = killed(kind, folder, str(run), moments.uniform(0, 0.4))
        acknowledged |= found["acknowledged"]
        published |= found["published"]
    say(f"{kind}: {kills} kills, {len(published):,} events were published before them")

    async def publish(_client: str, events: list[Event]) -> None:
        published.update(event.event_id for event in events)

    spool = Spool(folder, CAPACITY)
    await spool.drain(publish)
    await spool.close()
    missing = len(acknowledged - published)
    say(of(missing, len(acknowledged), "acknowledged events lost"))
    assert len(acknowledged) >= ACKNOWLEDGED * kills
    assert not (folder / "damaged").exists()
    return missing


@pytest.mark.slow
async def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, seed: int) -> None:
    """Twenty times, at any moment of appending and draining."""
    assert await lost("Spool", KILLS, tmp_path / "spool", seed) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AnswersFirst", "ForgetsFirst"])
async def test_a_spool_that_loses_events_is_noticed(kind: str, tmp_path: Path, seed: int) -> None:
    """The check can fail."""
    assert await lost(kind, CONTROL_KILLS, tmp_path / "spool", seed) > 0


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
