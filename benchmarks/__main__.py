"""Run the benchmarks: `python -m benchmarks [name…] [--quick]`.

Each question runs in a process of its own. A full run writes its tables into `RESULTS.md` (the sections of questions that did
not run stay); `--quick` uses small data, prints the tables and writes nothing.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import report

QUESTIONS = (
    "first_assignment",
    "repeated_assignment",
    "events",
    "results",
    "startup",
    "statistics",
    "stores",
    "queues",
    "cache",
    "growth",
    "sdk",
    "dashboard",
)


def main() -> None:
    """Run what the command line names, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against yardsticks, in turn.")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="small data; prints, does not write RESULTS.md")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(QUESTIONS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name in asked.names or QUESTIONS:
        started = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            section = process.submit(report.answer, name, quick=asked.quick).result()
        print(f"{section}\n({name}: {time.monotonic() - started:.0f} s)\n", flush=True)
        if not asked.quick:
            report.write([section])


if __name__ == "__main__":
    main()
