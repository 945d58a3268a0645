"""How much so many users can show: what is known before an experiment, how it will be judged, and what follows for an effect.

Shares are planned with the formula of their pooled test, adjusted ones with that of the arms' own variances, as results compare
them; everything else is a mean of one number per user. Each comparison with control gets its part of alpha (Bonferroni), and
the comparison that shows least decides. Sources: statistics/power.py, statistics.md 2.13.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from upshot import statistics
from upshot.analysisplan import Stopping
from upshot.metrics import Direction, Kind
from upshot.metrics.model import SHARES
from upshot.statistics import Spending

_CERTAIN = 0.9999


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a metric without the experiment.

    `variance` is per user, in squared units of `value`: of a ratio that of its linearised value, of a quantile n times the
    variance of its estimate, n counting all users; that of a share follows from its value. `users` are those it was measured
    on, None where it was given. `days_to_count` is how long after coming a user begins to count, 0 where that is at once.
    `variance_reduction` in [0, 1] is the share of variance that covariates take out. `reason` says why there is no value or no
    variance.
    """

    kind: Kind
    value: float | None
    variance: float | None = None
    users: int | None = None
    users_per_day: float | None = None
    days_to_count: float = 0.0
    variance_reduction: float = 0.0
    direction: Direction = Direction.INCREASE
    reason: str | None = None

    @property
    def is_share(self) -> bool:
        """Whether its value is a share of the users."""
        return self.kind in SHARES

    @property
    def spread(self) -> float:
        """The variance per user before covariates take out theirs; 0 where there is none."""
        if self.is_share and self.value is not None:
            return self.value * (1.0 - self.value)
        return self.variance or 0.0

    @property
    def fault(self) -> str | None:
        """Why no effect can be planned from it, if so."""
        if self.reason is not None or self.value is None:
            return self.reason or "no_value"
        return None if self.spread * (1.0 - self.variance_reduction) > 0.0 else "zero_variance"


@dataclass(frozen=True, slots=True)
class Design:
    """How the experiment will be divided and judged.

    `shares` are integer weights, control's first; `alpha` is the error rate over all looks and comparisons, `power` the chance
    to find the effect. `looks` of a group-sequential plan are spaced evenly; None takes one at the end of each day. The effect
    is a change of the value, absolute, or relative to its size; at most one of the two.
    """

    shares: tuple[int, ...] = (1, 1)
    alpha: float = 0.05
    power: float = 0.8
    stopping: Stopping = Stopping.GROUP_SEQUENTIAL
    spending: Spending = Spending.OBRIEN_FLEMING
    looks: int | None = None
    relative_effect: float | None = None
    absolute_effect: float | None = None

    @property
    def comparisons(self) -> int:
        """Treatments, each of them compared with control."""
        return len(self.shares) - 1

    @property
    def level(self) -> float:
        """The part of alpha that each comparison gets (Bonferroni)."""
        return self.alpha / self.comparisons


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the metric's value: relative to its size, and absolute, in its unit."""

    relative: float | None = None
    absolute: float | None = None


@dataclass(frozen=True, slots=True)
class Criterion:
    """How one comparison will be judged, with so many looks."""

    design: Design
    looks: int

    @property
    def _fractions(self) -> tuple[float, ...]:
        return tuple((look + 1) / self.looks for look in range(self.looks))

    @property
    def critical_value(self) -> float:
        """That of a test with a single look which needs as many users."""
        design = self.design
        if design.stopping is Stopping.ALWAYS_VALID:
            return statistics.always_valid_critical_value(1, design.level, 1)  # the same wherever it is tightest
        if self.looks == 1:
            return statistics.normal_critical_value(design.level)
        return statistics.equivalent_critical_value(self._fractions, design.level, design.power, design.spending)

    def chance(self, drift: float) -> float:
        """The chance to find an effect of so many standard errors."""
        if self.looks == 1:
            return statistics.chance_to_find(drift, self.critical_value)
        return statistics.chance_to_cross(self._fractions, self.design.level, max(drift, 0.0), self.design.spending)

    def expected_share(self, power: float) -> float | None:
        """The share of the users with which a comparison ends on average when there is an effect that it finds with so much
        power; None where that cannot be said."""
        if self.design.stopping is Stopping.ALWAYS_VALID or not self.design.level < power < _CERTAIN:
            return None
        if self.looks == 1:
            return 1.0
        return statistics.expected_share(self._fractions, self.design.level, power, self.design.spending)


