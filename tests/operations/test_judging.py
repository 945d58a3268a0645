"""Results under a plan: looks, adjustment, guardrails, direction, breakdowns, interaction; and what each must not do."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.callers import somebody
from tests.operations.test_results import START, answer, caused, compared, converted, under_way

from upshot.clock import FixedClock
from upshot.errors import Invalid
from upshot.experiments import Draft
from upshot.operations import Stores, elsewhere, events, experiments
from upshot.operations.elsewhere import Elsewhere
from upshot.report import Comparison
from upshot.statistics import Spending, boundaries, word
from upshot.variants import VariantDraft

DAYS = [Elsewhere(f"later-{n}", "ab"[n % 2], START + timedelta(days=4, seconds=n), {}) for n in range(400)]


async def test_a_planned_look_decides_and_later_data_change_nothing(stores: Stores, clock: FixedClock) -> None:
    """The look is the end of the day on which the planned size was reached; what comes later does not move its verdict."""
    plan = {"planned_users": 800}
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, plan=plan)
    await converted(stores, {"a": 40, "b": 68}, timedelta(hours=20))
    decided = await answer(stores, experiment)
    await converted(stores, {"a": 200}, timedelta(days=5))
    after = await answer(stores, experiment)

    assert decided.plan is not None
    assert decided.plan.look is not None
    assert (decided.plan.stopping, decided.plan.look.at) == ("group_sequential", START + timedelta(days=1))
    assert decided.plan.look.fractions == [1.0]
    assert (compared(decided, "buy").significant, decided.summary.recommendation) == (True, "ship")
    assert compared(after, "buy").significant is True
    assert (compared(after, "buy").absolute_difference or 0) < 0


async def test_looks_spend_alpha_and_say_no_more_than_high_before(stores: Stores, clock: FixedClock) -> None:
    """Half of the users on the first day, the others on the fifth: two looks, each with the boundary of its information."""
    experiment = await under_way(stores, clock, {"a": 200, "b": 200}, plan={"planned_users": 800, "spending": "pocock"})
    await converted(stores, {"a": 20, "b": 70}, timedelta(hours=1))
    first = await answer(stores, experiment)
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, list(enumerate(DAYS)))
    second = await answer(stores, experiment)

    for found, fractions in ((first, (0.5,)), (second, (0.5, 1.0))):
        assert found.plan is not None
        assert found.plan.look is not None
        assert tuple(found.plan.look.fractions) == fractions
        assert found.plan.look.critical_value == boundaries(fractions, 0.05, Spending.POCOCK)[-1]
        assert found.plan.look.nominal_level == pytest.approx(math.erfc(found.plan.look.critical_value / math.sqrt(2)))
    weak = await under_way(stores, clock, {"a": 200, "b": 200}, plan={"planned_users": 8_000}, key="weak")
    await converted(stores, {"a": 20, "b": 70}, timedelta(hours=1))
    early = compared(await answer(stores, weak), "buy")
    assert (early.always_valid_p_value or 1) < 0.05
    assert (early.significant, early.confidence) == (False, "high")


async def test_what_came_before_makes_a_result_more_precise(stores: Stores, clock: FixedClock) -> None:
    """Users go on as they did before their exposure: most of the variance goes, the effect stays; not where it is refused."""
    widths = {}
    for adjust in (True, False):
        experiment = await under_way(
            stores, clock, {"a": 60, "b": 60}, plan={"adjust": adjust}, key=f"k{int(adjust)}", metrics=["buy:count"]
        )
        if adjust:
            sent = [
                caused(f"{name}-{number}", START + timedelta(days=when))
                for number in range(60)
                for name in "ab"
                for when, times in ((-3, number % 7), (2, number % 7 + number % 2 + (name == "b")))
                for _ in range(times)
            ]
            await events.ingest(stores, "one", sent)
        found = compared(await answer(stores, experiment), "buy:count")
        assert found.interval is not None
        widths[adjust] = (found.interval.upper or 0) - (found.interval.lower or 0)
        assert found.absolute_difference == pytest.approx(1.0, abs=0.01)
        assert bool(found.adjusted) is adjust
    assert widths[True] < 0.3 * widths[False]


async def test_a_metric_may_have_to_fall_and_a_guardrail_to_hold(stores: Stores, clock: FixedClock) -> None:
    """Fewer refunds are a success, more errors a harm, as many clicks as before are safe within a margin."""
    metrics: list[Any] = [{"key": "refund", "event_type": "refund", "direction": "decrease"}]
    guards: list[Any] = [
        {"key": "error", "event_type": "error", "direction": "decrease"},
        {"key": "click", "event_type": "click", "margin": 0.3},
    ]
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, metrics=metrics, guardrails=guards)
    await converted(stores, {"a": 200, "b": 60}, type="refund", event_type=None)
    await converted(stores, {"a": 300, "b": 300}, type="click", event_type=None)
    safe = await answer(stores, experiment, primary="refund")
    await converted(stores, {"a": 20, "b": 120}, type="error", event_type=None)
    harmed = await answer(stores, experiment, primary="refund")

    found = compared(safe, "refund")
    assert (found.improves, found.significant, safe.summary.recommendation) == (True, True, "ship")
    assert (found.chance_to_beat_control or 0) > 0.99
    assert (compared(safe, "click").guardrail, compared(safe, "click").role) == ("safe", "guardrail")
    assert (compared(harmed, "error").guardrail, harmed.summary.recommendation) == ("harmed", "stop_harm")
    assert compared(safe, "click").guardrail_users is compared(harmed, "error").guardrail_users is None


async def test_a_guardrail_that_cannot_be_judged_says_what_it_needs(stores: Stores, clock: FixedClock) -> None:
    """As many users as show it to be safe, if nothing is lost: of the same shares so many are safe, of half not."""
    guards: list[Any] = [{"key": "click", "event_type": "click", "margin": 0.1}]
    few = await under_way(stores, clock, {"a": 100, "b": 100}, guardrails=guards)
    await converted(stores, {"a": 50, "b": 50}, type="click", event_type=None)

    found = compared(await answer(stores, few, primary="buy"), "click")

    assert found.guardrail == "inconclusive"
    assert found.guardrail_users == 2 * math.ceil((1.644854 + 0.841621) ** 2 * 2 * (25 / 99) / 0.05**2)
    assert compared(await answer(stores, few, primary="buy", confidence_level=0.6), "click").guardrail == "safe"


async def test_breakdowns_cross_accumulate_and_say_whether_segments_differ(stores: Stores, clock: FixedClock) -> None:
    """b helps those from the US only; the last point of the line is the result itself."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400})
    everyone = [caused(f"{name}-{number}", START + timedelta(days=1)) for name in "ab" for number in range(0, 400, 10)]
    americans = [caused(f"b-{number}", START + timedelta(days=3)) for number in range(1, 400, 2)]
    await events.ingest(stores, "one", everyone + americans)
    found = await answer(
        stores, experiment, segments=("country", "country*country2"), granularity="day", cumulative=True
    )

    values = {(part.attribute, part.value): part for part in found.segments}
    assert values["country", "US"].users == values["country*country2", "US*(none)"].users == 400
    different = {part.metric: part for part in found.segment_differences or []}
    assert different["buy"].differs is True
    line = [point for point in found.cumulative or [] if point.metric == "buy"]
    assert [point.users for point in line] == [400] * len(line)
    last, whole = line[-1], compared(found, "buy")
    assert (last.absolute_difference, last.interval) == (whole.absolute_difference, whole.always_valid_interval)
    assert (line[2].absolute_difference or 0) < (last.absolute_difference or 0)
    for wrong in ("a*b*c", "a*a", "*"):
        with pytest.raises(Invalid):
            await answer(stores, experiment, segments=(wrong,))


