"""How fast are durable first assignments?

(a) Concurrent callers share commits: the operation and the store with 64 and 256 waiting callers, against the same store with one
caller at a time, so one commit each; goal ≥ 10 times its rate. (b) Over HTTP with 64 and 256 connections, against a grouped insert
straight into the same tables (sqlite3, insert-or-nothing and outbox, one FULL commit per 64 or 256); goal ≥ 0.25 of its rate with
p99 ≤ 50 ms. Each contestant has users of its own; every assignment is new.
"""

import asyncio
import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import load, measure
from benchmarks.application import CLIENT, Application, create_experiment, opened
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least, bounded
from tests.servers import RunningServer, running
from upshot.assignment import Assignment
from upshot.control import dialects
from upshot.experiments import Experiment
from upshot.operations import assignments

WAITING = (64, 256)

_INSERT = """
    INSERT INTO assignments (experiment, user_id, client_id, variant, phase, assigned_at, exposed_at, context)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""

_numbers = itertools.count()


def run(*, quick: bool) -> Table:
    """The table."""
    size = 2_000 if quick else 6_000
    with tempfile.TemporaryDirectory() as name, load.Generator() as generator:
        folder = Path(name)
        sync = measure.sync_millis(folder)
        with opened(folder / "stores") as application:
            grouped = _grouped(application, size)
            experiment = application.experiment(key="straight")
        with running(folder / "server") as server, closing(_straight(folder / "stores")) as straight:
            over_http = _over_http(server, straight, experiment, generator, size)
    notes = [
        f"One fdatasync of a small append takes {sync:.2f} ms here.",
        "CPU is that of the process that stores: this one for (a) and the straight insert, the server's over HTTP.",
    ]
    return Table("First assignment", [*_rows_grouped(grouped), *_rows_http(over_http)], notes)


# (a) In this process


def _grouped(application: Application, size: int) -> dict[str, Measured]:
    experiment = application.experiment()
    contestants: dict[str, Callable[[], Sample]] = {
        "one": lambda: application.run(_callers(_by_store(application, experiment), 1, size // 20))
    }
    for waiting in WAITING:
        for name, by in (("store", _by_store), ("operation", _by_operation)):
            ask = by(application, experiment)
            contestants[f"{name} {waiting}"] = partial(_run_callers, application, ask, waiting, size)
    return measure.alternate(contestants)


_Ask = Callable[[str], "asyncio.Future[object] | object"]


def _by_store(application: Application, experiment: Experiment) -> Callable[[str], object]:
    def ask(user_id: str) -> object:
        now = datetime.now(UTC)
        return application.stores.control.assign(CLIENT, [Assignment(experiment.number, user_id, 1, 1, now, now, "{}")])

    return ask


def _by_operation(application: Application, experiment: Experiment) -> Callable[[str], object]:
    return lambda user_id: assignments.assign(application.stores, CLIENT, experiment.id, user_id, {})
