"""Plans from what is stored: the baseline of an experiment is that of its result, that of an entry is what a hand counts."""

import statistics
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.callers import somebody
from tests.operations.test_results import START, answer, compared, converted, happened, under_way

from upshot.clock import FixedClock
from upshot.errors import Fault, Invalid
from upshot.experiments import Draft
from upshot.metrics import Kind
from upshot.operations import Stores, elsewhere, experiments, metrics, planner
from upshot.operations.elsewhere import Elsewhere
from upshot.operations.planner import Asked, Planned
from upshot.planner import Baseline, Design, plan
from upshot.statistics import Comoments, ratio_arm
from upshot.variants import VariantDraft

DESIGN = Design(relative_effect=0.1)
DAY = timedelta(days=1)


async def planned(stores: Stores, client: str = "one", **fields: Any) -> Planned:
    """The plan of what is asked."""
    return await planner.answer(stores, client, Asked(**({"design": DESIGN} | fields)))


async def faults(stores: Stores, client: str = "one", **fields: Any) -> list[Fault]:
    """What is wrong with what is asked."""
    with pytest.raises(Invalid) as refused:
        await planned(stores, client, **fields)
    return list(refused.value.faults)


async def spent(stores: Stores, user: str, day: float, price: float, kind: str = "buy") -> None:
    """An event with a value, so many days after the start."""
    await happened(stores, user, START + day * DAY, kind, properties={"price": price})


async def test_the_baseline_of_an_experiment_is_what_its_result_reports(stores: Stores, clock: FixedClock) -> None:
    """The control arm's value, variance and users, of shares, sums and ratios; all arms' users a day."""
    experiment = await under_way(stores, clock, {"a": 40, "b": 60})
    await converted(stores, {"a": 8, "b": 30}, properties={"price": 7.5})
    await spent(stores, "a-0", 2.0, 92.5)
    order = {"key": "order", "kind": "mean", "event_type": "buy"}
    clock.moment = START + 10 * DAY

    for reference, name in (("buy", "buy"), ("buy:sum", "buy:sum"), (order, "order"), (None, "buy")):
        found = await planned(stores, metric=reference, experiment=experiment.id)
        asked = {} if isinstance(reference, dict) else {"metrics": (name,)}
        if isinstance(reference, dict):
            await experiments.change(stores, somebody("one"), experiment.id, {"metrics": [order]}, None)
        reported = (await answer(stores, experiment, **asked)).variants[0].metrics[name]

        assert (found.baseline.value, found.baseline.variance) == (reported.value, reported.variance)
        assert (found.baseline.kind, found.baseline.users) == (reported.kind, reported.sample_size)
        assert found.baseline.users_per_day == pytest.approx(10)
        assert found.plan == plan(found.baseline, DESIGN)
        assert (found.source, found.start, found.end) == ("experiment", START, clock.moment + timedelta.resolution)


async def test_covariates_of_an_experiment_reduce_as_its_result_says(stores: Stores, clock: FixedClock) -> None:
    """The share of variance that the comparison says to be taken out, unless covariates are not wanted."""
    experiment = await under_way(stores, clock, {"a": 30, "b": 30})
    for number in range(30):
        for arm in "ab":
            await spent(stores, f"{arm}-{number}", -3.0, 10.0 + number)
            await spent(stores, f"{arm}-{number}", 2.0, 20.0 + number + (number * 7) % 5)

    found = await planned(stores, metric="buy:sum", experiment=experiment.key)
    plain = await planned(stores, metric="buy:sum", experiment=experiment.key, adjust=False)
    adjusted = compared(await answer(stores, experiment, metrics=("buy:sum",)), "buy:sum").adjusted

    assert adjusted is not None
    assert found.baseline.variance_reduction == pytest.approx(adjusted[0].variance_reduction)
    assert 0.5 < found.baseline.variance_reduction < 1
    assert plain.baseline.variance_reduction == 0.0
    assert plain.baseline.variance == pytest.approx(found.baseline.variance, rel=1e-12)  # sums in another order
    assert plain.plan.users is not None
    assert found.plan.users is not None
    kept = 1 - found.baseline.variance_reduction
    assert found.plan.users == pytest.approx(kept * plain.plan.users, abs=3)