async def test_two_experiments_that_depend_on_each_other_are_seen(stores: Stores, clock: FixedClock) -> None:
    """The same users are in both; the second works only together with the first."""
    first = await under_way(stores, clock, {"a": 400, "b": 400})
    rows = [
        Elsewhere(f"{name}-{n}", "xy"[n % 2], START + timedelta(seconds=n), {}) for name in "ab" for n in range(400)
    ]
    clock.moment = START
    other = await experiments.create(stores, somebody("one"), Draft("Other", [VariantDraft("x"), VariantDraft("y")]))
    clock.moment = START + timedelta(days=10)
    await elsewhere.import_assignments(stores, somebody("one"), other.id, list(enumerate(rows)))
    alone = [caused(f"a-{number}", START + timedelta(days=1)) for number in range(0, 400, 10)]
    together = [caused(f"b-{number}", START + timedelta(days=1)) for number in range(1, 400, 2)]
    await events.ingest(stores, "one", alone + together)

    [found] = [
        part for part in (await answer(stores, first, beside=other.key)).interactions or [] if part.metric == "buy"
    ]

    assert (found.variant, found.other_variant, found.users, found.interacts) == ("b", "y", 800, True)
    assert found.estimate == pytest.approx(1.0 - 0.0 + 0.2, abs=0.01)
    with pytest.raises(Invalid):
        await answer(stores, first, beside=first.key)


async def test_a_small_effect_is_futile_and_a_changed_plan_is_shown(stores: Stores, clock: FixedClock) -> None:
    """At the planned size with every interval inside the minimum effect; and a plan that is changed after the start warns."""
    metrics: list[Any] = [{"key": "buy", "event_type": "buy", "minimum_effect": 0.9}]
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, metrics=metrics, plan={"planned_users": 800})
    await converted(stores, {"a": 100, "b": 100})

    assert (await answer(stores, experiment)).summary.recommendation == "stop_futile"
    await experiments.change(stores, somebody("one"), experiment.id, {"plan": {"planned_users": 900}}, None)
    found = await answer(stores, experiment)

    assert found.summary.recommendation == "keep_running"
    assert found.plan is not None
    assert [(c.field, c.before, c.after) for c in found.plan.changes] == [("planned_users", 800, 900)]
    assert "plan_changed" in {warning.code for warning in found.health.warnings}