@dataclass(frozen=True, slots=True)
class Reach:
    """What numbers of users can show; the comparison that shows least decides."""

    baseline: Baseline
    criterion: Criterion
    effect: float | None

    def detectable(self, users: int | None) -> Change:
        """The smallest change that they show, in the direction of the effect, or else of the metric."""
        if users is None or self.baseline.fault is not None:
            return Change()
        found = [self._smallest(*pair) for pair in self._pairs(users)]
        known = [effect for effect in found if effect is not None]
        return change_of(self.baseline, max(known, key=abs) if len(known) == len(found) else None)

    def power(self, users: int | None) -> float | None:
        """The chance that they show the effect."""
        if users is None or self.baseline.fault is not None or self.effect is None:
            return None
        drifts = [self._drift(self.effect, *pair) for pair in self._pairs(users)]
        known = [drift for drift in drifts if drift is not None]
        return self.criterion.chance(min(known)) if len(known) == len(drifts) else None

    def _smallest(self, control: float, treatment: float) -> float | None:
        design, critical, baseline = self.criterion.design, self.criterion.critical_value, self.baseline
        rising = self.effect > 0.0 if self.effect is not None else baseline.direction is Direction.INCREASE
        if baseline.is_share and baseline.value is not None:
            return statistics.minimum_detectable_change(
                baseline.value, control, treatment, design.level, design.power, critical,
                pooled=not baseline.variance_reduction, rising=rising,
            )  # fmt: skip
        size = statistics.minimum_detectable_effect(
            baseline.spread, control, treatment, design.level, design.power, critical
        )
        return size if size is None or rising else -size

    def _drift(self, effect: float, control: float, treatment: float) -> float | None:
        critical, baseline = self.criterion.critical_value, self.baseline
        if baseline.is_share and baseline.value is not None:
            return statistics.drift_of_proportion(
                baseline.value, effect, control, treatment, critical, pooled=not baseline.variance_reduction
            )
        return statistics.drift_of(effect, baseline.spread, control, treatment)

    def _pairs(self, users: int) -> Iterator[tuple[float, float]]:
        """Users of control and each treatment, as many as without covariates would show as much."""
        shares = self.criterion.design.shares
        worth = users / sum(shares) / (1.0 - self.baseline.variance_reduction)
        return ((worth * shares[0], worth * share) for share in sorted(set(shares[1:])))


def change_of(baseline: Baseline, absolute: float | None) -> Change:
    """An absolute change of the value, with the relative one where there is one."""
    if absolute is None or not baseline.value:
        return Change(None, absolute)
    relative = absolute / abs(baseline.value)
    return Change(relative if math.isfinite(relative) else None, absolute)


def needed(baseline: Baseline, criterion: Criterion, effect: float) -> tuple[int, ...]:
    """The users of each variant that an absolute effect needs; ValueError when no number of users can show it."""
    kept, critical, power = 1.0 - baseline.variance_reduction, criterion.critical_value, criterion.design.power

    def of_pair(level: float, share: float) -> int:
        if baseline.is_share and baseline.value is not None:
            pooled = not baseline.variance_reduction
            users = statistics.users_needed_proportion(
                baseline.value, effect, level, power, share, critical, pooled=pooled
            )
        else:
            users = statistics.users_needed(baseline.spread, effect, level, power, share, critical)
        return math.ceil(users * kept)

    return statistics.users_per_arm(criterion.design.shares, of_pair, criterion.design.alpha)
