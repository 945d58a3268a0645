"""How fast are durable first assignments?

(a) Concurrent callers share commits: the operation and the store with 64 and 256 waiting callers, against the same store with
one caller at a time, so one commit each; goal ≥ 10 times its rate. (b) Over HTTP with 64 and 256 connections, against as many
waiting callers in this process, of the store and of bare sqlite3 on the same tables in the same groups (insert-or-nothing and
outbox, FULL commit); goal ≥ 0.25 of either's rate with p99 ≤ 50 ms. The same insert from a list, with nobody waiting for an
answer, is shown beside it: that is what the disk can do. Each contestant has users of its own; every assignment is new. Unleash,
where it is installed, answers as many connections, and stores nothing.
"""

import asyncio
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
from tests.servers import RunningServer

from benchmarks import load, measure, peerservers
from benchmarks.application import CLIENT, Application, create_experiment, opened, served
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least, bounded
from upshot.assignment import Assignment
from upshot.events import Exposure, micros
from upshot.experiments import Experiment
from upshot.groupcommit import GroupCommit
from upshot.operations import assignments

WAITING = (64, 256)

_Ask = Callable[[str], Awaitable[object]]

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
            grouped = _in_process(application, size)
            with served(folder / "server") as server, peerservers.unleash() as peer:
                over_http = _over_http(server, peer, application, application.experiment(), generator, size)
    notes = [
        f"One fdatasync of a small append takes {sync:.2f} ms here.",
        "CPU is this process's for (a) and the straight insert; for HTTP the server's, relay to the event store included.",
    ]
    return Table("First assignment", [*_rows_in_process(grouped), *_rows_http(over_http)], notes)


