"""A cache in this process: the values least recently used make room for new ones."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from upshot.cache import Key, Kind

ENTRIES = 100_000

Value = TypeVar("Value")


class InProcessCache:
    """At most `entries` values.

    Args:
        entries: how many are remembered.
        now: a monotonic clock in seconds; no step of the wall clock makes a copy old or young.
    """

    def __init__(self, entries: int = ENTRIES, now: Callable[[], float] = time.monotonic) -> None:
        self._entries = entries
        self._now = now
        self._values: OrderedDict[tuple[str, str, Key], tuple[Any, float]] = OrderedDict()  # with when it was true

    def remembered(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What was put there, however old."""
        found = self._values.get((client, kind.name, key))
        if found is None:
            return None
        self._values.move_to_end((client, kind.name, key))
        value: Value = found[0]
        return value

    def fresh(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What was put there and is still taken for good."""
        found = self._values.get((client, kind.name, key))
        if found is None or (kind.fresh is not None and self._now() - found[1] >= kind.fresh):
            return None
        self._values.move_to_end((client, kind.name, key))
        value: Value = found[0]
        return value

    async def get(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """The same, without waiting for anything."""
        return self.fresh(client, kind, key)

    def put(self, client: str, kind: Kind[Value], key: Key, value: Value, age: float = 0.0) -> Value:
        """Remember a value, unless a newer one is there."""
        place = client, kind.name, key
        held = self._values.get(place)
        if held is not None and kind.newer(held[0], value) is not value:
            kept: Value = held[0]
            return kept
        self._values[place] = value, self._now() - age
        self._values.move_to_end(place)
        if len(self._values) > self._entries:
            self._values.popitem(last=False)
        return value

    def forget(self, client: str, kind: Kind[Any], key: Key) -> None:
        """Forget a value."""
        self._values.pop((client, kind.name, key), None)

    async def ping(self) -> str:
        """It is there."""
        return "ok"

    async def close(self) -> None:
        """Nothing to let go of."""


def open_cache(_url: str) -> InProcessCache:
    """The cache of `memory://`."""
    return InProcessCache()
