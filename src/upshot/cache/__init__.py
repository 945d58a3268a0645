"""The cache: a copy, never the truth. Every key begins with the client.

This page is the contract; a cache is picked by the URL's scheme:

    memory://                                               what this process remembers
    redis://host:6379/0                                     that, and behind it a server that all processes share
    redis+sentinel://host1:26379,host2:26379/service        the same, on the primary that Sentinels name
    redis+cluster://host1:6379,host2:6379                   the same, on a Cluster

`rediss` instead of `redis` is TLS. Whatever happens to a server, a copy is missing at most: nothing here raises.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from upshot.cache.codec import Codec
from upshot.errors import ConfigurationError

__all__ = ["Cache", "Codec", "Key", "Kind", "connect"]

_TIERS = "upshot.cache.tiers"
_BACKENDS = {"memory": "upshot.cache.inprocess"} | {
    f"{scheme}{kind}": _TIERS for kind in ("", "+sentinel", "+cluster") for scheme in ("redis", "rediss")
}

Value = TypeVar("Value")
Key: TypeAlias = tuple[str | int, ...]
"""Whose it is, a user or an experiment, and what else tells it apart within its kind."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Value]):
    """What is remembered of one sort of thing.

    Attributes:
        name: the kind in keys; a word.
        codec: how values cross to a server and back.
        seconds: how long a server keeps a copy, ± 10 %, so that what was written together does not end together.
        newer: of the copy that is held and one that was found, the one to keep.
        fresh: how many seconds a process takes its own copy for good; None as long as it has it.
    """

    name: str
    codec: Codec[Value]
    seconds: float
    newer: Callable[[Value, Value], Value]
    fresh: float | None = None


class Cache(Protocol):
    """Something that may remember a value under (client, kind, key)."""

    def remembered(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What this process put there last, or found there, however old."""
        ...

    def fresh(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What this process has and still takes for good."""
        ...

    async def get(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """A fresh copy: of this process, else of the server within 50 ms; or None."""
        ...

    def put(self, client: str, kind: Kind[Value], key: Key, value: Value, age: float = 0.0) -> Value:
        """Remember a value that was true `age` seconds ago; a server is told later, and nobody waits for it.

        Returns what is remembered: the value, or a newer one that was there.
        """
        ...

    def forget(self, client: str, kind: Kind[Any], key: Key) -> None:
        """Forget a value; a server is told later."""
        ...

    async def ping(self) -> str:
        """The state in a word: "ok", or "away" while there is a server and it does not answer."""
        ...

    async def close(self) -> None:
        """Tell the server what it has not been told, if it answers, and let go of it."""
        ...


def connect(url: str) -> Cache:
    """The cache at a URL. A server need not be there yet.

    Raises:
        ConfigurationError: no backend serves the URL's scheme, its driver is not installed, or the URL cannot be used.
    """
    scheme = url.partition(":")[0]
    if scheme not in _BACKENDS:
        raise ConfigurationError(f"CACHE_URL: no cache has this scheme; there is: {', '.join(_BACKENDS)}")
    try:
        open_cache: Callable[[str], Any] = importlib.import_module(_BACKENDS[scheme]).open_cache
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"CACHE_URL: {scheme}:// needs: pip install 'upshot[redis]'") from error
    cache: Cache = open_cache(url)
    return cache
