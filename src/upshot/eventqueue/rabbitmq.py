"""The queue in RabbitMQ 3.10 or later: `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS.

Parameters: `queue` (upshot-events), and for TLS `cafile`, `certfile` and `keyfile`. Two quorum queues are declared when they are
missing: the queue and `<queue>.dead`, bound to the dead-letter exchange of the same name. The broker itself buries what was
handed out too often (`x-delivery-limit`), and does so at least once: it forgets a message after the dead letters have it.

Messages are persistent and published with confirms, many in flight on one channel: a confirm of a quorum queue means a majority
of its replicas has the message on disk. Receiving has a connection of its own, since a broker that runs out of memory or disk
stops reading from connections that publish.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from upshot.clock import SystemClock
from upshot.errors import Unavailable
from upshot.eventqueue import DeadLetter, Delivery, messages
from upshot.eventqueue.adapters import ATTEMPTS, EXHAUSTED, QUEUE, SECONDS, Address, bounded, moment
from upshot.events import Event

PREFETCH = 256
GOODBYE = 0.4  # seconds
UNLIMITED = 1_000_000_000  # looking at a dead letter counts as a delivery, of which RabbitMQ 4 allows 20 by default


class _Link:
    """A connection with one channel, made when it is used and made again after a loss."""

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self._queue = queue
        self._lock = asyncio.Lock()
        self.connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def channel(self) -> AbstractChannel:
        """The channel; both queues are there."""
        async with self._lock:
            if self._channel is None or self._channel.is_closed:
                await self.close()
                try:
                    self.connection = await aio_pika.connect(self._url, timeout=SECONDS)
                    channel = await self.connection.channel(on_return_raises=True)
                    await _declare(channel, self._queue)
                except BaseException:
                    await self.close()
                    raise
                self._channel = channel
            return self._channel

    async def fresh_channel(self) -> AbstractChannel:
        """A channel of one's own, whose unacknowledged messages go back when it is closed."""
        await self.channel()
        assert self.connection is not None  # noqa: S101 - `channel` made it
        return await self.connection.channel(on_return_raises=True)

    async def close(self) -> None:
        """Let go of the connection, without waiting long for a broker that does not answer."""
        connection, self.connection, self._channel = self.connection, None, None
        if connection is not None:
            with suppress(*CONNECTION_EXCEPTIONS):
                await asyncio.wait_for(connection.close(), GOODBYE)


