"""Parts that are away when a test says so, and a queue in memory: what a real part cannot be made to do at a given moment."""

import asyncio
from collections.abc import Sequence
from typing import Any

from upshot.errors import Unavailable
from upshot.eventqueue import Delivery, messages
from upshot.events import Event

AWAY = Unavailable("It is away.", retry_after=1)


def event(name: str, user: str = "user") -> Event:
    """An event that is told apart by its id."""
    return Event(name, user, "buy", 1_767_225_600_000_000, 1_767_225_600_000_001, 9.5, "{}", None, 0, 7)


def delivery(receipt: int, *events: str) -> Delivery:
    """A message of the client "first", as a broker hands it out."""
    return Delivery(receipt, messages.encode("first", [event(name) for name in events]))


class Outage:
    """A real store that can be away: then everything raises Unavailable. Who opened the store closes it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise AWAY
        return getattr(self._store, name)

    async def ping(self) -> str:
        """The state of the store."""
        if self.away:
            raise AWAY
        state: str = await self._store.ping()
        return state

    async def close(self) -> None:
        """Leave it open."""


class StubQueue:
    """A queue that hands out what it was given, once, and notes by receipt what became of it."""

    def __init__(self, *waiting: Delivery) -> None:
        self.waiting = list(waiting)
        self.away = False
        self.published: list[tuple[str, str]] = []  # client and event id
        self.acknowledged: list[int] = []
        self.released: list[int] = []
        self.buried: dict[int, str] = {}

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Take events."""
        self._check()
        self.published += [(client, each.event_id) for each in events]

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:  # noqa: ARG002 - of the contract
        """What waits, or nothing."""
        self._check()
        await asyncio.sleep(0.01)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Note it."""
        self._check()
        self.acknowledged += [each.receipt for each in deliveries]

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Note it."""
        self._check()
        self.released += [each.receipt for each in deliveries]

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Note it; twice is a fault."""
        self._check()
        assert delivery.receipt not in self.buried
        self.buried[delivery.receipt] = reason

    async def ping(self) -> str:
        """It is there, or not."""
        self._check()
        return "ok"

    async def close(self) -> None:
        """Nothing to let go of."""

    def _check(self) -> None:
        if self.away:
            raise AWAY


def stub_queue(*waiting: Delivery) -> Any:
    """A StubQueue, typed for who asks for a whole queue."""
    return StubQueue(*waiting)
