"""Buckets on a Redis server, shared by all processes: `redis://user:password@host:6379/0`, or `rediss://` for TLS.

A take is one run of a Lua script (throttled-py's generic cell rate algorithm), so that nobody comes between reading a bucket and
writing it. A bucket is a key that expires when it is full. The script reads the server's own clock, which is a wall clock: should
it be set back, buckets that were not full wait as much longer; set forward they are full.

Nothing waits for the server longer than 50 ms (`redisserver`). While it is away each process counts for itself, and with the
whole quota: it does not know how many others there are, so that n of them together allow n times as much. A `closed` quota is
refused instead.
"""

from throttled.rate_limiter.gcra import RedisLimitAtomicActionSpec

from upshot import redisserver
from upshot.errors import Unavailable
from upshot.ratelimits import Verdict
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.ratelimits.quotas import NANOSECONDS, Quota
from upshot.redisserver import RedisServer

PREFIX = "upshot:limits:"


class RedisLimiter:
    """The buckets of a server, and this process's own for the time without it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._script = server.client.register_script(RedisLimitAtomicActionSpec.SCRIPTS)
        self._own = InProcessLimiter()

    async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
        """Take tokens from the server's bucket; from our own while the server is away.

        Raises:
            Unavailable: the server is away, and the quota is closed.
        """
        try:
            return await self._server.answer(lambda: self._ask(key, quota, weight))
        except Unavailable as away:
            if quota.closed:
                raise Unavailable(
                    "It cannot be counted now how often this was tried.", retry_after=away.retry_after
                ) from away
            return await self._own.take(key, quota, weight)

    def take_at_once(self, _key: str, _quota: Quota, _weight: int = 1) -> None:
        """Only the server knows."""

    async def close(self) -> None:
        """Close the connections; the buckets stay."""
        await self._server.close()

    async def _ask(self, key: str, quota: Quota, weight: int) -> Verdict:
        # Asked for a bucket as deep as the weight, the script lets the take through when nothing is taken: so comes the debt.
        depth = max(quota.burst, weight)
        refused, left, reset, retry_after = await self._script(
            [PREFIX + key], [quota.interval / NANOSECONDS, depth, weight]
        )
        remaining = max(0, int(left) - (depth - quota.burst))
        return Verdict(not refused, remaining, float(reset), float(retry_after))


def open_limiter(url: str) -> RedisLimiter:
    """The limiter at a URL; nothing is connected yet.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    return RedisLimiter(redisserver.connect(url, "UPSHOT_LIMITS_URL", "limits", "each process counts for itself"))
