"""Hand exposures, links and withdrawals from the control store's outbox to the event store.

Every exposure has an identity of its own, and a link or withdrawal is the same the second time, so that a crash between the
append and the deletion repeats work and doubles nothing; and an entry leaves the outbox only after all of it is durable, so that
a crash loses nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from upshot.control import ControlStore, OutboxEntry
from upshot.eventstore import EventStore

ENTRIES = 500

Item = TypeVar("Item")


class Relay:
    """The relay of one process."""

    def __init__(self, control: ControlStore, events: EventStore) -> None:
        self._control = control
        self._events = events
        self._one_at_a_time = asyncio.Lock()
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """There is something to relay."""
        self._wanted.set()

    async def wait(self, seconds: float) -> None:
        """Wait until there is something to relay, or for so long."""
        with suppress(TimeoutError):
            # `asyncio.wait_for` of Python 3.11 swallows a cancellation that comes just after the event.
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def run(self) -> int:
        """Relay everything that waits now; returns how many exposures were new."""
        relayed = 0
        async with self._one_at_a_time:
            self._wanted.clear()
            while waiting := await self._control.outbox(ENTRIES):
                relayed += await self._append([entry for _, entry in waiting])
                await self._control.relayed([entry for entry, _ in waiting])
                if len(waiting) < ENTRIES:
                    break  # what has come since can gather: under constant load there would be no end
        return relayed

    async def _append(self, entries: Sequence[OutboxEntry]) -> int:
        new = await self._events.expose([exposure for entry in entries for exposure in entry.exposures])
        for client, links in _by_client(entry.links for entry in entries).items():
            await self._events.link(client, links)
        for client, withdrawals in _by_client(entry.withdrawals for entry in entries).items():
            await self._events.withdraw(client, withdrawals)
        return new


def _by_client(parts: Iterable[Mapping[str, Sequence[Item]]]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for part in parts:
        for client, items in part.items():
            found.setdefault(client, []).extend(items)
    return found
