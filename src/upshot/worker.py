"""Work that goes on beside the requests: in the server's own process, or in `upshot worker`.

In the server: exposures and links are relayed, assignments that were answered without the database are stored, the spool is
handed on, links of other servers are learned, and, where there is no queue, the scheduled work is done. `upshot worker` empties
the queue and does the scheduled work.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryError,
    before_sleep_log,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from upshot.errors import TimedOut, Unavailable
from upshot.eventqueue import EventQueue
from upshot.operations import Stores, deliveries, events, identities, schedule
from upshot.operations.credentials import Credentials
from upshot.operations.deliveries import Stored
from upshot.settings import Settings
from upshot.telemetry import DELIVERED

PAUSE = 1.0
GATHERING = 1.0
LONGEST_PAUSE = 10.0
MESSAGES = 200
RECEIVE_SECONDS = 1.0
REPORTING = timedelta(seconds=2)
NOTING = 30.0
FOLLOWING = 3.0

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


@asynccontextmanager
async def beside_requests(stores: Stores, settings: Settings, credentials: Credentials) -> AsyncIterator[None]:
    """The server's own work, for as long as the block lasts."""
    work = [relay_exposures(stores), _again(store_pending, stores), _again(events.drain, stores), note_use(credentials),
            follow_links(stores)]  # fmt: skip
    if settings.scheduler == "worker" and stores.queue is None:
        work.append(scheduled(stores, policy_of(settings)))
    tasks = [asyncio.create_task(part) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Unavailable):
            await credentials.note_use()


async def note_use(credentials: Credentials) -> None:
    """Store when keys and sessions were used last, every half minute until cancelled."""
    while True:
        await asyncio.sleep(NOTING)
        try:
            await credentials.note_use()
        except Unavailable as error:
            log.warning("the last use of keys and sessions is not stored: %s", error)


async def relay_exposures(stores: Stores) -> None:
    """Relay exposures to the event store as they come, until cancelled; what fails is tried again.

    They gather for a moment first, so that many share a commit; a result that is asked for relays at once.
    """
    while True:
        await stores.relay.wait(PAUSE)
        await asyncio.sleep(GATHERING)
        try:
            await stores.relay.run()
        except Exception as error:  # noqa: BLE001 - whatever it was, the exposures that come after it must be relayed, too
            log.warning("exposures wait to be relayed: %s", error)
            await asyncio.sleep(PAUSE)


async def follow_links(stores: Stores) -> None:
    """Learn every few seconds, until cancelled, which ids other servers linked."""
    since = stores.clock.now() - identities.OVERLAP
    while True:
        await asyncio.sleep(FOLLOWING)
        try:
            since = await identities.follow(stores, since)
        except Unavailable as error:
            log.warning("ids that other servers linked are not known here yet: %s", error)


async def store_pending(stores: Stores) -> int:
    """Store the assignments that were answered while the database was away."""
    return await stores.pending.store(stores.control)


async def scheduled(stores: Stores, policy: schedule.Policy) -> None:
    """Do what is due, again and again, until cancelled."""
    while True:
        try:
            for name, done in (await schedule.run_due(stores, policy)).items():
                log.info("%s: %s", name, done)
        except Unavailable as error:
            log.warning("scheduled work waits: %s", error)
        except Exception:
            log.exception("scheduled work failed")
        await asyncio.sleep(PAUSE + random.random())  # noqa: S311 - so that many processes do not ask at once


async def consume(stores: Stores, queue: EventQueue, stopping: asyncio.Event) -> Stored:
    """Store what the queue delivers until `stopping` is set; then finish what is in hand. Returns what was stored in all."""
    total, worker = Stored(), stores.clock.new_id()
    reported = stores.clock.now() - REPORTING
    while not stopping.is_set():
        began = stores.clock.now()
        taken = await _patiently(lambda: queue.receive(MESSAGES, RECEIVE_SECONDS), stopping) or []
        if began - reported >= REPORTING:
            reported = began
            await _report(stores, worker, deliveries.oldest(taken) or began)
        if not taken:
            continue
        found = await _patiently(lambda: deliveries.store(stores, queue, taken), stopping)  # noqa: B023 - awaited here
        if found is None:
            with suppress(Unavailable):
                await queue.release(taken)
            continue
        total += found
        for verdict in ("accepted", "duplicates", "buried"):
            DELIVERED.labels(verdict).inc(getattr(found, verdict))
    return total


async def _report(stores: Stores, worker: str, complete_to: datetime) -> None:
    try:
        await stores.control.report_progress(worker, complete_to, stores.clock.now())
    except Unavailable as error:
        log.warning("results will say an older watermark: %s", error)


def policy_of(settings: Settings) -> schedule.Policy:
    """What the settings say of scheduled work."""
    retention = None if settings.retention_days is None else timedelta(days=settings.retention_days)
    return schedule.Policy(retention, settings.export_dir, settings.export_format)


async def _patiently(work: Callable[[], Awaitable[Answer]], stopping: asyncio.Event) -> Answer | None:
    """The answer of `work`, tried again with growing, jittered pauses while a store or the broker is away; None when stopped."""
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((Unavailable, TimedOut)),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE),
        stop=stop_when_event_set(stopping),  # type: ignore[arg-type]  # all it asks is `is_set`
        sleep=lambda seconds: _sleep(seconds, stopping),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )

    async def attempt() -> Answer:  # a coroutine function: what a lambda returns would not be awaited
        return await work()

    try:
        return await attempts(attempt)
    except RetryError:
        return None


async def _sleep(seconds: float, stopping: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def _again(work: Callable[[Stores], Awaitable[int]], stores: Stores) -> None:
    """Do a piece of work every second until cancelled; while a store is away, less and less often."""
    pause = PAUSE
    while True:
        try:
            await work(stores)
            pause = PAUSE
        except Unavailable:
            pause = min(pause * 2, LONGEST_PAUSE)
        except Exception:
            log.exception("%s failed", work.__name__)
        await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
