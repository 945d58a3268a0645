"""How fast do events pass through each queue: taken in with the broker's acknowledgement, and stored by a worker?

Publishing: batches of 500 events from 16 callers. Storing: what was published, received in large batches, appended to the
embedded store, acknowledged after its commit (`operations.deliveries.store`, as `upshot worker` does it). The yardstick is
`append` to the same store without a queue, in the same run. Every broker is private to the run; Redis syncs every command,
Kafka is a broker in memory.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import uvloop
from tests.backends import daemon, kafka, rabbitmq, redis, sqs

from benchmarks import stores
from benchmarks.application import CLIENT
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_least
from benchmarks.stores import BATCH, CALLERS, batch_of
from upshot import eventqueue, settings
from upshot.backends import open_stores
from upshot.operations import deliveries
from upshot.worker import MESSAGES


def run(*, quick: bool) -> Table:
    """The table."""
    batches = 32 if quick else 160
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        urls = {
            "RabbitMQ": servers.enter_context(rabbitmq.running(_folder(servers))).url,
            "Redis": servers.enter_context(redis.running(_folder(servers))).url,
            "Kafka": servers.enter_context(kafka.tansu(_folder(servers))).url,
            "SQS": servers.enter_context(sqs.running(_folder(servers))).url,
        }
        direct = Measured((stores.append(f"duckdb:///{folder / 'direct.db'}", batches),))
        rows: list[Row] = []
        for broker, url in urls.items():
            number = batches if broker != "SQS" else 16  # its stand-in answers some hundred requests a second
            rows += _rows(broker, direct, *uvloop.run(_through(url, folder / broker, number)))
    return Table("Queues", rows, [f"{batches} batches of {BATCH} events; SQS is a stand-in in Python: only 16."])


def _folder(servers: ExitStack) -> Path:
    return servers.enter_context(daemon.server_folder())


def _rows(broker: str, direct: Measured, published: Sample, stored: Sample) -> Iterator[Row]:
    for what, sample in (("publish", published), ("store", stored)):
        found = Measured((sample,))
        shown = f"{found.rate:,.0f} events/s" + (f", p99 {found.p99:,.0f} ms" if what == "publish" else "")
        yield at_least(f"{what}, {broker}", shown, f"{direct.rate:,.0f}", found.speed_against(direct))


async def _through(url: str, folder: Path, batches: int) -> tuple[Sample, Sample]:
    queue = await eventqueue.connect(url)
    opened = replace(await open_stores(settings.load(data_dir=folder)), queue=queue)
    waits: list[float] = []

    async def caller() -> None:
        for _ in range(batches // CALLERS):
            batch, began = batch_of(BATCH), time.perf_counter()
            await queue.publish(CLIENT, batch)
            waits.append(time.perf_counter() - began)

    await queue.publish(CLIENT, batch_of(1))
    while not (first := await queue.receive(1, 10)):
        pass  # a consumer group takes its time to form
    await queue.acknowledge(first)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    waits.sort()
    published = Sample(
        batches * BATCH, time.perf_counter() - began, time.process_time() - cpu, waits[len(waits) // 2], waits[-2]
    )
    began, cpu, left = time.perf_counter(), time.process_time(), batches * BATCH
    while left > 0:
        found = await deliveries.store(opened, queue, await queue.receive(MESSAGES, 5))
        left -= found.accepted
    stored = Sample(batches * BATCH, time.perf_counter() - began, time.process_time() - cpu)
    await opened.close()
    return published, stored
