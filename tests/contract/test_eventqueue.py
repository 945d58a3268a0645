"""Every queue keeps the contract of `upshot.eventqueue`, against a real broker, whatever is repeated, paused or killed.

What is claimed is written as checks, which take a queue apart as a worker would; broken queues at the end show that each check
can fail.
"""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from tests.backends import free_port, kafka, rabbitmq, redis, sqs

from upshot import eventqueue
from upshot.errors import ConfigurationError, Unavailable
from upshot.eventqueue import Delivery, EventQueue, messages
from upshot.eventqueue.adapters import ATTEMPTS, EXHAUSTED
from upshot.events import Event

PROMISE = 6.0  # seconds: five, and what a busy machine adds
KINDS = ["rabbitmq", "redis", "kafka_tansu", "kafka_simulated", "sqs", "sqs_topic"]
KILLABLE = ["rabbitmq", "redis", "kafka_simulated"]
PAUSABLE = [*KILLABLE, "sqs"]
_numbers = count(1)


@pytest.fixture(scope="module", name="rabbitmq_server")
def _rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rabbitmq.RabbitMQ]:
    with rabbitmq.running(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="module", name="redis_server")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", name="kafka_tansu_server")
def _kafka_tansu_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.Tansu]:
    with kafka.tansu(tmp_path_factory.mktemp("tansu")) as server:
        yield server


@pytest.fixture(scope="module", name="kafka_simulated_server")
def _kafka_simulated_server() -> Iterator[kafka.SimulatedCluster]:
    with kafka.simulated() as server:
        yield server


@pytest.fixture(scope="module", name="sqs_server")
def _sqs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqs.Moto]:
    with sqs.running(tmp_path_factory.mktemp("moto")) as server:
        yield server


class Bench:
    """A fresh queue of one kind, which any number of processes may open, and the broker behind it."""

    def __init__(
        self, kind: str, server: Any, broken: Callable[[EventQueue], EventQueue] = lambda queue: queue
    ) -> None:
        self.server = server
        self.url = address(kind, server.url, f"q{uuid.uuid4().hex[:12]}")
        self.broken = broken
        self._opened: list[EventQueue] = []

    async def open(self) -> EventQueue:
        """What another process would have."""
        queue = self.broken(await eventqueue.connect(self.url))
        self._opened.append(queue)
        return queue

    async def close(self) -> None:
        """Close what was opened."""
        for queue in self._opened:
            await queue.close()


def address(kind: str, server: str, name: str) -> str:
    """A QUEUE_URL with a name of its own; what is not acknowledged comes again after a second or two."""
    parameters = {
        "rabbitmq": f"queue={name}",
        "redis": f"queue={name}&stale=1",
        "kafka_tansu": f"topic={name}&group={name}",
        "kafka_simulated": f"topic={name}&group={name}",
        "sqs": "visibility=2",
        "sqs_topic": f"visibility=2&topic={name}",
    }[kind]
    if kind.startswith("sqs"):
        server = server.replace("?", f"/{name}?")
    return f"{server}{'&' if '?' in server else '?'}{parameters}"


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """The bench of the kind that the test asks for."""
    kind: str = request.param
    server = request.getfixturevalue("sqs_server" if kind == "sqs_topic" else f"{kind}_server")
    made = Bench(kind, server)
    yield made
    await made.close()


every_kind = pytest.mark.parametrize("bench", KINDS, indirect=True)


def event(user: str = "u1", properties: str = '{"a":"é","b":1.5}') -> Event:
    """An event with an id of its own."""
    number = next(_numbers)
    return Event(f"e{number}", user, "buy", number, number, 1.5, properties, None, 0, -number)


async def collect(queue: EventQueue, events: int, seconds: float = 25, limit: int = 100) -> list[Delivery]:
    """Deliveries with so many events, or those there are after so long."""
    collected: list[Delivery] = []
    deadline = time.monotonic() + min(seconds, getattr(queue, "patience", seconds))
    while len(held(collected)) < events and time.monotonic() < deadline:
        collected += await queue.receive(limit, 1)
    return collected


