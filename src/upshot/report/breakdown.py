"""A result broken down: over time, by segments, beside another experiment, and what it was computed from."""

from dataclasses import dataclass
from datetime import datetime

from upshot.report.numbers import Comparison, MetricValue
from upshot.statistics import Interval


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
    interval: Interval | None


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
    interval: Interval | None
    relative_interval: Interval | None
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
    interval: Interval | None
    statistic: float | None
    p_value: float | None
    adjusted_p_value: float | None
    interacts: bool | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SufficientStatistics:
    """What a comparison was computed from: n, mean and sum of squared deviations per variant, phase and metric.

    Where several numbers of a user were needed, `means` and `products` have them and their centred sums of products: numerator,
    denominator of a ratio, and the same before the exposure. `skewness` is that of an average: of sums and counts of users.
    """

    variant: str
    phase: int
    metric: str
    n: int
    mean: float
    m2: float
    means: list[float] | None = None
    products: list[list[float]] | None = None
    skewness: float | None = None
