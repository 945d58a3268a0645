"""`upshot calibrate` from the inside: what is drawn, what is reported of it, what is counted, and broken code that is caught."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from upshot import statistics
from upshot.analysisplan import Stopping
from upshot.calibration import Design, Population, Simulation, at_most, exactly, resampled, synthetic, unpromised
from upshot.calibration.design import ALPHA, experiment_of, looks_of
from upshot.calibration.planning import lift_shown, power_at, users_of
from upshot.calibration.population import Urn
from upshot.calibration.store import filled
from upshot.metrics import Kind, Metric
from upshot.statistics import Comoments, Moments
from upshot.statistics.tails import normal_p_value

BOTH = (Kind.CONVERSION, Kind.SUM)


def made_up(baseline: float = 0.05, *kinds: Kind) -> Population:
    """A population whose users were made up."""
    return synthetic(baseline, kinds or BOTH, np.random.default_rng(1))


def real(users: int = 500) -> Population:
    """A population of real users: a share, and a ratio with what was before."""
    rng = np.random.default_rng(2)
    sessions = 1.0 + rng.poisson(3, users)
    before = 1.0 + rng.poisson(3, users)
    columns = {
        "buy": (rng.random(users) < 0.3).astype(float).tolist(),
        "clicks": rng.binomial(sessions.astype(int), 0.2).astype(float).tolist(),
        "clicks.denominator": sessions.tolist(),
        "clicks.before": rng.binomial(before.astype(int), 0.2).astype(float).tolist(),
        "clicks.before_denominator": before.tolist(),
    }
    return resampled([Metric("buy", Kind.CONVERSION), Metric("clicks", Kind.RATIO)], columns)


def close(expected: float) -> object:
    """Equality but for rounding."""
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_promise_is_kept_within_its_bounds() -> None:
    """The protocol's 69 to 133 of 2000; a limit has no lower bound, and what nobody promises is no fault."""
    exact = exactly("m", "alarms", 69, 2_000, 0.05)
    assert (exact.low, exact.high, exact.rate, exact.inside, exact.is_limit) == (69, 133, 0.0345, True, False)
    assert not exactly("m", "alarms", 134, 2_000, 0.05).inside
    assert not exactly("m", "alarms", 68, 2_000, 0.05).inside
    assert at_most("m", "alarms", 0, 2_000, 0.05).inside
    assert not at_most("m", "alarms", 134, 2_000, 0.05).inside
    assert unpromised("m", "alarms", 2_000, 2_000).inside is None


@pytest.mark.parametrize("population", [made_up(0.3), real()], ids=["made up", "real"])
def test_what_is_reported_are_the_moments_of_those_drawn(population: Population) -> None:
    """Counts, moments and products of every day so far equal those of the rows; a day may bring nobody."""
    urn, days = Urn(population), [40, 0, 25, 0]
    sums = urn.draw(days, np.random.default_rng(3))
    picked = np.random.default_rng(3).integers(urn.users, size=65)

    for day, drawn in enumerate(np.cumsum([0, *days])):
        found = urn.measured(int(drawn), sums[day])
        for metric, table in zip(population.metrics, population.numbers, strict=True):
            rows: NDArray[np.float64] = table[picked[:drawn]]
            measured = found[metric.key]
            assert measured.users == np.count_nonzero(rows[:, : 2 if metric.is_ratio else 1].any(axis=1))
            assert measured.total == close(float(rows[:, 0].sum()))
            expected = Moments.of(rows[:, 0].tolist())
            padded = measured.moments.padded(int(drawn))
            assert (padded.n, padded.mean, padded.m2) == (expected.n, close(expected.mean), close(expected.m2))
            if measured.joint is not None and drawn:
                joint = Comoments.of(rows.tolist())
                assert measured.joint.means == pytest.approx(joint.means)
                np.testing.assert_allclose(measured.joint.m2, joint.m2, atol=1e-9)


