"""What is believed of a comparison: exact where few converted, under a stated prior where the plan has one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import experiments, posteriors
from upshot.aggregation import Aggregates, Cell, Measured, Ordered
from upshot.analysisplan import plan_of
from upshot.arms import Arms
from upshot.comparisons import Judgement, compare
from upshot.experiments import Draft
from upshot.metrics import Direction, Kind, Metric
from upshot.posteriors import FLAT, UNIFORM_SHARES, chances_to_be_best
from upshot.report import Comparison, Informed
from upshot.statistics import Interval, Moments
from upshot.variants import VariantDraft

BUY = Metric("buy", Kind.CONVERSION, ("buy",))
SPEND = Metric("spend", Kind.SUM, ("buy",))


def arms_of(metric: Metric, *phases: Sequence[Moments]) -> Arms:
    """Arms in phases, of so many users with these moments."""
    variants = [VariantDraft(f"arm-{place}") for place in range(len(phases[0]))]
    numbers = iter(range(100))
    draft = Draft(name="Test", variants=variants)
    experiment = experiments.create(draft, datetime(2026, 1, 1, tzinfo=UTC), lambda: str(next(numbers)))
    cells = {Cell(place, phase): arm for phase, arms in enumerate(phases, 1) for place, arm in enumerate(arms)}
    measured = {(cell, metric.key): Measured(arm.n, arm.n, arm.total, arm) for cell, arm in cells.items()}
    return Arms(experiment, Aggregates({cell: arm.n for cell, arm in cells.items()}, measured=measured))


def shares(*counts: tuple[int, int]) -> Arms:
    """Arms of (users, converted)."""
    return arms_of(BUY, [Moments.binomial(*each) for each in counts])


def compared(arms: Arms, metric: Metric = BUY, plan: dict[str, Any] | None = None, *, whole: bool = True) -> Comparison:
    """The first variant against control."""
    judgement = Judgement(plan_of(plan), 0.05, whole=whole)
    return compare(arms, [metric], judgement)[0]


def ends(interval: Interval | None) -> tuple[float, float]:
    """Both ends of an interval that has two."""
    assert interval is not None
    assert interval.lower is not None
    assert interval.upper is not None
    return interval.lower, interval.upper


def test_few_conversions_are_believed_exactly() -> None:
    """3 of 100 against 9 of 100: chance, losses and intervals are those of draws from both posteriors; the normal ones,
    which parts of the data make do with, are not."""
    arms = shares((100, 3), (100, 9))
    rng = np.random.default_rng(3)
    control, treatment = rng.beta(4, 98, 400_000), rng.beta(10, 92, 400_000)

    found, rough = compared(arms), compared(arms, whole=False)

    assert (found.prior, rough.prior) == (UNIFORM_SHARES, FLAT)
    assert found.chance_to_beat_control == pytest.approx((treatment > control).mean(), abs=2e-3)
    assert found.expected_loss == pytest.approx(np.maximum(control - treatment, 0).mean(), abs=2e-4)
    assert found.expected_loss_of_control == pytest.approx(np.maximum(treatment - control, 0).mean(), abs=2e-4)
    difference, lift = (np.quantile(each, [0.025, 0.975]) for each in (treatment - control, treatment / control - 1))
    assert ends(found.credible_interval) == pytest.approx(tuple(difference), abs=1e-3)
    assert ends(found.credible_relative_interval) == pytest.approx(tuple(lift), rel=0.03)
    assert ends(rough.credible_interval) != pytest.approx(tuple(difference), abs=1e-3)


def test_many_conversions_are_normal() -> None:
    """With 100 users who did and did not convert in each arm the two posteriors agree: nothing jumps between them."""
    few, many = compared(shares((10_000, 99), (10_000, 130))), compared(shares((10_000, 100), (10_000, 130)))

    assert (few.prior, many.prior) == (UNIFORM_SHARES, FLAT)
    assert few.chance_to_beat_control == pytest.approx(many.chance_to_beat_control or 0, abs=0.01)
    assert ends(few.credible_interval) == pytest.approx(ends(many.credible_interval), abs=3e-4)


@pytest.mark.parametrize("counts", [((100, 3), (100, 9)), ((10_000, 500), (10_000, 600))])
def test_lower_may_be_better(counts: tuple[tuple[int, int], ...]) -> None:
    """Then the chance is the other one, and the losses change places; intervals do not turn."""
    up, down = compared(shares(*counts)), compared(shares(*counts), replace(BUY, direction=Direction.DECREASE))

    assert up.chance_to_beat_control is not None
    assert down.chance_to_beat_control == pytest.approx(1 - up.chance_to_beat_control)
    assert (down.expected_loss, down.expected_loss_of_control) == (up.expected_loss_of_control, up.expected_loss)
    assert (down.credible_interval, down.credible_relative_interval) == (
        up.credible_interval,
        up.credible_relative_interval,
    )
    assert (up.improves, down.improves) == (True, False)


def informed(deviation: float, metric: Metric = SPEND, mean: float = 10.5) -> Informed:
    """5,000 users per arm who spend 10 ± 10 and `mean` ± 10, under a prior."""
    arms = arms_of(metric, [Moments(5_000, 10.0, 499_900.0), Moments(5_000, mean, 499_900.0)])
    found = compared(arms, metric, {"prior_lift_sd": deviation}).informed
    assert found is not None
    return found


def test_a_prior_draws_the_lift_towards_nothing() -> None:
    """A sceptical prior halves a lift whose error is as wide as it; a vague one leaves the data alone."""
    error = math.sqrt(100 / 5_000 * (1 + 1.05**2)) / 10

    assert informed(error).lift == pytest.approx(0.025)
    assert informed(10.0).lift == pytest.approx(0.05, rel=1e-4)
    low, high = ends(informed(error).credible_interval)
    assert high - low == pytest.approx(2 * 1.959964 * error / math.sqrt(2), rel=1e-6)
    assert 0.5 < informed(error).chance_to_beat_control < informed(10.0).chance_to_beat_control


def test_a_prior_knows_the_direction() -> None:
    """Where lower is better the same lift is a loss; the lift and its interval stay as they are."""
    up, down = informed(0.1), informed(0.1, replace(SPEND, direction=Direction.DECREASE))

    assert down.lift == pytest.approx(up.lift)
    assert ends(down.credible_interval) == pytest.approx(ends(up.credible_interval))
    assert down.chance_to_beat_control == pytest.approx(1 - up.chance_to_beat_control)
    assert down.expected_loss == pytest.approx(up.expected_loss_of_control)


def test_without_a_prior_or_a_lift_nothing_is_informed() -> None:
    """No plan, no opinion; and of a baseline that cannot be told from 0 there is no lift to have one about."""
    spending = [Moments(5_000, 10.0, 499_900.0), Moments(5_000, 10.5, 499_900.0)]
    noisy = [Moments(5_000, 0.01, 499_900.0), Moments(5_000, 0.5, 499_900.0)]

    assert compared(arms_of(SPEND, spending), SPEND).informed is None
    found = compared(arms_of(SPEND, noisy), SPEND, {"prior_lift_sd": 0.1})
    assert (found.informed, found.credible_relative_interval, found.reason) == (None, None, "unbounded")
    assert found.credible_interval is not None


def test_an_arm_without_conversions_can_be_the_best() -> None:
    """Few who convert are enough for a chance to be best, of the exact posteriors; without a user there is none."""
    chances = chances_to_be_best(shares((50, 0), (50, 3), (50, 6)), BUY)

    rng = np.random.default_rng(5)
    drawn = np.stack([rng.beta(1 + x, 51 - x, 200_000) for x in (0, 3, 6)])
    best = np.bincount(drawn.argmax(axis=0), minlength=3) / 200_000
    assert [chances[place] for place in range(3)] == pytest.approx(best.tolist(), abs=3e-3)
    assert chances_to_be_best(shares((0, 0), (50, 3)), BUY) == {}


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_better_arm_is_more_probably_the_best(one: int, other: int) -> None:
    """On either side of the border between exact and normal posteriors."""
    chances = chances_to_be_best(shares((1_000, one), (1_000, other)), BUY)

    if chances and one != other:
        assert (chances[0] > chances[1]) is (one > other)
        assert sum(chances.values()) == pytest.approx(1)


def test_a_border_of_its_own_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With normal posteriors for everybody, an arm without conversions has no chance at all."""
    monkeypatch.setattr(posteriors, "FEW", 0)

    assert chances_to_be_best(shares((50, 0), (50, 3)), BUY) == {}
    assert compared(shares((100, 3), (100, 9))).prior == FLAT


