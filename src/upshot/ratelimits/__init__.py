"""Token buckets: who takes more than there is waits until they fill again. Every key begins with the client.

This page is the contract; a limiter is picked by the URL's scheme:

    memory://                   the buckets of this process
    redis://host:6379/0         one set of buckets for all processes; rediss:// for TLS

A bucket is full at first and is kept as one number, the moment at which it will be full again (the generic cell rate algorithm,
ITU-T I.371). A take of more than a bucket holds is not refused for ever: it is let through by a full bucket, which then owes the
rest. So a batch may be larger than the burst and is paid for: over time nobody gets more than burst + rate × time + one batch.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from upshot.errors import ConfigurationError
from upshot.ratelimits.quotas import Quota, quota_of

__all__ = ["Limiter", "Quota", "Verdict", "connect", "quota_of"]

_BACKENDS = {
    "memory": "upshot.ratelimits.inprocess",
    "redis": "upshot.ratelimits.redisbuckets",
    "rediss": "upshot.ratelimits.redisbuckets",
}


class Verdict(NamedTuple):
    """What became of a take.

    Attributes:
        allowed: the tokens were taken.
        remaining: whole tokens that are left, 0 or more.
        reset: seconds until the bucket is full, if nobody takes any more.
        retry_after: seconds until the same take would be let through; 0 when it was.
    """

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class Limiter(Protocol):
    """Buckets by key; one key always comes with one quota."""

    async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
        """Take `weight` tokens (1 or more) from a bucket, or none of them. What is refused costs nothing.

        Raises:
            Unavailable: the quota is `closed`, and its buckets cannot be asked now.
        """
        ...

    def take_at_once(self, key: str, quota: Quota, weight: int = 1) -> Verdict | None:
        """The same where it takes no waiting; None, and nothing taken, where it does."""
        ...

    async def close(self) -> None:
        """Let go of the buckets."""
        ...


def connect(url: str) -> Limiter:
    """The limiter at a URL. A server need not be there yet.

    Raises:
        ConfigurationError: no backend serves the URL's scheme, its driver is not installed, or the URL cannot be used.
    """
    scheme = url.partition(":")[0]
    if scheme not in _BACKENDS:
        raise ConfigurationError(f"UPSHOT_LIMITS_URL: no limiter has this scheme; there is: {', '.join(_BACKENDS)}")
    try:
        open_limiter: Callable[[str], Any] = importlib.import_module(_BACKENDS[scheme]).open_limiter
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"UPSHOT_LIMITS_URL: {scheme}:// needs: pip install 'upshot[redis]'") from error
    limiter: Limiter = open_limiter(url)
    return limiter
