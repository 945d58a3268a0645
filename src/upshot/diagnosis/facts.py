"""What the stores say of an experiment, before anybody judges it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from upshot.events import CLAMPED, IMPORTED
from upshot.experiments import Experiment
from upshot.metrics import Metric
from upshot.report import Health


class Assigned(NamedTuple):
    """How many users have an assignment, and the moment of the last one."""

    users: int = 0
    last_at: datetime | None = None


class Received(NamedTuple):
    """An event type that came: how often, and when the first and the last one happened."""

    event_type: str
    events: int
    first_at: datetime
    last_at: datetime


class Arrival(NamedTuple):
    """One of the newest events: when it happened and when it came (µs), and its flags (events.py)."""

    occurred_at: int
    received_at: int
    flags: int

    @property
    def skew(self) -> int | None:
        """By how much its moment is ahead of its receipt (µs), less than 0 where it came later. None of past events, which
        are imported with their own times."""
        return None if self.flags & IMPORTED else self.occurred_at - self.received_at

    @property
    def clamped(self) -> bool:
        """Whether it said a moment so far ahead that it was dated to its receipt."""
        return bool(self.flags & CLAMPED)


@dataclass(frozen=True, slots=True)
class Joined:
    """How exposures and the events that metrics wait for come together in a window of events.

    `exposed_users` are those who count, `last_exposure` is the last one of them (µs); of these `joined_users` have an awaited
    event at or after their exposure, and `users_before` have `events_before` of them before it. `unknown_users` have
    `unknown_events` of them and no exposure in the experiment. Ids that are linked are one user. Who was exposed and is left
    out of the experiment is in none of these. `arrivals` are the client's newest events of any type, the newest first.
    """

    exposed_users: int = 0
    last_exposure: int | None = None
    joined_users: int = 0
    events_before: int = 0
    users_before: int = 0
    unknown_events: int = 0
    unknown_users: int = 0
    arrivals: Sequence[Arrival] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a diagnosis rests on. `metrics` are those of the experiment, the primary one first; `received` what came of the
    whole client, commonest first; `health` is that of the experiment's result, which has all that came before `complete_to`."""

    experiment: Experiment
    now: datetime
    metrics: Sequence[Metric]
    received: Sequence[Received]
    assigned: Assigned
    joined: Joined
    health: Health
    complete_to: datetime
