"""Thompson sampling: shares follow the chance to be best, in new phases, and results stay those of comparisons within phases."""

from typing import Any

from tests.operations.test_results import START, answer, compared, converted, under_way

from upshot.clock import FixedClock
from upshot.experiments import Experiment
from upshot.operations import Stores, bandits, experiments, schedule
from upshot.operations.schedule import Policy

THOMPSON = {"allocation": "thompson"}


async def now_of(stores: Stores, experiment: Experiment) -> Experiment:
    """The experiment as it is stored."""
    return await experiments.browse(stores, "one", experiment.id)


def shares(experiment: Experiment) -> dict[str, float]:
    """The share of new users of each variant."""
    total = sum(variant.weight for variant in experiment.variants)
    return {variant.name: variant.weight / total for variant in experiment.variants}


async def moved(stores: Stores, clock: FixedClock, plan: dict[str, Any], users: int = 200) -> tuple[Experiment, bool]:
    """An experiment in which b is better, after an update."""
    experiment = await under_way(stores, clock, {"a": users, "b": users, "c": users}, plan=plan)
    await converted(stores, {"a": users // 10, "b": users // 6, "c": users // 20})
    done = await bandits.reallocate(stores, "one", await now_of(stores, experiment))
    return await now_of(stores, experiment), done


async def test_shares_follow_the_chance_to_be_best(stores: Stores, clock: FixedClock) -> None:
    """Most new users get the leader, every variant keeps its floor, and the change is a phase of its own."""
    experiment, done = await moved(stores, clock, THOMPSON)

    found = shares(experiment)
    assert (done, experiment.phase and experiment.phase.number) == (True, 2)
    assert found["b"] > 0.9
    assert 0.01 <= found["c"] <= found["a"] < 0.1
    best = {v.name: (v.chance_to_be_best or {})["buy"] for v in (await answer(stores, experiment)).variants}
    for name, chance in best.items():
        assert abs(found[name] - (0.01 + 0.97 * (chance or 0))) < 1e-4


async def test_shares_stay_where_nobody_asked_or_few_came(stores: Stores, clock: FixedClock) -> None:
    """A fixed allocation is never moved; nor one of fewer than 100 users in an arm."""
    for plan, users in ((THOMPSON | {"allocation": "fixed"}, 200), (THOMPSON, 90)):
        experiment, done = await moved(stores, clock, plan, users)
        assert (done, experiment.phase and experiment.phase.number) == (False, 1)


async def test_the_schedule_moves_them_and_results_compare_within_phases(stores: Stores, clock: FixedClock) -> None:
    """Users of two phases are not pooled: the leader is not credited with the better days that came later."""
    experiment = await under_way(stores, clock, {"a": 200, "b": 200}, plan=THOMPSON)
    await converted(stores, {"a": 20, "b": 40})

    words = await schedule.JOBS["allocations"].work(stores, Policy())
    again = await schedule.JOBS["allocations"].work(stores, Policy())

    assert (words, again) == ("1 allocations moved", "0 allocations moved")
    changed = await now_of(stores, experiment)
    assert changed.phases[1].started_at > START
    found = await answer(stores, changed)
    assert compared(found, "buy").method == "two_proportion_z"
    assert found.plan is not None
    assert found.plan.changes == []