def _in_process(application: Application, size: int) -> dict[str, Measured]:
    experiment = application.experiment()
    by_store, by_operation = _by_store(application, experiment), _by_operation(application, experiment)
    contestants = {"one": partial(_callers, application, by_store, 1, size // 20)}
    for waiting in WAITING:
        contestants[f"store {waiting}"] = partial(_callers, application, by_store, waiting, size)
        contestants[f"operation {waiting}"] = partial(_callers, application, by_operation, waiting, size)
    return measure.alternate(contestants)


def _by_store(application: Application, experiment: Experiment) -> _Ask:
    def ask(user_id: str) -> Awaitable[object]:
        now = datetime.now(UTC)
        return application.stores.control.assign(CLIENT, [Assignment(experiment.number, user_id, 1, 1, now, now, "{}")])

    return ask


def _by_operation(application: Application, experiment: Experiment) -> _Ask:
    return lambda user_id: assignments.assign(application.stores, CLIENT, experiment.id, user_id, {})


def _callers(application: Application, ask: _Ask, waiting: int, size: int) -> Sample:
    """So many callers, each asking for the next user as soon as it has an answer."""
    users, taken = iter([f"user-{next(_numbers)}" for _ in range(size)]), list[float]()

    async def caller() -> None:
        for user_id in users:
            asked = time.perf_counter()
            await ask(user_id)
            taken.append(time.perf_counter() - asked)

    async def together() -> None:
        await asyncio.gather(*(caller() for _ in range(waiting)))

    found = measure.timed(lambda: application.run(together()), size)
    taken.sort()
    return Sample(size, found.seconds, found.cpu, taken[size // 2], taken[size * 99 // 100])


def _over_http(
    server: RunningServer,
    peer: peerservers.Peer | None,
    application: Application,
    experiment: Experiment,
    generator: load.Generator,
    size: int,
) -> dict[str, Measured]:
    path = f"/experiments/{create_experiment(server)}/assignment/"
    by_store, straight = _by_store(application, experiment), Straight(application.folder, experiment.number)

    def ask(connections: int) -> Sample:
        return generator.run(server, connections, [load.get(f"{path}user-{next(_numbers)}") for _ in range(size)])

    def insert_list(group: int) -> Sample:
        users = [f"user-{next(_numbers)}" for _ in range(size)]

        def insert() -> None:
            for start in range(0, size, group):
                straight.insert(users[start : start + group])

        return measure.timed(insert, size)

    def ask_peer(unleash: peerservers.Peer, connections: int) -> Sample:
        questions = [peerservers.request(f"user-{next(_numbers)}") for _ in range(size)]
        return generator.run(unleash, connections, questions)

    contestants: dict[str, Callable[[], Sample]] = {}
    for waiting in WAITING:
        if peer is not None:
            contestants[f"unleash {waiting}"] = partial(ask_peer, peer, waiting)
        contestants[f"http {waiting}"] = partial(ask, waiting)
        contestants[f"store {waiting}"] = partial(_callers, application, by_store, waiting, size)
        contestants[f"sqlite3 {waiting}"] = partial(_callers, application, straight.ask, waiting, size)
        contestants[f"list {waiting}"] = partial(insert_list, waiting)
    return measure.alternate(contestants)


class Straight:
    """The control store's own file on a bare connection, as durable as its own, with the product's grouping."""

    def __init__(self, folder: Path, experiment: int) -> None:
        self._experiment = experiment
        self._connection = sqlite3.connect(folder / "control.db", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._group: GroupCommit[str, None] = GroupCommit(self._commit, group_weight=500, waiting_weight=20_000)

    def ask(self, user_id: str) -> Awaitable[object]:
        """Store one assignment together with whoever else waits."""
        return self._group.submit(user_id)

    async def _commit(self, users: Sequence[str]) -> Sequence[None]:
        await asyncio.to_thread(self.insert, users)
        return [None] * len(users)

    def insert(self, users: Sequence[str]) -> None:
        """Store assignments and their exposures in one commit."""
        number, now = self._experiment, datetime.now(UTC)
        text = now.replace(tzinfo=None).isoformat(" ")
        exposures = [Exposure(CLIENT, number, user_id, 1, 1, micros(now), "{}") for user_id in users]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, [(number, user, CLIENT, 1, 1, text, text, "{}") for user in users])
        self._connection.execute("INSERT INTO outbox (exposures) VALUES (?)", [msgspec.json.encode(exposures)])
        self._connection.execute("COMMIT")


def _rows_in_process(found: dict[str, Measured]) -> list[Row]:
    one = found["one"]
    return [
        at_least(
            f"(a) {'ControlStore.assign' if level == 'store' else 'operations.assign'}, {waiting} waiting",
            _shown(ours),
            f"one caller: {_shown(one)}",
            ours.speed_against(one),
            10,
        )
        for level in ("store", "operation")
        for waiting in WAITING
        for ours in [found[f"{level} {waiting}"]]
    ]


def _rows_http(found: dict[str, Measured]) -> list[Row]:
    rows = []
    for waiting in WAITING:
        ours, bare, what = found[f"http {waiting}"], found[f"list {waiting}"], f"(b) HTTP, {waiting} connections"
        for kind, name in (("store", "ControlStore.assign"), ("sqlite3", "bare sqlite3")):
            other = found[f"{kind} {waiting}"]
            rows.append(at_least(what, _shown(ours), f"{name}: {_shown(other)}", ours.speed_against(other), 0.25))
        yardstick = f"sqlite3, from a list: {bare.rate:,.0f}/s, {bare.cpu_micros:.0f} µs CPU"
        rows.append(at_least(what, _shown(ours), yardstick, ours.speed_against(bare)))
        if peer := found.get(f"unleash {waiting}"):
            rows.append(
                at_least(what, _shown(ours), f"Unleash, nothing stored: {_shown(peer)}", ours.speed_against(peer))
            )
        rows.append(bounded(f"{what}: p99", ours.p99, "ms", 50))
    return rows


def _shown(found: Measured) -> str:
    times = f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms"
    return f"{found.rate:,.0f}/s, {times}, {found.cpu_micros:.0f} µs CPU"