async def test_the_baseline_of_an_entry_is_that_of_a_hand(stores: Stores, clock: FixedClock) -> None:
    """Whoever caused such an event in the time counts from the first of them; what was before it, does not count."""
    clock.moment = START + 10 * DAY
    spending = {"u0": [5.0, 7.0], "u1": [3.0], "u2": [], "u3": [1.0]}
    for number, (user, prices) in enumerate(spending.items()):
        await happened(stores, user, START + number * DAY, "visit")
        await happened(stores, user, START + (number + 1) * DAY, "visit")
        for price in prices:
            await spent(stores, user, number + 2.0, price)
    await spent(stores, "u2", 1.9, 1_000.0)  # before the first visit
    await spent(stores, "stranger", 5.0, 1_000.0)  # never came in
    await happened(stores, "u4", START - DAY, "visit")  # before the time that is looked at
    totals = [sum(prices) for prices in spending.values()]

    sums = await planned(stores, metric="buy:sum", entry=("visit",), history_days=10)
    share = await planned(stores, metric="buy", entry=("visit",), history_days=10)
    longer = await planned(stores, metric="buy", entry=("visit", "buy"), history_days=11)
    other = await planned(stores, "two", metric="buy", entry=("visit",), history_days=10)

    assert (sums.baseline.value, sums.baseline.users) == (4.0, 4)
    assert sums.baseline.variance == pytest.approx(statistics.variance(totals))
    assert sums.baseline.users_per_day == pytest.approx(0.4)
    assert (sums.source, sums.start, sums.end) == ("entry", START, clock.moment + timedelta.resolution)
    assert (share.baseline.value, share.baseline.kind) == (0.75, Kind.CONVERSION)
    assert longer.baseline.users == 6
    assert longer.baseline.value == pytest.approx(5 / 6)
    assert (other.baseline.users, other.plan.users, other.plan.reasons["users"]) == (0, None, "no_users")


async def test_covariates_of_an_entry_are_what_was_before_it(stores: Stores, clock: FixedClock) -> None:
    """The metric itself before the first event, as nobody has a context; the reduction is the squared correlation."""
    clock.moment = START + 10 * DAY
    before = [float(number) for number in range(20)]
    after = [number + (number * 7) % 5 for number in range(20)]
    for number in range(20):
        await spent(stores, f"u{number}", -2.0, before[number] + 1)
        await happened(stores, f"u{number}", START, "visit")
        await spent(stores, f"u{number}", 1.0, after[number] + 1.0)
    definition = {"key": "spend", "kind": "sum", "event_type": "buy", "covariate": "age"}

    found = await planned(stores, metric=definition, entry=("visit",), history_days=10)

    assert found.baseline.variance_reduction == pytest.approx(statistics.correlation(before, after) ** 2)
    assert found.metric is not None
    assert found.metric.covariate is None


