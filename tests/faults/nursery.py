"""Starts workers at once: everything is imported before they are forked, so that tests kill them at work, not at their start.

Each line of the input is `start <log> [<fault>]`, answered with a pid, or `wait <pid>`, answered with the exit code. A fault is a
negative control; it is named in the log whenever it is committed, so that nobody is killed before:

`early`: a delivery is acknowledged a second before its events are appended.
`anew`: events get a new id whenever they are delivered, so that nothing tells what is stored already.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from upshot.cli import main, working
from upshot.clock import SystemClock
from upshot.control import store as _control
from upshot.eventqueue import Delivery, EventQueue, messages, rabbitmq, redisstreams
from upshot.events import Event
from upshot.eventstore import relational
from upshot.operations import Stores, deliveries
from upshot.operations.deliveries import Stored

DELAY = 1.0
PRELOADED = (_control, rabbitmq, redisstreams, relational, working)

_soundly = deliveries.store


async def _early(stores: Stores, queue: EventQueue, deliveries: Sequence[Delivery]) -> Stored:
    await queue.acknowledge(deliveries)
    _say("early")
    await asyncio.sleep(DELAY)
    return await _soundly(stores, queue, deliveries)


def _anew(body: bytes) -> tuple[str, list[Event]]:
    _say("anew")
    client, events = messages.decode(body)
    return client, [event._replace(event_id=SystemClock().new_id()) for event in events]


def _say(fault: str) -> None:
    sys.stdout.write(f"{fault}\n")
    sys.stdout.flush()


def _work(log: str, fault: str) -> None:
    """Be `upshot worker`, which prints into a file."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(file, number)
    if fault == "early":
        deliveries.store = _early
    elif fault == "anew":
        deliveries.decode = _anew  # type: ignore[attr-defined]  # where it is used
    sys.argv[:] = ["upshot", "worker"]
    main()


def _forked(log: str, fault: str = "") -> int:
    pid = os.fork()
    if not pid:
        _work(log, fault)
        os._exit(0)
    return pid


if __name__ == "__main__":
    for line in sys.stdin:
        order, *words = line.split()
        answer = _forked(*words) if order == "start" else os.waitstatus_to_exitcode(os.waitpid(int(words[0]), 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
