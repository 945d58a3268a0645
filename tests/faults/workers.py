"""A queue at a real broker, a database, and the servers and workers on them, which fault tests kill."""

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
from redis.asyncio import Redis
from tests.backends import process, rabbitmq, redis, wait_until
from tests.backends.postgresql import PostgreSQL
from tests.servers import RunningServer, running

from upshot import eventqueue
from upshot.eventqueue import EventQueue

STALE = 2  # seconds until Redis gives what a dead worker held to another one
SOUND = (sys.executable, "-m", "upshot", "worker")
BROKEN = (sys.executable, str(Path(__file__).with_name("broken_worker.py")), "worker")
BROKERS: dict[str, Any] = {"redis": redis.running, "rabbitmq": rabbitmq.running}

Answer = TypeVar("Answer")


class Bench:
    """One broker's queue, one database, and the processes on them."""

    def __init__(self, kind: str, broker: str, database: str, folder: Path, exits: ExitStack) -> None:
        self.kind, self.broker, self.folder, self._exits = kind, broker, folder, exits
        self.name = f"q{uuid.uuid4().hex[:8]}"
        self.url = f"{broker}?queue={self.name}" + (f"&stale={STALE}" if kind == "redis" else "")
        self.stores = {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database}
        self._started = 0

    @contextmanager
    def server(self, *, queued: bool) -> Iterator[RunningServer]:
        """A server, with the queue or without."""
        environment = self.stores | ({"UPSHOT_QUEUE_URL": self.url} if queued else {"UPSHOT_SCHEDULER": "celery"})
        with running(self.folder / "server", environment=environment) as server:
            yield server

    def worker(self, command: tuple[str, ...], fault: str = "") -> "Worker":
        """A new worker, which is about to start."""
        self._started += 1
        return Worker(self, command, self.folder / f"worker-{self._started}.log", fault)

    def enter(self, log: Path, command: tuple[str, ...], environment: dict[str, str]) -> Any:
        """A process that does not outlive the bench."""
        return self._exits.enter_context(process(*command, log=log, environment=environment))

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

    def __init__(self, bench: Bench, command: tuple[str, ...], log: Path, fault: str) -> None:
        environment = bench.stores | {"UPSHOT_QUEUE_URL": bench.url, "BREAK": fault}
        self._log = log
        self._child = bench.enter(log, command, environment)

    def wait(self) -> None:
        """Wait until it works."""
        wait_until(lambda: "Upshot works on" in self._log.read_text() or self._child.poll() is not None, what="worker")
        assert self._child.poll() is None, self._log.read_text()

    def kill(self) -> None:
        """kill −9."""
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(30)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took."""
        begun = time.monotonic()
        self._child.send_signal(signal.SIGTERM)
        code: int = self._child.wait(30)
        return code, time.monotonic() - begun


@contextmanager
def bench_of(kind: str, folder: Path, server: PostgreSQL) -> Iterator[Bench]:
    """A bench with a broker of its own."""
    with ExitStack() as exits:
        (folder / "broker").mkdir()
        broker = exits.enter_context(BROKERS[kind](folder / "broker"))
        yield Bench(kind, broker.url, server.database(f"worker_{uuid.uuid4().hex[:8]}"), folder, exits)