def held(deliveries: Sequence[Delivery]) -> list[Event]:
    """The events of deliveries."""
    return [found for delivery in deliveries for found in messages.decode(delivery.body)[1]]


def ids(events: Sequence[Event]) -> list[str]:
    """What identifies events, sorted."""
    return sorted(each.event_id for each in events)


async def recovered(call: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """The answer, once there is one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except Unavailable:
            assert time.monotonic() < deadline, "it did not recover"
            await asyncio.sleep(0.1)


async def refused(call: Awaitable[Any]) -> None:
    """That a call ends in time, with Unavailable."""
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await call
    assert time.monotonic() - started < PROMISE
    assert caught.value.retry_after == 1
    assert "secret" not in str(caught.value)


async def exhaust(queue: EventQueue, ahead: list[Delivery]) -> None:
    """Receive what the broker sent ahead, and go on."""
    for _ in range(20):
        ahead += await queue.receive(10, 0.2)


# Checks


async def check_round_trip(bench: Bench) -> None:
    """What was published comes, unchanged, once."""
    queue, sent = await bench.open(), [event("u1"), event("üñ\ufffe"), event("u1")]
    await queue.publish("first", sent)
    received = await collect(queue, 3)
    assert {messages.decode(delivery.body)[0] for delivery in received} == {"first"}
    assert sorted(held(received)) == sorted(sent)
    assert {delivery.attempts for delivery in received} == {1}
    await queue.acknowledge(received)
    assert "ok" in await queue.ping()


async def check_split(bench: Bench) -> None:
    """A batch that is larger than a message arrives whole."""
    queue, sent = await bench.open(), [event(properties='{"a":"' + "x" * 2_000 + '"}') for _ in range(500)]
    await queue.publish("first", sent)
    received = await collect(queue, 500)
    assert ids(held(received)) == ids(sent)
    assert max(len(delivery.body) for delivery in received) <= messages.LARGEST
    await queue.acknowledge(received)


async def check_publishers(bench: Bench) -> None:
    """Fifty publish at once; nothing is lost or mixed up."""
    queue, batches = await bench.open(), [[event(f"u{n}"), event(f"v{n}")] for n in range(50)]
    await asyncio.gather(*(queue.publish(f"c{n % 3}", batch) for n, batch in enumerate(batches)))
    received = await collect(queue, 100)
    clients = {each.event_id: f"c{n % 3}" for n, batch in enumerate(batches) for each in batch}
    got = {each.event_id: messages.decode(one.body)[0] for one in received for each in held([one])}
    assert got == clients
    await queue.acknowledge(received)


async def check_acknowledged_is_gone(bench: Bench) -> None:
    """What was acknowledged does not come again, to anybody."""
    queue = await bench.open()
    await queue.publish("first", [event("u1")])
    await queue.acknowledge(await collect(queue, 1))
    await queue.close()
    assert await collect(await bench.open(), 1, 5) == []


async def check_unacknowledged_comes_again(bench: Bench) -> None:
    """What a process held when it went away comes to another one."""
    queue, sent = await bench.open(), [event(f"u{n}") for n in range(5)]
    for each in sent:
        await queue.publish("first", [each])
    await collect(queue, 5)
    await queue.close()
    other = await bench.open()
    again = await collect(other, 5)
    assert ids(held(again)) == ids(sent)
    await other.acknowledge(again)


async def check_release(bench: Bench) -> None:
    """What was released comes again at once, and says so."""
    queue, sent = await bench.open(), [event()]
    await queue.publish("first", sent)
    await queue.release(await collect(queue, 1))
    again = await collect(queue, 1)
    assert (ids(held(again)), again[0].attempts) == (ids(sent), 2)
    await queue.acknowledge(again)


async def check_burial(bench: Bench) -> None:
    """A dead letter can be looked at, replayed, buried again and dropped."""
    queue, sent = await bench.open(), [event("u1"), event("u2")]
    assert (await queue.dead_letters(10), await queue.replay(), await queue.drop()) == ([], 0, 0)
    for each in sent:
        await queue.publish("first", [each])
    received = await collect(queue, 2)
    for delivery in received:
        await queue.bury(delivery, f"cannot be stored: {held([delivery])[0].user_id} é")
    looks = [await queue.dead_letters(10) for _ in range(2)]
    assert looks[0] == looks[1]
    reasons = {letter.reason: letter.body for letter in looks[0]}
    assert reasons == {f"cannot be stored: {held([one])[0].user_id} é": one.body for one in received}
    assert all(letter.buried_at.startswith("20") for letter in looks[0])
    assert len(await queue.dead_letters(1)) == 1
    assert await queue.replay([looks[0][0].id, "none-such", "1-1"]) == 1
    again = await collect(queue, 1)
    assert again[0].body == looks[0][0].body
    await queue.acknowledge(again)
    assert await queue.dead_letters(10) == looks[0][1:]
    assert await queue.drop(["none-such"]) == 0
    assert await queue.drop([looks[0][1].id]) == 1
    assert await (await bench.open()).dead_letters(10) == []


async def check_replay_of_all(bench: Bench) -> None:
    """Replay and drop take everything, when nothing is named."""
    queue, sent = await bench.open(), [event(f"u{n}") for n in range(12)]
    for each in sent:
        await queue.publish("first", [each])
    for delivery in await collect(queue, 12):
        await queue.bury(delivery, "twice")
    assert await queue.replay() == 12
    again = await collect(queue, 12)
    assert ids(held(again)) == ids(sent)
    for delivery in again:
        await queue.bury(delivery, "for good")
    assert {letter.reason for letter in await queue.dead_letters(100)} == {"for good"}
    assert (await queue.drop(), await queue.dead_letters(10)) == (12, [])


async def check_delivery_limit(bench: Bench) -> None:
    """A message that is never acknowledged ends among the dead letters; the next one is not held up."""
    queue, poison, good = await bench.open(), event("u1"), event("u2")
    await queue.publish("first", [poison])
    held_back = await collect(queue, 1)
    await queue.publish("first", [good])
    attempts, passed = 1, 0
    for _ in range(60):
        if not passed:
            await asyncio.sleep(0.5)  # while the poison is tried again and again, the good one has time to come
        await queue.release(held_back)
        received = await queue.receive(10, 0.5)
        held_back = [delivery for delivery in received if held([delivery]) == [poison]]
        attempts += len(held_back)
        if others := [delivery for delivery in received if delivery not in held_back]:
            await queue.acknowledge(others)
            passed = attempts
        if letters := await queue.dead_letters(10):
            break
    assert 0 < passed < attempts
    assert attempts in {ATTEMPTS, ATTEMPTS + 1}  # RabbitMQ counts what comes after the first
    assert [messages.decode(letter.body)[1] for letter in letters] == [[poison]]
    assert "more than 5 times" in letters[0].reason
    assert await queue.replay() == 1
    assert ids(held(await collect(queue, 1))) == [poison.event_id]


async def check_sharing(bench: Bench) -> None:
    """Two workers, one of which goes away with what it holds, have everything between them."""
    one, other, sent = await bench.open(), await bench.open(), [event(f"u{n}") for n in range(60)]
    await asyncio.gather(*(one.publish("first", [each]) for each in sent))
    stored: set[str] = set()

    async def work(queue: EventQueue) -> int:
        received = await queue.receive(5, 0.3)
        stored.update(ids(held(received)))
        await queue.acknowledge(received)
        return len(received)

    shares = [0, 0]
    deadline = time.monotonic() + 40
    while not (shares[0] or len(stored) == 60) and time.monotonic() < deadline:
        shares = [
            total + more for total, more in zip(shares, await asyncio.gather(work(one), work(other)), strict=True)
        ]
    await one.receive(5, 0.3)
    await one.close()
    while len(stored) < 60 and time.monotonic() < deadline:
        await work(other)
    assert stored == set(ids(sent))


async def check_outage(bench: Bench, begin: str, end: str) -> None:
    """While the broker is away every call says so in time; afterwards the same queue works, and has what it had."""
    queue, before, during, after = await bench.open(), event("u1"), event("u1"), event("u1")
    await queue.publish("first", [before])
    await queue.release(await collect(queue, 1))
    getattr(bench.server, begin)()
    try:
        calls = [queue.publish("first", [during]) for _ in range(3)]
        await asyncio.gather(*(refused(call) for call in [*calls, queue.ping(), queue.dead_letters(1)]))
        ahead: list[Delivery] = []
        with pytest.raises(Unavailable):
            await exhaust(queue, ahead)
    finally:
        getattr(bench.server, end)()
    with suppress(Unavailable):  # their connection is gone, and the broker knows it
        await queue.release(ahead)
    await recovered(lambda: queue.publish("first", [after]))
    stored: set[str] = set()
    deadline = time.monotonic() + 30
    while not {before.event_id, after.event_id} <= stored:
        assert time.monotonic() < deadline, stored
        received = await recovered(lambda: queue.receive(10, 1))
        stored.update(ids(held(received)))
        if received:
            await queue.acknowledge(received)


# Every kind of queue


@every_kind
async def test_what_was_published_comes_once(bench: Bench) -> None:
    await check_round_trip(bench)


@every_kind
@pytest.mark.slow
async def test_a_large_batch_arrives_whole(bench: Bench) -> None:
    await check_split(bench)


@every_kind
@pytest.mark.slow
async def test_fifty_publish_at_once(bench: Bench) -> None:
    await check_publishers(bench)


@every_kind
@pytest.mark.slow
async def test_what_was_acknowledged_is_gone(bench: Bench) -> None:
    await check_acknowledged_is_gone(bench)


@every_kind
@pytest.mark.slow
async def test_what_was_not_acknowledged_comes_again(bench: Bench) -> None:
    await check_unacknowledged_comes_again(bench)


@every_kind
async def test_what_was_released_comes_again(bench: Bench) -> None:
    await check_release(bench)


@every_kind
@pytest.mark.slow
async def test_dead_letters(bench: Bench) -> None:
    await check_burial(bench)


@every_kind
@pytest.mark.slow
async def test_all_dead_letters_at_once(bench: Bench) -> None:
    await check_replay_of_all(bench)


@every_kind
@pytest.mark.slow
async def test_what_is_never_acknowledged_is_buried(bench: Bench) -> None:
    await check_delivery_limit(bench)


@every_kind
@pytest.mark.slow
async def test_two_workers_share(bench: Bench) -> None:
    await check_sharing(bench)


@pytest.mark.parametrize("bench", PAUSABLE, indirect=True)
@pytest.mark.slow
async def test_a_paused_broker(bench: Bench) -> None:
    await check_outage(bench, "pause", "resume")


@pytest.mark.parametrize("bench", KILLABLE, indirect=True)
@pytest.mark.slow
async def test_a_broker_that_went_away(bench: Bench) -> None:
    await check_outage(bench, "kill", "restart")


NOWHERE = {
    "rabbitmq": "amqp://guest:secret@127.0.0.1:{port}/",
    "redis": "redis://:secret@127.0.0.1:{port}/0",
    "kafka": "kafka://127.0.0.1:{port}",
    "sqs": "sqs://eu-west-1/q?endpoint=http://127.0.0.1:{port}",
}


@pytest.fixture(params=["refused", "black hole"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that refuses, or one that takes connections and never says a word."""
    if request.param == "refused":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("kind", NOWHERE)
@pytest.mark.slow
async def test_a_broker_that_never_was_there(kind: str, nowhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    queue = await eventqueue.connect(NOWHERE[kind].format(port=nowhere))
    try:
        calls = [queue.publish("first", [event()]), queue.receive(1, 0.2), queue.ping(), queue.drop()]
        await asyncio.gather(*map(refused, calls))
    finally:
        await queue.close()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://host", "no queue for ftp"),
        ("amqp:///queue", "host is missing"),
        ("amqp://guest:s3cret@host:port/", "port"),
        ("amqp://guest:s3?cret@host/", "not a URL"),
        ("amqp://guest:s3?cr=et@host/", "parameter"),
        ("amqp://host/?queue=a b", "name"),
        ("redis://:s3cret@host/zero", "database"),
        ("redis://:s3cret@host:99999/0", "port"),
        ("redis://host/0?stale=0", "stale"),
        ("redis://host/0?replicas=all", "replicas"),
        ("kafka://host", "host:port"),
        ("kafka://host:9092/s3cret", "host:port"),
        ("kafka://host:9092?topic=", "topic"),
        ("kafka://user:s3cret@host:9092?security=ssl", "security"),
        ("kafka://host:9092?mechanism=s3cret", "mechanism"),
        ("sqs://", "host is missing"),
        ("sqs://eu-west-1/a/s3cret", "name"),
        ("sqs://eu-west-1?topic=upshot", "ARN"),
        ("sqs://eu-west-1?endpoint=s3cret", "endpoint"),
        ("sqs://eu-west-1?visibility=s3cret", "visibility"),
        ("sqs://[s3cret", "not a URL"),
    ],
)
async def test_a_url_that_cannot_be_used(url: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await eventqueue.connect(url)
    assert caught.value.detail.startswith("QUEUE_URL: ")
    assert fault in caught.value.detail
    assert "s3cret" not in str(caught.value)
    assert "s3" not in str(caught.value)


# One kind's own promises


@pytest.mark.parametrize("bench", ["kafka_tansu", "kafka_simulated"], indirect=True)
@pytest.mark.slow
async def test_one_users_events_stay_in_order(bench: Bench) -> None:
    queue, sent = await bench.open(), [[event(f"u{n}") for n in range(7) for _ in range(3)] for _ in range(20)]
    for batch in sent:
        await queue.publish("first", batch)
    received = await collect(queue, 420)
    for user in {f"u{n}" for n in range(7)}:
        own = [each.event_id for each in held(received) if each.user_id == user]
        assert own == [each.event_id for batch in sent for each in batch if each.user_id == user]
        places = {one.receipt.partition for one in received if held([one])[0].user_id == user}
        assert len(places) == 1
    assert len({one.receipt.partition for one in received}) > 1
    await queue.acknowledge(received)


@pytest.mark.parametrize("bench", ["kafka_tansu", "kafka_simulated"], indirect=True)
@pytest.mark.slow
async def test_an_offset_is_not_committed_past_an_unacknowledged_delivery(bench: Bench) -> None:
    queue, sent = await bench.open(), [event("u1") for _ in range(3)]
    for each in sent:
        await queue.publish("first", [each])
    first, second, third = await collect(queue, 3)
    await queue.acknowledge([third])
    await queue.acknowledge([first])
    await queue.close()
    other = await bench.open()
    again = await collect(other, 2)
    assert held(again) == sent[1:]
    await other.acknowledge([again[0]])
    await other.acknowledge([again[1]])
    await other.close()
    assert await collect(await bench.open(), 1, 6) == []
    assert held([second]) == [sent[1]]


@pytest.mark.parametrize("bench", ["redis"], indirect=True)
@pytest.mark.slow
async def test_a_missing_replica_is_told(bench: Bench) -> None:
    bench.url += "&replicas=1"
    with pytest.raises(Unavailable, match="replicas"):
        await (await bench.open()).publish("first", [event()])


@pytest.mark.parametrize("bench", ["redis"], indirect=True)
async def test_an_entry_that_somebody_else_wrote_can_be_buried(bench: Bench) -> None:
    queue = await bench.open()
    async with Redis.from_url(bench.server.url) as client:
        await client.xadd(bench.url.partition("queue=")[2].partition("&")[0], {"what": "ever"})
    [foreign] = await queue.receive(10, 1)
    with pytest.raises(messages.Poison):
        messages.decode(foreign.body)
    await queue.bury(foreign, "unreadable")
    assert [letter.reason for letter in await queue.dead_letters(10)] == ["unreadable"]
    assert await queue.receive(10, 0.1) == []


# Queues that are broken on purpose: each is caught by the check that is there for it


class Broken:
    """Passes on what it does not break."""

    patience = 3  # seconds; what it loses is not waited for

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)


