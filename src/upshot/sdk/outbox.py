"""What waits to be sent: exposures and events, bounded. The oldest are kept; what comes when it is full is dropped, counted."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from upshot.errors import TooLarge, Unavailable
from upshot.sdk.reports import Reports

BATCH = 500
BATCH_BYTES = 512 * 1024
"""Fits into what proxies usually let pass."""
_SUBJECT = "queue"


class Kind(StrEnum):
    """What is sent, by the name of its list in the request's body; the path is the same word."""

    EXPOSURES = "exposures"
    EVENTS = "events"


class Item(NamedTuple):
    """One exposure or event as JSON; of an exposure, the experiment and the user."""

    content: bytes
    shown: tuple[str, str] | None = None


class Outbox:
    """Exposures and events in the order in which they came, each in a line of its own; `limit` of both together.

    Any thread may put; the one that sends takes, and settles what it took.
    """

    def __init__(self, limit: int, reports: Reports) -> None:
        self._limit = limit
        self._reports = reports
        self._lines: dict[Kind, deque[Item]] = {kind: deque() for kind in Kind}
        self._lock = threading.RLock()  # a signal handler may track while this thread is putting
        self._taken = 0
        self._closed = False
        self.dropped = 0
        """How many were not taken in because it was full, or closed."""

    def __len__(self) -> int:
        return sum(map(len, self._lines.values())) + self._taken

    def put(self, kind: Kind, item: Item) -> bool | None:
        """Add an item. True: the sender should look now; False: it will in time; None: dropped."""
        with self._lock:
            line = self._lines[kind]
            if self._closed or len(self) >= self._limit:
                self.dropped += 1
            else:
                line.append(item)
                return len(line) in {1, BATCH}
        error = (
            Unavailable("The client is closed.") if self._closed else TooLarge("The queue is full; events are dropped.")
        )
        self._reports.tell(_SUBJECT, error, "closed" if self._closed else "queue_full")
        return None

    def waiting(self, kind: Kind) -> int:
        """How many of a kind wait."""
        return len(self._lines[kind])

    def take(self, kind: Kind) -> list[Item]:
        """The oldest of a kind, at most 500 and half a mebibyte, but one at least; they go on to count until they are settled."""
        line = self._lines[kind]
        taken: list[Item] = []
        size = 0
        with self._lock:
            while line and len(taken) < BATCH and (not taken or size + len(line[0].content) < BATCH_BYTES):
                taken.append(line.popleft())
                size += len(taken[-1].content)
            self._taken += len(taken)
        return taken

    def settle(self, count: int) -> None:
        """So many of what was taken are done with, one way or another."""
        with self._lock:
            self._taken = max(0, self._taken - count)  # nothing counts any more after the end
            if len(self) <= self._limit // 2:
                self._reports.well(_SUBJECT)

    def close(self) -> int:
        """Take nothing in any more, and let go of what waits; how many that were."""
        with self._lock:
            self._closed = True
            left = len(self)
            for line in self._lines.values():
                line.clear()
            self._taken = 0
        return left

    def abandon(self) -> None:
        """In a process that was forked: what waits is the parent's, and its threads are not here."""
        self._lock = threading.RLock()
        self._lines = {kind: deque() for kind in Kind}
        self._taken = 0
        self.dropped = 0


def encoded(parts: Mapping[str, Any]) -> bytes:
    """The parts as JSON; what JSON does not have as the text or number that it means.

    Raises:
        ValueError: there is a number that is not finite, or half of a surrogate pair.
        RecursionError: it nests too deep.
    """
    return _encode(parts).encode()


def _plain(value: object) -> str | float:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


_encode = json.JSONEncoder(default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
