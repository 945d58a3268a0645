"""The queue in a Redis stream: `redis://user:password@host:6379/0`, or `rediss://` for TLS.

Parameters: `queue` (the stream, upshot-events), `group` (the consumer group, upshot), `stale` (60; seconds after which a message
that was handed out and not acknowledged is handed out again) and `replicas` (0; how many replicas must have a message before
`publish` returns). The stream `<queue>:dead` holds the dead letters.

Durability is the server's: with `appendfsync always` an answered publish survives a power cut, with `everysec` the last second
may be lost, without an append-only file everything. `maxmemory-policy` must be `noeviction`. `replicas` asks WAIT, which narrows
what a failover can lose, and does not close it.

All processes receive under one consumer name: the server hands a new message to one of them only, whatever their names, and a
process that died leaves nothing behind.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from upshot.errors import Unavailable
from upshot.eventqueue import DeadLetter, Delivery, messages
from upshot.eventqueue.adapters import ATTEMPTS, EXHAUSTED, GROUP, QUEUE, SECONDS, Address, bounded, moment, refuse
from upshot.events import Event

CONNECTIONS = 32
PAGE = 200  # dead letters replayed or dropped at once
WAIT_SECONDS = 3

_CONSUMER = "worker"
_ID = re.compile(r"\d{1,20}-\d{1,20}")


class RedisStreamsQueue:
    """A stream, its consumer group, and the stream of its dead letters."""

    def __init__(self, client: Redis, queue: str, group: str, *, stale: int, replicas: int) -> None:
        self._client = client
        self._stream = queue
        self._dead = f"{queue}:dead"
        self._group = group
        self._stale = stale * 1_000
        self._replicas = replicas

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Append the events to the stream."""
        async with bounded(RedisError):
            await self._append(self._stream, [{"body": body} for body in messages.split(client, events)])

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:
        """What was released or left unfinished by others, then what is new."""
        async with bounded(RedisError, longer=seconds):
            try:
                received = await self._reclaim(limit)
                if len(received) < limit:  # what is released again and again holds up nothing that is new
                    received += await self._read(limit - len(received), None if received else seconds)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self._create_group()
                received = await self._read(limit, seconds)
        return received

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Take them out of the group and out of the stream."""
        if deliveries:
            async with bounded(RedisError):
                await self._forget([delivery.receipt for delivery in deliveries])

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Make them stale, so that the next one who receives takes them."""
        if deliveries:
            ids = [delivery.receipt for delivery in deliveries]
            async with bounded(RedisError):  # `justid` also means: this is no delivery to count
                await self._client.xclaim(
                    self._stream,
                    self._group,
                    _CONSUMER,
                    min_idle_time=0,
                    message_ids=ids,
                    idle=self._stale,
                    justid=True,
                )

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Append it to the dead letters, then forget it; a crash in between leaves it in both places."""
        async with bounded(RedisError):
            await self._append(self._dead, [{"body": delivery.body, "reason": reason, "buried_at": moment()}])
            await self._forget([delivery.receipt])

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The first entries of the stream of dead letters."""
        async with bounded(RedisError):
            entries: Any = await self._client.xrange(self._dead, count=limit)
        return [
            DeadLetter(id_.decode(), fields[b"reason"].decode(), fields[b"buried_at"].decode(), fields[b"body"])
            for id_, fields in entries
        ]

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Append dead letters to the stream again, then delete them, a page at a time."""
        return await self._take(ids, again=True)

    async def drop(self, ids: Sequence[str] | None = None) -> int:
        """Delete dead letters."""
        return await self._take(ids, again=False)

    async def ping(self) -> str:
        """How many messages are not acknowledged yet, and how many dead letters there are."""
        async with bounded(RedisError):
            waiting, dead = await self._client.xlen(self._stream), await self._client.xlen(self._dead)
        return f"ok, {waiting} waiting, {dead} dead"

    async def close(self) -> None:
        """Close the connections; what was handed out becomes stale."""
        with suppress(RedisError):  # a connection that did not end in time; nobody uses it any more
            await self._client.aclose()

    async def _append(self, stream: str, entries: Sequence[dict[Any, Any]]) -> None:
        """Add entries to a stream, and wait for as many replicas to have them as were asked for."""
        async with self._client.pipeline(transaction=False) as commands:
            for entry in entries:
                commands.xadd(stream, entry)
            if self._replicas:  # WAIT speaks of what its own connection wrote, and not inside a transaction
                commands.execute_command("WAIT", self._replicas, WAIT_SECONDS * 1_000)
            answers = await commands.execute()
        if self._replicas and answers[-1] < self._replicas:
            raise Unavailable("Too few replicas of the event queue answer now.", retry_after=1)

    async def _forget(self, ids: Sequence[Any]) -> None:
        async with self._client.pipeline() as commands:
            commands.xack(self._stream, self._group, *ids)
            commands.xdel(self._stream, *ids)
            await commands.execute()

    async def _read(self, limit: int, seconds: float | None) -> list[Delivery]:
        """What is new; None does not wait for any."""
        block = None if seconds is None else max(int(seconds * 1_000), 1)  # 0 would mean for ever
        answer: Any = await self._client.xreadgroup(
            self._group, _CONSUMER, {self._stream: ">"}, count=limit, block=block
        )
        entries = answer[0][1] if answer else []
        return [Delivery(id_, fields.get(b"body", b"")) for id_, fields in entries]

    async def _reclaim(self, limit: int) -> list[Delivery]:
        """Messages whose holder went away or released them; those that were handed out too often are buried."""
        stale: Any = await self._client.xpending_range(self._stream, self._group, "-", "+", limit, idle=self._stale)
        if not stale:
            return []
        times = {entry["message_id"]: entry["times_delivered"] for entry in stale}
        # Whoever is first takes them: claiming resets the idle time that the next one asks for.
        claimed: Any = await self._client.xclaim(self._stream, self._group, _CONSUMER, self._stale, list(times))
        deliveries = [Delivery(id_, fields.get(b"body", b""), times[id_] + 1) for id_, fields in claimed if fields]
        for delivery in deliveries:
            if delivery.attempts > ATTEMPTS:
                await self.bury(delivery, EXHAUSTED)
        return [delivery for delivery in deliveries if delivery.attempts <= ATTEMPTS]

    async def _create_group(self) -> None:
        """From the beginning of the stream: what was published before the first worker came counts too."""
        try:
            await self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another process was first
                raise

    async def _take(self, ids: Sequence[str] | None, *, again: bool) -> int:
        async with bounded(RedisError):
            last = await self._client.xrevrange(self._dead, count=1)
        if not last:
            return 0
        if ids is not None:
            return sum([await self._take_page(id_, id_, again=again) for id_ in ids if _ID.fullmatch(id_)])
        count = 0
        while taken := await self._take_page("-", last[0][0], again=again):  # up to here: they may be buried again
            count += taken
        return count

    async def _take_page(self, first: str, last: Any, *, again: bool) -> int:
        async with bounded(RedisError):
            page: Any = await self._client.xrange(self._dead, first, last, count=PAGE)
            if page and again:
                await self._append(self._stream, [{"body": fields[b"body"]} for _, fields in page])
            if page:
                await self._client.xdel(self._dead, *(id_ for id_, _ in page))
            return len(page)


async def open_queue(url: str) -> RedisStreamsQueue:
    """The queue at a URL; nothing is connected yet."""
    address = Address.parse(url, ("queue", "group", "stale", "replicas"))
    address.check_port()
    if not re.fullmatch(r"/?\d{0,3}", address.parts.path):
        refuse("the path is not the number of a database")
    pool = BlockingConnectionPool.from_url(
        address.parts._replace(query="").geturl(),
        max_connections=CONNECTIONS,
        timeout=SECONDS,
        socket_connect_timeout=2,
        socket_timeout=None,  # a blocking read waits longer than any other; every call has its own bound
        retry=Retry(NoBackoff(), 0),
    )
    return RedisStreamsQueue(
        Redis.from_pool(pool),
        address.name("queue", QUEUE),
        address.name("group", GROUP),
        stale=address.number("stale", 60, least=1),
        replicas=address.number("replicas", 0),
    )
