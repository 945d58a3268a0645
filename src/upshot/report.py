"""The shape of a result: the public contract that every reader of results relies on. Fields are added, never changed.

A number that does not exist is null, with a reason beside it. Times are ISO 8601 in UTC; intervals are (lower, upper), and
null on a side means unbounded there.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval; null on a side means unbounded there."""

    lower: float | None
    upper: float | None


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


@dataclass(frozen=True, slots=True)
class SampleRatioHealth:
    """Whether users arrived in the shares that were planned; `ok` is null when it cannot be told yet."""

    p_value: float | None
    ok: bool | None
    status: str
    expected: dict[str, float]
    observed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that a reader of the result must know."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the result can be trusted. Conflicts are repeats of an event id with another content; the first one counts."""

    sample_ratio: SampleRatioHealth
    crossovers: int
    late_events: int
    duplicates: int
    conflicts: int
    warnings: list[Caution]


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric in one variant: `value` is the mean over all `sample_size` assigned users."""

    kind: str
    value: float | None
    interval: Bounds | None
    sample_size: int
    users_with_events: int
    events: int
    sum: float
    variance: float | None


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant; `share` is its part of all assigned users, `event_counts` counts the events of the metrics' types."""

    variant_id: str
    name: str
    is_control: bool
    traffic_allocation: float
    assigned_users: int
    share: float | None
    event_counts: dict[str, int]
    metrics: dict[str, MetricValue]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against control in one metric.

    `interval` is that of the absolute difference and `relative_interval` that of the lift, at the confidence level asked
    for; `p_value` is that of the fixed-horizon test and `adjusted_p_value` corrects it over the variants (Holm). While the
    experiment runs, `significant` and `confidence` rest on `always_valid_p_value`, which holds however often one looks;
    after its end on `adjusted_p_value`.
    """

    variant_id: str
    variant: str
    baseline: str
    metric: str
    absolute_difference: float | None
    relative_lift: float | None
    interval: Bounds | None
    relative_interval: Bounds | None
    statistic: float | None
    p_value: float | None
    adjusted_p_value: float | None
    always_valid_p_value: float | None
    significant: bool | None
    confidence: str | None
    chance_to_beat_control: float | None
    expected_loss: float | None
    minimum_detectable_effect: float | None
    method: str
    stopping: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Point:
    """One metric of one variant in one period; `users` are all that were assigned by its end, `value` is per user."""

    period: datetime
    variant: str
    metric: str
    users: int
    new_users: int
    users_with_events: int
    events: int
    value: float | None
    interval: Bounds | None


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """The users with one value of one context attribute; p-values are corrected over all cells of the attribute."""

    attribute: str
    value: str | None
    users: int
    variants: dict[str, dict[str, MetricValue]]
    comparisons: list[Comparison]


@dataclass(frozen=True, slots=True)
class SufficientStatistics:
    """What a comparison was computed from: n, mean and sum of squared deviations per variant, phase and metric."""

    variant: str
    phase: int
    metric: str
    n: int
    mean: float
    m2: float


@dataclass(frozen=True, slots=True)
class Report:
    """A result. The lists at the end are filled in where they are asked for, and empty otherwise."""

    experiment: ReportedExperiment
    window: Window
    summary: Summary
    health: Health
    variants: list[VariantReport]
    comparisons: list[Comparison]
    time_series: list[Point]
    segments: list[SegmentReport]
    sufficient_statistics: list[SufficientStatistics]