class AcknowledgesOnReceipt(Broken):
    """Lets the broker forget before the events are stored."""

    async def receive(self, limit: int, seconds: float) -> Any:
        """Acknowledge, then hand out."""
        received = await self.queue.receive(limit, seconds)
        await self.queue.acknowledge(received)
        return received


class NeverAcknowledges(Broken):
    """Lets the broker forget nothing."""

    async def acknowledge(self, _: Any) -> None:
        """Nothing."""


class BuriesNowhere(Broken):
    """Loses what it buries."""

    async def bury(self, delivery: Delivery, _: str) -> None:
        """Acknowledge."""
        await self.queue.acknowledge([delivery])


class LosesReplays(Broken):
    """Drops what it should put back."""

    async def replay(self, chosen: Any = None) -> Any:
        """Drop."""
        return await self.queue.drop(chosen)


class ReleasesAnew(Broken):
    """Forgets how often a message was handed out."""

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Publish again, acknowledge."""
        for delivery in deliveries:
            await self.queue.publish(*messages.decode(delivery.body))
        await self.queue.acknowledge(deliveries)


class ReleasesFirst(Broken):
    """Hands out what was released, and looks for nothing else as long as there is such."""

    def __init__(self, queue: Any) -> None:
        super().__init__(queue)
        self.released: list[Delivery] = []

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Keep them."""
        self.released += [Delivery(one.receipt, one.body, one.attempts + 1) for one in deliveries]

    async def receive(self, limit: int, seconds: float) -> Any:
        """What was kept, and what is new only without it."""
        for exhausted in [one for one in self.released if one.attempts > ATTEMPTS]:
            await self.queue.bury(exhausted, EXHAUSTED)
            self.released.remove(exhausted)
        kept, self.released = self.released, []
        return kept or await self.queue.receive(limit, seconds)


