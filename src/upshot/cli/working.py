"""`upshot worker`: empty the queue, do the scheduled work, and leave in order when told to."""

import asyncio
import signal
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path

import click
import uvloop

from upshot import datafolder, worker
from upshot.backends import open_stores
from upshot.cli import logs, options
from upshot.operations.deliveries import Stored
from upshot.settings import Settings, load

GRACE_SECONDS = 10.0


@click.command("worker")
@options.data_dir
def work(data_dir: Path | None) -> None:
    """Empty the queue into the event store and do the scheduled work, until Ctrl-C."""
    uvloop.run(run(load(data_dir=data_dir)))


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; what is in hand is finished first, within ten seconds."""
    logs.configure(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    with datafolder.alone(settings) if settings.embedded else nullcontext():
        async with AsyncExitStack() as exits:
            stores = await open_stores(settings, spooling=False)
            exits.push_async_callback(stores.close)
            tasks = []
            if settings.scheduler == "worker":
                tasks.append(asyncio.create_task(worker.scheduled(stores, worker.policy_of(settings))))
            click.echo(f"Upshot works on {'the queue and ' if stores.queue else ''}what is scheduled; Ctrl-C ends it")
            consuming = asyncio.create_task(worker.consume(stores, stores.queue, stopping)) if stores.queue else None
            if consuming:
                # Should it fail, the process ends with its error: it would look alive and store nothing.
                consuming.add_done_callback(lambda _: stopping.set())
            await stopping.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            total = await asyncio.wait_for(consuming, GRACE_SECONDS) if consuming else Stored()
            click.echo(
                f"{total.accepted} events stored, {total.duplicates} known already, {total.buried} messages buried"
            )
