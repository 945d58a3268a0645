"""Experiments: allocation as integers, states, phases, and what may change when."""

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import experiments, lifecycle
from upshot.allocation import WEIGHT_TOTAL, weights_of
from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid
from upshot.experiments import Draft, Experiment, Status
from upshot.lifecycle import ACTIONS
from upshot.variants import VariantDraft

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def percents(*shares: str) -> list[tuple[Decimal | None, Decimal | None]]:
    """Shares as percentages."""
    return [(Decimal(share), None) for share in shares]


def weights(*shares: str) -> list[tuple[Decimal | None, Decimal | None]]:
    """Shares as weights."""
    return [(None, Decimal(share)) for share in shares]


def made(*names: str, **draft: Any) -> Experiment:
    """A running experiment with equal shares."""
    names = names or ("a", "b")
    return experiments.create(Draft("Test", [VariantDraft(n) for n in names], **draft), NOW, FixedClock().new_id)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (percents("30", "70"), (3, 7)),
        (weights("0.5", "0.25", "0.25"), (2, 1, 1)),
        (percents("33.33", "33.33", "33.33"), (1, 1, 1)),
        (percents("33.33", "33.33", "33.34"), (3333, 3333, 3334)),
        (weights("0.3333333333333333", "0.3333333333333333", "0.3333333333333333"), (1, 1, 1)),
        (percents(*["14.29"] * 6, "14.26"), (1429,) * 6 + (1426,)),
        (percents(*["9.1"] * 10, "9.0"), (91,) * 10 + (90,)),
        (weights("3", "1"), (3, 1)),
        (weights("1", "1", "1"), (1, 1, 1)),
        ([(None, None)] * 4, (1, 1, 1, 1)),
        (percents("0.1", "99.9"), (1, 999)),
    ],
)
def test_shares_become_exact_integers(shares: Any, expected: tuple[int, ...]) -> None:
    """Percentages and weights become the smallest integers in the same proportion; equal ones are exactly equal."""
    assert weights_of(shares) == expected


@pytest.mark.parametrize(
    ("shares", "code"),
    [
        (percents("30", "60"), "sum_not_100"),
        (percents("50", "51"), "sum_not_100"),
        (percents("150", "-50"), "bad_share"),
        (percents("0", "100"), "bad_share"),
        (weights("0.5", "0.4"), "sum_not_1"),
        ([(Decimal(50), None), (None, Decimal(1))], "mixed_allocation"),
        ([(Decimal(50), None), (None, None)], "missing_allocation"),
    ],
)
def test_shares_that_make_no_whole_are_refused(shares: Any, code: str) -> None:
    """A wrong sum, a negative or empty share, or a mixture is a fault with a code."""
    with pytest.raises(Invalid) as error:
        weights_of(shares)

    assert {fault.code for fault in error.value.faults} == {code}


@given(st.lists(st.integers(1, 10**15), min_size=2, max_size=20))
def test_integer_weights_keep_their_proportion(given_weights: list[int]) -> None:
    """However large the weights, each share stays within a billionth, and none of them vanishes."""
    found = weights_of([(None, Decimal(weight)) for weight in given_weights])

    total = sum(given_weights)
    assert all(weight > 0 for weight in found)
    for weight, share in zip(found, given_weights, strict=True):
        assert abs(weight / sum(found) - share / total) < 2 * len(found) / WEIGHT_TOTAL


def test_a_new_experiment_runs_with_its_first_variant_as_control() -> None:
    """Without a word about status or control, it runs at once and the first variant is the control."""
    experiment = made("a", "b", "c")

    assert experiment.status is Status.RUNNING
    assert experiment.started_at == NOW
    assert [variant.is_control for variant in experiment.variants] == [True, False, False]
    assert [phase.weights for phase in experiment.phases] == [{0: 1, 1: 1, 2: 1}]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", Status)
def test_only_the_named_moves_are_allowed(action: str, state: Status) -> None:
    """draft → running ⇄ paused → completed → archived; any other move names the allowed ones."""
    experiment = dataclasses.replace(made(), status=state)
    sources, target = ACTIONS[action]

    if state in sources:
        assert lifecycle.move(experiment, action, LATER).status is target
    else:
        with pytest.raises(Conflict) as error:
            lifecycle.move(experiment, action, LATER)
        allowed = [name for name, (states, _) in ACTIONS.items() if state in states]
        assert all(name in error.value.detail for name in allowed)


