"""The answer of a result: which experiment, which window, what to do, how it is judged, whether it can be trusted."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from upshot.statistics import Interval


@dataclass(frozen=True, slots=True)
class ReportedExperiment:
    """The experiment that a result is about."""

    id: str
    key: str
    name: str
    description: str
    hypothesis: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    days_running: float | None
    primary_metric: str | None
    phase: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """Which events were looked at: half-open, and complete up to the watermark."""

    start: datetime | None
    end: datetime
    timezone: str
    watermark: datetime


@dataclass(frozen=True, slots=True)
class CostOfWaiting:
    """What a day of waiting costs, if the leading difference is real: in the unit of the metric, over all users of the day."""

    metric: str
    variant: str
    per_day: float
    users_per_day: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Who wins, by how much, how sure, what to do next."""

    total_users: int
    total_events: int
    global_conversion_rate: float | None
    recommendation: str
    reason: str
    confidence: str | None
    leader: str | None
    users_needed: int | None
    days_needed: int | None
    decide_at: datetime | None = None
    cost_of_waiting: CostOfWaiting | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """The last planned look of a group-sequential plan: the shares of the planned users at every look so far, and the
    boundary that a statistic of one question has to cross, and the p-value that it stands for; after the look at 1 or beyond
    nothing changes any more."""

    at: datetime
    fractions: list[float]
    critical_value: float
    nominal_level: float


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """A change of the plan after the start."""

    at: datetime
    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ReportedPlan:
    """How the experiment is judged: the way of stopping in force, the error rate, the planned users, the prior on the lift
    (N(0, sd²)) if one is stated, and what was changed since the start."""

    stopping: str
    alpha: float
    planned_users: int | None
    spending: str
    adjust: bool
    locked_at: datetime | None
    changes: list[PlanChanged]
    look: Look | None
    prior_lift_sd: float | None = None


@dataclass(frozen=True, slots=True)
class SampleRatioHealth:
    """Whether users arrived in the shares that were planned; `ok` is null when it cannot be told yet.

    `p_value` is that of the chi-squared test at this look. `sequential_p_value` holds however often one looks, and `ok` rests
    on it.
    """

    p_value: float | None
    ok: bool | None
    status: str
    expected: dict[str, float]
    observed: dict[str, int]
    sequential_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class VariantLoss:
    """What was lost of the events that users of a variant numbered: `rate` is `lost` of `sent` events, its interval with users as
    units."""

    sent: int
    lost: int
    rate: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class LossComparison:
    """A variant against control in the rate of loss. `adjusted_p_value` corrects the always-valid one over the variants."""

    variant: str
    baseline: str
    difference: float | None
    p_value: float | None
    always_valid_p_value: float | None
    adjusted_p_value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class EventLossHealth:
    """What was lost on the way to us, by variant, as far as clients number their events. `ok` is false where the variants lose
    differently, beyond what chance explains at any look. Of `one_in` users one was looked at: 1 up to 100,000 users."""

    ok: bool
    one_in: int
    variants: dict[str, VariantLoss]
    comparisons: list[LossComparison]


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that a reader of the result must know."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the result can be trusted. Conflicts are repeats of an event id with another content; the first one counts.
    `event_loss` is null where no event is numbered. `withdrawn` are the users who are left out of everything else, by reason;
    `identity_conflicts` those of them who had two variants under two ids, `crossovers` all of them who had two variants."""

    sample_ratio: SampleRatioHealth
    crossovers: int
    late_events: int
    duplicates: int
    conflicts: int
    warnings: list[Caution]
    event_loss: EventLossHealth | None = None
    identity_conflicts: int = 0
    withdrawn: dict[str, int] = field(default_factory=dict)
