"""The queue in Kafka: `kafka://host:9092,host:9092`, or `kafka://user:password@…` for SASL over TLS.

Parameters: `topic` (upshot-events), `group` (the consumer group, upshot), `create` (0; the partitions of a topic
that is missing and to be made), `security` (plaintext, ssl, sasl_plaintext or sasl_ssl), `mechanism` (PLAIN, SCRAM-SHA-256 or
SCRAM-SHA-512) and `cafile`.

A user's events share a key, and so a partition and its order. The producer waits for all in-sync replicas (`acks=all`); how many
that are is the topic's: three replicas and `min.insync.replicas=2` keep what was answered through the loss of a broker.

Offsets are committed up to the first delivery that is not acknowledged. A released delivery is handed out again from memory,
which spares a seek: its partition is this process's, and whoever gets the partition next starts at the committed offset.
Attempts are counted by the process that holds the partition.

Dead letters are the messages of the topic `<topic>.dead`, each under a key; dropping one writes a tombstone (no value) under the
key, so that what is there is what the last message of each key says. That is right with and without log compaction, and needs
no committed offset; `cleanup.policy=compact` bounds the topic and keeps a dead letter until it is dropped.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from upshot.errors import Unavailable
from upshot.eventqueue import DeadLetter, Delivery, messages
from upshot.eventqueue.adapters import ATTEMPTS, EXHAUSTED, GROUP, QUEUE, Address, bounded, moment
from upshot.eventqueue.kafkaclients import (
    CONSUMING,
    PRODUCING,
    ROUND_TRIP,
    Pair,
    Sender,
    consume,
    create_topics,
    lag,
    read_letters,
    settings_of,
)
from upshot.events import Event

Answer = TypeVar("Answer")

# A commit that comes too late: the partitions are handed out anew, and what was not committed comes again.
_SHARING_ANEW = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}


class _Place(NamedTuple):
    """Where a delivery comes from."""

    partition: int
    offset: int
    timestamp: int
    key: bytes


class _Progress:
    """What was handed out of one partition, in the order of its offsets, and is not acknowledged: offset → attempts."""

    def __init__(self) -> None:
        self.unfinished: dict[int, int] = {}
        self.following = 0

    @property
    def committable(self) -> int:
        """The first offset that must come again after a crash."""
        return next(iter(self.unfinished), self.following)


class KafkaQueue:
    """A topic, a consumer group, and the topic of its dead letters."""

    def __init__(self, settings: dict[str, Any], topic: str, group: str, partitions: int) -> None:
        self._settings = settings
        self._topic = topic
        self._dead = f"{topic}.dead"
        self._group = group
        self._partitions = partitions
        self._created = partitions == 0
        self._sender = Sender(settings | PRODUCING)
        self._consumer: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upshot-queue")  # a consumer belongs to one thread
        self._progress: defaultdict[int, _Progress] = defaultdict(_Progress)
        self._inbox: deque[Delivery] = deque()

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """One message per user, and more only where one would be too large."""
        users: defaultdict[str, list[Event]] = defaultdict(list)
        for event in events:
            users[event.user_id].append(event)
        pairs = [
            (f"{client}\0{user}".encode(), body)
            for user, own in users.items()
            for body in messages.split(client, own)
        ]  # fmt: skip
        await self._send(self._topic, pairs)

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:
        """What was released, then what is new; when there is nothing, ask whether the brokers are still there."""
        if len(self._inbox) < limit:  # what is released again and again holds up nothing that is new
            async with bounded(KafkaException, longer=seconds):
                await self._create()
                await self._in_thread(self._fetch, limit - len(self._inbox), 0 if self._inbox else seconds)
        for exhausted in [delivery for delivery in self._inbox if delivery.attempts > ATTEMPTS]:
            await self.bury(exhausted, EXHAUSTED)  # it stays here when this fails
            self._inbox.remove(exhausted)
        return [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Commit, in each of their partitions, up to the first delivery that is not acknowledged."""
        if deliveries:
            async with bounded(KafkaException):
                await self._in_thread(self._commit, [delivery.receipt for delivery in deliveries])

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand them out again; those whose partition went to another process are handed out there."""
        for delivery in deliveries:
            unfinished = self._progress[delivery.receipt.partition].unfinished
            if delivery.receipt.offset in unfinished:
                unfinished[delivery.receipt.offset] += 1
                self._inbox.append(Delivery(delivery.receipt, delivery.body, delivery.attempts + 1))

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Write it to the topic of dead letters, then acknowledge it; buried twice, it is still one dead letter."""
        place: _Place = delivery.receipt
        id_ = f"{place.partition}:{place.offset}:{place.timestamp}"
        headers = {"reason": reason.encode(), "buried_at": moment().encode(), "key": place.key}
        await self._send(self._dead, [(id_.encode(), delivery.body)], headers)
        await self.acknowledge([delivery])

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Read the whole topic of dead letters."""
        return [letter for _, letter in await self._letters()][:limit]

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Publish them under the keys that they had, then drop them."""
        chosen = [(key, letter) for key, letter in await self._letters() if ids is None or letter.id in ids]
        await self._send(self._topic, [(key, letter.body) for key, letter in chosen])
        await self._send(self._dead, [(letter.id.encode(), None) for _, letter in chosen])
        return len(chosen)

    async def drop(self, ids: Sequence[str] | None = None) -> int:
        """Write their tombstones."""
        chosen = [letter for _, letter in await self._letters() if ids is None or letter.id in ids]
        await self._send(self._dead, [(letter.id.encode(), None) for letter in chosen])
        return len(chosen)

    async def ping(self) -> str:
        """How many messages the group has not committed."""
        async with bounded(KafkaException):
            return f"ok, {await asyncio.to_thread(lag, self._settings, self._topic, self._group)} waiting"

    async def close(self) -> None:
        """Leave the group; whoever takes the partitions over starts at the committed offsets."""
        self._sender.close()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(Unavailable):
                async with bounded(KafkaException):
                    await self._in_thread(consumer.close)
        self._thread.shutdown(wait=False)

    async def _send(self, topic: str, pairs: Sequence[Pair], headers: dict[str, bytes] | None = None) -> None:
        if pairs:
            async with bounded(KafkaException, BufferError):
                await self._create()
                await self._sender.send(topic, pairs, headers)

    async def _create(self) -> None:
        """Make the topics, where the URL asks for it and they are missing."""
        if not self._created:
            async with bounded(KafkaException):
                await asyncio.to_thread(create_topics, self._settings, self._topic, self._dead, self._partitions)
            self._created = True

    async def _letters(self) -> list[tuple[bytes, DeadLetter]]:
        await self._create()
        async with bounded(KafkaException, longer=60):  # every step of the reading has its own bound
            return await asyncio.to_thread(read_letters, self._settings, self._dead)

    async def _in_thread(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # In the consumer's thread

    def _fetch(self, limit: int, seconds: float) -> None:
        """Fill the inbox. It is filled even when the caller has gone: what was consumed is not consumed twice."""
        if self._consumer is None:
            self._consumer = Consumer(self._settings | CONSUMING | {"group.id": self._group})
            self._consumer.subscribe([self._topic], on_revoke=self._revoked, on_lost=self._revoked)
        for message in consume(self._consumer, limit, seconds):
            if error := message.error():
                if error.fatal():
                    self._consumer, consumer = None, self._consumer
                    self._progress.clear()
                    consumer.close()
                    raise KafkaException(error)
                continue  # a topic that is not there yet, a leader that moves: seen below, or over soon
            place = _Place(message.partition(), message.offset(), message.timestamp()[1], message.key() or b"")
            progress = self._progress[place.partition]
            progress.unfinished[place.offset] = 1
            progress.following = place.offset + 1
            self._inbox.append(Delivery(place, message.value() or b""))
        if not self._inbox:
            self._consumer.list_topics(self._topic, timeout=ROUND_TRIP)

    def _commit(self, places: Sequence[_Place]) -> None:
        for place in places:
            self._progress[place.partition].unfinished.pop(place.offset, None)
        touched = {place.partition for place in places}
        offsets = [TopicPartition(self._topic, number, self._progress[number].committable) for number in touched]
        offsets = [each for each in offsets if each.offset > 0]  # 0: the partition went to another process
        if self._consumer is None or not offsets:
            return
        try:
            errors = [each.error for each in self._consumer.commit(offsets=offsets, asynchronous=False)]
        except KafkaException as failure:
            errors = [failure.args[0]]
        for error in errors:
            if error is not None and error.code() not in _SHARING_ANEW:
                raise KafkaException(error)

    def _revoked(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Forget what was handed out of partitions that are another process's now."""
        gone = {partition.partition for partition in partitions}
        for number in gone:
            self._progress.pop(number, None)
        self._inbox = deque(delivery for delivery in self._inbox if delivery.receipt.partition not in gone)


async def open_queue(url: str) -> KafkaQueue:
    """The queue at a URL; nothing is connected yet."""
    address = Address.parse(url, ("topic", "group", "create", "security", "mechanism", "cafile"))
    topic, group = address.name("topic", QUEUE), address.name("group", GROUP)
    return KafkaQueue(settings_of(address), topic, group, address.number("create", 0))
