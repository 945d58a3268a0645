"""What was done, by whom; and what two people must agree on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log: who did what to which object, what it was before and what it became.

    `number` grows with time within a client's log; None before it is stored.
    """

    at: datetime
    actor_kind: str
    actor_id: str
    actor_name: str
    action: str
    object_kind: str
    object_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    request_id: str | None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """Which entries of the audit log: those of one object, one actor, one action; None is any."""

    object_id: str | None = None
    actor_id: str | None = None
    action: str | None = None


ALL = Sought()


class State(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody wants to do to an experiment, until somebody else agrees: `version` is the one that both have seen."""

    id: str
    experiment_id: str
    action: str
    version: int
    requested_by: str
    requested_by_name: str
    requested_at: datetime
    state: State = State.PENDING
    decided_by: str | None = None
    decided_by_name: str | None = None
    decided_at: datetime | None = None
    winner: str | None = None


GUARDED = ("start", "complete")
"""What may need a second person: to let users in, and to decide (shipping a variant or stopping ends the experiment)."""


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two states of an object the parts that differ."""
    earlier, later = dict(before or {}), dict(after or {})
    names = [name for name in earlier | later if earlier.get(name) != later.get(name)]
    return {name: earlier.get(name) for name in names}, {name: later.get(name) for name in names}
