"""Users to draw from: a table of their numbers in each metric, from which every simulated arm is drawn with replacement.

The table is the whole truth: its means are what intervals have to cover, whether its users were made up or are real ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upshot.aggregation import Measured
from upshot.metrics import Kind, Metric
from upshot.statistics import Comoments, Moments

USERS = 100_000
"""Users of a population that is made up."""

SPREAD = 1.0
"""Standard deviation of the logarithm of a made-up order's value: the mean order is 1.6 times the median one."""

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Population:
    """Metrics, and for each the table of its users' numbers, one row per user and the same users in every table.

    Columns are as in `AggregationPlan.numbers_of`: the value, what a ratio divides by, the same before the exposure.
    """

    metrics: tuple[Metric, ...]
    numbers: tuple[Table, ...]

    def lifted(self, lifts: Sequence[float], rng: np.random.Generator) -> "Population":
        """The same users as a treatment would have them: each metric higher by its lift, a fraction above -1.

        Of a share, users who were drawn at random take the step that they did not take, or not the one that they did; every
        other metric is multiplied. Raises ValueError where a share would pass 1.
        """
        tables = [
            _changed_share(table, lift, rng) if metric.is_share else table * _factors(table, lift)
            for metric, table, lift in zip(self.metrics, self.numbers, lifts, strict=True)
        ]
        return replace(self, numbers=tuple(tables))


def synthetic(baseline: float, kinds: Sequence[Kind], rng: np.random.Generator) -> Population:
    """Users of whom the share ``baseline`` orders once, for a value of lognormal distribution.

    ``kinds`` are CONVERSION (who ordered) and SUM (the value). Raises ValueError unless somebody orders and not everybody.
    """
    buyers = round(baseline * USERS)
    if not 0 < buyers < USERS:
        raise ValueError(f"a baseline lies between 0 and 1, not {baseline}")
    ordered = np.zeros((USERS, 1))
    ordered[:buyers] = 1.0
    values = np.zeros((USERS, 1))
    values[:buyers, 0] = rng.lognormal(3.0, SPREAD, buyers)
    tables = {Kind.CONVERSION: ordered, Kind.SUM: values}
    return Population(
        tuple(Metric(str(kind), kind, ("order",)) for kind in kinds), tuple(tables[kind] for kind in kinds)
    )


def resampled(metrics: Sequence[Metric], columns: Mapping[str, Sequence[float]]) -> Population:
    """Real users, from the columns of an export: those of a metric begin with its key.

    Raises ValueError for a metric that has no number per user (quantiles), and for fewer than two users.
    """
    endings = ("", ".denominator", ".before", ".before_denominator")
    tables = []
    for metric in metrics:
        named = [columns[metric.key + ending] for ending in endings if metric.key + ending in columns]
        if metric.kind is Kind.QUANTILE or not named:
            raise ValueError(f"{metric.key} has no number per user that could be drawn again")
        if len(named[0]) < 2:
            raise ValueError("a population has two users or more")
        tables.append(np.array(named, dtype=float).T)
    return Population(tuple(metrics), tuple(tables))


class Urn:
    """Draws users of a population, and reports of them what an event store would: moments, never rows."""

    def __init__(self, population: Population) -> None:
        self.users = len(population.numbers[0])
        # Sums of what is drawn are those of centred values: raw sums of squares would lose their digits.
        parts = [_Part(metric, table) for metric, table in zip(population.metrics, population.numbers, strict=True)]
        ends = np.cumsum([part.features.shape[1] for part in parts])
        self._parts = [(part, slice(end - part.features.shape[1], end)) for part, end in zip(parts, ends, strict=True)]
        features = np.hstack([part.features for part in parts])
        self._features = np.vstack([features, np.zeros((1, features.shape[1]))])

    def draw(self, users: Sequence[int], rng: np.random.Generator) -> Table:
        """Running sums of what `measured` needs, one row per day of so many ``users``, and one of nothing before the first."""
        starts = np.cumsum([0, *users[:-1]])
        # The last one picked is nobody, for the sake of days at the end on which nobody came.
        picked = np.append(rng.integers(self.users, size=sum(users)), self.users)
        daily = np.add.reduceat(self._features[picked], starts)
        daily[np.equal(users, 0)] = 0.0
        return np.vstack([np.zeros((1, daily.shape[1])), daily.cumsum(axis=0)])

    def everybody(self) -> Table:
        """The sums of the whole population."""
        found: Table = self._features.sum(axis=0)
        return found

    def measured(self, users: int, sums: Table) -> dict[str, Measured]:
        """Each metric of so many drawn users, from their sums."""
        return {part.metric.key: part.measured(users, sums[place]) for part, place in self._parts}


class _Part:
    """One metric's columns: 1 for users with a value, the centred numbers, and their products in the order of a triangle."""

    def __init__(self, metric: Metric, table: Table) -> None:
        self.metric = metric
        self._width = table.shape[1]
        after = table[:, :2] if metric.is_ratio else table[:, :1]
        active = (after != 0.0).any(axis=1, keepdims=True)
        # Of a single number a store reports the users with a value, of several all users.
        counted = active if self._width == 1 else np.ones_like(active)
        self._centre = (table * counted).sum(axis=0) / max(int(counted.sum()), 1)
        centred = (table - self._centre) * counted
        self._pairs = [(i, j) for i in range(self._width) for j in range(i, self._width)]
        products = [centred[:, i] * centred[:, j] for i, j in self._pairs]
        self.features = np.column_stack([active.astype(float), centred, *products])

    def measured(self, users: int, sums: Table) -> Measured:
        active = round(float(sums[0]))
        counted = active if self._width == 1 else users
        shifts = (sums[1 : 1 + self._width] / max(counted, 1)).tolist()
        m2 = {
            pair: product - counted * shifts[pair[0]] * shifts[pair[1]]
            for pair, product in zip(self._pairs, sums[1 + self._width :].tolist(), strict=True)
        }
        means = [float(centre) + shift for centre, shift in zip(self._centre, shifts, strict=True)]
        first = Moments(counted, means[0], max(m2[0, 0], 0.0)) if counted else Moments()
        if self._width == 1:
            return Measured(active, active, first.total, first)
        joint = Comoments.empty(self._width)
        if users:
            size = range(self._width)
            rows = tuple(tuple(max(m2[i, i], 0.0) if i == j else m2[min(i, j), max(i, j)] for j in size) for i in size)
            joint = Comoments(users, tuple(means), rows)
        return Measured(active, active, first.total, first, (0.0,) * self._width, joint)


def _changed_share(table: Table, lift: float, rng: np.random.Generator) -> Table:
    changed = table.copy()
    value = changed[:, 0]
    more = round(lift * float(value.sum()))
    candidates = np.flatnonzero(value == 0.0) if more > 0 else np.flatnonzero(value != 0.0)
    if abs(more) > len(candidates):
        raise ValueError(f"no share can change by {lift:+.0%} of what it is")
    value[rng.permutation(candidates)[: abs(more)]] = float(more > 0)
    return changed


def _factors(table: Table, lift: float) -> Table:
    # What happened before the exposure stays, and so does what a ratio divides by.
    factors = np.ones(table.shape[1])
    factors[0] = 1.0 + lift
    return factors