def test_a_treatment_is_higher_by_its_lift() -> None:
    """Shares by users who take the step, or no longer do; others by a factor, but not what was before or what divides."""
    rng = np.random.default_rng(4)
    for lift in (0.2, -0.5):
        before, after = made_up(), made_up().lifted([lift, lift], rng)
        for old, new in zip(before.numbers, after.numbers, strict=True):
            assert new.mean() / old.mean() - 1 == pytest.approx(lift, abs=2e-4)
        assert set(np.unique(after.numbers[0])) == {0.0, 1.0}
    plain, lifted = real(), real().lifted([0.0, 0.5], rng)
    np.testing.assert_array_equal(lifted.numbers[0], plain.numbers[0])
    np.testing.assert_array_equal(lifted.numbers[1], plain.numbers[1] * [1.5, 1, 1, 1])
    with pytest.raises(ValueError, match="no share"):
        made_up(0.6).lifted([0.9, 0.9], rng)


def test_what_cannot_be_drawn_is_refused() -> None:
    """No baseline, no column, a quantile, a single user."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: made_up(0.0),
        lambda: resampled([Metric("buy", Kind.CONVERSION)], {"other": [0.0, 1.0]}),
        lambda: resampled([Metric("p90", Kind.QUANTILE)], {"p90": [0.0, 1.0]}),
        lambda: resampled([Metric("buy", Kind.CONVERSION)], {"buy": [1.0]}),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"baseline|no number|two users"):
            call()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_lift_shown_is_the_one_that_was_planned_for(kind: Kind, share: float) -> None:
    """As many users as planned find it with 80 %, one hundredth less needs more; twice the lift is found nearly always."""
    metric = Metric("m", kind)
    control = Moments.binomial(10_000, 500) if kind is Kind.CONVERSION else Moments(10_000, 2.0, 90_000.0)
    lift = lift_shown(metric, control, 20_000, share, ALPHA)

    def treated(lift: float) -> Moments:
        return Moments(10_000, control.mean * (1 + lift), control.m2 * (1 + lift) ** 2)

    assert users_of(metric, control, treated(lift), share, ALPHA, 0.8) <= 20_000
    assert users_of(metric, control, treated(0.99 * lift), share, ALPHA, 0.8) > 20_000
    assert power_at(metric, control, treated(lift), 20_000, share, ALPHA) == pytest.approx(0.8, abs=1e-3)
    assert power_at(metric, control, treated(2 * lift), 20_000, share, ALPHA) > 0.99
    assert power_at(metric, control, treated(-lift), 20_000, share, ALPHA) > 0.5


def test_too_few_users_show_no_lift() -> None:
    """A share cannot pass 1, and what does not vary cannot be lifted."""
    with pytest.raises(ValueError, match="too few"):
        lift_shown(Metric("m", Kind.CONVERSION), Moments.binomial(100, 90), 20, 0.5, ALPHA)
    with pytest.raises(ValueError, match="no variance"):
        lift_shown(Metric("m", Kind.SUM), Moments(100, 1.0, 0.0), 20, 0.5, ALPHA)


def test_a_store_reports_arms_phases_and_days() -> None:
    """Users of each day in the split of its phase; the plan is complete at the end of the last day."""
    design = Design(made_up(), days=6, users_per_day=1_000, split=(50, 50), ramp=(90, 10))
    experiment = experiment_of(design, Stopping.GROUP_SEQUENTIAL)
    urn = Urn(design.population)
    store = filled(design, urn, urn, np.random.default_rng(5))

    assert [dict(phase.weights) for phase in experiment.phases] == [{0: 9, 1: 1}, {0: 1, 1: 1}]
    assert [sum(store.aggregates(day).exposed.values()) for day in range(1, 7)] == [1_000 * day for day in range(1, 7)]
    assert {cell.phase for cell in store.aggregates(3).exposed} == {1}
    treated = {cell.phase: users for cell, users in store.aggregates(6).exposed.items() if cell.variant == 1}
    assert treated == {1: pytest.approx(300, abs=60), 2: pytest.approx(1_500, abs=100)}
    fractions = [look.fractions for look in looks_of(design, experiment)]
    assert [len(seen) for seen in fractions] == [1, 2, 3, 4, 5, 6]
    assert fractions[-1][-1] == 1.0
    assert all(later[:-1] == earlier for earlier, later in pairwise(fractions))


def test_runs_do_not_depend_on_their_order() -> None:
    """Parts add up to the whole, as processes share them out; another seed gives others."""
    design = Design(made_up(), days=3, users_per_day=500)
    simulation = Simulation(design)
    parts = simulation.tally(range(5)) + simulation.tally(range(5, 8))
    assert simulation.tally(range(8)) == parts
    assert Simulation(replace(design, seed=7)).tally(range(8)) != parts


@pytest.mark.parametrize(
    "design",
    [
        Design(made_up(), days=5, users_per_day=2_000, simulations=60),
        Design(made_up(0.05, Kind.CONVERSION), days=4, users_per_day=2_000, ramp=(90, 10), simulations=60),
        Design(real(), days=4, users_per_day=400, simulations=60, lift=0.1),
    ],
    ids=["made up", "ramp", "real"],
)
def test_results_keep_their_promises(design: Design) -> None:
    """Made-up and real users, with a ramp and without: everything lies inside, and the power is promised without a ramp."""
    simulation = Simulation(design)
    checks = list(simulation.checks(simulation.tally(range(design.simulations))))
    assert [check for check in checks if check.inside is False] == []
    assert sum("found" in check.name for check in checks) == (0 if design.ramp else len(design.population.metrics))
    assert sum(check.inside is None for check in checks) == len(design.population.metrics)


def outside(design: Design, *, effects_only: bool = False) -> set[str]:
    """The names of the checks that lie outside; of runs with an effect alone where nothing else matters."""
    simulation = Simulation(design)
    tally = simulation.tally(range(0 if effects_only else design.simulations))
    for run in range(design.simulations if effects_only else 0):
        tally.update(simulation._with_effect(np.random.default_rng([design.seed, run])))
    return {check.name.partition(" of ")[0] for check in simulation.checks(tally) if check.inside is False}


def test_intervals_that_are_too_narrow_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons with the level of 80 % miss the truth too often; an effect of half the size is not found often enough."""
    design = Design(made_up(0.05, Kind.CONVERSION), days=2, users_per_day=7_000, simulations=300)
    sound = outside(design, effects_only=True)
    intervals_of, level = statistics.intervals_of, statistics.normal_critical_value(0.2)
    monkeypatch.setattr(
        statistics, "intervals_of", lambda asked: intervals_of([(effect, level) for effect, _ in asked])
    )
    narrowed = outside(design, effects_only=True)
    monkeypatch.setattr(statistics, "intervals_of", intervals_of)
    lifted = Population.lifted
    monkeypatch.setattr(
        Population, "lifted", lambda self, lifts, rng: lifted(self, [0.5 * lift for lift in lifts], rng)
    )
    simulation = Simulation(design)
    simulation._powers = [0.8]
    tally = simulation.tally(range(0))
    for run in range(design.simulations):
        tally.update(simulation._with_effect(np.random.default_rng([design.seed, run])))
    halved = {check.name for check in simulation.checks(tally) if check.inside is False}

    effects = {"interval covers the difference", "interval covers the lift"}
    assert not sound & (effects | {"lift"})
    assert effects <= narrowed
    assert any("found" in name for name in halved)


@pytest.mark.slow
def test_peeking_behind_a_sequential_name_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ordinary p-value in place of the always-valid one, and of every boundary: each alarms too often in 14 looks."""
    design = Design(made_up(0.05, Kind.CONVERSION), simulations=300)
    assert outside(design) == set()
    monkeypatch.setattr(statistics, "always_valid_p_value", lambda z, *_: normal_p_value(z))
    monkeypatch.setattr(statistics, "boundaries", lambda fractions, *_: (1.96,) * len(fractions))

    found = outside(replace(design, simulations=120))  # as many show it

    assert {"false alarm, always_valid", "false alarm, group_sequential"} <= found
    assert "false alarm, fixed at the end" not in found