class PublishesIntoTheDark(Broken):
    """Answers before the broker has."""

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Whatever happens."""
        try:
            await self.queue.publish(client, events)
        except Unavailable:
            return


class PublishesTheFirstMessage(Broken):
    """Splits a batch, and forgets the rest."""

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """What fits into one message."""
        await self.queue.publish(*messages.decode(next(messages.split(client, events))))


@pytest.mark.parametrize("bench", ["redis"], indirect=True)
@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (AcknowledgesOnReceipt, check_unacknowledged_comes_again),
        (NeverAcknowledges, check_acknowledged_is_gone),
        (BuriesNowhere, check_burial),
        (LosesReplays, check_replay_of_all),
        (ReleasesAnew, check_delivery_limit),
        (ReleasesFirst, check_delivery_limit),
        (PublishesIntoTheDark, lambda bench: check_outage(bench, "pause", "resume")),
        (PublishesTheFirstMessage, check_split),
    ],
)
@pytest.mark.slow
async def test_a_broken_queue_is_caught(bench: Bench, broken: Any, check: Callable[[Bench], Awaitable[None]]) -> None:
    bench.broken = broken
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check(bench)


def test_a_message_without_ordinals_is_what_it_was_before_there_were_any() -> None:
    """An earlier program can read it, and this one what an earlier program left in a queue or a spool."""
    plain = event()
    numbered = plain._replace(event_id="numbered", ordinal=2**63 - 1)
    earlier = msgspec.json.encode([1, "first", [list(plain)[:10]]])

    assert messages.encode("first", [plain]) == earlier
    assert messages.decode(earlier) == ("first", [plain])
    assert messages.decode(messages.encode("first", [plain, numbered])) == ("first", [plain, numbered])


def test_a_message_that_is_none_of_ours() -> None:
    later = messages.encode("first", [event()]).replace(b"[1,", b"[2,", 1)
    for body in (b"", b"\xff", b"{}", b'[1,"first",[]]', b'[1,"",[["e"]]]', b"[" * 100_000, later):
        with pytest.raises(messages.Poison, match="unreadable"):
            messages.decode(body)
