"""Simulated experiments, looked at every day by the code that judges real ones.

Each run is an experiment without an effect, and one with: users come, are divided by chance, have the numbers of users of a
population, and what an event store would report of them goes to `results.report`. What a result says is counted; how often
it may say so is known, because the truth is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from upshot import results
from upshot.analysisplan import Stopping
from upshot.arms import Arms
from upshot.calibration import store
from upshot.calibration.checks import Check, at_most, exactly, unpromised
from upshot.calibration.design import ALPHA, Design, experiment_of, looks_of, question_of
from upshot.calibration.planning import lift_shown, power_at
from upshot.calibration.population import Urn
from upshot.report import Comparison
from upshot.results import Seen
from upshot.statistics import ALERT, Interval, Moments

WORDS = (("significant", 0.05), ("high", 0.05), ("medium", 0.10), ("low", 0.80))
"""How often each word is said of an experiment without an effect, at its planned end (statistics.md 2.17)."""

SAMPLE_RATIO = "sample ratio"

Happened = set[tuple[str, str]]
"""What happened in a run, and in which metric."""

Tally = Counter[tuple[str, str]]
"""In how many runs it happened."""


class Simulation:
    """The experiment that all runs share, under each way of stopping, and the truth about its metrics.

    Raises ValueError for a population without an effect that the planned size could find, or without the lift asked for.
    """

    def __init__(self, design: Design) -> None:
        self._design = design
        self._metrics = design.population.metrics
        self._watched = experiment_of(design, Stopping.ALWAYS_VALID)
        self._planned = experiment_of(design, Stopping.GROUP_SEQUENTIAL)
        self._once = experiment_of(design, Stopping.FIXED)
        self._questions = [question_of(design, day) for day in range(1, design.days + 1)]
        self._looks = list(looks_of(design, self._planned))
        self._urn = Urn(design.population)
        users, share = design.users, design.treatment_share
        alike = zip(self._metrics, self._truth(self._urn), strict=True)
        self._lifts = [
            lift_shown(metric, control, users, share, ALPHA) if design.lift is None else design.lift
            for metric, (control, _) in alike
        ]
        self._treated = Urn(design.population.lifted(self._lifts, np.random.default_rng(design.seed)))
        self._pairs = self._truth(self._treated)
        self._powers = [
            power_at(metric, *pair, users, share, ALPHA)
            for metric, pair in zip(self._metrics, self._pairs, strict=True)
        ]

    def tally(self, runs: range) -> Tally:
        """What happened in these runs; a run's numbers follow from the seed and its place, in whatever order runs are made."""
        tally = Tally()
        for run in runs:
            rng = np.random.default_rng([self._design.seed, run])
            tally.update(self._without_effect(rng))
            tally.update(self._with_effect(rng))
        return tally

    def checks(self, tally: Tally) -> Iterator[Check]:
        """What was counted in all runs, beside what was promised."""
        runs = self._design.simulations
        for place, metric in enumerate(self._metrics):
            yield from _alarms(metric.key, tally, runs)
            yield from _words(metric.key, tally, runs)
            yield from _coverage(metric.key, tally, runs)
            if self._design.ramp is None and self._powers[place] < 1.0:
                name = f"lift of {self._lifts[place]:+.1%} found at the end"
                yield exactly(metric.key, name, tally["found", metric.key], runs, self._powers[place])
        yield at_most(SAMPLE_RATIO, "alarm at any look", tally["mismatch watched", ""], runs, ALERT)
        yield exactly(SAMPLE_RATIO, "chi-squared alarm at the end", tally["mismatch once", ""], runs, ALERT)

    def _without_effect(self, rng: np.random.Generator) -> Happened:
        """What the results of one experiment without an effect said, at any look and at the end."""
        found = store.filled(self._design, self._urn, self._urn, rng)
        happened: Happened = set()
        for day, (question, look) in enumerate(zip(self._questions, self._looks, strict=True), start=1):
            aggregates = found.aggregates(day)
            watched = results.report(self._watched, question, aggregates)
            happened.update(_while_watched(watched.comparisons))
            if watched.health.sample_ratio.ok is False:
                happened.add(("mismatch watched", ""))
            seen = replace(question, seen=Seen(look, aggregates))
            looked = results.report(self._planned, seen, aggregates)
            happened.update(("crossed", c.metric) for c in looked.comparisons if c.significant)
        ended = results.report(self._once, self._questions[-1], aggregates)
        happened.update((f"ended {c.confidence}", c.metric) for c in ended.comparisons)
        happened.update(("false at the end", c.metric) for c in ended.comparisons if c.significant)
        p_value = ended.health.sample_ratio.p_value
        if p_value is not None and p_value < ALERT:
            happened.add(("mismatch once", ""))
        return happened

    def _with_effect(self, rng: np.random.Generator) -> Happened:
        """What the result of one experiment with an effect said at its end."""
        aggregates = store.filled(self._design, self._urn, self._treated, rng).aggregates(self._design.days)
        found = results.report(self._once, self._questions[-1], aggregates)
        happened: Happened = set()
        for comparison, (control, treatment) in zip(found.comparisons, self._pairs, strict=True):
            difference = treatment.mean - control.mean
            if comparison.significant:
                happened.add(("found", comparison.metric))
            if _covers(comparison.interval, difference):
                happened.add(("difference covered", comparison.metric))
            if _covers(comparison.relative_interval, difference / abs(control.mean)):
                happened.add(("lift covered", comparison.metric))
        return happened

    def _truth(self, treated: Urn) -> list[tuple[Moments, Moments]]:
        """Moments per user of control and treatment in each metric, as the analysis of everybody sees them."""
        arms = Arms(self._once, store.everybody((self._urn, treated)))
        treatment = self._once.variants[1]
        found = []
        for metric in self._metrics:
            [(one, other)], _ = arms.strata(treatment, metric)
            if one is None or other is None:
                raise ValueError(f"{metric.key} has nothing to divide by")
            found.append((one, other))
        return found


