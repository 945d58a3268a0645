"""Corrections for many questions: frozen adjusted p-values, their definitions, and error rates in null families."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.statistics.calibration import binomial_band
from upshot.statistics.multiplicity import benjamini_hochberg, holm
from upshot.statistics.tails import normal_p_value

Case = dict[str, Any]

COVERED = {"test_adjusted_p_values_equal_the_oracle": ("multiple_comparisons",)}
OFFERED = {"holm": holm, "bh": benjamini_hochberg}
RUNS, LEVEL = 2_000, 0.05

p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)


def test_adjusted_p_values_equal_the_oracle(case: Case) -> None:
    """Holm's and Benjamini-Hochberg's equal the oracle, and no correction passes for another of the same p-values."""
    raw, correction = case["inputs"]["p_values"], case["params"]["correction"]
    oracle = pytest.approx(case["expected"]["p_adjusted"], rel=1e-9, abs=0)
    for name, adjust in OFFERED.items():
        assert (adjust(raw) == oracle) == (name == correction or len(raw) == 1)


def test_the_published_discoveries_are_made() -> None:
    """The example of Benjamini & Hochberg (1995, section 3.2): four discoveries at 5 %, three with Bonferroni's steps."""
    raw: list[float | None] = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000),
    ]
    assert [found(adjust(raw), LEVEL) for adjust in (benjamini_hochberg, holm)] == [4, 3]


def found(adjusted: Sequence[float | None], level: float) -> int:
    """How many questions are answered at this level."""
    return sum(p is not None and p <= level for p in adjusted)


def step_up(raw: list[float], level: float) -> int:
    """Benjamini & Hochberg's rule itself: the largest i with p_(i) <= i q / m."""
    ranked = sorted(raw)
    return max((i for i, p in enumerate(ranked, 1) if p <= i * level / len(ranked)), default=0)


@given(st.lists(st.integers(0, 1000).map(lambda mils: mils / 1000), min_size=1, max_size=12), st.integers(1, 999))
def test_adjusted_values_make_the_rule_of_the_discoveries(raw: list[float], mils: int) -> None:
    """An adjusted value is at most q exactly where the step-up rule rejects; q is kept off the ties of the grid."""
    level = mils / 1000 + 0.0000137
    assert found(benjamini_hochberg(raw), level) == step_up(raw, level)


@given(p_values)
def test_the_false_discovery_rate_is_never_dearer_than_the_family_wise_error(raw: list[float | None]) -> None:
    """Raw <= Benjamini-Hochberg <= Holm for each question; absent ones stay absent and do not count."""
    discovery, family = benjamini_hochberg(raw), holm(raw)
    assert [p is None for p in raw] == [p is None for p in discovery]
    rows = [
        (p, a, b) for p, a, b in zip(raw, discovery, family, strict=True) if not (p is None or a is None or b is None)
    ]
    assert all(p <= a <= b * (1 + 1e-12) for p, a, b in rows)
    assert [a for a in discovery if a is not None] == benjamini_hochberg([p for p in raw if p is not None])
    ranked = sorted(rows)
    assert [a for _, a, _ in ranked] == sorted(a for _, a, _ in ranked)


@given(st.lists(st.floats(0, 1), max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_matter(raw: list[float], rng: Any) -> None:
    """Each question gets the same adjusted value wherever it stands."""
    order = list(range(len(raw)))
    rng.shuffle(order)
    for adjust in OFFERED.values():
        adjusted = adjust(raw)
        assert adjust([raw[index] for index in order]) == [adjusted[index] for index in order]


def test_what_is_no_p_value_is_refused() -> None:
    """Values outside [0, 1] raise."""
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            benjamini_hochberg([0.5, value])


def families(effects: list[float], correlation: float) -> list[list[float]]:
    """p-values of metrics that share part of their noise, one list per run."""
    rng = np.random.default_rng(11)
    shared = rng.normal(size=(RUNS, 1)) * correlation**0.5
    z = shared + rng.normal(size=(RUNS, len(effects))) * (1 - correlation) ** 0.5 + np.array(effects)
    return [[normal_p_value(value) for value in run] for run in z.tolist()]


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_ten_metrics_without_effects_raise_no_more_alarms_than_one(correlation: float) -> None:
    """Any false alarm happens in at most 5 % of runs with either correction, and in far more without one."""
    runs = families([0.0] * 10, correlation)
    limit = binomial_band(RUNS, LEVEL).count_high
    for adjust in OFFERED.values():
        assert sum(found(adjust(run), LEVEL) > 0 for run in runs) <= limit
    assert sum(found(run, LEVEL) > 0 for run in runs) > 2 * limit


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_few_discoveries_are_false(correlation: float) -> None:
    """With 5 real effects of 10, the share of false discoveries stays below half of 5 %; uncorrected it does not.

    Holm's bounds hold too, and cost discoveries.
    """
    runs = families([3.0] * 5 + [0.0] * 5, correlation)

    def false_share(decisions: list[list[float | None]]) -> float:
        shares = [found(run[5:], LEVEL) / max(found(run, LEVEL), 1) for run in decisions]
        return sum(shares) / RUNS

    discoveries, familywise = ([adjust(run) for run in runs] for adjust in (benjamini_hochberg, holm))
    assert false_share(discoveries) <= 0.025 * 1.2
    assert false_share([list(run) for run in runs]) > 0.035
    assert sum(found(run, LEVEL) for run in familywise) < sum(found(run, LEVEL) for run in discoveries)
