"""What a result asks of an event store, and what the store answers: sufficient statistics per variant, never rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from upshot.metrics import Metric
from upshot.statistics.moments import Moments


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time, in microseconds since 1970 UTC."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """The union of what several metrics need, read in one query; everything is per variant and phase.

    `start` and `end` bound the events' times (µs, half-open); `periods`, ascending and disjoint, ask for one row per
    period as well; `segment` asks for one row per value of that context attribute.
    """

    experiment: int
    metrics: tuple[Metric, ...]
    start: int | None
    end: int
    periods: tuple[Period, ...] = ()
    segment: str | None = None

    @property
    def event_types(self) -> frozenset[str] | None:
        """The types that any metric needs; None when one needs all."""
        if any(not metric.event_types for metric in self.metrics):
            return None
        return frozenset(name for metric in self.metrics for name in metric.event_types)


class Cell(NamedTuple):
    """Where a number belongs: variant (position), phase, and, where asked for, period (index) and segment value."""

    variant: int
    phase: int
    period: int | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric in one cell: users who had such events, the events, their total, and the moments over those users.

    The total says what the moments' mean times n says, without the rounding of a merge.
    """

    users: int
    events: int
    total: float
    moments: Moments


@dataclass(frozen=True, slots=True)
class Aggregates:
    """What a plan found. Users without events are in `exposed` only.

    `as_of` is the moment (µs) that a copy of the store had come to, where one that lags behind was read.
    """

    exposed: Mapping[Cell, int] = field(default_factory=dict)
    measured: Mapping[tuple[Cell, str], Measured] = field(default_factory=dict)
    event_counts: Mapping[tuple[Cell, str], int] = field(default_factory=dict)
    first_exposure: int | None = None
    crossovers: int = 0
    late_events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    as_of: int | None = None