async def test_every_kind_of_metric_has_a_plan(stores: Stores, clock: FixedClock) -> None:
    """Ratios by their linearised variance, quantiles by that of their estimate over all users, retention a window later."""
    clock.moment = START + 20 * DAY
    values = [(number * 13) % 200 for number in range(200)]
    for number, value in enumerate(values):
        user = f"u{number}"
        await happened(stores, user, START, "visit")
        if number % 2:
            await spent(stores, user, 1.0, float(value))
        if number % 5:
            await happened(stores, user, START + 1.5 * DAY, "view")
            await spent(stores, user, 8.5, 1.0, "back")
    ratio = {
        "key": "r",
        "kind": "ratio",
        "numerator": {"of": "sum", "event_type": "buy"},
        "denominator": {"event_type": "view"},
    }
    pairs = [(float(v) if n % 2 else 0.0, float(n % 5 > 0)) for n, v in enumerate(values)]
    definitions: dict[str, dict[str, Any]] = {
        "ratio": ratio,
        "median": {"key": "m", "kind": "quantile", "event_type": "buy", "level": 0.5, "per": "event"},
        "retention": {"key": "b", "kind": "retention", "event_type": "back", "delay": "7d", "window": "2d"},
        "funnel": {"key": "f", "kind": "funnel", "steps": [{"event_type": "buy"}, {"event_type": "view"}]},
        "threshold": {"key": "t", "kind": "threshold", "of": "sum", "event_type": "buy", "at_least": 100},
    }
    found = {
        name: await planned(stores, metric=definition, entry=("visit",), users_per_day=50.0)
        for name, definition in definitions.items()
    }

    delta = ratio_arm(Comoments.of(pairs))
    assert delta is not None
    assert found["ratio"].baseline.value == pytest.approx(delta.mean)
    assert found["ratio"].baseline.variance == pytest.approx(delta.variance)
    median = found["median"].baseline
    assert median.value == sorted(v for n, v in enumerate(values) if n % 2)[49]
    # Half of the users have a value: the variance per user is that of 200, whose estimate has the error of 100 values.
    [low, high] = [sorted(v for n, v in enumerate(values) if n % 2)[rank - 1] for rank in (41, 60)]
    assert median.variance == pytest.approx(200 * ((high - low) / (2 * 1.959963984540054)) ** 2, rel=1e-6)
    assert (found["retention"].baseline.value, found["retention"].baseline.days_to_count) == (0.8, 9.0)
    assert found["funnel"].baseline.value == sum(n % 2 and n % 5 > 0 for n in range(200)) / 200
    assert found["threshold"].baseline.value == sum(p >= 100 for p, _ in pairs) / 200
    for one in found.values():
        assert one.plan.users is not None
        assert one.plan.days is not None
        assert one.baseline.users_per_day == 50.0


async def test_a_definition_is_found_by_its_key_and_its_minimum_effect_planned(
    stores: Stores, clock: FixedClock
) -> None:
    """In the client's own definitions; where nothing is asked for, for the smallest effect that matters, in its direction."""
    clock.moment = START + 10 * DAY
    for number in range(20):
        await happened(stores, f"u{number}", START, "visit")
    await happened(stores, "u0", START + DAY, "crash")
    definition = {"key": "crashes", "event_type": "crash", "direction": "decrease", "minimum_effect": 0.2}
    await metrics.create(stores, somebody("one"), definition)
    experiment = await under_way(stores, clock, {"a": 10, "b": 10})
    await happened(stores, "a-0", START + DAY, "crash")

    entered = await planned(stores, design=Design(), metric="crashes", entry=("visit",))
    asked = await planned(stores, design=Design(), metric="crashes", entry=("visit",), users=1_000)
    inside = await planned(stores, design=Design(), metric="crashes", experiment=experiment.key)
    foreign = await planned(stores, "two", metric="crashes", entry=("visit",))

    assert (entered.baseline.value, entered.plan.effect.relative) == (0.05, -0.2)
    assert entered.design.relative_effect == -0.2
    assert asked.plan.reasons["effect"] == "not_asked"
    assert asked.plan.detectable.relative is not None
    assert asked.plan.detectable.relative < 0
    assert (inside.baseline.value, inside.plan.effect.relative) == (0.1, -0.2)
    assert foreign.metric is not None
    assert foreign.metric.event_types == ("crashes",)


async def test_phases_weigh_by_their_users(stores: Stores, clock: FixedClock) -> None:
    """An experiment whose allocation changed has one baseline, of all its control users, and counts all who came."""
    clock.moment = START
    arms = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(1))]
    experiment = await experiments.create(stores, somebody("one"), Draft("Test", arms, primary_metric="buy"))
    clock.moment = START + 5 * DAY
    flipped = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(3))]
    await experiments.change(stores, somebody("one"), experiment.id, {"variants": flipped}, None)
    clock.moment = START + 10 * DAY
    rows = [Elsewhere(f"{arm}-{n}", arm, START + (n % 10) * DAY, {}) for arm in "ab" for n in range(40)]
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, list(enumerate(rows)))
    await happened(stores, "a-1", START + 9 * DAY)

    found = await planned(stores, experiment=experiment.key)
    await experiments.move(stores, somebody("one"), experiment.id, "complete")
    clock.advance(days=100)
    ended = await planned(stores, experiment=experiment.key)

    assert (found.baseline.value, found.baseline.users) == (1 / 40, 40)
    assert found.baseline.users_per_day == pytest.approx(8)
    assert ended.baseline.users_per_day == pytest.approx(8)


