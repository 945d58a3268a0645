"""librdkafka's clients as the Kafka queue uses them: how they are set, a producer that can be awaited, and what is asked once.

All but the sending blocks, each step at most `ROUND_TRIP` or the seconds it is given, and is called in a thread.
"""

import asyncio
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from upshot.eventqueue import DeadLetter
from upshot.eventqueue.adapters import SECONDS, Address, refuse

COMMON: dict[str, Any] = {
    "client.id": "upshot",
    "log_level": 2,  # what goes wrong is told by the call that it goes wrong for
    "reconnect.backoff.max.ms": 1_000,
    "socket.connection.setup.timeout.ms": 2_000,
    "socket.timeout.ms": 4_000,
    "allow.auto.create.topics": True,  # where the brokers allow it too
}
PRODUCING: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,  # said, since a setting that conflicts would switch it off in silence
    "delivery.timeout.ms": 5_000,
    "linger.ms": 5,
}
CONSUMING: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 10_000,
    "topic.metadata.refresh.interval.ms": 10_000,
}

_DEAD_BATCH = 500
ROUND_TRIP = 3.0  # seconds; what one question to the brokers may take
_SECURITY = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_BROKER = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}"

Pair = tuple[bytes, bytes | None]


def settings_of(address: Address) -> dict[str, Any]:
    """What every client is set to for a QUEUE_URL.

    Raises:
        ConfigurationError: the brokers are not host:port, or the security is none that Kafka knows.
    """
    credentials, _, brokers = address.parts.netloc.rpartition("@")
    if address.parts.path not in {"", "/"} or not re.fullmatch(f"{_BROKER}(,{_BROKER})*", brokers):
        refuse("this is not kafka://host:port, or several host:port with commas between")
    user, _, password = credentials.partition(":")
    security = address.parameters.get("security", "sasl_ssl" if user else "plaintext")
    mechanism = address.parameters.get("mechanism", "PLAIN")
    if security not in _SECURITY or mechanism not in _MECHANISMS:
        refuse(f"security is one of {', '.join(_SECURITY)}, and mechanism one of {', '.join(_MECHANISMS)}")
    if security.startswith("sasl") != bool(user):
        refuse("a user belongs to security=sasl_ssl or sasl_plaintext, and only there")
    settings = COMMON | {"bootstrap.servers": brokers, "security.protocol": security}
    if user:
        settings |= {"sasl.mechanism": mechanism, "sasl.username": unquote(user), "sasl.password": unquote(password)}
    if "cafile" in address.parameters:
        settings["ssl.ca.location"] = address.parameters["cafile"]
    return settings


class Sender:
    """A producer and the thread that hears its acknowledgements; made when it is used.

    A producer that failed once is replaced: after an idempotent one gave up on a message, its sequence has a gap, and not every
    broker lets it go on.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._ended = threading.Event()

    async def send(self, topic: str, pairs: Sequence[Pair], headers: dict[str, bytes] | None = None) -> None:
        """Return when every in-sync replica has every message."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        producer = self._opened()
        missing = len(pairs)

        def settle(error: KafkaError | None) -> None:
            if error is not None and self._producer is producer:
                self.close()
            if error is not None and not answered.done():
                answered.set_exception(KafkaException(error))
            elif not answered.done():
                answered.set_result(None)

        def heard(error: KafkaError | None, _: Message) -> None:
            nonlocal missing
            missing -= 1  # in the polling thread only
            if error is not None or missing == 0:
                with suppress(RuntimeError):  # the loop was closed: nobody waits
                    loop.call_soon_threadsafe(settle, error)

        for key, value in pairs:
            producer.produce(topic, value, key, on_delivery=heard, headers=dict(headers or {}))
        await answered

    def close(self) -> None:
        """End the thread, which waits a little for what is in flight."""
        self._ended.set()
        self._producer = None

    def _opened(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._settings)
            self._ended = threading.Event()
            threading.Thread(target=_poll, args=(self._producer, self._ended), daemon=True).start()
        return self._producer


def _poll(producer: Producer, ended: threading.Event) -> None:
    while not ended.is_set():
        producer.poll(0.1)
    producer.flush(1)
    producer.purge()
    producer.flush(1)


def consume(consumer: Consumer, limit: int, seconds: float) -> list[Any]:
    """Wait for one message only: `consume` would wait until it has as many as it may take."""
    first = consumer.consume(1, seconds)
    return first + consumer.consume(limit - 1, 0) if first and limit > 1 else first


def partitions_of(consumer: Consumer, topic: str) -> set[int]:
    """None where the topic does not exist yet."""
    return set(consumer.list_topics(topic, timeout=ROUND_TRIP).topics[topic].partitions)


def create_topics(settings: dict[str, Any], topic: str, dead: str, partitions: int) -> None:
    """Make what is missing; the dead letters have one partition, and are kept until they are dropped."""
    wanted = [
        NewTopic(topic, partitions),
        NewTopic(dead, 1, config={"cleanup.policy": "compact"}),
    ]
    admin = AdminClient(settings)  # its answers end with it
    for future in admin.create_topics(wanted, request_timeout=ROUND_TRIP).values():
        try:
            future.result(SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def read_letters(settings: dict[str, Any], topic: str) -> list[tuple[bytes, DeadLetter]]:
    """Every dead letter with the key that its message had, oldest first."""
    letters: dict[str, tuple[bytes, DeadLetter]] = {}
    # Nobody joins the group, nothing is committed, and a broker is not to wait for more before it says that this is the end.
    reading = {"group.id": topic, "enable.partition.eof": True, "fetch.wait.max.ms": 10}
    consumer = Consumer(settings | CONSUMING | reading)
    try:
        unread = partitions_of(consumer, topic)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
        while unread:
            batch = consume(consumer, _DEAD_BATCH, SECONDS)
            if not batch:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
            for message in batch:
                error = message.error()
                if error is None:
                    _fold(letters, message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    unread.discard(message.partition())
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return sorted(letters.values(), key=lambda item: item[1].buried_at)


def _fold(letters: dict[str, tuple[bytes, DeadLetter]], message: Any) -> None:
    """A later message of the same key replaces the earlier one; one without a value removes it."""
    id_ = (message.key() or b"").decode(errors="replace")
    letters.pop(id_, None)
    if message.value() is not None:
        facts: dict[str, bytes] = dict(message.headers() or ())
        reason, buried_at = facts.get("reason", b"unknown").decode(), facts.get("buried_at", b"").decode()
        letters[id_] = facts.get("key", b""), DeadLetter(id_, reason, buried_at, message.value())


def lag(settings: dict[str, Any], topic: str, group: str) -> int:
    """How many messages a group has not committed."""
    consumer = Consumer(settings | CONSUMING | {"group.id": group})
    try:
        places = [TopicPartition(topic, number) for number in partitions_of(consumer, topic)]
        waiting = 0
        for place in consumer.committed(places, timeout=ROUND_TRIP) if places else []:
            first, following = consumer.get_watermark_offsets(place, timeout=ROUND_TRIP)
            waiting += max(following - max(place.offset, first), 0)
        return waiting
    finally:
        consumer.close()
