"""What does each tier of the cache save, for a user who has an assignment already?

The operation in this process, from 64 callers and from one: answered by what the process remembers, by a process that remembers
nothing and asks the Redis, and by one that has no Redis and asks PostgreSQL. The yardstick is PostgreSQL, in the same run; goals
for 64 callers: Redis ≥ 2 times its rate, the process ≥ 20 times. Both servers are private to the run, on this machine; over a
network the distances grow.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop
from tests.backends import daemon, postgresql, redis
from tests.callers import somebody

from benchmarks import measure
from benchmarks.application import ARMS, CLIENT
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least
from upshot import cache, settings
from upshot.backends import open_stores
from upshot.cache import Cache
from upshot.experiments import Draft
from upshot.operations import Stores, assignments, experiments
from upshot.variants import VariantDraft

CALLERS = (64, 1)
GOALS = {"process": 20.0, "Redis": 2.0}
YARDSTICK = "PostgreSQL"


def run(*, quick: bool) -> Table:
    """The table."""
    users = 640 if quick else 6_400
    with (
        tempfile.TemporaryDirectory() as name,
        ExitStack() as servers,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        house = servers.enter_context(daemon.server_folder(postgresql.USER))
        database = servers.enter_context(postgresql.postgresql(house)).database("cached")
        url = servers.enter_context(redis.running(servers.enter_context(daemon.server_folder()))).url
        stores = runner.run(
            open_stores(settings.load(data_dir=Path(name), database_url=database, events_url=database, cache_url=url))
        )
        draft = Draft("Benchmark", [VariantDraft(arm) for arm in ARMS])
        experiment = runner.run(experiments.create(stores, somebody(CLIENT), draft))
        tiers: dict[str, Cache | str] = {"process": stores.cache, "Redis": url, YARDSTICK: "memory://"}
        rows: list[Row] = []
        for callers in CALLERS:
            names = [f"user-{number}" for number in range(users if callers > 1 else users // 8)]
            contestants = {
                tier: partial(_asked, runner, stores, cached, experiment.id, names, callers)
                for tier, cached in tiers.items()
            }
            rows += _rows(callers, measure.alternate(contestants))
        runner.run(stores.close())
    return Table("Cache", rows)


def _asked(
    runner: asyncio.Runner, stores: Stores, cached: Cache | str, reference: str, names: Sequence[str], callers: int
) -> Sample:
    """Every user once, with a cache that is there, or one that has just been opened."""

    async def work() -> Sample:
        using = replace(stores, cache=cache.connect(cached)) if isinstance(cached, str) else stores
        await assignments.assign(using, CLIENT, reference, "somebody", {})  # connects, and reads the experiment
        waits: list[float] = []

        async def caller(own: Sequence[str]) -> None:
            for name in own:
                began = time.perf_counter()
                await assignments.assign(using, CLIENT, reference, name, {})
                waits.append(time.perf_counter() - began)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller(names[number::callers]) for number in range(callers)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        if using is not stores:
            await using.cache.close()
        waits.sort()
        return Sample(len(names), seconds, cpu, waits[len(waits) // 2], waits[int(len(waits) * 0.99)])

    return runner.run(work())


def _rows(callers: int, found: Mapping[str, Measured]) -> Iterator[Row]:
    for tier, goal in GOALS.items():
        ratio = found[tier].speed_against(found[YARDSTICK])
        yield at_least(
            f"{tier}, {callers} callers",
            _shown(found[tier]),
            f"{YARDSTICK}: {_shown(found[YARDSTICK])}",
            ratio,
            goal if callers > 1 else None,
        )


def _shown(found: Measured) -> str:
    return f"{found.rate:,.0f}/s, p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms, {found.cpu_micros:.0f} µs CPU"