def _while_watched(comparisons: Iterable[Comparison]) -> Iterator[tuple[str, str]]:
    """What an always-valid result says at one look; and what an ordinary p-value would."""
    for comparison in comparisons:
        if comparison.significant:
            yield "watched", comparison.metric
        if comparison.confidence in {"significant", "high"}:
            yield "ever high", comparison.metric
        if comparison.confidence in {"significant", "high", "medium"}:
            yield "ever medium", comparison.metric
        if comparison.p_value is not None and comparison.p_value <= ALPHA:
            yield "peeked", comparison.metric


def _alarms(key: str, tally: Tally, runs: int) -> Iterator[Check]:
    yield at_most(key, "false alarm, always_valid", tally["watched", key], runs, ALPHA)
    yield exactly(key, "false alarm, group_sequential", tally["crossed", key], runs, ALPHA)
    yield exactly(key, "false alarm, fixed at the end", tally["false at the end", key], runs, ALPHA)
    yield unpromised(key, "p <= .05 at any look (peeking)", tally["peeked", key], runs)


def _words(key: str, tally: Tally, runs: int) -> Iterator[Check]:
    for word, rate in WORDS:
        yield exactly(key, f'"{word}" at the end', tally[f"ended {word}", key], runs, rate)
    yield at_most(key, '"high" or more at any look', tally["ever high", key], runs, 0.10)
    yield at_most(key, '"medium" or more at any look', tally["ever medium", key], runs, 0.20)


def _coverage(key: str, tally: Tally, runs: int) -> Iterator[Check]:
    yield exactly(key, "interval covers the difference", tally["difference covered", key], runs, 1 - ALPHA)
    yield exactly(key, "interval covers the lift", tally["lift covered", key], runs, 1 - ALPHA)


def _covers(interval: Interval | None, truth: float) -> bool:
    """Whether an interval holds the truth; one that is not there, or unbounded, rules nothing out."""
    if interval is None:
        return True
    return (interval.lower is None or interval.lower <= truth) and (interval.upper is None or truth <= interval.upper)
