"""What do 1,000 comparisons of a metric in a variant with control cost, from moments?

100 metrics of 10 treatments against one control, through `comparisons.compare` (test, intervals, lift, always-valid and corrected
p-values, chance to win, detectable effect), and the bare tests alone; yardstick: NumPy arithmetic of Welch's test over all 1,000
at once. Goal: ≤ 50 ms.
"""

from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks import measure
from benchmarks.measure import Measured
from benchmarks.report import Table, bounded
from upshot import experiments
from upshot.aggregation import Aggregates, Cell
from upshot.aggregation import Measured as MeasuredMetric
from upshot.analysisplan import AnalysisPlan
from upshot.arms import Arms
from upshot.comparisons import Judgement, compare
from upshot.experiments import Draft, Experiment
from upshot.metrics import Kind, Metric
from upshot.statistics import Moments, compare_means, compare_proportions
from upshot.variants import VariantDraft

ALPHA = 0.05
METRICS = 100
TREATMENTS = 10
USERS = 10_000
COMPARISONS = METRICS * TREATMENTS
JUDGEMENT = Judgement(AnalysisPlan(), ALPHA)


def run(*, quick: bool) -> Table:  # noqa: ARG001 - it is quick anyway
    """The table."""
    random = np.random.default_rng(1)
    means = random.uniform(1, 2, (METRICS, TREATMENTS + 1))
    spreads = random.uniform(1, 4, (METRICS, TREATMENTS + 1)) * USERS
    shares = random.integers(500, 1_500, (METRICS, TREATMENTS + 1))
    amounts = [
        [Moments(USERS, float(m), float(s)) for m, s in zip(*rows, strict=True)]
        for rows in zip(means, spreads, strict=True)
    ]
    counts = [[Moments.binomial(USERS, int(n)) for n in row] for row in shares]
    arms, metrics = _arms(amounts, Kind.SUM), _metrics(Kind.SUM)
    converted, conversions = _arms(counts, Kind.CONVERSION), _metrics(Kind.CONVERSION)
    contestants = {
        "means, whole comparison": lambda: compare(arms, metrics, JUDGEMENT),
        "conversions, whole comparison": lambda: compare(converted, conversions, JUDGEMENT),
        "means, test alone": lambda: [compare_means(row[0], arm, ALPHA) for row in amounts for arm in row[1:]],
        "conversions, test alone": lambda: [
            compare_proportions(row[0], arm, ALPHA) for row in counts for arm in row[1:]
        ],
        "numpy": lambda: _welch(means, spreads / (USERS - 1)),
    }
    found = measure.alternate({name: partial(measure.timed, work, COMPARISONS) for name, work in contestants.items()})
    numpy = found.pop("numpy")
    rows = [
        bounded(
            name, _millis(each), "ms", 50, f"NumPy: {_millis(numpy):.2f} ms", f"{_millis(each) / _millis(numpy):.0f}"
        )
        for name, each in found.items()
    ]
    return Table("Statistics", rows, ["The same work in one process; CPU time equals the clock's here."])


def _metrics(kind: Kind) -> list[Metric]:
    return [Metric(f"metric-{number}", kind, (f"type-{number}",)) for number in range(METRICS)]


def _arms(moments: list[list[Moments]], kind: Kind) -> Arms:
    measured = {
        (Cell(position, 1), metric.key): MeasuredMetric(USERS, USERS, found.total, found)
        for metric, row in zip(_metrics(kind), moments, strict=True)
        for position, found in enumerate(row)
    }
    exposed = {Cell(position, 1): USERS for position in range(TREATMENTS + 1)}
    return Arms(_experiment(), Aggregates(exposed=exposed, measured=measured))


def _experiment() -> Experiment:
    variants = [VariantDraft(f"arm-{number}") for number in range(TREATMENTS + 1)]
    numbers = iter(range(1_000))
    return experiments.create(Draft(name="Benchmark", variants=variants), datetime.now(UTC), lambda: str(next(numbers)))


def _welch(means: NDArray[np.float64], variances: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Difference, p-value, both ends of the interval."""
    difference = means[:, 1:] - means[:, :1]
    of_control, of_treatment = variances[:, :1] / USERS, variances[:, 1:] / USERS
    error = np.sqrt(of_control + of_treatment)
    freedom = (of_control + of_treatment) ** 2 / ((of_control**2 + of_treatment**2) / (USERS - 1))
    p_value = 2 * special.stdtr(freedom, -np.abs(difference / error))
    reach = special.stdtrit(freedom, 1 - ALPHA / 2) * error
    return [difference, p_value, difference - reach, difference + reach]


def _millis(found: Measured) -> float:
    return 1e3 * found.seconds
