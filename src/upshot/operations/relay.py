"""Hand exposures from the control store's outbox to the event store.

Every exposure has an identity of its own, so that a crash between the append and the deletion repeats work and doubles
nothing; and an entry leaves the outbox only after its exposures are durable, so that a crash loses nothing.
"""

import asyncio
from contextlib import suppress

from upshot.control import ControlStore
from upshot.eventstore import EventStore

ENTRIES = 500


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
                relayed += await self._events.expose([exposure for _, entry in waiting for exposure in entry])
                await self._control.relayed([entry for entry, _ in waiting])
                if len(waiting) < ENTRIES:
                    break  # what has come since can gather: under constant load there would be no end
        return relayed
