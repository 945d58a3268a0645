"""What becomes of messages: stored and acknowledged, buried with the reason, or left alone while the event store is away."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.operations.stubs import AWAY, Outage, delivery, stub_queue

from upshot import worker
from upshot.cli import working
from upshot.errors import ConfigurationError, TimedOut
from upshot.eventqueue import Delivery
from upshot.events import Event
from upshot.operations import Stores, deliveries
from upshot.operations.deliveries import Stored
from upshot.settings import Settings

POISON = {
    "no text": b"\xff\xfe",
    "nothing": b"",
    "another shape": b'{"client":"first"}',
    "a version to come": b'[2,"first",[]]',
    "no client": b'[1,"",[["e","u","buy",1,1,null,"{}",null,0,1]]]',
    "no events": b'[1,"first",[]]',
    "deep": b"[" * 100_000,
}


async def stored(stores: Stores) -> int:
    """How many events the store holds."""
    return sum(found.events for found in await stores.events.event_types("first"))


def refusing(monkeypatch: pytest.MonkeyPatch, stores: Stores, choose: Callable[[str], Exception | None]) -> None:
    """Have the event store refuse a batch when `choose` has an error for one of its events."""
    append = stores.events.append

    async def choosy(client: str, events: list[Event]) -> Any:
        for error in filter(None, (choose(event.event_id) for event in events)):
            raise error
        return await append(client, events)

    monkeypatch.setattr(stores.events, "append", choosy)


@pytest.mark.parametrize("body", POISON.values(), ids=POISON.keys())
async def test_poison_is_buried_with_the_reason_and_the_rest_is_stored(stores: Stores, body: bytes) -> None:
    """It holds up nobody."""
    queue = stub_queue()

    found = await deliveries.store(stores, queue, [delivery(1, "a"), Delivery(2, body), delivery(3, "b", "a")])

    assert found == Stored(accepted=2, duplicates=1, buried=1)
    assert (queue.acknowledged, list(queue.buried)) == ([1, 3], [2])
    assert queue.buried[2].startswith("unreadable: ")
    assert await stored(stores) == 2


async def test_nothing_but_poison(stores: Stores) -> None:
    """All of it is buried, and nothing acknowledged."""
    queue = stub_queue()

    found = await deliveries.store(stores, queue, [Delivery(n, body) for n, body in enumerate(POISON.values())])

    assert (found, queue.acknowledged, len(queue.buried)) == (Stored(buried=len(POISON)), [], len(POISON))


async def test_a_refusal_of_one_message_buries_only_that_one(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is tried message by message; the reason names the error and none of the message's content."""
    queue = stub_queue()
    refusing(monkeypatch, stores, lambda name: ValueError("secret") if name == "bad" else None)

    found = await deliveries.store(stores, queue, [delivery(1, "a"), delivery(2, "b", "bad"), delivery(3, "c")])

    assert found == Stored(accepted=2, buried=1)
    assert queue.buried == {2: "refused by the event store: ValueError"}
    assert queue.acknowledged == [1, 3]
    assert await stored(stores) == 2


@pytest.mark.parametrize("error", [AWAY, TimedOut("It took too long."), ConfigurationError("It refuses us.")])
@pytest.mark.parametrize("refused", ["none", "bad"])
async def test_a_store_that_is_away_leaves_everything_to_be_given_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, error: Exception, refused: str
) -> None:
    """Nothing is acknowledged or buried, not even poison, also when it goes away among messages that are tried alone."""
    queue = stub_queue()
    given = [Delivery(1, b""), delivery(2, "a"), delivery(3, refused), delivery(4, "last")]
    errors: dict[str, Exception] = {"last": error, "bad": ValueError()}
    with monkeypatch.context() as away:
        refusing(away, stores, errors.get)
        with pytest.raises(type(error)):
            await deliveries.store(stores, queue, given)

    assert (queue.acknowledged, queue.buried, queue.released) == ([], {}, [])
    found = await deliveries.store(stores, queue, given)
    assert (found.accepted + found.duplicates, queue.acknowledged, list(queue.buried)) == (3, [2, 3, 4], [1])
    assert await stored(stores) == 3


async def test_a_broker_that_is_away_is_not_insisted_upon(stores: Stores) -> None:
    """What was stored and not acknowledged comes again, and counts once."""
    queue = stub_queue()
    given = [delivery(1, "a"), Delivery(2, b"")]
    queue.away = True
    first = await deliveries.store(stores, queue, given)
    queue.away = False

    again = await deliveries.store(stores, queue, given)

    assert (first, again) == (Stored(accepted=1), Stored(duplicates=1, buried=1))
    assert (queue.acknowledged, list(queue.buried), await stored(stores)) == ([1], [2], 1)


