"""What does a result cost when events grow from 2 to 20 to 100 million, embedded and in ClickHouse's engine?

One conversion and ten sums over everything, and a daily series of one conversion: counted, and from the rollups. The yardstick of
each row is the same question at 2 million events in the same store: growing 50 times with the data is a ratio of 50.
"""

import asyncio
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import duckdb
from tests.backends import clickhouse, daemon

from benchmarks import bulk, dataset, measure
from benchmarks.application import CLIENT
from benchmarks.dataset import BEGIN, DAYS
from benchmarks.report import Row, Table, at_most
from benchmarks.stores import ONE, TEN, ask
from upshot import eventstore
from upshot.aggregation import AggregationPlan, Period
from upshot.errors import TimedOut
from upshot.events import micros

DAY = 86_400_000_000
SERIES = AggregationPlan(
    1,
    ONE.metrics,
    None,
    ONE.end,
    tuple(Period(micros(BEGIN) + n * DAY, micros(BEGIN) + (n + 1) * DAY) for n in range(DAYS)),
)


def run(*, quick: bool) -> Table:
    """The table."""
    sizes = (200_000, 2_000_000) if quick else (2_000_000, 20_000_000, 100_000_000)
    seconds: dict[tuple[str, str], dict[int, float | None]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as servers:
        house = servers.enter_context(clickhouse.clickhouse(servers.enter_context(daemon.server_folder())))
        for events in sizes:
            folder = Path(name) / str(events)
            folder.mkdir()
            dataset.create(folder, CLIENT)
            dataset.add_events(folder, 0, events, events // 20)
            dataset.add_exposures(folder, events, events // 20, experiment=1)
            url = house.database(f"growth_{events}")
            bulk.fill(url, CLIENT, folder / "events.db", folder)
            _mark(folder)
            embedded = dataset.url(folder)
            found: dict[tuple[str, str], float | None] = {}
            for what, plan in (("one conversion", ONE), ("ten sums", TEN), ("daily series, counted", SERIES)):
                for backend, place in (("embedded", embedded), ("ClickHouse", url)):
                    found[what, backend] = _seconds(place, plan)
            began = time.perf_counter()
            asyncio.run(_refresh(embedded))
            found["rolling everything up, once", "embedded"] = time.perf_counter() - began
            found["daily series, rolled up", "embedded"] = _seconds(embedded, SERIES)
            for (what, backend), taken in found.items():
                print(f"{events:,} events, {what}, {backend}: {_shown(taken)}", flush=True)
                seconds.setdefault((what, backend), {})[events] = taken
    return Table("Growth", [_row(what, backend, taken) for (what, backend), taken in seconds.items()])


def _seconds(url: str, plan: AggregationPlan) -> float | None:
    """How long the answer takes; None where it would take longer than the store gives a result."""
    try:
        return measure.alternate({"it": partial(ask, url, plan)}, rounds=3)["it"].seconds
    except TimedOut:
        return None


def _row(what: str, backend: str, found: dict[int, float | None]) -> Row:
    shown = ", ".join(f"{events // 1_000_000 or events / 1e6:g} M: {_shown(taken)}" for events, taken in found.items())
    answered = {events: taken for events, taken in found.items() if taken is not None}
    if len(answered) < len(found):
        return Row(f"{what}, {backend}", shown, "", "", "an answer", reached=False)
    least = answered[min(answered)]
    return at_most(f"{what}, {backend}", shown, f"{least:.2f} s", answered[max(answered)] / least)


def _shown(taken: float | None) -> str:
    return "no answer in 30 s" if taken is None else f"{taken:.2f} s"


def _mark(folder: Path) -> None:
    """What was put in past the front door left no marks; a file without the table is marked as a whole when it is opened."""
    with duckdb.connect(folder / "events.db") as connection:
        connection.execute("DROP TABLE marks")


async def _refresh(url: str) -> None:
    store = await eventstore.connect(url)
    await store.refresh()
    await store.close()
