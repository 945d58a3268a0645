"""A queue at a real broker, a database, and the servers and workers on them, which fault tests kill."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
from redis.asyncio import Redis
from tests.backends import rabbitmq, redis, wait_until
from tests.backends.postgresql import PostgreSQL
from tests.servers import RunningServer, running

from upshot import eventqueue
from upshot.eventqueue import EventQueue

STALE = 2  # seconds until Redis gives what a dead worker held to another one
ROOT = Path(__file__).parents[2]
BROKERS: dict[str, Any] = {"redis": redis.running, "rabbitmq": rabbitmq.running}

Answer = TypeVar("Answer")
Ask = Callable[[str], int]


class Bench:
    """One broker's queue, one database, and the processes on them."""

    def __init__(self, kind: str, broker: str, database: str, folder: Path, exits: ExitStack) -> None:
        self.kind, self.broker, self.folder = kind, broker, folder
        self.name = f"q{uuid.uuid4().hex[:8]}"
        self.url = f"{broker}?queue={self.name}" + (f"&stale={STALE}" if kind == "redis" else "")
        self.stores = {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database}
        self._started = 0
        self._nursery = exits.enter_context(_nursery(self.stores | {"UPSHOT_QUEUE_URL": self.url}))

    @contextmanager
    def server(self, *, queued: bool) -> Iterator[RunningServer]:
        """A server, with the queue or without."""
        environment = self.stores | ({"UPSHOT_QUEUE_URL": self.url} if queued else {"UPSHOT_SCHEDULER": "celery"})
        with running(self.folder / "server", environment=environment) as server:
            yield server

    def worker(self, fault: str = "") -> "Worker":
        """A new worker, which is about to work."""
        self._started += 1
        return Worker(self._nursery, self.folder / f"worker-{self._started}.log", fault)

    def asked(self, question: Callable[[EventQueue], Awaitable[Answer]]) -> Answer:
        """What the queue answers."""

        async def ask() -> Answer:
            queue = await eventqueue.connect(self.url)
            try:
                return await question(queue)
            finally:
                await queue.close()

        return asyncio.run(ask())

    @property
    def waiting(self) -> int:
        """How many messages the broker holds that nobody acknowledged; RabbitMQ does not count those that are handed out."""
        return int(self.asked(lambda queue: queue.ping()).split()[1])

    def poison(self, bodies: list[bytes]) -> None:
        """Put bodies into the queue as no server would."""

        async def put() -> None:
            if self.kind == "redis":
                async with Redis.from_url(self.broker) as client:
                    for body in bodies:
                        await client.xadd(self.name, {"body": body})
                return
            async with await aio_pika.connect(self.broker) as connection:
                exchange = (await connection.channel()).default_exchange
                for body in bodies:
                    await exchange.publish(aio_pika.Message(body), routing_key=self.name)

        asyncio.run(put())


class Worker:
    """One `upshot worker`."""

    def __init__(self, nursery: Ask, log: Path, fault: str) -> None:
        self._nursery, self._log, self._says = nursery, log, f"\n{fault}\n" if fault else "Upshot works on"
        self._pid = nursery(f"start {log} {fault}")

    def wait(self) -> None:
        """Wait until it works; with a fault, until that was committed."""
        wait_until(lambda: self._log.exists() and self._says in self._log.read_text(), what="a worker")

    def kill(self) -> None:
        """kill −9."""
        os.kill(self._pid, signal.SIGKILL)
        code = self._nursery(f"wait {self._pid}")
        assert code == -signal.SIGKILL, self._log.read_text()

    def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took."""
        begun = time.monotonic()
        os.kill(self._pid, signal.SIGTERM)
        return self._nursery(f"wait {self._pid}"), time.monotonic() - begun


@contextmanager
def _nursery(environment: Mapping[str, str]) -> Iterator[Ask]:
    """What forks workers; it and they end with the block."""
    child = subprocess.Popen(
        (sys.executable, "-m", "tests.faults.nursery"),
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    orders, answers = child.stdin, child.stdout

    def ask(order: str) -> int:
        orders.write(f"{order}\n")
        orders.flush()
        return int(answers.readline())

    with child:
        try:
            yield ask
        finally:
            os.killpg(child.pid, signal.SIGKILL)


@contextmanager
def bench_of(kind: str, folder: Path, server: PostgreSQL) -> Iterator[Bench]:
    """A bench with a broker of its own."""
    with ExitStack() as exits:
        (folder / "broker").mkdir()
        broker = exits.enter_context(BROKERS[kind](folder / "broker"))
        yield Bench(kind, broker.url, server.database(f"worker_{uuid.uuid4().hex[:8]}"), folder, exits)
