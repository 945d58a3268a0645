"""Every queue keeps the contract of `upshot.eventqueue`, against a real broker, whatever is repeated, paused or killed.

What is claimed is written as checks, which take a queue apart as a worker would; broken queues at the end show that each check
can fail.
"""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from tests.backends import free_port, kafka, rabbitmq, redis, sqs
from tests.faults.lateness import losing

from upshot import eventqueue
from upshot.errors import ConfigurationError, Unavailable
from upshot.eventqueue import Delivery, EventQueue, adapters, messages
from upshot.eventqueue import rabbitmq as rabbitmqueue
from upshot.eventqueue.adapters import ATTEMPTS, EXHAUSTED
from upshot.events import Event

PROMISE = 6.0  # seconds: five, and what a busy machine adds
KINDS = ["rabbitmq", "redis", "kafka_tansu", "kafka_simulated", "sqs", "sqs_topic"]
SLOW = ["rabbitmq", "sqs", "sqs_topic"]
KILLABLE = ["rabbitmq", "redis", "kafka_simulated"]
PAUSABLE = [*KILLABLE, "sqs"]
_numbers = count(1)

Check = Callable[["Bench"], Awaitable[None]]


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

    def __init__(self, kind: str, server: Any, check: Check | None) -> None:
        self.kind = kind
        self.server = server
        self.url = address(kind, server.url, f"q{uuid.uuid4().hex[:12]}", 2 if check in COMING_AGAIN else 60)
        self.broken: Callable[[EventQueue], EventQueue] = lambda queue: queue
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


def address(kind: str, server: str, name: str, seconds: int) -> str:
    """A QUEUE_URL with a name of its own; what is not acknowledged comes again after so many seconds at most."""
    parameters = {
        "rabbitmq": f"queue={name}",
        "redis": f"queue={name}&stale={seconds // 2}",
        "kafka_tansu": f"topic={name}&group={name}",
        "kafka_simulated": f"topic={name}&group={name}",
        "sqs": f"visibility={seconds}",
        "sqs_topic": f"visibility={seconds}&topic={name}",
    }[kind]
    if kind.startswith("sqs"):
        server = server.replace("?", f"/{name}?")
    return f"{server}{'&' if '?' in server else '?'}{parameters}"


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """The bench of the kind that the test asks for."""
    made = bench_of(request, request.param, request.node.callspec.params.get("check"))
    yield made
    await made.close()


def bench_of(request: pytest.FixtureRequest, kind: str, check: Check | None) -> Bench:
    """A bench of a kind, for a check."""
    return Bench(kind, request.getfixturevalue("sqs_server" if kind == "sqs_topic" else f"{kind}_server"), check)


every_kind = pytest.mark.parametrize("kind", KINDS)


def event(user: str = "u1", properties: str = '{"a":"é","b":1.5}') -> Event:
    """An event with an id of its own."""
    number = next(_numbers)
    return Event(f"e{number}", user, "buy", number, number, 1.5, properties, None, 0, -number)


async def collect(queue: EventQueue, events: int, seconds: float = 25, limit: int = 100) -> list[Delivery]:
    """Deliveries with so many events, or those there are after so long; once at least it looks."""
    collected: list[Delivery] = []
    deadline = time.monotonic() + min(seconds, getattr(queue, "patience", seconds))
    while True:
        collected += await queue.receive(limit, 1)
        if len(held(collected)) >= events or time.monotonic() >= deadline:
            return collected


def held(deliveries: Sequence[Delivery]) -> list[Event]:
    """The events of deliveries."""
    return [found for delivery in deliveries for found in messages.decode(delivery.body)[1]]


def ids(events: Sequence[Event]) -> list[str]:
    """What identifies events, sorted."""
    return sorted(each.event_id for each in events)


