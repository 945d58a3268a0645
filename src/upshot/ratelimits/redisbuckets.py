"""Buckets on a Redis server, shared by all processes: `redis://user:password@host:6379/0`, or `rediss://` for TLS.

A take is one run of a Lua script (throttled-py's generic cell rate algorithm), so that nobody comes between reading a bucket and
writing it. A bucket is a key that expires when it is full. The script reads the server's own clock, which is a wall clock: should
it be set back, buckets that were not full wait as much longer; set forward they are full.

Nothing waits for the server longer than 50 ms, and nothing is tried twice. After five failures in a row nobody asks it for two
seconds (a circuit breaker), then one caller does. Meanwhile each process counts for itself, and with the whole quota: it does not
know how many others there are, so that n of them together allow n times as much. A `closed` quota is refused instead.
"""

import asyncio
import logging
import re
from urllib.parse import urlsplit

from circuitbreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from throttled.rate_limiter.gcra import RedisLimitAtomicActionSpec

from upshot.errors import ConfigurationError, Unavailable
from upshot.ratelimits import Verdict
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.ratelimits.quotas import NANOSECONDS, Quota

SECONDS = 0.05
FAILURES = 5
OPEN_SECONDS = 2
CONNECTIONS = 8  # a script runs for less than 0.1 ms; more connections would only be opened all at once at the start
PREFIX = "upshot:limits:"

_AWAY = (RedisError, OSError)  # a TimeoutError is an OSError

log = logging.getLogger(__name__)


class RedisLimiter:
    """The buckets of a server, and this process's own for the time without it."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = client.register_script(RedisLimitAtomicActionSpec.SCRIPTS)
        self._own = InProcessLimiter()
        self._breaker = CircuitBreaker(FAILURES, OPEN_SECONDS, expected_exception=_AWAY)
        self._probing = False
        self._away = False
        self._asked: set[asyncio.Task[Verdict]] = set()

    async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
        """Take tokens from the server's bucket; from our own while the server is away.

        Raises:
            Unavailable: the server is away, and the quota is closed.
        """
        state = self._breaker.state
        if state == STATE_OPEN or (state != STATE_CLOSED and self._probing):
            return await self._without_server(key, quota, weight)
        self._probing = probing = state != STATE_CLOSED
        try:
            with self._breaker:
                verdict = await self._answer(key, quota, weight)
        except _AWAY as error:
            self._notice(error)
            return await self._without_server(key, quota, weight)
        finally:
            if probing:
                self._probing = False
        self._notice(None)
        return verdict

    async def close(self) -> None:
        """Close the connections; the buckets stay."""
        if self._asked:
            await asyncio.wait(self._asked)
        await self._client.aclose()

    async def _answer(self, key: str, quota: Quota, weight: int) -> Verdict:
        """The server's answer, if it comes in time.

        What is late is not cancelled, and ends by the client's own time limits: a client that is cancelled may lose a connection,
        or read one caller's reply for another.
        """
        task = asyncio.create_task(self._ask(key, quota, weight))
        self._asked.add(task)
        task.add_done_callback(self._over)
        await asyncio.wait({task}, timeout=SECONDS)
        if not task.done():
            raise TimeoutError
        return task.result()

    def _over(self, task: asyncio.Task[Verdict]) -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()  # it is the caller's to raise; of a late one, nobody's

    async def _ask(self, key: str, quota: Quota, weight: int) -> Verdict:
        # Asked for a bucket as deep as the weight, the script lets the take through when nothing is taken: so comes the debt.
        depth = max(quota.burst, weight)
        refused, left, reset, retry_after = await self._script(
            [PREFIX + key], [quota.interval / NANOSECONDS, depth, weight]
        )
        remaining = max(0, int(left) - (depth - quota.burst))
        return Verdict(not refused, remaining, float(reset), float(retry_after))

    async def _without_server(self, key: str, quota: Quota, weight: int) -> Verdict:
        if quota.closed:
            raise Unavailable("It cannot be counted now how often this was tried.", retry_after=OPEN_SECONDS)
        return await self._own.take(key, quota, weight)

    def _notice(self, error: BaseException | None) -> None:
        """Say once that the server is away, and once that it is back."""
        if error is not None and not self._away and self._breaker.opened:
            self._away = True
            log.warning("the limits' Redis does not answer (%s); each process counts for itself", type(error).__name__)
        elif error is None and self._away:
            self._away = False
            log.warning("the limits' Redis answers again")


def open_limiter(url: str) -> RedisLimiter:
    """The limiter at a URL; nothing is connected yet.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    if not _is_usable(url):
        raise ConfigurationError(
            "UPSHOT_LIMITS_URL: must be like redis://user:password@host:6379/0, without parameters"
        )
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        socket_timeout=SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # with RESP 3 redis-py (8.1) does not notice that the server has closed an idle connection
    )
    return RedisLimiter(Redis.from_pool(pool))


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.port != 0 and re.fullmatch(r"/?\d{0,3}", parts.path)) and not parts.query
    except ValueError:
        return False  # the port is none
