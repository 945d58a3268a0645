"""What does each event store take, and how soon does it answer over 20 million events of 1 million users?

Taking in: `append` of 500-event batches from 16 callers, each durable and deduplicated. Answering: `aggregate` of one conversion,
and of ten sums at once, on the same events in every store, loaded by the engine's own means. The yardstick is the embedded store,
in the same run. Every server is private to the run, with the settings of the tests (fsync on, small buffers).
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from tests.backends import clickhouse, daemon, mariadb, postgresql

from benchmarks import bulk, dataset, measure
from benchmarks.application import CLIENT
from benchmarks.dataset import TYPES
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least, at_most
from upshot import eventstore
from upshot.aggregation import AggregationPlan
from upshot.events import Event, micros
from upshot.metrics import Kind, Metric

BATCH = 500
CALLERS = 16
END = micros(dataset.BEGIN) + dataset.DAYS * 86_400_000_000
ONE = AggregationPlan(1, (Metric("one", Kind.CONVERSION, TYPES[:1]),), None, END)
TEN = AggregationPlan(1, tuple(Metric(name, Kind.SUM, (name,)) for name in TYPES), None, END)

_numbers = itertools.count()


def run(*, quick: bool) -> Table:
    """The table."""
    users, events, batches = (20_000, 400_000, 16) if quick else (1_000_000, 20_000_000, 64)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as servers:
        folder = Path(name)
        folder.chmod(0o755)
        dataset.create(folder, CLIENT)
        dataset.add_events(folder, 0, events, users)
        dataset.add_exposures(folder, events, users, experiment=1)
        full, empty = _places(folder, servers)
        notes = [f"{users:,} users, {events:,} events."]
        for backend, url in full.items():
            if backend != "embedded":
                began = time.perf_counter()
                bulk.fill(url, CLIENT, folder / "events.db", folder)
                notes.append(f"{backend}: loaded in {time.perf_counter() - began:.0f} s.")
        return Table("Stores", [*_taking(empty, batches), *_answering(full)], notes)


def _places(folder: Path, servers: ExitStack) -> tuple[dict[str, str], dict[str, str]]:
    """A URL of each backend for the loaded events, and one for events that are appended."""
    pg = servers.enter_context(postgresql.postgresql(servers.enter_context(daemon.server_folder(postgresql.USER))))
    maria = servers.enter_context(mariadb.mariadb(servers.enter_context(daemon.server_folder(mariadb.USER))))
    house = servers.enter_context(clickhouse.clickhouse(servers.enter_context(daemon.server_folder())))
    kinds: dict[str, Any] = {"PostgreSQL": pg, "MariaDB": maria, "ClickHouse": house}
    found = []
    for use in ("full", "empty"):
        (folder / use).mkdir()
        found.append(
            {"embedded": dataset.url(folder if use == "full" else folder / use)}
            | {"SQLite": f"sqlite:///{folder / use / 'events.sqlite'}"}
            | {backend: server.database(use) for backend, server in kinds.items()}
        )
    return found[0], found[1]


def _taking(places: Mapping[str, str], batches: int) -> Iterator[Row]:
    found = measure.alternate({backend: partial(append, url, batches) for backend, url in places.items()}, rounds=3)
    for backend in places:
        own = found[backend]
        shown = f"{own.rate:,.0f} events/s, p99 {own.p99:,.0f} ms"
        yield at_least(
            f"append, {backend}", shown, f"{found['embedded'].rate:,.0f}", own.speed_against(found["embedded"])
        )


def _answering(places: Mapping[str, str]) -> Iterator[Row]:
    for what, plan in (("one conversion", ONE), ("ten sums", TEN)):
        answers: dict[str, Measured] = {}
        for backend, url in places.items():
            try:
                answers[backend] = measure.alternate({"it": partial(ask, url, plan)}, rounds=3)["it"]
            except Exception as error:  # noqa: BLE001 - that there is no answer is an answer, too
                yield Row(f"{what}, {backend}", f"{type(error).__name__}: {error}", "", "", "an answer", reached=False)
                continue
            own, yardstick = answers[backend].seconds, answers.get("embedded")
            if yardstick is None:
                yield Row(f"{what}, {backend}", f"{own:.2f} s", "no answer", "")
                continue
            yield at_most(f"{what}, {backend}", f"{own:.2f} s", f"{yardstick.seconds:.2f} s", own / yardstick.seconds)


def append(url: str, batches: int) -> Sample:
    """Batches from many callers into a store that has just been opened."""

    async def work() -> Sample:
        store = await eventstore.connect(url)
        waits: list[float] = []

        async def caller() -> None:
            for _ in range(batches // CALLERS):
                batch, began = batch_of(BATCH), time.perf_counter()
                await store.append(CLIENT, batch)
                waits.append(time.perf_counter() - began)

        await store.append(CLIENT, batch_of(BATCH))
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        await store.close()
        waits.sort()
        return Sample(batches * BATCH, seconds, cpu, waits[len(waits) // 2], waits[int(len(waits) * 0.99)])

    return uvloop.run(work())


def ask(url: str, plan: AggregationPlan) -> Sample:
    """One question to a store that has just been opened."""

    async def work() -> Sample:
        store = await eventstore.connect(url)
        began, cpu = time.perf_counter(), time.process_time()
        try:
            found = await store.aggregate(CLIENT, plan)
        finally:  # a question that takes too long must not keep the next one from opening the store
            sample = Sample(1, time.perf_counter() - began, time.process_time() - cpu)
            await store.close()
        assert sum(found.exposed.values())
        assert found.measured
        return sample

    return uvloop.run(work())


def batch_of(size: int) -> list[Event]:
    """New events."""
    now = time.time_ns() // 1_000
    return [
        Event(f"event-{n:012}-{now}", f"user-{n % 100_000}", TYPES[n % len(TYPES)], now, now, n % 10_000 / 100,
              '{"price":12.5,"currency":"EUR","page":"/checkout","items":3}', None, 0, n)
        for n in itertools.islice(_numbers, size)
    ]  # fmt: skip
