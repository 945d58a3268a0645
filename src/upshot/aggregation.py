"""What a result asks of an event store, and what the store answers: sufficient statistics per variant, never rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from upshot.metrics import Kind, Metric
from upshot.statistics.comoments import Comoments
from upshot.statistics.moments import Moments
from upshot.statistics.skewness import ThirdMoments

_ENDINGS = {"value": "", "other": ".denominator", "before": ".before", "before_other": ".before_denominator"}


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time, in microseconds since 1970 UTC."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AggregationPlan:
    """The union of what several metrics need, read in one query; everything is per variant and phase.

    `start` and `end` bound the events' times (µs, half-open); `periods`, ascending and disjoint, ask for one row per
    period as well; `segments` asks for one row per combination of these context attributes; `beside`, another experiment,
    for one row per variant of that one, of the users who are in both. With `covariates`, what users did before their
    exposure is read, too. With `entry`, whoever caused an event of these types in the window counts as exposed at the first of
    them, in variant 0 and phase 1: a plan for an experiment that does not exist yet. `cumulative` asks for the numbers of
    users from their exposure up to the end of each period instead of those within it. With `delivery`, what was lost of numbered
    events is counted, too, unless the plan is broken down or has an entry. Of `one_in` users one is looked at. `unadjusted` are
    the keys of metrics whose covariates need not be read.
    """

    experiment: int
    metrics: tuple[Metric, ...]
    start: int | None
    end: int
    periods: tuple[Period, ...] = ()
    segments: tuple[str, ...] = ()
    beside: int | None = None
    covariates: bool = False
    entry: tuple[str, ...] = ()
    cumulative: bool = False
    delivery: bool = False
    one_in: int = 1
    unadjusted: frozenset[str] = frozenset()

    @property
    def event_types(self) -> frozenset[str] | None:
        """The types that any metric needs; None when one needs all."""
        sources = [source for metric in self.metrics for source in metric.sources]
        if any(not source.event_types for source in sources):
            return None
        return frozenset(name for source in sources for name in source.event_types).union(self.entry)

    @property
    def is_broken_down(self) -> bool:
        """Whether more than one row per variant and phase is asked for."""
        return bool(self.periods or self.segments) or self.beside is not None

    def adjusts(self, metric: Metric) -> bool:
        """Whether the covariates of this metric are read."""
        return self.covariates and metric.is_adjustable and metric.key not in self.unadjusted

    def numbers_of(self, metric: Metric) -> tuple[str, ...]:
        """What the numbers of a user are in a metric: numerator, denominator, and the same before the exposure."""
        names = ("value", "other") if metric.is_ratio else ("value",)
        if not self.adjusts(metric):
            return names
        return (*names, "before", "before_other") if metric.is_ratio else (*names, "before")

    @property
    def accumulated(self) -> tuple[Metric, ...]:
        """The metrics whose numbers grow event by event. Windows that are over at one moment and not at the one before, and
        quantiles, do not."""
        return tuple(m for m in self.metrics if m.is_folded and not m.complete and m.kind is not Kind.QUANTILE)

    @property
    def exported(self) -> list[str]:
        """The names of the numbers of an exported row: a metric's key, with an ending for all but the first of its numbers.

        The values of a quantile of events are not numbers of a user, and are left out.
        """
        found = []
        for metric in self.metrics:
            if metric.kind is Kind.FUNNEL:
                found.append(metric.key)
            elif metric.is_folded:
                found += [metric.key + _ENDINGS[name] for name in self.numbers_of(metric)]
        return found


class Cell(NamedTuple):
    """Where a number belongs: variant (position) and phase; where asked for, period (index), the values of the segments'
    attributes, and the variant (position) of the other experiment."""

    variant: int
    phase: int
    period: int | None = None
    segment: tuple[str | None, ...] = ()
    beside: int | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """Order statistics of the values in one cell: how many there are, of how many users, and the values at three ranks.

    `ranks` are those of the estimate's lower bound, the estimate and its upper bound (statistics.quantile), 1-based; `below`
    holds, per user, how many values are at most the estimate and how many there are, where values and not users were ranked.
    """

    values: int
    users: int
    ranks: tuple[int, int, int]
    found: tuple[float, float, float]
    below: Comoments | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric in one cell: users who had such events, the events, their total, and the moments over those users.

    The total says what the moments' mean times n says, without the rounding of a merge and before values were cut off.
    `joint` has the numerator, the denominator of a ratio, and the same before the exposure where covariates were read, over
    `joint.n` users. `silent` are the same numbers of a user without events. `steps` are the users who came to each step of a
    funnel. `third` has the moments of an average once more, with the third one, where the plan was not broken down.
    """

    users: int
    events: int
    total: float
    moments: Moments
    silent: tuple[float, ...] = (0.0,)
    joint: Comoments | None = None
    ordered: Ordered | None = None
    steps: tuple[int, ...] = ()
    third: ThirdMoments | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the numbered events of one cell: `moments` of how many events a user lost and how many the user sent, over
    the users who have any from their exposure on, and how many of these lost any. Of `one_in` users one was looked at."""

    moments: Comoments
    losing: int
    one_in: int = 1


@dataclass(frozen=True, slots=True)
class Aggregates:
    """What a plan found. Users without events are in `exposed` only; `eligible` are those of them whose window is over, for
    the metrics that count only these. `unadjusted` are those of the plan, and those whose covariates a sample of the users
    found to be of no use. `delivery` is empty where it was not asked for, or no event is numbered.

    `withdrawn` are the users, by reason, who were exposed before the plan's end and are left out of everything else.

    `as_of` is the moment (µs) that a copy of the store had come to, where one that lags behind was read.
    """

    exposed: Mapping[Cell, int] = field(default_factory=dict)
    eligible: Mapping[tuple[Cell, str], int] = field(default_factory=dict)
    measured: Mapping[tuple[Cell, str], Measured] = field(default_factory=dict)
    unadjusted: frozenset[str] = frozenset()
    delivery: Mapping[Cell, Delivery] = field(default_factory=dict)
    event_counts: Mapping[tuple[Cell, str], int] = field(default_factory=dict)
    first_exposure: int | None = None
    withdrawn: Mapping[str, int] = field(default_factory=dict)
    late_events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    as_of: int | None = None
