"""The arms of an experiment as the analysis sees them: users and moments by variant, phase and metric.

Whatever a metric is, an arm of it comes down to the count, mean and squared deviations of one number per user: 0 or 1 of a
share, the number itself of a mean, the linearised one of a ratio, the one that was adjusted for what came before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from upshot import statistics
from upshot.aggregation import Aggregates, Cell, Measured, Ordered
from upshot.experiments import Experiment
from upshot.metrics import Kind, Metric
from upshot.report import Adjusted, MetricValue
from upshot.statistics import Adjustment, Comoments, Interval, Moments, QuantileArm, ThirdMoments
from upshot.variants import Variant

HELPS = 0.05
"""The share of variance that covariates must take out to be used: less is not worth a reader's question."""

CONVERTED = 100
"""The users with a 1 that every arm needs for a share to be adjusted: an adjusted share has no pooled variance, and an arm's own
alarms too often for rare events in unequal splits."""

Strata = Sequence[tuple[Moments | None, Moments | None]]
"""Control and a variant in each phase; None where a ratio has nothing to divide by, or a quantile too few values."""

_NOTHING = Measured(0, 0, 0.0, Moments())


class Arms:
    """The aggregates of one group of users; `keep` picks the cells that belong to it."""

    def __init__(
        self, experiment: Experiment, aggregates: Aggregates, keep: Callable[[Cell], bool] = lambda _: True
    ) -> None:
        self.experiment = experiment
        self.phases = sorted({cell.phase for cell in aggregates.exposed})
        self.delivery = aggregates.delivery
        self._exposed: dict[tuple[int, int], int] = {}
        self._eligible: dict[tuple[int, int, str], int] = {}
        self._measured: dict[tuple[int, int, str], Measured] = {}
        self._whole: dict[tuple[int, int, str], Measured] = {}
        self._adjusted: dict[tuple[int, str], tuple[dict[int, Moments], Adjustment | None]] = {}
        for cell, users in aggregates.exposed.items():
            if keep(cell):
                place = (cell.variant, cell.phase)
                self._exposed[place] = self._exposed.get(place, 0) + users
        for (cell, metric), users in aggregates.eligible.items():
            if keep(cell):
                key = (cell.variant, cell.phase, metric)
                self._eligible[key] = self._eligible.get(key, 0) + users
        for (cell, metric), measured in aggregates.measured.items():
            if keep(cell):
                key = (cell.variant, cell.phase, metric)
                self._measured[key] = _merged(self._measured[key], measured) if key in self._measured else measured

    @cached_property
    def treatments(self) -> list[Variant]:
        """The variants that are compared with control."""
        return [variant for variant in self.experiment.variants if not variant.is_control]

    @cached_property
    def control(self) -> Variant:
        """The variant that they are compared with."""
        return self.experiment.control

    @cached_property
    def everyone(self) -> int:
        """All assigned users."""
        return sum(self._exposed.values())

    def users(self, variant: Variant, phase: int | None = None) -> int:
        """Assigned users of a variant, in one phase or in all."""
        return sum(self._exposed.get((variant.position, p), 0) for p in ([phase] if phase else self.phases))

    def counted(self, variant: Variant, phase: int, metric: Metric) -> int:
        """The users that a metric is about: all, or those whose window is over."""
        if metric.complete:
            return self._eligible.get((variant.position, phase, metric.key), 0)
        return self.users(variant, phase)

    def measured(self, variant: Variant, phase: int, metric: Metric) -> Measured:
        """What was measured, the users without events included."""
        key = (variant.position, phase, metric.key)
        if key not in self._whole:
            self._whole[key] = self._filled(variant, phase, metric, self._measured.get(key, _NOTHING))
        return self._whole[key]

    def _filled(self, variant: Variant, phase: int, metric: Metric, found: Measured) -> Measured:
        if metric.kind is Kind.QUANTILE:
            return found
        users = self.counted(variant, phase, metric)
        silent = Moments(users - found.moments.n, 0.0 if metric.is_share else found.silent[0])
        joint = found.joint
        if joint is not None:
            zeros = ((0.0,) * len(found.silent),) * len(found.silent)
            joint = joint + Comoments(users - joint.n, found.silent, zeros)
        third = found.third if found.moments.n else ThirdMoments()
        third = None if third is None else third + ThirdMoments(silent)
        return replace(found, moments=found.moments + silent, joint=joint, third=third)

    def moments(self, variant: Variant, phase: int, metric: Metric) -> Moments | None:
        """The moments of a metric in an arm, as they are; None where a ratio has nothing to divide by, or too few values."""
        found = self.measured(variant, phase, metric)
        if metric.kind is Kind.QUANTILE:
            arm = _quantile_arm(found.ordered, metric)
            return None if arm is None else arm.moments
        if not metric.is_ratio:
            return found.moments
        users = self.counted(variant, phase, metric)
        return statistics.ratio_arm(_ratio_of(found.joint)) if found.joint else (None if users else Moments())

    def third_moments(self, variant: Variant, metric: Metric, phase: int | None = None) -> ThirdMoments | None:
        """The third moments of an average in a variant, in one phase or in all; None of other metrics, and where not known."""
        parts = [self.measured(variant, p, metric).third for p in ([phase] if phase else self.phases)]
        known = [part for part in parts if part is not None]
        return sum(known, ThirdMoments()) if metric.is_average and len(known) == len(parts) else None

    def adjusted(self, phase: int, metric: Metric) -> tuple[dict[int, Moments], Adjustment | None]:
        """The moments of all arms by position, adjusted for what came before the exposure where that helps, and how."""
        if (phase, metric.key) not in self._adjusted:
            self._adjusted[phase, metric.key] = self._adjust(phase, metric)
        return self._adjusted[phase, metric.key]

    def _adjust(self, phase: int, metric: Metric) -> tuple[dict[int, Moments], Adjustment | None]:
        joints = {v.position: self.measured(v, phase, metric).joint for v in self.experiment.variants}
        arms = {place: joint for place, joint in joints.items() if joint is not None and joint.n}
        dimensions = {len(arm.means) for arm in arms.values()}
        if dimensions != {4 if metric.is_ratio else 2}:
            return {}, None
        if metric.is_share and any(joint.n * joint.means[0] < CONVERTED for joint in arms.values()):
            return {}, None
        adjust = statistics.adjust_ratio if metric.is_ratio else statistics.adjust
        moments, adjustment = adjust(list(arms.values()))
        if adjustment.status != "ok" or adjustment.variance_reduction < HELPS:
            return {}, None
        found = {place: arm for place, arm in zip(arms, moments, strict=True) if arm is not None}
        return (found, adjustment) if len(found) == len(arms) else ({}, None)

    def strata(self, variant: Variant, metric: Metric) -> tuple[Strata, list[Adjusted]]:
        """Moments of control and variant in each phase in which either has users, and how they were adjusted."""
        pairs: list[tuple[Moments | None, Moments | None]] = []
        how: list[Adjusted] = []
        for phase in self.phases:
            adjusted, adjustment = self.adjusted(phase, metric)
            both = [
                adjusted.get(arm.position, Moments()) if adjustment else self.moments(arm, phase, metric)
                for arm in (self.control, variant)
            ]
            if any(arm is None or arm.n for arm in both):
                pairs.append((both[0], both[1]))
                if adjustment:
                    how.append(
                        Adjusted(metric.covariate or metric.key, adjustment.theta[0], adjustment.variance_reduction)
                    )
        return pairs, how

    def value(self, variant: Variant, metric: Metric, alpha: float, tightest: int | None = None) -> MetricValue:
        """One metric of one variant, over all its users; of a share also the interval that holds at every look and is tightest
        at a number of users, if one is given."""
        parts = [self.measured(variant, phase, metric) for phase in self.phases]
        moments = self._together(variant, metric, parts)
        total = math.fsum(part.total for part in parts)
        exact = moments and moments.n and not (metric.is_ratio or metric.winsorising or metric.kind is Kind.QUANTILE)
        steps = [sum(counts) for counts in zip(*(part.steps for part in parts if part.steps), strict=True)]
        below = [part.joint.n * part.joint.means[1] for part in parts if metric.is_ratio and part.joint]
        interval = statistics.proportion_interval if metric.is_share else statistics.mean_interval
        known = moments is not None and moments.n > 0
        return MetricValue(
            kind=metric.kind,
            value=(total / moments.n if exact else moments.mean) if known and moments else None,
            interval=interval(moments, alpha) if known and moments else None,
            sample_size=sum(self.counted(variant, phase, metric) for phase in self.phases),
            users_with_events=sum(part.users for part in parts),
            events=sum(part.events for part in parts),
            sum=total,
            variance=moments.variance if moments else None,
            denominator=math.fsum(below) if metric.is_ratio else None,
            steps=steps or None,
            always_valid_interval=_watched(moments, alpha, tightest) if tightest and metric.is_share else None,
        )

    def overall(self, variant: Variant, metric: Metric) -> tuple[float, float] | None:
        """The mean of a metric in a variant and the variance of that mean, over the shares that all phases have of all users;
        None where it has no variance yet."""
        mean = variance = 0.0
        for phase in self.phases:
            share = sum(self.users(other, phase) for other in self.experiment.variants) / self.everyone
            arm = self.moments(variant, phase, metric)
            if arm is None or not arm.variance:
                return None
            mean += share * arm.mean
            variance += share * share * arm.variance / arm.n
        return (mean, variance) if variance else None

    def whole(self, variant: Variant, metric: Metric) -> Moments | None:
        """The moments of a metric in a variant over all phases; None as `moments`."""
        return self._together(variant, metric, [self.measured(variant, phase, metric) for phase in self.phases])

    def _together(self, variant: Variant, metric: Metric, parts: list[Measured]) -> Moments | None:
        if metric.is_ratio:
            joint = sum((_ratio_of(part.joint) for part in parts if part.joint), Comoments())
            return statistics.ratio_arm(joint) if joint.n else None
        if metric.kind is Kind.QUANTILE:
            return self._averaged(variant, metric)
        return sum((part.moments for part in parts), Moments())

    def _averaged(self, variant: Variant, metric: Metric) -> Moments | None:
        """Quantiles of several phases have no common sample: their mean over the shares of all users, as comparisons take it."""
        known = [(arm, phase) for phase in self.phases if (arm := self.moments(variant, phase, metric)) and arm.n]
        if len(known) < 2:
            return known[0][0] if known else None
        users = [sum(self.users(other, phase) for other in self.experiment.variants) for _, phase in known]
        shares = [number / sum(users) for number in users]
        n = sum(arm.n for arm, _ in known)
        mean = math.fsum(share * arm.mean for share, (arm, _) in zip(shares, known, strict=True))
        variance = math.fsum(
            share**2 * (arm.variance or 0.0) / arm.n for share, (arm, _) in zip(shares, known, strict=True)
        )
        return Moments(n, mean, variance * n * (n - 1))


def _watched(moments: Moments | None, alpha: float, tightest: int) -> Interval | None:
    if moments is None or not moments.n:
        return None
    return statistics.bernoulli_confidence_sequence(moments.n, round(moments.total), alpha, tightest)


def _ratio_of(joint: Comoments | None) -> Comoments:
    """Numerator and denominator alone."""
    if joint is None:
        return Comoments()
    return joint.combined([[float(place == row) for place in range(len(joint.means))] for row in (0, 1)])


def _quantile_arm(found: Ordered | None, metric: Metric) -> QuantileArm | None:
    if found is None:
        return None
    clustering = statistics.clustering_factor(found.below, metric.amount) if found.below else 1.0
    lower, estimate, upper = found.found
    return QuantileArm(found.values, found.users, metric.amount, estimate, lower, upper, clustering)


def _merged(first: Measured, second: Measured) -> Measured:
    joint = first.joint + second.joint if first.joint and second.joint else first.joint or second.joint
    return Measured(
        first.users + second.users,
        first.events + second.events,
        first.total + second.total,
        first.moments + second.moments,
        first.silent,
        joint,
        None,
        tuple(map(sum, zip(first.steps, second.steps, strict=True)))
        if first.steps and second.steps
        else first.steps or second.steps,
    )