# The loop of a worker


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what it waits for wakes nobody
            await asyncio.sleep(0.01)


async def ended(consuming: asyncio.Task[Stored], stopping: asyncio.Event) -> Stored:
    """What a worker that is told to stop has stored; no pause keeps it from that."""
    stopping.set()
    async with asyncio.timeout(60):
        return await consuming


class Pauses:
    """The pauses of a worker: as they are, until one of them is to last for hours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._honest, self._endless, self._begun = worker._sleep, False, False
        monkeypatch.setattr(worker, "_sleep", self._sleep)

    async def endless(self) -> None:
        """Wait until the worker is in a pause that lasts for hours."""
        self._endless = True
        await eventually(lambda: self._begun)

    async def _sleep(self, seconds: float, stopping: asyncio.Event) -> None:
        self._begun = self._endless
        await self._honest(36_000 if self._endless else seconds, stopping)


async def test_a_worker_stores_everything_and_stops_in_order(stores: Stores) -> None:
    """More than one receipt's worth."""
    queue, stopping = stub_queue(*(delivery(n, f"event-{n}") for n in range(450))), asyncio.Event()
    consuming = asyncio.create_task(worker.consume(stores, queue, stopping))

    await eventually(lambda: len(queue.acknowledged) == 450)

    assert await ended(consuming, stopping) == Stored(accepted=450)
    assert await stored(stores) == 450
    assert queue.released == []


async def test_a_worker_tries_again_until_the_store_is_back(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same messages, with pauses in between; poison is buried once."""
    queue, stopping = stub_queue(delivery(1, "a"), Delivery(2, b""), delivery(3, "b")), asyncio.Event()
    failures = [AWAY, TimedOut("It took too long."), AWAY]
    refusing(monkeypatch, stores, lambda _: failures.pop() if failures else None)
    consuming = asyncio.create_task(worker.consume(stores, queue, stopping))

    await eventually(lambda: len(queue.buried) == 1)

    assert await ended(consuming, stopping) == Stored(accepted=2, buried=1)
    assert (queue.acknowledged, queue.released, await stored(stores)) == ([1, 3], [], 2)


async def test_a_worker_does_not_hammer_a_store_that_is_away(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses grow; what it could not store when it is told to stop goes back to the broker, at once."""
    queue, stopping = stub_queue(delivery(1, "a"), Delivery(2, b"")), asyncio.Event()
    asked: list[str] = []

    def choose(name: str) -> Exception:
        asked.append(name)
        return AWAY

    pauses = Pauses(monkeypatch)
    refusing(monkeypatch, stores, choose)
    consuming = asyncio.create_task(worker.consume(stores, queue, stopping))
    await asyncio.sleep(1)
    most = len(asked)
    await eventually(lambda: len(asked) >= 2)
    await pauses.endless()

    assert await ended(consuming, stopping) == Stored()
    assert most <= 60
    assert (queue.released, queue.acknowledged, queue.buried) == ([1, 2], [], {})


async def test_a_worker_stops_while_the_broker_is_away(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a broker, goes on when it is back, and does not insist on giving back what it holds."""
    pauses = Pauses(monkeypatch)
    queue, stopping, events = stub_queue(delivery(1, "a")), asyncio.Event(), Outage(stores.events)
    queue.away = True
    away: Any = events
    broken = Stores(stores.control, away, stores.cache, stores.clock)
    consuming = asyncio.create_task(worker.consume(broken, queue, stopping))
    await asyncio.sleep(0.1)
    queue.away, events.away = False, True
    await eventually(lambda: not queue.waiting)
    queue.away = True
    await pauses.endless()

    assert await ended(consuming, stopping) == Stored()
    assert queue.released == []


async def test_a_worker_that_cannot_go_on_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error, so that whoever started it sees it: it would look alive and store nothing."""

    async def refused(*_: object) -> Stored:
        raise ConfigurationError("the database refuses us")

    monkeypatch.setattr(worker, "consume", refused)
    settings = Settings(data_dir=tmp_path).model_copy(update={"queue_url": "redis://127.0.0.1:1"})

    with pytest.raises(ConfigurationError, match="refuses us"):
        async with asyncio.timeout(60):
            await working.run(settings)