async def test_numbers_that_were_not_measured_say_why(stores: Stores, clock: FixedClock) -> None:
    """Nobody, a single user, users without a value, or none with the divisor: no plan, and the reason."""
    clock.moment = START + 10 * DAY
    await happened(stores, "u0", START, "visit")
    for user in ("u1", "u2"):
        await happened(stores, user, START, "seen")
    ratio = {"key": "r", "kind": "ratio", "numerator": {"event_type": "buy"}, "denominator": {"event_type": "view"}}
    median = {"key": "m", "kind": "quantile", "event_type": "buy", "level": 0.5}
    retention = {"key": "b", "kind": "retention", "event_type": "back", "delay": "30d", "window": "2d"}

    for metric, entry, reason in (
        ("buy", "nothing", "no_users"), ("buy:sum", "visit", "one_user"), ("buy", "visit", "one_user"),
        ("buy", "seen", "zero_variance"), (ratio, "visit", "zero_denominator"), (median, "visit", "too_few"),
        (retention, "visit", "no_users"),
    ):  # fmt: skip
        found = await planned(stores, metric=metric, entry=(entry,))

        assert (found.baseline.fault, found.plan.users, found.plan.reasons["users"]) == (reason, None, reason)


async def test_a_given_baseline_asks_no_store(stores: Stores) -> None:
    """The same with and without one; users a day may be said beside it."""
    asked = Asked(DESIGN, given=Baseline(Kind.CONVERSION, 0.05), users_per_day=2_000.0)

    found = await planner.answer(stores, "one", asked)

    assert found == planner.from_given(asked)
    assert (found.plan.days, found.metric, found.start, found.source) == (35, None, None, "given")
    with pytest.raises(ValueError, match="baseline"):
        planner.from_given(Asked(DESIGN, metric="buy", entry=("visit",)))


GIVEN = Baseline(Kind.CONVERSION, 0.05, users_per_day=10.0)


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({}, [""]),
        ({"given": GIVEN, "entry": ("visit",)}, [""]),
        ({"experiment": "a", "entry": ("visit",), "metric": "buy"}, [""]),
        ({"given": GIVEN, "metric": "buy"}, ["/metric"]),
        ({"entry": ("visit",)}, ["/metric"]),
        ({"entry": ("visit",), "metric": " "}, ["/metric"]),
        ({"entry": ("visit",), "metric": {"key": "a", "kind": "sum"}}, ["/metric/event_type"]),
        ({"experiment": "none"}, ["/experiment"]),
        ({"given": GIVEN, "users_per_day": 5.0}, ["/users_per_day"]),
        ({"given": GIVEN, "users": 5, "days": 5}, ["/run_for_days"]),
        ({"given": GIVEN, "design": Design(relative_effect=0.1, absolute_effect=0.1)}, ["/absolute_effect"]),
        ({"given": GIVEN, "design": Design(relative_effect=0.0)}, ["/relative_effect"]),
        ({"given": GIVEN, "design": Design(absolute_effect=0.0)}, ["/absolute_effect"]),
        ({"given": GIVEN, "design": Design()}, [""]),
        ({"given": Baseline(Kind.CONVERSION, 1.0)}, ["/baseline/value"]),
        ({"given": Baseline(Kind.FUNNEL, 0.0)}, ["/baseline/value"]),
        ({"given": Baseline(Kind.CONVERSION, 0.5, 4.0)}, ["/baseline/standard_deviation"]),
        ({"given": Baseline(Kind.SUM, 0.5)}, ["/baseline/standard_deviation"]),
    ],
)
async def test_what_cannot_be_planned_is_refused(stores: Stores, fields: dict[str, Any], pointers: list[str]) -> None:
    """Each fault by its place."""
    assert [fault.pointer for fault in await faults(stores, **fields)] == pointers
