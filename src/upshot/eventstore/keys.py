"""Integer keys for strings: the 64-bit key of a user, the 128-bit identity of an event or exposure.

BLAKE2b, keyed by what the string belongs to, so that equal ids of two clients have nothing in common. 128 bits make a
collision among 10^12 events less likely than 10^-14: what has the same identity is the same event.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


class Keys:
    """The keys of one client's users, events and exposures."""

    def __init__(self, client: str) -> None:
        name = client.encode()
        head = len(name).to_bytes(4, "big") + name
        self._user = blake2b(head, digest_size=8, person=b"user")
        self._event = blake2b(head, digest_size=16, person=b"event")
        self._exposure = blake2b(head, digest_size=16, person=b"exposure")

    def user(self, user_id: str) -> bytes:
        """8 bytes."""
        digest = self._user.copy()
        digest.update(user_id.encode())
        return digest.digest()

    def event(self, event_id: str) -> bytes:
        """16 bytes."""
        digest = self._event.copy()
        digest.update(event_id.encode())
        return digest.digest()

    def exposure(self, experiment: int, user_id: str) -> bytes:
        """16 bytes."""
        digest = self._exposure.copy()
        digest.update(experiment.to_bytes(8, "big") + user_id.encode())
        return digest.digest()


def integers(keys: Iterable[bytes]) -> NDArray[np.int64]:
    """The keys as rows of signed 64-bit integers: one column for 8-byte keys, two (high, low) for 16-byte ones."""
    parts = list(keys)
    width = len(parts[0]) // 8 if parts else 1
    return np.frombuffer(b"".join(parts), dtype=">i8").astype(np.int64).reshape(len(parts), width)


def identities(high: NDArray[np.int64], low: NDArray[np.int64]) -> list[bytes]:
    """The 16-byte identities that `integers` took apart."""
    joined = np.stack([high, low], axis=1).astype(">i8").tobytes()
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]
