"""The cache: a copy, never the truth. Every key begins with the client.

This page is the contract; a cache is picked by the URL's scheme (`memory://` is the one in this process).
"""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from upshot.errors import ConfigurationError

_BACKENDS = {"memory": "upshot.cache.inprocess"}


class Cache(Protocol):
    """Something that may remember a value under (client, kind, key)."""

    async def get(self, client: str, kind: str, key: Any) -> Any | None:
        """What was put there, or None."""
        ...

    async def put(self, client: str, kind: str, key: Any, value: Any) -> None:
        """Remember a value; it may be forgotten at any time."""
        ...

    async def forget(self, client: str, kind: str, key: Any) -> None:
        """Forget a value."""
        ...


def connect(url: str) -> Cache:
    """The cache at a URL.

    Raises:
        ConfigurationError: no backend serves the URL's scheme.
    """
    scheme = url.partition(":")[0]
    if scheme not in _BACKENDS:
        raise ConfigurationError(f"CACHE_URL: no cache for {scheme}://; there is: {', '.join(_BACKENDS)}")
    open_cache: Callable[[str], Cache] = importlib.import_module(_BACKENDS[scheme]).open_cache
    return open_cache(url)
