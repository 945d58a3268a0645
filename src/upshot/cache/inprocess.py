"""A cache in this process: the values least recently used make room for new ones."""

from collections import OrderedDict
from typing import Any

ENTRIES = 100_000


class InProcessCache:
    """At most `entries` values."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._values: OrderedDict[tuple[str, str, Any], Any] = OrderedDict()

    async def get(self, client: str, kind: str, key: Any) -> Any | None:
        """What was put there, or None."""
        value = self._values.get((client, kind, key))
        if value is not None:
            self._values.move_to_end((client, kind, key))
        return value

    async def put(self, client: str, kind: str, key: Any, value: Any) -> None:
        """Remember a value."""
        self._values[client, kind, key] = value
        self._values.move_to_end((client, kind, key))
        if len(self._values) > self._entries:
            self._values.popitem(last=False)

    async def forget(self, client: str, kind: str, key: Any) -> None:
        """Forget a value."""
        self._values.pop((client, kind, key), None)


def open_cache(_url: str) -> InProcessCache:
    """The cache of `memory://`."""
    return InProcessCache()