async def recovered(call: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """The answer, once there is one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except Unavailable:
            assert time.monotonic() < deadline, "it did not recover"
            await asyncio.sleep(0.1)


async def refused(call: Awaitable[Any]) -> None:
    """That a call ends in time, with Unavailable; what a busy machine takes from all that runs here is not the call's."""
    async with losing() as lost:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await call
        assert time.monotonic() - started - lost() < PROMISE
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
    """What was acknowledged does not come again, to anybody, neither before what comes next nor after a while."""
    queue, other, after = await bench.open(), await bench.open(), event("u1")
    await queue.publish("first", [event("u1")])
    await queue.acknowledge(await collect(queue, 1))
    again = time.monotonic() + 3.5  # what is not acknowledged comes again after a second or two
    await queue.close()
    await other.publish("first", [after])
    received = await collect(other, 1)
    await other.acknowledge(received)
    received += await collect(other, 1, again - time.monotonic())
    assert held(received) == [after]


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
            # While the poison is tried again and again, the good one has time to come.
            await asyncio.sleep(0.5 * attempts)
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
    await recovered(lambda: queue.publish("first", [before]))
    held_back = await recovered(lambda: collect(queue, 1))
    await recovered(lambda: queue.release(held_back))
    await asyncio.to_thread(getattr(bench.server, begin))
    try:
        calls = [queue.publish("first", [during]) for _ in range(3)]
        await asyncio.gather(*(refused(call) for call in [*calls, queue.ping(), queue.dead_letters(1)]))
        ahead: list[Delivery] = []
        with pytest.raises(Unavailable):
            await exhaust(queue, ahead)
    finally:
        await asyncio.to_thread(getattr(bench.server, end))
    with suppress(Unavailable):  # their connection is gone, and the broker knows it
        await queue.release(ahead)
    await recovered(lambda: queue.publish("first", [after]))
    stored: set[str] = set()
    deadline = time.monotonic() + 60
    while not {before.event_id, after.event_id} <= stored:
        assert time.monotonic() < deadline, stored
        received = await recovered(lambda: queue.receive(10, 1))
        stored.update(ids(held(received)))
        if received:
            await queue.acknowledge(received)


async def check_order(bench: Bench) -> None:
    """What one user did comes in its order, out of one partition."""
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


async def check_commits(bench: Bench) -> None:
    """An offset is committed up to the first delivery that is not acknowledged."""
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


# Every kind of queue. Most of a check is waiting, for a broker that shares partitions out, or that is away: so several are made
# at the same time, Kafka's each on a topic of its own, and outages each of another broker.


PLAIN: tuple[Check, ...] = (
    check_round_trip,
    check_split,
    check_publishers,
    check_acknowledged_is_gone,
    check_unacknowledged_comes_again,
    check_release,
    check_burial,
    check_replay_of_all,
    check_delivery_limit,
    check_sharing,
)


async def check_pause(bench: Bench) -> None:
    """A broker that stops, with its connections open."""
    await check_outage(bench, "pause", "resume")


async def check_kill(bench: Bench) -> None:
    """A broker that goes away, and comes back."""
    await check_outage(bench, "kill", "restart")


COMING_AGAIN = {check_acknowledged_is_gone, check_unacknowledged_comes_again, check_sharing, check_pause, check_kill}
"""Checks of what comes again soon, as nobody has acknowledged it. In all others nothing may, however slow the machine is."""


async def outcome(check: Check, bench: Bench) -> BaseException | None:
    """What a check failed with."""
    [found] = await asyncio.gather(check(bench), return_exceptions=True)
    await bench.close()
    return found


def outcomes(*made: tuple[Check, Bench]) -> Iterator[BaseException | None]:
    """What each of several checks failed with, which are made at the same time."""

    async def every() -> list[BaseException | None]:
        return await asyncio.gather(*(outcome(check, bench) for check, bench in made))

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(1) as executor:
        if not {check for check, _ in made} & {check_pause, check_kill}:  # its patience is the subject of outages alone
            for module in PATIENT:
                patched.setattr(module, "SECONDS", 60.0)
        yield from executor.submit(asyncio.run, every()).result()  # a loop of their own, beside the test's


Together = Callable[[str, Check], None]
PATIENT = (adapters, rabbitmqueue)


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], BaseException | None]:
    """What checks that were made at the same time failed with, by kind and check."""
    return {}


@pytest.fixture
def together(request: pytest.FixtureRequest, found: dict[tuple[str, str], BaseException | None]) -> Together:
    """Makes a check, unless that was done together with others; raises what it failed with."""

    def checked(kind: str, check: Check) -> None:
        if (kind, check.__name__) not in found:
            made: list[tuple[Check, Bench]] = []
            for name, each in group_of(kind, check):
                if (name, each.__name__) not in found:
                    with suppress(*([] if name == kind else [pytest.skip.Exception])):  # others may be there without it
                        made.append((each, bench_of(request, name, each)))
            for (each, bench), fault in zip(made, outcomes(*made), strict=True):
                found[bench.kind, each.__name__] = fault
        if fault := found[kind, check.__name__]:
            raise fault

    return checked


