"""How fast are events taken in, durably and each counted once?

(a) Over HTTP in batches of 500 from 16 connections, against a bulk load of the same JSON bodies into the same table: parsed
with msgspec, inserted by DuckDB in one transaction per 8,000 rows (the largest group that can form), without HTTP, checks, keys
of our own or deduplication (goal ≥ 0.2 of its rate, later 0.3). Beside it the bare engine, which has nothing to parse: the same
rows from NumPy columns in memory, in such transactions and all in one.

(b) `http.events.decode` and `events.normalise`, µs per event (goal
≤ 2), against Pydantic and a bare msgspec decode. (c) `append` of 500-event batches, each deduplicated, where 5 and 20 million
events are stored already, against an almost empty store (goal: flat, ≥ 0.8) and a small DuckDB table with a unique key.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from benchmarks import dataset, load, measure
from benchmarks.application import CLIENT, served
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least, bounded
from upshot import events as rules
from upshot import eventstore
from upshot.clock import SystemClock
from upshot.events import Event
from upshot.eventstore import tables
from upshot.http.events import decode

BATCH = 500
CONNECTIONS = 16
GROUP = BATCH * CONNECTIONS
FIRST = 100_000_000  # sequence numbers of the events that are made, away from those that are appended

_numbers = itertools.count()
_encode = msgspec.json.Encoder().encode


class PydanticEvent(BaseModel):
    """The same shape for the yardstick."""

    user_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any]
    event_id: str


class LoadedEvent(msgspec.Struct):
    """The same shape for the bulk load."""

    user_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any]
    event_id: str


# The engine's own hash stands for our keys, so that the same columns are written.
_LOADING = """
    INSERT INTO events SELECT 0, (hash(event_type) % 10)::INTEGER, (hash(user_id) // 2)::BIGINT,
      epoch_us(timestamp::TIMESTAMPTZ), epoch_us(now()), (properties ->> 'price')::DOUBLE, 0,
      (hash(event_id) // 2)::BIGINT, (hash(event_id || 'b') // 2)::BIGINT, 0, user_id, event_id, NULL, properties, NULL
    FROM fresh"""


def run(*, quick: bool) -> Table:
    """The table."""
    batches = 40 if quick else 160
    stored = (500_000,) if quick else (5_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*_over_http(folder / "http", batches), *_decoding()]
        kept, notes = _deduplicating(folder, stored, 20 if quick else 60)
    return Table("Events", [*rows, *kept], notes)


def _body() -> bytes:
    """A batch of new events, as a client would send them."""
    now = SystemClock().now().isoformat()
    return _encode(
        [
            {
                "user_id": f"user-{number % 100_000}",
                "event_type": dataset.TYPES[number % len(dataset.TYPES)],
                "timestamp": now,
                "event_id": f"event-{number:012}",
                "properties": {"price": number % 10_000 / 100, "currency": "EUR", "page": "/checkout", "items": 3},
            }
            for number in itertools.islice(_numbers, BATCH)
        ]
    )


def _accepted(body: bytes) -> list[Event]:
    """The events of a batch, checked."""
    items, sent_at = decode(body)
    receipt = rules.receipt(SystemClock().now(), sent_at)
    found = [rules.normalise(item, receipt, "", {}, _encode) for item in items]  # type: ignore[arg-type]  # none is a rejection
    return [event for event in found if isinstance(event, Event)]


# (a) Over HTTP


def _over_http(folder: Path, batches: int) -> Iterator[Row]:
    columns = _columns([event for _ in range(batches) for event in _accepted(_body())])
    bodies = [_body() for _ in range(batches)]

    def post(server: Any) -> Sample:
        requests = [load.post("/events/batch", _body()) for _ in range(batches)]
        sample = generator.run(server, CONNECTIONS, requests)
        return Sample(sample.units * BATCH, sample.seconds, sample.cpu, sample.p50, sample.p99)

    with load.Generator() as generator, served(folder) as server, _plain(folder / "plain.db") as connection:
        found = measure.alternate({
            "http": partial(post, server),
            "loaded": partial(_load, connection, bodies),
            "grouped": partial(_append, connection, columns, GROUP),
            "bulk": partial(_append, connection, columns, batches * BATCH),
        })  # fmt: skip
    ours = f"{_shown(found['http'])}, p50 {found['http'].p50:.0f} ms, p99 {found['http'].p99:.0f} ms"
    yardsticks = (
        ("loaded", f"the same JSON, parsed and loaded per {GROUP:,}", 0.2),
        ("grouped", f"columns in memory, per {GROUP:,}", None),
        ("bulk", "columns in memory, all in one", None),
    )
    for kind, what, goal in yardsticks:
        other = found[kind]
        ratio = found["http"].speed_against(other)
        yield at_least("(a) HTTP, batches of 500", ours, f"DuckDB, {what}: {_shown(other)}", ratio, goal)


@contextmanager
def _plain(path: Path, *, unique: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB file with the product's table of events and nothing else."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    with duckdb.connect(path, config={"preserve_insertion_order": False}) as connection:
        connection.execute(str(CreateTable(tables.events).compile(dialect=dialect)))
        if unique:
            connection.execute("CREATE UNIQUE INDEX identity ON events (id_high, id_low)")
        yield connection


def _columns(events: list[Event]) -> dict[str, NDArray[Any]]:
    numbers = np.arange(len(events), dtype=np.int64)
    random = np.random.default_rng(len(events))
    return {
        "seq": numbers,
        "type_key": (numbers % 10).astype(np.int32),
        "user_key": random.integers(0, 2**62, len(events)),
        "occurred_at": np.array([event.occurred_at for event in events], np.int64),
        "received_at": np.array([event.received_at for event in events], np.int64),
        "value": np.array([event.value for event in events], np.float64),
        "flags": np.zeros(len(events), np.int16),
        "id_high": random.integers(0, 2**62, len(events)),
        "id_low": random.integers(0, 2**62, len(events)),
        "fingerprint": np.array([event.fingerprint for event in events], np.int64),
        **{
            name: np.array([getattr(event, name) for event in events], object)
            for name in ("user_id", "event_id", "experiment_id", "properties")
        },
    }


def _load(connection: duckdb.DuckDBPyConnection, bodies: Sequence[bytes]) -> Sample:
    """Parse bodies and insert their events, the bodies of all connections in one transaction."""
    decoder = msgspec.json.Decoder(list[LoadedEvent])

    def work() -> None:
        for start in range(0, len(bodies), CONNECTIONS):
            events = [event for body in bodies[start : start + CONNECTIONS] for event in decoder.decode(body)]
            columns = {
                name: np.array([getattr(event, name) for event in events], object)
                for name in ("user_id", "event_id", "event_type", "timestamp")
            }
            columns["properties"] = np.array([_encode(event.properties).decode() for event in events], object)
            connection.register("fresh", columns)
            connection.execute(_LOADING)
            connection.unregister("fresh")

    return measure.timed(work, len(bodies) * BATCH)


def _append(
    connection: duckdb.DuckDBPyConnection, columns: dict[str, NDArray[Any]], group: int, clause: str = ""
) -> Sample:
    """Append columns in transactions of `group` rows."""
    total, names = len(columns["seq"]), ", ".join(columns)

    def work() -> None:
        for start in range(0, total, group):
            connection.register("fresh", {name: column[start : start + group] for name, column in columns.items()})
            connection.execute(f"INSERT INTO events ({names}) SELECT {names} FROM fresh {clause}")  # noqa: S608 - our own
            connection.unregister("fresh")

    return measure.timed(work, total)


# (b) Decoding and checking


def _decoding() -> Iterator[Row]:
    body, adapter, decoder = _body(), TypeAdapter(list[PydanticEvent]), msgspec.json.Decoder()
    works = {
        "ours": lambda: _accepted(body),
        "Pydantic, decode alone": lambda: adapter.validate_json(body),
        "msgspec without types, decode alone": lambda: decoder.decode(body),
    }
    times = 40
    found = measure.alternate(
        {name: partial(measure.timed, partial(_repeat, work, times), BATCH * times) for name, work in works.items()}
    )
    ours = found.pop("ours")
    for name, other in found.items():
        ratio = f"{1 / ours.speed_against(other):.2f}"
        yield bounded("(b) decode and check an event", ours.micros, "µs", 2, f"{name}: {other.micros:.2f} µs", ratio)


def _repeat(work: Any, times: int) -> None:
    for _ in range(times):
        work()


# (c) Deduplication


def _deduplicating(folder: Path, stored: Sequence[int], batches: int) -> tuple[list[Row], list[str]]:
    """The same store, empty and with more and more events in it."""
    rows, notes, before = list[Row](), list[str](), 0
    for name in ("kept", "empty"):
        (folder / name).mkdir(parents=True)
        dataset.create(folder / name, CLIENT)
    for count in stored:
        dataset.add_events(folder / "kept", FIRST + 2 * before, count - before, users=1_000_000)
        before = count
        with asyncio.Runner() as runner, _plain(folder / f"unique-{count}.db", unique=True) as plain:
            empty = runner.run(eventstore.connect(dataset.url(folder / "empty")))
            started = time.perf_counter()
            kept = runner.run(eventstore.connect(dataset.url(folder / "kept")))
            opened = time.perf_counter() - started
            contestants: dict[str, Callable[[], Sample]] = {}
            for callers in (1, CONNECTIONS):
                contestants[f"kept {callers}"] = partial(_append_batches, runner, kept, batches, callers)
                contestants[f"empty {callers}"] = partial(_append_batches, runner, empty, batches, callers)
                contestants[f"unique {callers}"] = partial(_append_unique, plain, batches, callers * BATCH)
            rows += _rows_kept(measure.alternate(contestants), count)
            for store in (kept, empty):
                runner.run(store.close())
        size = [measure.megabytes(folder / "kept" / name) for name in ("events.db", "events.identities")]
        catching_up = f"opening, with the index of identities to catch up from the last size, took {opened:.1f} s"
        notes.append(f"{count:,} events stored: {catching_up}; table {size[0]:,.0f} MB, index {size[1]:,.0f} MB.")
    return rows, notes


def _append_batches(runner: asyncio.Runner, store: eventstore.EventStore, batches: int, callers: int) -> Sample:
    """So many callers, each appending the next batch as soon as its last one is durable."""
    waiting = iter([_accepted(_body()) for _ in range(batches)])

    async def caller() -> None:
        for batch in waiting:
            await store.append(CLIENT, batch)

    async def together() -> None:
        await asyncio.gather(*(caller() for _ in range(callers)))

    return measure.timed(lambda: runner.run(together()), batches * BATCH)


def _append_unique(connection: duckdb.DuckDBPyConnection, batches: int, group: int) -> Sample:
    columns = _columns([event for _ in range(batches) for event in _accepted(_body())])
    columns["id_low"] += next(_numbers)  # the random identities begin with the same seed
    return _append(connection, columns, group, "ON CONFLICT DO NOTHING")


def _rows_kept(found: dict[str, Measured], count: int) -> Iterator[Row]:
    for callers in (1, CONNECTIONS):
        ours, empty, unique = (found[f"{kind} {callers}"] for kind in ("kept", "empty", "unique"))
        what = f"(c) append, {count / 1e6:g}M stored, {callers} waiting"
        yield at_least(what, _shown(ours), f"empty store: {_shown(empty)}", ours.speed_against(empty), 0.8)
        yardstick = f"DuckDB's unique key, small table, {callers * BATCH:,} a transaction: {_shown(unique)}"
        yield at_least(what, _shown(ours), yardstick, ours.speed_against(unique))


def _shown(found: Measured) -> str:
    return f"{found.rate:,.0f}/s, {found.cpu_micros:.1f} µs CPU"