def test_completing_says_when_it_ended() -> None:
    """`ended_at` is the moment of completion and stays when it is archived."""
    completed = lifecycle.move(made(), "complete", LATER)

    assert completed.ended_at == LATER
    assert lifecycle.move(completed, "archive", LATER + timedelta(days=1)).ended_at == LATER


def changed(experiment: Experiment, occupied: tuple[int, ...] = (), **changes: Any) -> Experiment:
    """The experiment after a change a day later."""
    return lifecycle.change(experiment, changes, LATER, FixedClock(issued=99).new_id, occupied)


def test_a_new_allocation_opens_a_phase_for_new_users() -> None:
    """The phases tell which weights were in force when; texts open none."""
    experiment = made()

    moved = changed(experiment, variants=[VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(3))])

    assert [(phase.number, phase.weights) for phase in moved.phases] == [(1, {0: 1, 1: 1}), (2, {0: 1, 1: 3})]
    assert moved.phase_at(NOW) == moved.phases[0]
    assert moved.phase_at(LATER) == moved.phases[1]
    assert changed(moved, name="Other").phases == moved.phases


def test_a_variant_with_users_cannot_vanish_but_can_be_closed() -> None:
    """Removing one with users is a conflict; giving it 0 works, and its position is never given to another."""
    experiment = made("a", "b", "c")
    rest = [VariantDraft("a"), VariantDraft("b")]

    with pytest.raises(Conflict):
        changed(experiment, (2,), variants=rest)

    closed = changed(experiment, (2,), variants=[VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(1)),
                                                 VariantDraft("c", weight=Decimal(0))])  # fmt: skip
    added = changed(closed, (2,), variants=[VariantDraft(n, weight=Decimal(w)) for n, w in
                                            (("a", 1), ("b", 1), ("c", 0), ("d", 1))])  # fmt: skip
    assert [(v.name, v.position, v.weight) for v in added.variants] == [
        ("a", 0, 1),
        ("b", 1, 1),
        ("c", 2, 0),
        ("d", 3, 1),
    ]


def test_the_control_and_the_configuration_stay_once_it_has_started() -> None:
    """What a comparison rests on cannot change under it; in a draft it can."""
    running, draft = made(), made(status=Status.DRAFT)
    other_control = [VariantDraft("a"), VariantDraft("b", is_control=True)]
    other_config = [VariantDraft("a"), VariantDraft("b", config={"colour": "blue"})]

    for variants in (other_control, other_config):
        with pytest.raises(Conflict):
            changed(running, variants=variants)
        assert changed(draft, variants=variants).phases == ()


@pytest.mark.parametrize("state", [Status.COMPLETED, Status.ARCHIVED])
def test_an_ended_experiment_lets_no_user_rule_change(state: Status) -> None:
    """Targeting and allocation are over; the texts of a completed one may still be corrected."""
    experiment = dataclasses.replace(made(), status=state)

    with pytest.raises(Conflict):
        changed(experiment, targeting={"countries": ["US"]})
    if state is Status.COMPLETED:
        assert changed(experiment, hypothesis="clearer").hypothesis == "clearer"


@pytest.mark.parametrize(
    ("variants", "code"),
    [
        (["a"], "bad_count"),
        ([f"v{n}" for n in range(21)], "bad_count"),
        (["a", "a"], "duplicate_name"),
        (["a", ""], "empty"),
        (["a", "b\x00"], "control_character"),
        (["a", "b\u202e"], "invisible_character"),
        (["a", " b"], "outer_white_space"),
        (["a", "b" * 121], "too_long"),
    ],
)
def test_variants_that_cannot_be_told_apart_are_refused(variants: list[str], code: str) -> None:
    """Names are unique and readable; there are 2 to 20 of them."""
    with pytest.raises(Invalid) as error:
        made(*variants)

    assert code in {fault.code for fault in error.value.faults}


def test_a_key_is_made_from_the_name() -> None:
    """Letters and digits of the name, in lower case; without any, a plain word."""
    keys = [experiments.create(Draft(name, [VariantDraft("a"), VariantDraft("b")]), NOW, FixedClock().new_id).key
            for name in ("Homepage CTA Test", "experiment18", "実験", "-- A/B --")]  # fmt: skip

    assert keys == ["homepage-cta-test", "experiment18", "experiment", "a-b"]


def test_imported_assignments_move_the_start_back() -> None:
    """The start and the first phase are no later than the earliest assignment; never moved forward."""
    earlier = NOW - timedelta(days=3)

    moved = lifecycle.backdate(made(), earlier)

    assert (moved.started_at, moved.phases[0].started_at) == (earlier, earlier)
    assert lifecycle.backdate(moved, NOW) == moved