class RabbitQueue:
    """A quorum queue and the quorum queue of its dead letters."""

    def __init__(self, url: str, queue: str) -> None:
        self._name = queue
        self._sending = _Link(url, queue)
        self._receiving = _Link(url, queue)
        self._source: AbstractChannel | None = None  # the channel that `_inbox` is filled from
        self._inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Send the events, and wait for the broker's confirms."""
        async with _bounded(self._sending):
            channel = await self._sending.channel()
            bodies = messages.split(client, events)
            await asyncio.gather(*(_send(channel, self._name, body, SystemClock().new_id()) for body in bodies))

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:
        """What the broker sent ahead; when it sent nothing, ask whether it is still there."""
        async with _bounded(self._receiving, seconds):
            await self._subscribe()
            received = await self._taken(limit, seconds)
            if not received:
                await self._state(await self._receiving.channel(), self._name)
        return [Delivery(message, message.body, _attempts(message)) for message in received]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge each; a connection that was lost took its receipts with it, and they come again."""
        async with bounded(*CONNECTION_EXCEPTIONS):
            for delivery in deliveries:
                await delivery.receipt.ack()

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give them back to the broker, which counts this as a delivery that failed."""
        async with bounded(*CONNECTION_EXCEPTIONS):
            for delivery in deliveries:
                await delivery.receipt.nack(requeue=True)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Publish it to the dead letters, wait for the confirm, then acknowledge it."""
        async with _bounded(self._receiving):
            channel = await self._receiving.channel()
            headers = {"reason": reason, "buried_at": moment()}
            await _send(channel, _dead(self._name), delivery.body, _id(delivery.receipt), headers)
            await delivery.receipt.ack()

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Take up to `limit` of them and give them back: while one process looks, another does not see them."""
        found = [_letter(message) async for message in self._dead_messages(limit)]
        return sorted(found, key=lambda letter: letter.buried_at)

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Publish them to the queue again, each acknowledged after its confirm."""
        return await self._take(ids, again=True)

    async def drop(self, ids: Sequence[str] | None = None) -> int:
        """Acknowledge dead letters."""
        return await self._take(ids, again=False)

    async def ping(self) -> str:
        """How many messages wait to be handed out, and how many dead letters there are."""
        async with _bounded(self._sending):
            channel = await self._sending.channel()
            waiting, dead = await self._state(channel, self._name), await self._state(channel, _dead(self._name))
        return f"ok, {waiting} waiting, {dead} dead"

    async def close(self) -> None:
        """Close both connections; the broker requeues what was not acknowledged."""
        await self._sending.close()
        await self._receiving.close()

    async def _subscribe(self) -> None:
        """Let the broker fill an inbox; a new channel gets a new one, since receipts die with their channel."""
        channel = await self._receiving.channel()
        if channel is self._source:
            return
        inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(self._name, ensure=False)
        await queue.consume(inbox.put)
        channel.close_callbacks.add(lambda *_: inbox.put_nowait(None))
        self._source, self._inbox = channel, inbox

    async def _taken(self, limit: int, seconds: float) -> list[AbstractIncomingMessage]:
        taken: list[AbstractIncomingMessage] = []
        with suppress(TimeoutError, asyncio.QueueEmpty):
            async with asyncio.timeout(seconds):
                message = await self._inbox.get()
            while message is not None:
                taken.append(message)
                if len(taken) == limit:
                    return taken
                message = self._inbox.get_nowait()
            raise ConnectionError("the channel was closed")  # its messages are the broker's again
        return taken

    async def _state(self, channel: AbstractChannel, queue: str) -> int:
        """How many messages are ready; a round trip to the broker."""
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def _dead_messages(self, limit: int | None) -> AsyncIterator[AbstractIncomingMessage]:
        """Dead letters one by one; those that are not acknowledged go back at the end.

        They are given back one by one, and counted after the first was taken: giving back and taking are entries of the queue's
        own log, so what was looked at before is seen again, while a count alone, or a closed channel, may lag behind the log.
        """
        async with _bounded(self._sending):
            channel = await self._sending.fresh_channel()
        held: list[AbstractIncomingMessage] = []
        try:
            async with _bounded(self._sending):
                queue: AbstractQueue = await channel.get_queue(_dead(self._name), ensure=False)
                message = await queue.get(fail=False)
                left = await self._state(channel, _dead(self._name))
            if limit is not None:
                left = min(left, limit - 1)
            while message is not None:
                held.append(message)
                yield message
                if left <= 0:
                    break
                left -= 1
                async with _bounded(self._sending):
                    message = await queue.get(fail=False)
        finally:
            with suppress(*CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(SECONDS):
                    for one in held:
                        if not one.processed:
                            await one.nack(requeue=True)
                    await channel.close()

    async def _take(self, ids: Iterable[str] | None, *, again: bool) -> int:
        wanted = None if ids is None else set(ids)
        count = 0
        async for message in self._dead_messages(None):
            if wanted is None or _id(message) in wanted:
                async with _bounded(self._sending):
                    if again:
                        await _send(await self._sending.channel(), self._name, message.body, _id(message))
                    await message.ack()
                count += 1
        return count


@asynccontextmanager
async def _bounded(link: _Link, longer: float = 0.0) -> AsyncIterator[None]:
    """As `bounded`; a connection that failed is not used again."""
    used = link.connection
    try:
        async with bounded(*CONNECTION_EXCEPTIONS, longer=longer):
            yield
    except Unavailable:
        if link.connection is used:  # otherwise another call has made a new one already
            await link.close()
        raise


async def _declare(channel: AbstractChannel, name: str) -> None:
    dead = _dead(name)
    quorum: dict[str, Any] = {"x-queue-type": "quorum"}
    exchange = await channel.declare_exchange(dead, aio_pika.ExchangeType.FANOUT, durable=True)
    queue = await channel.declare_queue(dead, durable=True, arguments=quorum | {"x-delivery-limit": UNLIMITED})
    await queue.bind(exchange)
    limited = {
        "x-delivery-limit": ATTEMPTS,
        "x-dead-letter-exchange": dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # what the strategy asks for
    }
    await channel.declare_queue(name, durable=True, arguments=quorum | limited)


async def _send(
    channel: AbstractChannel, queue: str, body: bytes, id_: str, headers: dict[str, Any] | None = None
) -> None:
    """Publish durably; a message that no queue takes is an error, as is one that the broker refuses."""
    message = aio_pika.Message(
        body,
        headers=headers,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=id_,
        content_type="application/json",
    )
    await channel.default_exchange.publish(message, routing_key=queue, mandatory=True)


def _dead(queue: str) -> str:
    return f"{queue}.dead"


def _id(message: AbstractIncomingMessage) -> str:
    """The id it was published with; one that we did not publish is known by its content."""
    return message.message_id or hashlib.sha256(message.body).hexdigest()[:32]


def _attempts(message: AbstractIncomingMessage) -> int:
    count = message.headers.get("x-delivery-count", 0)
    return 1 + count if isinstance(count, int) else 1


def _letter(message: AbstractIncomingMessage) -> DeadLetter:
    """With our own headers, or as the broker buried it."""
    headers: dict[str, Any] = dict(message.headers)
    death: dict[str, Any] = next(iter(headers.get("x-death") or []), {})
    when = death.get("time")
    reason = headers.get("reason") or (EXHAUSTED if death.get("reason") == "delivery_limit" else death.get("reason"))
    buried_at = headers.get("buried_at") or (
        when.isoformat(timespec="milliseconds") if isinstance(when, datetime) else ""
    )
    return DeadLetter(_id(message), str(reason or "unknown"), str(buried_at), message.body)


async def open_queue(url: str) -> RabbitQueue:
    """The queue at a URL; nothing is connected yet."""
    address = Address.parse(url, ("queue", "cafile", "certfile", "keyfile"))
    address.check_port()
    ours = {name: value for name, value in address.parameters.items() if name != "queue"}
    query = urlencode({**ours, "heartbeat": 10})
    return RabbitQueue(address.parts._replace(query=query).geturl(), address.name("queue", QUEUE))
