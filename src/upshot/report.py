"""The shape of a result: the public contract that every reader of results relies on. Fields are added, never changed.

A number that does not exist is null, with a reason beside it. Times are ISO 8601 in UTC; intervals are (lower, upper), and
null on a side means unbounded there.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
    decide_at: datetime | None = None
    cost_of_waiting: "CostOfWaiting | None" = None


@dataclass(frozen=True, slots=True)
class CostOfWaiting:
    """What a day of waiting costs, if the leading difference is real: in the unit of the metric, over all users of the day."""

    metric: str
    variant: str
    per_day: float
    users_per_day: float


@dataclass(frozen=True, slots=True)
class Look:
    """The last planned look of a group-sequential plan: the shares of the planned users at every look so far, and the
    boundary that a statistic of one question has to cross; after the look at 1 or beyond nothing changes any more."""

    at: datetime
    fractions: list[float]
    critical_value: float


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """A change of the plan after the start."""

    at: datetime
    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ReportedPlan:
    """How the experiment is judged: the way of stopping in force, the error rate, the planned users, and what was changed
    since the start."""

    stopping: str
    alpha: float
    planned_users: int | None
    spending: str
    adjust: bool
    locked_at: datetime | None
    changes: list[PlanChanged]
    look: Look | None


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
    """One metric in one variant: `value` is the mean over all `sample_size` users, of a ratio the quotient of two sums, of a
    quantile the quantile. `steps` are the users who came to each step of a funnel."""

    kind: str
    value: float | None
    interval: Bounds | None
    sample_size: int
    users_with_events: int
    events: int
    sum: float
    variance: float | None
    denominator: float | None = None
    steps: list[int] | None = None


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
    chance_to_be_best: dict[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Adjusted:
    """How a comparison was adjusted for what came before the exposure (CUPED): by which covariate, with which coefficient,
    and the share of variance that this took out."""

    covariate: str
    theta: float
    variance_reduction: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against control in one metric.

    `interval` is that of the absolute difference and `relative_interval` that of the lift, at the confidence level asked
    for; `p_value` is that of the fixed-horizon test and `adjusted_p_value` corrects it (`correction`). `stopping` says what
    `significant` and `confidence` rest on: the always-valid p-value, which holds however often one looks, the boundary of the
    last planned look, or the fixed p-value at the planned end. The chance and the losses are those of a flat prior, seen in
    the metric's direction. `guardrail` is harmed, safe or inconclusive.
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
    role: str = "secondary"
    direction: str = "increase"
    improves: bool | None = None
    correction: str | None = None
    always_valid_interval: Bounds | None = None
    always_valid_relative_interval: Bounds | None = None
    expected_loss_of_control: float | None = None
    credible_interval: Bounds | None = None
    guardrail: str | None = None
    adjusted: list[Adjusted] | None = None
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    log10_p_value: float | None = None


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
class CumulativePoint:
    """A variant against control by the end of one period, from all events up to then; the intervals are always-valid: all
    points of a line hold together."""

    period: datetime
    variant: str
    metric: str
    users: int
    value: float | None
    absolute_difference: float | None
    relative_lift: float | None
    interval: Bounds | None
    relative_interval: Bounds | None
    p_value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """The users with one value of a context attribute, or one pair of values of two (`country*device`): `values` has them one
    by one. P-values are corrected over all cells."""

    attribute: str
    value: str | None
    users: int
    variants: dict[str, dict[str, MetricValue]]
    comparisons: list[Comparison]
    values: list[str | None] | None = None


@dataclass(frozen=True, slots=True)
class SegmentDifference:
    """Whether the effect of a variant on a metric differs between the segments of an attribute (Cochran's Q): single segments
    are exploratory where it does not. `adjusted_p_value` corrects over all such questions of the result."""

    attribute: str
    metric: str
    variant: str
    q: float | None
    degrees_of_freedom: int | None
    p_value: float | None
    adjusted_p_value: float | None
    i_squared: float | None
    differs: bool | None


@dataclass(frozen=True, slots=True)
class InteractionReport:
    """Whether a variant's effect depends on the variant that its users have in another experiment: the difference of the two
    differences, of the users who are in both."""

    experiment: str
    variant: str
    other_variant: str
    metric: str
    users: int
    estimate: float | None
    interval: Bounds | None
    statistic: float | None
    p_value: float | None
    adjusted_p_value: float | None
    interacts: bool | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SufficientStatistics:
    """What a comparison was computed from: n, mean and sum of squared deviations per variant, phase and metric.

    Where several numbers of a user were needed, `means` and `products` have them and their centred sums of products: numerator,
    denominator of a ratio, and the same before the exposure.
    """

    variant: str
    phase: int
    metric: str
    n: int
    mean: float
    m2: float
    means: list[float] | None = None
    products: list[list[float]] | None = None


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
    plan: ReportedPlan | None = None
    segment_differences: list[SegmentDifference] | None = None
    interactions: list[InteractionReport] | None = None
    cumulative: list[CumulativePoint] | None = None
