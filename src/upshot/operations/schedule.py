"""What is done regularly, by whichever process holds the lease: webhooks, alarms, partitions, retention, rollups, the relay,
exports, seals.

Every job may run twice at once and be killed at any moment: it begins again from what the stores say. A lease lasts as long as
the job's period, so that many processes do it once per period in all.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from upshot.experiments import Experiment
from upshot.export import FORMATS
from upshot.operations import Stores, alarms, bandits, people, results, sealing, webhooks

HOUR = 3_600.0
ENDED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants of the scheduled work."""

    retention: timedelta | None = None
    export_dir: Path | None = None
    export_format: str = "csv"


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of scheduled work: how often it is done, in seconds, and what it is. It answers what it did, in words."""

    every: float
    work: Callable[[Stores, Policy], Awaitable[str]]


async def relay(stores: Stores, _policy: Policy) -> str:
    """Hand exposures to the event store that no server has relayed: one may have died."""
    return f"{await stores.relay.run()} exposures relayed"


async def rollups(stores: Stores, _policy: Policy) -> str:
    """Bring hourly and daily rollups up to what was appended."""
    return f"{await stores.events.refresh()} periods rolled up"


async def partitions(stores: Stores, policy: Policy) -> str:
    """Make partitions ahead of time, and drop events that are older than the operator keeps them."""
    now = stores.clock.now()
    done = await stores.events.maintain(now, None if policy.retention is None else now - policy.retention)
    return ", ".join(done) or "nothing to make or drop"


async def exports(stores: Stores, policy: Policy) -> str:
    """Write the user-level rows of every running experiment to `folder/client/key/date.format`, each file whole or not at all."""
    if policy.export_dir is None:
        return "no export folder"
    now = stores.clock.now()
    running = await stores.control.running()
    for client, experiment in running:
        folder = policy.export_dir / _safe(client) / experiment.key
        await _export(stores, client, experiment, folder, f"{now:%Y-%m-%d}", policy.export_format)
    return f"{len(running)} files written"


async def allocations(stores: Stores, _policy: Policy) -> str:
    """Move the shares of the experiments that ask for Thompson sampling."""
    moved = [await bandits.reallocate(stores, *pair) for pair in await stores.control.running()]
    return f"{sum(moved)} allocations moved"


async def deliveries(stores: Stores, _policy: Policy) -> str:
    """Send what webhooks are to be told."""
    return f"{await webhooks.deliver(stores)} deliveries tried"


async def watching(stores: Stores, _policy: Policy) -> str:
    """Watch guardrails and sample ratios for those who asked to be told."""
    return f"{await alarms.watch(stores)} new alarms"


async def forgetting(stores: Stores, _policy: Policy) -> str:
    """Remove sign-ins and deliveries that ended long ago, and answers that are not given again."""
    now = stores.clock.now()
    sessions, answers = await people.forget_ended(stores, now - ENDED), await stores.control.forget_answers(now)
    return f"{sessions} sign-ins, {await webhooks.forget(stores)} deliveries and {answers} answers forgotten"


async def seals(stores: Stores, _policy: Policy) -> str:
    """Seal anew what a former key sealed."""
    return f"{await sealing.renew(stores)} secrets sealed anew"


JOBS = MappingProxyType(
    {
        "webhooks": Job(5, deliveries),
        "alarms": Job(HOUR / 4, watching),
        "forgetting": Job(HOUR, forgetting),
        "seals": Job(HOUR, seals),
        "relay": Job(30, relay),
        "rollups": Job(60, rollups),
        "partitions": Job(HOUR, partitions),
        "exports": Job(24 * HOUR, exports),
        "allocations": Job(24 * HOUR, allocations),
    }
)


async def run_due(stores: Stores, policy: Policy) -> dict[str, str]:
    """Do every job whose period is over and that nobody else does; what each did, in words."""
    done = {}
    for name, job in JOBS.items():
        # A holder of its own for every run: the lease is over with the period, not with the process.
        if await stores.control.lease(name, stores.clock.new_id(), stores.clock.now(), job.every):
            done[name] = await job.work(stores, policy)
    return done


async def _export(stores: Stores, client: str, experiment: Experiment, folder: Path, name: str, form: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - one small call a day
    path = folder / f"{name}.{form}"
    unfinished = path.with_suffix(f".{stores.clock.new_id()}.part")
    columns, batches = await results.export(stores, client, experiment.id, results.Asked())
    write, _ = FORMATS[form]
    try:
        with unfinished.open("wb") as file:
            async for chunk in write(columns, batches):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _safe(client: str) -> str:
    """A client id as the name of a folder: what could lead elsewhere is written as a number."""
    return "".join(letter if letter.isalnum() or letter in "-_" else f"%{ord(letter):02x}" for letter in client)
