"""What a busy machine takes from an event loop or a process, so that it is not taken for slowness of what runs there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

TICK_SECONDS = 0.002


@asynccontextmanager
async def losing() -> AsyncIterator[Callable[[], float]]:
    """Tells how many seconds the event loop has lost so far: by how much short timers came later than timers always do."""
    lost, due = 0.0, time.monotonic()

    def late() -> float:
        overdue = time.monotonic() - due
        return overdue if overdue > TICK_SECONDS else 0.0

    async def tick() -> None:
        nonlocal lost, due
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            lost += late()

    task = asyncio.create_task(tick())
    try:
        yield lambda: lost + late()
    finally:
        task.cancel()


def kept_waiting(pid: int) -> float:
    """For how many seconds the first thread of a process could have run, and others did; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0
