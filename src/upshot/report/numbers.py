"""The numbers of a result: every variant, and every variant against control."""

from dataclasses import dataclass

from upshot.statistics import Interval


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric in one variant: `value` is the mean over all `sample_size` users, of a ratio the quotient of two sums, of a
    quantile the quantile. `steps` are the users who came to each step of a funnel. `always_valid_interval`, of shares, holds at
    every look."""

    kind: str
    value: float | None
    interval: Interval | None
    sample_size: int
    users_with_events: int
    events: int
    sum: float
    variance: float | None
    denominator: float | None = None
    steps: list[int] | None = None
    always_valid_interval: Interval | None = None


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
class Informed:
    """What to believe of a comparison under the prior N(0, `prior_lift_sd`²) on the lift, which the plan states.

    `lift` is the mean of the posterior; it, the losses and the interval are fractions of |control's value|. `confidence` is the
    word for its chance on the scale of p-values, as 2 min(chance, 1 - chance).
    """

    prior_lift_sd: float
    lift: float
    chance_to_beat_control: float
    expected_loss: float
    expected_loss_of_control: float
    credible_interval: Interval
    confidence: str | None


@dataclass(slots=True)  # not frozen: that would take four times as long to make, and there are many
class Comparison:
    """A variant against control in one metric.

    `interval` is that of the absolute difference and `relative_interval` that of the lift, at the confidence level asked
    for; `p_value` is that of the fixed-horizon test and `adjusted_p_value` corrects it (`correction`). `stopping` says what
    `significant` and `confidence` rest on: the always-valid p-value, which holds however often one looks, the boundary of the
    last planned look, or the fixed p-value at the planned end. The chance, the losses and the credible intervals (of the
    difference and of the lift) are of the `prior`: flat, or uniform_shares where few users did or did not convert;
    `informed` has them under the plan's own prior, if it states one. Chances and losses are seen in the metric's direction.
    `guardrail` is harmed, safe or inconclusive, and `guardrail_users` of both arms would show it to be safe, if it is not harmed.
    """

    variant_id: str
    variant: str
    baseline: str
    metric: str
    absolute_difference: float | None
    relative_lift: float | None
    interval: Interval | None
    relative_interval: Interval | None
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
    always_valid_interval: Interval | None = None
    always_valid_relative_interval: Interval | None = None
    expected_loss_of_control: float | None = None
    credible_interval: Interval | None = None
    guardrail: str | None = None
    guardrail_users: int | None = None
    adjusted: list[Adjusted] | None = None
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    log10_p_value: float | None = None
    credible_relative_interval: Interval | None = None
    prior: str | None = None
    informed: Informed | None = None
