"""The diagnosis of an experiment: findings, the worst first, and the numbers that they rest on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from upshot.diagnosis.facts import Received
from upshot.diagnosis.names import Awaited
from upshot.experiments import Experiment


class Severity(StrEnum):
    """How bad a finding is: numbers are missing or wrong; some may be; all is well."""

    PROBLEM = "problem"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in words with the numbers, and what to do about it."""

    code: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Last:
    """The last assignment, exposure, and event of any type."""

    assignment: datetime | None
    exposure: datetime | None
    event: datetime | None


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of a diagnosis; `join_rate` is None where nobody was exposed.

    Events before exposure and those of unknown users are awaited ones since the start; duplicates and late events are those of
    the result's health; events ahead of the clock are among the newest of the client.
    """

    assigned_users: int
    exposed_users: int
    joined_users: int
    join_rate: float | None
    events_before_exposure: int
    users_before_exposure: int
    events_of_unknown_users: int
    unknown_users: int
    duplicates: int
    late_events: int
    events_ahead_of_clock: int


@dataclass(frozen=True, slots=True)
class Skew:
    """By how many seconds the newest events are ahead of their receipt (below 0: came later): the median, and the value that
    99 of 100 are below."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an experiment has the data that it has."""

    experiment: Experiment
    checked_at: datetime
    findings: Sequence[Finding]
    last: Last
    counts: Counts
    awaited: Sequence[Awaited]
    received: Sequence[Received]
    skew: Skew | None

    @property
    def example(self) -> str | None:
        """An event type to try with: the first that a metric waits for, else the commonest that came."""
        names = [*(part.event_type for part in self.awaited), *(part.event_type for part in self.received)]
        return names[0] if names else None
