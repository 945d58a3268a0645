"""What leaves through the outbox, and how it is written there.

Exposures alone are written as the list that they have always been, so that a server of the release before can relay them, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from upshot.events import Exposure, Withdrawal


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """What one transaction has for the event store: exposures; and by client, links of an alias and a user, and withdrawals."""

    exposures: Sequence[Exposure] = field(default_factory=list)
    links: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    withdrawals: Mapping[str, Sequence[Withdrawal]] = field(default_factory=dict)


_decode = msgspec.json.Decoder(list[Exposure] | OutboxEntry).decode


def encoded(entry: OutboxEntry) -> bytes:
    """An entry as it is stored."""
    return msgspec.json.encode(entry if entry.links or entry.withdrawals else entry.exposures)


def decoded(stored: bytes) -> OutboxEntry:
    """A stored entry, also of the release before."""
    found = _decode(stored)
    return found if isinstance(found, OutboxEntry) else OutboxEntry(found)
