"""The queue between `POST /events` and the event store, for those who want one.

This page is the contract. A queue is picked by the URL's scheme and loaded when it is used:

    queue = await connect("amqp://guest:guest@broker:5672/?queue=upshot-events")

Delivery is at least once: `publish` returns after the broker's acknowledgement, a delivery is acknowledged after the event store
holds its events, and an event is identified by (client, event id), so that what comes twice counts once. What can never be
stored goes to the dead letters with a reason, from where it can be shown, replayed and dropped.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from upshot.errors import ConfigurationError
from upshot.events import Event

_BACKENDS = {
    "amqp": "upshot.eventqueue.rabbitmq",
    "amqps": "upshot.eventqueue.rabbitmq",
    "redis": "upshot.eventqueue.redisstreams",
    "rediss": "upshot.eventqueue.redisstreams",
    "kafka": "upshot.eventqueue.kafka",
    "sqs": "upshot.eventqueue.sqs",
}
EXTRAS = {"rabbitmq": "rabbitmq", "redisstreams": "redis", "kafka": "kafka", "sqs": "sqs"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was handed out. `receipt` is the backend's own handle; `attempts` counts from 1 where it is known."""

    receipt: Any
    body: bytes
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be stored: its place among the dead letters, why and when it came there, and the message."""

    id: str
    reason: str
    buried_at: str
    body: bytes


class EventQueue(Protocol):
    """One queue. `publish` may be called by many tasks at once; the receiving side belongs to one task."""

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Hand events to the broker; durable there on return, on all its replicas.

        Raises:
            Unavailable: the broker did not acknowledge within 5 seconds. The events may or may not be in the queue.
        """
        ...

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:
        """Up to `limit` messages, as soon as there are any, waiting at most so long for the first one.

        Raises:
            Unavailable: the broker cannot be reached.
        """
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Their events are stored; the broker forgets them. Raises Unavailable when it cannot be told: they come again."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """They are not stored; the broker hands them out again, to whomever, and counts an attempt. Raises Unavailable."""
        ...

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Put it to the dead letters, durably, and only then let the broker forget it. Raises Unavailable."""
        ...

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The dead letters, oldest first; looking changes nothing."""
        ...

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Put dead letters back into the queue and only then drop them; all of them by default. Returns how many."""
        ...

    async def drop(self, ids: Sequence[str] | None = None) -> int:
        """Delete dead letters for ever; all of them by default. Returns how many."""
        ...

    async def ping(self) -> str:
        """The state of the broker in a word or two, with what waits; raises Unavailable when it does not answer."""
        ...

    async def close(self) -> None:
        """Let go of the broker; what was received and not acknowledged will be delivered again."""
        ...


async def connect(url: str) -> EventQueue:
    """The queue at a URL. The broker need not be there yet: it is connected to when it is used, again and again.

    Raises:
        ConfigurationError: no backend serves the URL's scheme, its driver is not installed, or the URL cannot be used.
    """
    scheme = url.partition(":")[0]
    if scheme not in _BACKENDS:
        raise ConfigurationError(f"QUEUE_URL: no queue for {scheme}://; there is: {', '.join(_BACKENDS)}")
    name = _BACKENDS[scheme]
    try:
        open_queue: Callable[[str], Any] = importlib.import_module(name).open_queue
    except ModuleNotFoundError as error:
        extra = EXTRAS[name.rpartition(".")[2]]
        raise ConfigurationError(f"QUEUE_URL: {scheme}:// needs: pip install 'upshot[{extra}]'") from error
    queue: EventQueue = await open_queue(url)
    return queue
