"""What a metric is: how the events of a user become the one number, or the two, of that user.

    kind         a user's number                                                the metric
    conversion   1 with at least one event, else 0                              share of users
    retention    as conversion, in a window that begins a delay after exposure  share of users whose window is over
    threshold    1 when the events or their values reach an amount              share of users
    funnel       1 when all steps happened, each at or after the one before     share of users
    count        events                                                         events per user
    sum          sum of the events' values                                      value per user
    mean         sum of the values, and how many there are                      value per event
    ratio        two quantities                                                 one per unit of the other
    quantile     the values of the events, or their sum                         a quantile of them

Users without an event count as zero. Which events count at all is said once, in `results.py`.
"""

from dataclasses import dataclass
from enum import StrEnum

from upshot.targeting import Rule

LOOKBACK = 14 * 86_400_000_000
"""How long before a user's exposure the same quantity is read as the covariate, in µs."""


class Kind(StrEnum):
    """How a user's events become that user's number."""

    CONVERSION = "conversion"
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    RATIO = "ratio"
    QUANTILE = "quantile"
    RETENTION = "retention"
    FUNNEL = "funnel"
    THRESHOLD = "threshold"


SHARES = frozenset({Kind.CONVERSION, Kind.RETENTION, Kind.FUNNEL, Kind.THRESHOLD})
"""Kinds whose number is 0 or 1."""

RATIOS = frozenset({Kind.MEAN, Kind.RATIO})
"""Kinds that divide one quantity by another: users are the units, so the delta method gives the variance."""


class Fold(StrEnum):
    """How the events of a source become one number of a user."""

    ANY = "conversion"
    COUNT = "count"
    SUM = "sum"
    VALUES = "values"  # events that have a value


class Direction(StrEnum):
    """Which way a metric should move."""

    INCREASE = "increase"
    DECREASE = "decrease"


class Role(StrEnum):
    """What a metric is for."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    GUARDRAIL = "guardrail"


class Unit(StrEnum):
    """What a quantile is taken over."""

    EVENT = "event"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Source:
    """The events a quantity is made of: of some types (none: every type), kept by a rule on their properties.

    `value` names the property that holds an event's value; None is the value that every event has of itself.
    """

    event_types: tuple[str, ...] = ()
    where: Rule | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number per user."""

    fold: Fold
    source: Source


@dataclass(frozen=True, slots=True)
class Winsorising:
    """Percentiles (0 to 100) beyond which a user's number is cut off, of the users of all arms together."""

    lower: float | None = None
    upper: float | None = None
    ignore_zeros: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. Times are in µs after a user's exposure; those that a kind does not use have their default.

    `event_types`, `where` and `value` are the source of its (first) quantity, `of` how that is folded where the kind leaves
    it open, `denominator` what a ratio divides by. `amount` is what a threshold is reached at, or the level of a quantile in
    (0, 1). With `complete`, only users whose window is over count. `margin` is the relative loss that a guardrail may have.
    """

    key: str
    kind: Kind
    event_types: tuple[str, ...] = ()
    where: Rule | None = None
    value: str | None = None
    of: Fold = Fold.SUM
    denominator: Quantity | None = None
    steps: tuple[Source, ...] = ()
    amount: float = 0.0
    unit: Unit = Unit.EVENT
    delay: int = 0
    window: int | None = None
    complete: bool = False
    winsorising: Winsorising | None = None
    covariate: str | None = None
    lookback: int = LOOKBACK
    direction: Direction = Direction.INCREASE
    role: Role | None = None
    minimum_effect: float | None = None
    margin: float = 0.0
    name: str = ""
    description: str = ""
    version: int | None = None

    @property
    def source(self) -> Source:
        """Where its (first) quantity comes from."""
        return Source(self.event_types, self.where, self.value)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source that it reads."""
        return self.steps or (self.source, *((self.denominator.source,) if self.denominator else ()))

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The numbers of a user, numerator first; none for a funnel, which is not a fold."""
        if self.kind is Kind.FUNNEL:
            return ()
        if self.kind is Kind.MEAN:
            return Quantity(Fold.SUM, self.source), Quantity(Fold.VALUES, self.source)
        folds = {Kind.CONVERSION: Fold.ANY, Kind.RETENTION: Fold.ANY, Kind.COUNT: Fold.COUNT, Kind.SUM: Fold.SUM}
        first = Quantity(folds.get(self.kind, self.of), self.source)
        return (first, self.denominator) if self.denominator else (first,)

    @property
    def is_share(self) -> bool:
        """Whether its number is 0 or 1."""
        return self.kind in SHARES

    @property
    def is_ratio(self) -> bool:
        """Whether it divides one quantity by another."""
        return self.kind in RATIOS

    @property
    def is_average(self) -> bool:
        """Whether it is the mean of numbers of users that may be any: how skewed these are matters."""
        return self.kind in {Kind.COUNT, Kind.SUM}

    @property
    def is_folded(self) -> bool:
        """Whether it is made of numbers per user: funnels and quantiles of events are not."""
        return bool(self.quantities) and not (self.kind is Kind.QUANTILE and self.unit is Unit.EVENT)

    @property
    def is_plain(self) -> bool:
        """Whether it is what rollups keep: every event of its types, at any time after the exposure, as it is."""
        return (
            self.kind in {Kind.CONVERSION, Kind.COUNT, Kind.SUM}
            and (self.where, self.value, self.window, self.winsorising) == (None, None, None, None)
            and not self.delay
        )

    @property
    def is_adjustable(self) -> bool:
        """Whether what users did before their exposure can make it more precise (CUPED)."""
        return self.kind not in {Kind.QUANTILE, Kind.FUNNEL, Kind.THRESHOLD}