def test_quantiles_of_phases_are_averaged() -> None:
    """An arm's value is the mean of its quantiles over the shares of users that the phases have, not one phase's own."""
    latency = Metric("latency", Kind.QUANTILE, ("load",), amount=0.5)
    ordered = {
        phase: Ordered(users, users, (450, 500, 550), (value - 1.0, value, value + 1.0), None)
        for phase, users, value in ((1, 1_000, 10.0), (2, 3_000, 30.0))
    }
    arms = arms_of(latency, *([Moments(500), Moments(500)], [Moments(1_500), Moments(1_500)]))
    aggregates = Aggregates(
        {Cell(place, phase): 500 if phase == 1 else 1_500 for place in (0, 1) for phase in (1, 2)},
        measured={
            (Cell(place, phase), "latency"): Measured(500, 500, 0.0, Moments(), ordered=found)
            for place in (0, 1)
            for phase, found in ordered.items()
        },
    )
    arms = Arms(arms.experiment, aggregates)

    value = arms.value(arms.experiment.control, latency, 0.05)

    assert value.value == pytest.approx(0.25 * 10 + 0.75 * 30)
    low, high = ends(value.interval)
    assert high - low == pytest.approx(2 * math.hypot(0.25, 0.75), rel=0.01)


def test_a_share_has_an_interval_for_every_look() -> None:
    """Where it is asked for: wider than that of one look, and of shares alone."""
    arms = shares((1_000, 50), (1_000, 60))
    control = arms.experiment.control

    once, watched = arms.value(control, BUY, 0.05), arms.value(control, BUY, 0.05, tightest=5_000)

    assert once.always_valid_interval is None
    (low, high), (lowest, highest) = ends(watched.interval), ends(watched.always_valid_interval)
    assert lowest < low < 0.05 < high < highest
    assert arms_of(SPEND, [Moments(10, 1.0, 5.0)] * 2).value(control, SPEND, 0.05, 5_000).always_valid_interval is None