async def test_a_stated_prior_is_shown_with_what_it_makes_of_the_data(stores: Stores, clock: FixedClock) -> None:
    """The plan says it, a change of it is a change of the plan; numbers under the flat prior stay as they are."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, plan={"prior_lift_sd": 0.1})
    await converted(stores, {"a": 120, "b": 180})

    found = await answer(stores, experiment)
    await experiments.change(stores, somebody("one"), experiment.id, {"plan": {"prior_lift_sd": None}}, None)
    without = await answer(stores, experiment)

    informed, lift = compared(found, "buy").informed, compared(found, "buy").relative_lift or 0.0
    assert informed is not None
    assert informed.confidence == word(2 * (1 - informed.chance_to_beat_control)) == "high"
    assert (informed.prior_lift_sd, found.plan and found.plan.prior_lift_sd) == (0.1, 0.1)
    assert 0 < informed.lift < lift
    assert compared(found, "buy").prior == compared(without, "buy").prior == "flat"
    assert compared(without, "buy") == replace(compared(found, "buy"), informed=None)
    assert without.plan is not None
    assert [(c.field, c.before, c.after) for c in without.plan.changes] == [("prior_lift_sd", 0.1, None)]


async def test_a_window_that_must_be_over_has_a_time_series(stores: Stores, clock: FixedClock) -> None:
    """Only users whose window is over count, in a period as in the whole."""
    metrics: list[Any] = [{"key": "back", "kind": "retention", "event_type": "buy", "delay": "1d", "window": "2d"}]
    experiment = await under_way(stores, clock, {"a": 50, "b": 50}, metrics=metrics)
    await converted(stores, {"a": 10, "b": 20}, timedelta(days=2))

    found = await answer(stores, experiment, granularity="day", cumulative=True)

    points = [point for point in found.time_series if (point.metric, point.variant) == ("back", "b")]
    assert [point.users_with_events for point in points if point.users_with_events] == [20]
    assert {point.users for point in points} == {50}
    assert (await answer(stores, experiment, end=START + timedelta(days=2))).variants[1].metrics["back"].value is None


async def test_a_look_at_adjusted_shares_tests_what_was_adjusted(stores: Stores, clock: FixedClock) -> None:
    """Users who bought before buy again: the look's statistic is the comparison's own, not that of a share."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, plan={"planned_users": 800})
    before = [caused(f"{name}-{n}", START - timedelta(days=2)) for name in "ab" for n in range(200)]
    after = [
        caused(f"{name}-{n}", START + timedelta(hours=1)) for name in "ab" for n in range(30, 200 + 20 * (name == "b"))
    ]
    await events.ingest(stores, "one", before + after)

    found = compared(await answer(stores, experiment), "buy")

    assert found.adjusted is not None
    assert found.method == "cuped_welch_t"
    assert found.significant is (abs(found.statistic or 0) >= boundaries((1.0,), 0.05)[-1])


async def test_rare_shares_are_not_adjusted(stores: Stores, clock: FixedClock) -> None:
    """Of few who buy an arm's own variance says too little: the pooled test stays."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400})
    await converted(stores, {"a": 40, "b": 60}, timedelta(days=-2))
    await converted(stores, {"a": 40, "b": 60}, timedelta(days=2))

    found = compared(await answer(stores, experiment), "buy")

    assert (found.adjusted, found.method) == (None, "two_proportion_z")


async def test_segments_are_judged_by_their_own_data(stores: Stores, clock: FixedClock) -> None:
    """The look that decided the whole says nothing of a segment without any difference."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, plan={"planned_users": 800})
    germans = [caused(f"{name}-{n}", START + timedelta(hours=1)) for name in "ab" for n in range(0, 80, 2)]
    americans = [caused(f"b-{n}", START + timedelta(hours=1)) for n in range(1, 160, 2)]
    await events.ingest(stores, "one", germans + americans)

    found = await answer(stores, experiment, segments=("country",))

    significant = {part.value: compared_in(part.comparisons).significant for part in found.segments}
    assert compared(found, "buy").significant is True
    assert significant == {"US": True, "DE": False}
    assert {compared_in(part.comparisons).stopping for part in found.segments} == {"always_valid"}


async def test_no_look_lies_behind_the_end_that_is_asked_for(stores: Stores, clock: FixedClock) -> None:
    """A result of the past knows the looks of the past."""
    experiment = await under_way(stores, clock, {"a": 200, "b": 200}, plan={"planned_users": 800})
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, list(enumerate(DAYS)))

    found = await answer(stores, experiment, end=START + timedelta(days=2))

    assert found.plan is not None
    assert found.plan.look is not None
    assert found.plan.look.fractions == [0.5]


def compared_in(comparisons: list[Comparison]) -> Comparison:
    """The comparison of the primary metric."""
    return next(comparison for comparison in comparisons if comparison.metric == "buy")
