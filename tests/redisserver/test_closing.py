"""Closing a client of Redis: whatever happens to one of its connections, all are let go."""

from typing import Any

from redis.exceptions import TimeoutError as TooLate

from upshot.eventqueue.redisstreams import RedisStreamsQueue
from upshot.redisserver import RedisServer


class Stuck:
    """A client whose connection does not end in time."""

    def __init__(self) -> None:
        self.asked = 0

    async def aclose(self) -> None:
        """Close it, in vain."""
        self.asked += 1
        raise TooLate("Timed out closing connection after 0.05")


async def test_a_connection_that_does_not_end_in_time_stops_nobody() -> None:
    """The others are closed, and so is what comes after the server."""
    stuck: list[Any] = [Stuck(), Stuck(), Stuck()]

    await RedisServer(stuck[0], "cache", "each process remembers for itself", *stuck[1:]).close()

    assert [each.asked for each in stuck] == [1, 1, 1]


async def test_nor_a_worker_that_ends() -> None:
    """The same of a queue."""
    stuck: Any = Stuck()

    await RedisStreamsQueue(stuck, "events", "upshot", stale=60, replicas=0).close()

    assert stuck.asked == 1
