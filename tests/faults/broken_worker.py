"""Negative controls: `upshot worker` with a fault put in on purpose, named by the environment's BREAK.

`early`: a delivery is acknowledged a quarter of a second before its events are appended.
`anew`: events get a new id whenever they are delivered, so that nothing tells what is stored already.
"""

import asyncio
import os
from collections.abc import Sequence

from upshot.cli import main
from upshot.clock import SystemClock
from upshot.eventqueue import Delivery, EventQueue, messages
from upshot.events import Event
from upshot.operations import Stores, deliveries
from upshot.operations.deliveries import Stored

DELAY = 0.25

_soundly = deliveries.store


async def _early(stores: Stores, queue: EventQueue, deliveries: Sequence[Delivery]) -> Stored:
    await queue.acknowledge(deliveries)
    await asyncio.sleep(DELAY)
    return await _soundly(stores, queue, deliveries)


def _anew(body: bytes) -> tuple[str, list[Event]]:
    client, events = messages.decode(body)
    return client, [event._replace(event_id=SystemClock().new_id()) for event in events]


if __name__ == "__main__":
    if os.environ["BREAK"] == "early":
        deliveries.store = _early
    else:
        deliveries.decode = _anew  # type: ignore[attr-defined]  # where it is used
    main()
