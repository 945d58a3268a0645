"""The analysis plan: its options, what is in force, and that no change after the start goes unrecorded."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import experiments, lifecycle
from upshot.analysisplan import (
    USERS_WITHOUT_PLAN,
    Allocation,
    AnalysisPlan,
    PlanChange,
    Stopping,
    dump,
    load,
    options_of,
    plan_of,
)
from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid
from upshot.experiments import Draft, Experiment, Status
from upshot.statistics import Spending
from upshot.variants import VariantDraft

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def made(**draft: Any) -> Experiment:
    """An experiment, running unless its draft says otherwise."""
    return experiments.create(Draft("Test", [VariantDraft("a"), VariantDraft("b")], **draft), NOW, FixedClock().new_id)


def changed(experiment: Experiment, now: datetime = LATER, **changes: Any) -> Experiment:
    """The experiment after a change."""
    return lifecycle.change(experiment, changes, now, FixedClock(issued=99).new_id, ())


def test_without_options_the_plan_is_the_default() -> None:
    """Always valid at 5 %, adjusted where that helps, with the shares as they were set."""
    assert plan_of(None) == plan_of({}) == AnalysisPlan()
    assert options_of(AnalysisPlan()) == {
        "stopping": None, "alpha": 0.05, "planned_users": None, "spending": "obrien_fleming", "adjust": True,
        "allocation": "fixed", "prior_lift_sd": None,
    }  # fmt: skip


def test_options_are_read_and_the_others_stay() -> None:
    """Each option by itself, on the plan as it was."""
    first = plan_of({"stopping": "fixed", "planned_users": 1_000, "spending": "pocock"})
    second = plan_of({"alpha": 0.01, "adjust": False, "stopping": None, "allocation": "thompson"}, first)

    assert (first.stopping, first.planned_users, first.spending) == (Stopping.FIXED, 1_000, Spending.POCOCK)
    assert second == AnalysisPlan(None, 0.01, 1_000, Spending.POCOCK, adjust=False, allocation=Allocation.THOMPSON)
    assert plan_of(options_of(second)) == second


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Stopping.ALWAYS_VALID),
        ({"planned_users": 1_000}, Stopping.GROUP_SEQUENTIAL),
        ({"planned_users": 1_000, "stopping": "always_valid"}, Stopping.ALWAYS_VALID),
        ({"planned_users": 1_000, "stopping": "fixed"}, Stopping.FIXED),
        ({"stopping": "fixed"}, Stopping.FIXED),
    ],
)
def test_a_planned_size_decides_what_is_in_force(options: dict[str, Any], expected: Stopping) -> None:
    """Unless a mode of stopping is chosen."""
    assert plan_of(options).in_force is expected


def test_always_valid_results_are_tightest_at_the_planned_size() -> None:
    """Of two arms, where it is planned for all."""
    assert AnalysisPlan().tightest_at(3) == USERS_WITHOUT_PLAN
    assert plan_of({"planned_users": 9_000}).tightest_at(3) == 6_000
    assert plan_of({"planned_users": 2}).tightest_at(20) == 1


@pytest.mark.parametrize(
    ("options", "pointer", "code"),
    [
        ({"peeking": True}, "/plan/peeking", "unknown_field"),
        ({"definitions": {}}, "/plan/definitions", "unknown_field"),
        ({"stopping": "whenever"}, "/plan/stopping", "out_of_range"),
        ({"stopping": 1}, "/plan/stopping", "out_of_range"),
        ({"alpha": 0.5}, "/plan/alpha", "out_of_range"),
        ({"alpha": 0}, "/plan/alpha", "out_of_range"),
        ({"alpha": "0.05"}, "/plan/alpha", "out_of_range"),
        ({"alpha": True}, "/plan/alpha", "out_of_range"),
        ({"alpha": float("nan")}, "/plan/alpha", "out_of_range"),
        ({"planned_users": 1}, "/plan/planned_users", "out_of_range"),
        ({"planned_users": 1e6}, "/plan/planned_users", "out_of_range"),
        ({"planned_users": True}, "/plan/planned_users", "out_of_range"),
        ({"planned_users": 10**13}, "/plan/planned_users", "out_of_range"),
        ({"spending": "all"}, "/plan/spending", "out_of_range"),
        ({"adjust": 1}, "/plan/adjust", "out_of_range"),
        ({"allocation": "greedy"}, "/plan/allocation", "out_of_range"),
        ({"prior_lift_sd": 0}, "/plan/prior_lift_sd", "out_of_range"),
        ({"prior_lift_sd": True}, "/plan/prior_lift_sd", "out_of_range"),
        ({"stopping": "group_sequential"}, "/plan/planned_users", "missing"),
    ],
)
def test_an_option_that_breaks_its_rule_is_named(options: dict[str, Any], pointer: str, code: str) -> None:
    """With its place."""
    with pytest.raises(Invalid) as error:
        plan_of(options)

    assert [(fault.pointer, fault.code) for fault in error.value.faults] == [(pointer, code)]


def test_all_faults_are_named_at_once() -> None:
    """One request, one answer."""
    with pytest.raises(Invalid) as error:
        plan_of({"alpha": 2, "adjust": None, "peeking": 1})

    assert {fault.pointer for fault in error.value.faults} == {"/plan/alpha", "/plan/adjust", "/plan/peeking"}


def test_a_planned_size_cannot_be_taken_from_group_sequential_looks() -> None:
    """What is in force must be possible after every change."""
    plan = plan_of({"stopping": "group_sequential", "planned_users": 1_000})

    with pytest.raises(Invalid):
        plan_of({"planned_users": None}, plan)


def test_the_plan_is_locked_at_the_start() -> None:
    """At creation when it runs at once, else when it is started."""
    draft = made(status=Status.DRAFT, plan={"alpha": 0.01})

    assert made().plan.locked_at == NOW
    assert draft.plan == AnalysisPlan(alpha=0.01)
    assert lifecycle.move(draft, "start", LATER).plan == AnalysisPlan(alpha=0.01, locked_at=LATER)


def test_a_draft_is_changed_without_a_record() -> None:
    """Nobody has seen anything yet."""
    draft = changed(made(status=Status.DRAFT, metrics=["a"]), plan={"alpha": 0.01}, primary_metric="b", metrics=[])

    assert draft.plan == AnalysisPlan(alpha=0.01)


def test_a_change_after_the_start_is_recorded() -> None:
    """Which field, when, from what to what; fields that stay as they are, and texts, leave no record."""
    once = changed(made(primary_metric="buy", metrics=["a"]), plan={"alpha": 0.01, "adjust": True}, name="Other")
    twice = changed(
        once, LATER + timedelta(days=1), primary_metric="visit", metrics=[{"event_type": "b"}], guardrails=["g"]
    )

    assert once.plan.changes == (PlanChange(LATER, "alpha", 0.05, 0.01),)
    assert twice.plan.changes[:1] == once.plan.changes
    assert set(map(str, twice.plan.changes[1:])) == {
        str(PlanChange(LATER + timedelta(days=1), field, before, after))
        for field, before, after in (
            ("primary_metric", "buy", "visit"),
            ("metrics", ["a"], [{"event_type": "b"}]),
            ("guardrails", [], ["g"]),
        )
    }
    assert twice.plan.locked_at == NOW


@pytest.mark.parametrize("actions", [["pause"], ["complete"], ["pause", "resume"]])
def test_a_change_is_recorded_in_every_state_after_the_start(actions: list[str]) -> None:
    """Also when the experiment has ended; an archived one is not changed any more."""
    experiment = made()
    for action in actions:
        experiment = lifecycle.move(experiment, action, LATER)

    assert [change.field for change in changed(experiment, plan={"alpha": 0.1}).plan.changes] == ["alpha"]


def test_an_archived_experiment_keeps_its_plan() -> None:
    """The state does not let it change."""
    archived = lifecycle.move(lifecycle.move(made(), "complete", LATER), "archive", LATER)

    with pytest.raises(Conflict):
        changed(archived, plan={"alpha": 0.1})


_moments = st.datetimes(datetime(2000, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
_values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=4)
plans = st.builds(
    AnalysisPlan,
    stopping=st.sampled_from([None, Stopping.FIXED, Stopping.ALWAYS_VALID]),
    alpha=st.floats(0.0005, 0.2),
    planned_users=st.none() | st.integers(2, 10**12),
    spending=st.sampled_from([Spending.OBRIEN_FLEMING, Spending.POCOCK]),
    adjust=st.booleans(),
    allocation=st.sampled_from(Allocation),
    prior_lift_sd=st.none() | st.floats(0.001, 10),
    definitions=st.dictionaries(
        st.text(max_size=5), st.dictionaries(st.text(max_size=5), _values, max_size=2), max_size=2
    ),
    locked_at=st.none() | _moments,
    changes=st.lists(st.builds(PlanChange, _moments, st.text(max_size=5), _values, _values), max_size=3).map(tuple),
)


@given(plans)
def test_a_plan_is_written_and_read(plan: AnalysisPlan) -> None:
    """Through JSON, to the microsecond."""
    assert load(json.loads(json.dumps(dump(plan)))) == plan


@pytest.mark.parametrize("document", [None, {}])
def test_an_experiment_that_is_older_than_plans_has_the_default_plan(document: dict[str, Any] | None) -> None:
    """Locked when it started."""
    assert load(document) == AnalysisPlan()
    assert load(document, NOW) == AnalysisPlan(locked_at=NOW)


def test_an_option_that_is_younger_than_the_document_is_at_its_default() -> None:
    """A release may know more than the one that wrote it."""
    document = dump(AnalysisPlan(alpha=0.01, adjust=False))
    del document["adjust"]

    assert load(document) == AnalysisPlan(alpha=0.01)


def test_what_the_previous_release_started_is_locked_at_its_start() -> None:
    """Servers are replaced one by one: one that knows no plans may start what another has drafted."""
    document = dump(AnalysisPlan(alpha=0.01))

    assert load(document, NOW) == AnalysisPlan(alpha=0.01, locked_at=NOW)
    assert load(dump(AnalysisPlan(locked_at=LATER)), NOW) == AnalysisPlan(locked_at=LATER)
