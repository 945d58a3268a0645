"""How soon does the server answer, and how much memory does it hold when nothing happens?

From the start of the process to the first answered `/readyz`, and the resident memory two seconds later, of `upshot serve` on a
folder that it has used before; yardstick: uvicorn with an empty FastAPI. Goals: ≤ 1.5 s and ≤ 150 MB.
"""

import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from tests.servers import RunningServer

from benchmarks import measure
from benchmarks.application import served
from benchmarks.measure import Measured, Sample
from benchmarks.report import Table, bounded
from benchmarks.yardsticks import serving

IDLE_SECONDS = 2.0


def run(*, quick: bool) -> Table:
    """The table."""
    memory: dict[str, float] = {}

    def start(name: str, opening: "AbstractContextManager[RunningServer]") -> Sample:
        started = time.perf_counter()
        with opening as server:
            took, pid = time.perf_counter() - started, server.process.pid
            used = measure.cpu_seconds(pid)
            time.sleep(0 if quick else IDLE_SECONDS)
            memory[name] = measure.resident_megabytes(pid)
        return Sample(1, took, used)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder):
            pass  # the first start makes the stores
        found = measure.alternate(
            {
                "ours": lambda: start("ours", served(folder)),
                "empty": lambda: start("empty", serving("empty", folder)),
            }
        )
    ours, empty = found["ours"], found["empty"]
    rows = [
        bounded("start to first answer", ours.seconds, "s", 1.5, _shown(empty), f"{ours.seconds / empty.seconds:.2f}"),
        bounded(
            "memory, idle",
            memory["ours"],
            "MB",
            150,
            f"{memory['empty']:.0f} MB",
            f"{memory['ours'] / memory['empty']:.2f}",
        ),
    ]
    return Table("Start-up and memory", rows, [f"CPU of a start: ours {_cpu(ours)}, yardstick {_cpu(empty)}."])


def _shown(found: Measured) -> str:
    return f"{found.seconds:.2f} s"


def _cpu(found: Measured) -> str:
    return f"{found.cpu_micros / 1e6:.2f} s"
