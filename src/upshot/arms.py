"""The arms of an experiment as the analysis sees them: users and moments by variant, phase and metric."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from upshot import statistics
from upshot.aggregation import Aggregates, Cell, Measured
from upshot.experiments import Experiment
from upshot.metrics import Kind, Metric
from upshot.report import Bounds, MetricValue
from upshot.statistics import Interval, Moments
from upshot.variants import Variant

Key = TypeVar("Key")
_NOTHING = Measured(0, 0, 0.0, Moments())


class Arms:
    """The aggregates of one group of users; `keep` picks the cells that belong to it."""

    def __init__(
        self, experiment: Experiment, aggregates: Aggregates, keep: Callable[[Cell], bool] = lambda _: True
    ) -> None:
        self.experiment = experiment
        self.phases = sorted({cell.phase for cell in aggregates.exposed})
        self._exposed = _users_by(((c.variant, c.phase), n) for c, n in aggregates.exposed.items() if keep(c))
        self._whole: dict[tuple[int, int, str], Measured] = {}
        self._measured: dict[tuple[int, int, str], Measured] = {}
        for (cell, metric), measured in aggregates.measured.items():
            if keep(cell):
                key = (cell.variant, cell.phase, metric)
                self._measured[key] = _merged(self._measured.get(key, _NOTHING), measured)

    def users(self, variant: Variant, phase: int | None = None) -> int:
        """Assigned users of a variant, in one phase or in all."""
        return sum(self._exposed.get((variant.position, p), 0) for p in ([phase] if phase else self.phases))

    def measured(self, variant: Variant, phase: int, metric: Metric) -> Measured:
        """What was measured, the users without events included."""
        key = (variant.position, phase, metric.key)
        if key not in self._whole:
            found = self._measured.get(key, _NOTHING)
            self._whole[key] = replace(found, moments=found.moments.padded(self.users(variant, phase)))
        return self._whole[key]

    def strata(self, variant: Variant, metric: Metric) -> list[tuple[Moments, Moments]]:
        """Moments of control and variant in each phase in which either has users."""
        control = self.experiment.control
        pairs = [
            (self.measured(control, p, metric).moments, self.measured(variant, p, metric).moments) for p in self.phases
        ]
        return [pair for pair in pairs if pair[0].n or pair[1].n]

    def value(self, variant: Variant, metric: Metric, alpha: float) -> MetricValue:
        """One metric of one variant, over all its users."""
        parts = [self.measured(variant, phase, metric) for phase in self.phases]
        moments = sum((part.moments for part in parts), Moments())
        total = math.fsum(part.total for part in parts)
        interval = statistics.proportion_interval if metric.kind is Kind.CONVERSION else statistics.mean_interval
        return MetricValue(
            kind=metric.kind,
            value=total / moments.n if moments.n else None,
            interval=bounds(interval(moments, alpha)),
            sample_size=moments.n,
            users_with_events=sum(part.users for part in parts),
            events=sum(part.events for part in parts),
            sum=total,
            variance=moments.variance,
        )


def bounds(interval: Interval | None) -> Bounds | None:
    """An interval as the report shows it."""
    return Bounds(interval.lower, interval.upper) if interval else None


def _users_by(cells: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for key, users in cells:
        found[key] = found.get(key, 0) + users
    return found


def _merged(first: Measured, second: Measured) -> Measured:
    users, events = first.users + second.users, first.events + second.events
    return Measured(users, events, first.total + second.total, first.moments + second.moments)
