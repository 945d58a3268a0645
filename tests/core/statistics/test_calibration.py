"""Two thousand experiments without any effect: alarms stay at 5 %, and broken variants are seen to break.

The accepted counts, 69 to 133 alarms, are the exact binomial 99.9 % band; seeds are fixed.
"""

import math
from collections.abc import Callable

import numpy as np

from upshot.statistics.comparison import Effect, compare_means, compare_proportions
from upshot.statistics.moments import Moments
from upshot.statistics.sequential import always_valid_critical_value
from upshot.statistics.strata import compare_strata
from upshot.statistics.tails import normal_critical_value, normal_p_value

RUNS, ALPHA = 2_000, 0.05
BAND = range(69, 134)
PHASES = ((9_000, 1_000, 0.05), (2_000, 2_000, 0.2))
RARE = ((9_000, 1_000, 0.005), (9_500, 500, 0.005))
Verdict = Callable[[Moments, Moments], float | None]


def alarms(p_values: list[float | None]) -> int:
    """How many runs were called significant."""
    return sum(p is not None and p <= ALPHA for p in p_values)


def unbalanced_alarms(verdict: Verdict) -> int:
    """Alarms over rare conversions (.5 %) in a 9000/1000 split."""
    rng = np.random.default_rng(20_260_701)
    control, treatment = rng.binomial(9_000, 0.005, RUNS), rng.binomial(1_000, 0.005, RUNS)
    pairs = zip(control.tolist(), treatment.tolist(), strict=True)
    return alarms([verdict(Moments.binomial(9_000, a), Moments.binomial(1_000, b)) for a, b in pairs])


def unpooled_p_value(control: Moments, treatment: Moments) -> float | None:
    """The broken variant: each arm's own variance instead of the pooled one."""
    p0, p1 = control.mean, treatment.mean
    variance = p0 * (1 - p0) / control.n + p1 * (1 - p1) / treatment.n
    return normal_p_value((p1 - p0) / math.sqrt(variance)) if variance > 0 else None


def test_rare_conversions_in_an_unequal_split_alarm_at_the_level() -> None:
    """The pooled z-test stays within the band at .5 % conversions in a 90/10 split."""
    assert unbalanced_alarms(lambda a, b: compare_proportions(a, b, ALPHA).p_value) in BAND


def test_the_unpooled_variance_falls_out_of_the_band() -> None:
    """The same simulation catches the unpooled variance, which alarms in 8 % of the runs."""
    assert unbalanced_alarms(unpooled_p_value) > BAND[-1]


def small_sample_effects() -> list[Effect]:
    """Welch comparisons of 4 against 6 normal users with unequal variances and no effect."""
    rng = np.random.default_rng(7)
    control, treatment = rng.normal(10, 1, (RUNS, 4)).tolist(), rng.normal(10, 2, (RUNS, 6)).tolist()
    pairs = zip(control, treatment, strict=True)
    return [compare_means(Moments.of(a), Moments.of(b), ALPHA) for a, b in pairs]


def test_small_samples_of_means_alarm_at_the_level() -> None:
    """Welch's test stays within the band with a handful of users; the normal quantile there does not."""
    effects = small_sample_effects()
    assert alarms([effect.p_value for effect in effects]) in BAND
    assert alarms([normal_p_value(effect.statistic or 0.0) for effect in effects]) > BAND[-1]


def phase_runs(phases: tuple[tuple[int, int, float], ...] = PHASES) -> list[list[tuple[Moments, Moments]]]:
    """Two phases per run whose allocation and base rate both change, without any effect."""
    rng = np.random.default_rng(11)
    drawn = [(rng.binomial(n0, p, RUNS).tolist(), rng.binomial(n1, p, RUNS).tolist(), n0, n1) for n0, n1, p in phases]
    return [
        [(Moments.binomial(n0, a[run]), Moments.binomial(n1, b[run])) for a, b, n0, n1 in drawn] for run in range(RUNS)
    ]


def test_phases_with_other_allocations_alarm_at_the_level() -> None:
    """The stratified test stays within the band where pooling the phases alarms nearly always."""
    runs = phase_runs()
    assert alarms([compare_strata(run, ALPHA).p_value for run in runs]) in BAND
    pooled = [compare_means(one[0] + two[0], one[1] + two[1], ALPHA).p_value for one, two in runs]
    assert alarms(pooled) > RUNS // 2


def test_rare_conversions_over_unequal_phases_alarm_at_the_level() -> None:
    """With the pooled variance of each phase the test stays within the band; with each arm's own it does not."""
    runs = phase_runs(RARE)
    assert alarms([compare_strata(run, ALPHA, proportions=True).p_value for run in runs]) in BAND
    assert alarms([compare_strata(run, ALPHA).p_value for run in runs]) > BAND[-1]


def test_always_valid_looks_may_be_taken_every_day() -> None:
    """Watched on 28 days, the always-valid test alarms in at most 5 % of runs, the fixed one in over 20 %."""
    rng = np.random.default_rng(28)
    per_day, days, rate = 1_000, 28, 0.05
    counts = rng.binomial(per_day, rate, (2, RUNS, days)).cumsum(axis=2)
    users = per_day * np.arange(1, days + 1)
    pooled = counts.sum(axis=0) / (2 * users)
    z = np.abs((counts[1] - counts[0]) / users) / np.sqrt(pooled * (1 - pooled) * 2 / users)
    limits = np.array([always_valid_critical_value(2 * int(n), ALPHA, 10_000) for n in users])
    assert int((z >= limits).any(axis=1).sum()) <= BAND[-1]
    assert int((z >= normal_critical_value(ALPHA)).any(axis=1).sum()) > 0.2 * RUNS


def test_score_intervals_cover_the_truth() -> None:
    """At 30 against 45 expected conversions both score intervals miss the truth in about 5 % of the runs."""
    rng = np.random.default_rng(3)
    control, treatment = rng.binomial(3_000, 0.01, RUNS).tolist(), rng.binomial(3_000, 0.015, RUNS).tolist()
    missed_difference = missed_lift = missed_narrow = 0
    for a, b in zip(control, treatment, strict=True):
        arms = Moments.binomial(3_000, a), Moments.binomial(3_000, b)
        effect, narrow = compare_proportions(*arms, ALPHA), compare_proportions(*arms, 2 * ALPHA)
        assert effect.absolute_interval is not None
        assert effect.relative_interval is not None
        assert narrow.absolute_interval is not None
        missed_difference += not (effect.absolute_interval.lower or 0) <= 0.005 <= (effect.absolute_interval.upper or 0)
        missed_lift += not (effect.relative_interval.lower or 0) <= 0.5 <= (effect.relative_interval.upper or 0)
        missed_narrow += not (narrow.absolute_interval.lower or 0) <= 0.005 <= (narrow.absolute_interval.upper or 0)
    assert missed_difference in BAND
    assert missed_lift in BAND
    assert missed_narrow > BAND[-1]
