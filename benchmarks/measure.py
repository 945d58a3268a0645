"""Timing that survives a shared machine: ours and the yardsticks in turn, medians, ratios of neighbours, CPU beside the clock."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: so many units in so many seconds, with so much CPU; latencies in seconds where they were taken."""

    units: int
    seconds: float
    cpu: float
    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of one contestant, in the order of the rounds."""

    samples: tuple[Sample, ...]

    @property
    def rate(self) -> float:
        """Units per second, median."""
        return statistics.median(sample.units / sample.seconds for sample in self.samples)

    @property
    def seconds(self) -> float:
        """Seconds per run, median."""
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def micros(self) -> float:
        """Microseconds per unit by the clock, median."""
        return 1e6 / self.rate

    @property
    def cpu_micros(self) -> float:
        """CPU microseconds per unit, median."""
        return statistics.median(1e6 * sample.cpu / sample.units for sample in self.samples)

    @property
    def p50(self) -> float:
        """Median latency in milliseconds, median over the runs."""
        return 1e3 * statistics.median(sample.p50 for sample in self.samples)

    @property
    def p99(self) -> float:
        """99th percentile of the latency in milliseconds, median over the runs."""
        return 1e3 * statistics.median(sample.p99 for sample in self.samples)

    def speed_against(self, yardstick: "Measured") -> float:
        """How many times the yardstick's rate this is: the median of the ratios of runs that were neighbours."""
        return statistics.median(
            (ours.units / ours.seconds) / (theirs.units / theirs.seconds)
            for ours, theirs in zip(self.samples, yardstick.samples, strict=True)
        )

    def cost_against(self, yardstick: "Measured") -> float:
        """The CPU time of a unit as a multiple of the yardstick's."""
        return self.cpu_micros / yardstick.cpu_micros


def alternate(contestants: Mapping[str, Callable[[], Sample]], rounds: int = ROUNDS) -> dict[str, Measured]:
    """Let each contestant run in turn, round after round, after one round that does not count."""
    found: dict[str, list[Sample]] = {name: [] for name in contestants}
    for name in [*contestants, *(list(contestants) * rounds)]:
        found[name].append(contestants[name]())
    return {name: Measured(tuple(samples[1:])) for name, samples in found.items()}


def timed(work: Callable[[], object], units: int = 1, pid: int | None = None) -> Sample:
    """Run `work` once; the CPU time is that of this process, or of the process `pid`."""
    cpu = cpu_seconds(pid)
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return Sample(units, seconds, cpu_seconds(pid) - cpu)


def cpu_seconds(pid: int | None = None) -> float:
    """User and system time that a process has used so far; this one without an id."""
    if pid is None:
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_megabytes(pid: int) -> float:
    """Memory that a process holds in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def megabytes(*paths: Path) -> float:
    """Size on disk of files and folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def sync_millis(folder: Path, times: int = 100) -> float:
    """What one fdatasync of a small append costs here: the floor under every durable commit."""
    with (folder / "sync").open("wb") as file:
        taken = []
        for _ in range(times):
            file.write(b"x" * 200)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken)
