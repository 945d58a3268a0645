"""A Redis that nobody waits for: what shared limits and the shared cache have in common.

Nothing waits for the server longer than 50 ms, connecting and reading together, and nothing is tried twice. After five failures
in a row nobody asks it for two seconds (a circuit breaker), then one does. Whatever goes wrong, refusal, silence, a
failover, slots that move, is one error to the caller, who does without.

    server = connect("redis+sentinel://host1:26379,host2:26379/upshot", "CACHE_URL", "cache", "each process remembers for itself")
    value = await server.answer(lambda: server.client.get("key"))

What a URL may be: `addresses.py`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from circuitbreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker
from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from upshot.errors import Unavailable
from upshot.redisserver import addresses
from upshot.redisserver.addresses import Client

SECONDS = 0.05
FAILURES = 5
OPEN_SECONDS = 2

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Closing(Protocol):
    """What is closed in the end."""

    async def aclose(self) -> None:
        """Close it."""
        ...


class RedisServer:
    """One server, Sentinel's or Cluster, asked by one process.

    Args:
        client: asks it; its own waits must end, too.
        purpose: what it is there for, as the log calls it.
        meanwhile: what happens while it is away, for the log.
        others: what is to be closed besides the client.
    """

    def __init__(self, client: Client, purpose: str, meanwhile: str, *others: Closing) -> None:
        self.client = client
        self._purpose = purpose
        self._meanwhile = meanwhile
        self._others = others
        self._breaker = CircuitBreaker(FAILURES, OPEN_SECONDS, expected_exception=Exception)
        self._probing = False
        self._away = False
        self._asked: set[asyncio.Task[Any]] = set()

    @property
    def well(self) -> bool:
        """Whether it answers, as far as is known."""
        return bool(self._breaker.state == STATE_CLOSED)

    @property
    def resting(self) -> bool:
        """Whether nobody is to ask it now: it has failed, and the next try is not due, or is under way."""
        state = self._breaker.state
        return state == STATE_OPEN or (state != STATE_CLOSED and self._probing)

    async def answer(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `ask` returns, which asks the client.

        Raises:
            Unavailable: the server is resting, or did not answer, or not in time; what was asked may still be done.
        """
        if self.resting:
            raise Unavailable("The Redis server is away.", retry_after=OPEN_SECONDS)
        self._probing = probing = self._breaker.state != STATE_CLOSED
        try:
            with self._breaker:
                found = await self._in_time(ask)
        # A client raises more than its own errors when connections or nodes go away under it.
        except Exception as error:
            self._notice(error)
            raise Unavailable("The Redis server does not answer.", retry_after=OPEN_SECONDS) from error
        finally:
            if probing:
                self._probing = False
        self._notice(None)
        return found

    async def close(self) -> None:
        """Close the connections."""
        if self._asked:
            await asyncio.wait(self._asked)
        for each in (self.client, *self._others):
            with suppress(RedisError):  # a connection that did not end in time; nobody uses it any more
                await each.aclose()

    async def _in_time(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, if it comes in time.

        What is late is not cancelled, and ends by the client's own time limits: a client that is cancelled may lose a connection,
        or read one caller's reply for another.
        """
        task = asyncio.create_task(self._ask(ask))
        self._asked.add(task)
        task.add_done_callback(self._over)
        await asyncio.wait({task}, timeout=SECONDS)
        if not task.done():
            raise TimeoutError
        return task.result()

    async def _ask(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await ask()
        except Exception:
            if isinstance(self.client, RedisCluster):
                # So it asks again who has which slots; after a pipeline it does not by itself.
                await self.client.aclose()
            raise

    def _over(self, task: "asyncio.Task[Any]") -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()  # it is the caller's to raise; of a late one, nobody's

    def _notice(self, error: BaseException | None) -> None:
        """Say once that the server is away, and once that it is back."""
        if error is not None and not self._away and self._breaker.opened:
            self._away = True
            name = type(error).__name__
            log.warning("the Redis of the %s does not answer (%s); %s", self._purpose, name, self._meanwhile)
        elif error is None and self._away:
            self._away = False
            log.warning("the Redis of the %s answers again", self._purpose)


def connect(url: str, setting: str, purpose: str, meanwhile: str) -> RedisServer:
    """The server at a URL; nothing is connected yet. `setting` is where the URL comes from, for the error.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    client, *others = addresses.clients_at(url, setting, SECONDS)
    return RedisServer(client, purpose, meanwhile, *others)