def group_of(kind: str, check: Check) -> list[tuple[str, Check]]:
    """What is checked together with that."""
    if check is check_pause:
        return [(name, check) for name in PAUSABLE]
    if check is check_kill:
        return [(name, check) for name in KILLABLE]
    if kind.startswith("kafka"):
        return [(kind, each) for each in (*PLAIN, check_order, check_commits)]
    if kind in SLOW and check not in {check_split, check_publishers}:  # these keep a broker busy
        return [(name, check) for name in SLOW]
    return [(kind, check)]


@every_kind
def test_what_was_published_comes_once(kind: str, together: Together) -> None:
    together(kind, check_round_trip)


@every_kind
@pytest.mark.slow
def test_a_large_batch_arrives_whole(kind: str, together: Together) -> None:
    together(kind, check_split)


@every_kind
@pytest.mark.slow
def test_fifty_publish_at_once(kind: str, together: Together) -> None:
    together(kind, check_publishers)


@every_kind
@pytest.mark.slow
def test_what_was_acknowledged_is_gone(kind: str, together: Together) -> None:
    together(kind, check_acknowledged_is_gone)


@every_kind
@pytest.mark.slow
def test_what_was_not_acknowledged_comes_again(kind: str, together: Together) -> None:
    together(kind, check_unacknowledged_comes_again)


@every_kind
def test_what_was_released_comes_again(kind: str, together: Together) -> None:
    together(kind, check_release)


@every_kind
@pytest.mark.slow
def test_dead_letters(kind: str, together: Together) -> None:
    together(kind, check_burial)


@every_kind
@pytest.mark.slow
def test_all_dead_letters_at_once(kind: str, together: Together) -> None:
    together(kind, check_replay_of_all)


@every_kind
@pytest.mark.slow
def test_what_is_never_acknowledged_is_buried(kind: str, together: Together) -> None:
    together(kind, check_delivery_limit)


@every_kind
@pytest.mark.slow
def test_two_workers_share(kind: str, together: Together) -> None:
    together(kind, check_sharing)


@pytest.mark.parametrize("kind", PAUSABLE)
@pytest.mark.slow
def test_a_paused_broker(kind: str, together: Together) -> None:
    together(kind, check_pause)


@pytest.mark.parametrize("kind", KILLABLE)
@pytest.mark.slow
def test_a_broker_that_went_away(kind: str, together: Together) -> None:
    together(kind, check_kill)


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


@pytest.mark.slow
async def test_a_broker_that_never_was_there(nowhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    async def check(kind: str) -> str:
        queue = await eventqueue.connect(NOWHERE[kind].format(port=nowhere))
        try:
            calls = [queue.publish("first", [event()]), queue.receive(1, 0.2), queue.ping(), queue.drop()]
            await asyncio.gather(*map(refused, calls))
        finally:
            await queue.close()
        return kind

    answered = await asyncio.gather(*map(check, NOWHERE), return_exceptions=True)

    assert answered == list(NOWHERE)


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


@pytest.mark.parametrize("kind", ["kafka_tansu", "kafka_simulated"])
@pytest.mark.slow
def test_one_users_events_stay_in_order(kind: str, together: Together) -> None:
    together(kind, check_order)


@pytest.mark.parametrize("kind", ["kafka_tansu", "kafka_simulated"])
@pytest.mark.slow
def test_an_offset_is_not_committed_past_an_unacknowledged_delivery(kind: str, together: Together) -> None:
    together(kind, check_commits)


@pytest.mark.parametrize("bench", ["redis"], indirect=True)
@pytest.mark.slow
async def test_a_missing_replica_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "SECONDS", 60.0)
    bench.url += "&replicas=1"
    with pytest.raises(Unavailable, match="replicas"):
        await (await bench.open()).publish("first", [event()])


@pytest.mark.parametrize("bench", ["redis"], indirect=True)
async def test_an_entry_that_somebody_else_wrote_can_be_buried(bench: Bench) -> None:
    queue = await bench.open()
    async with Redis.from_url(bench.server.url) as client:
        await client.xadd(bench.url.partition("queue=")[2].partition("&")[0], {"what": "ever"})
    async with asyncio.timeout(60):
        while not (received := await queue.receive(10, 1)):
            pass
    [foreign] = received
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
        (PublishesIntoTheDark, check_pause),
        (PublishesTheFirstMessage, check_split),
    ],
)
@pytest.mark.slow
async def test_a_broken_queue_is_caught(bench: Bench, broken: Any, check: Check) -> None:
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
