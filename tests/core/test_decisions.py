"""Decisions and flags of a snapshot: golden vectors, layers, holdouts, overrides, rollouts."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.deciding import decision, evaluation

from upshot import experiments, flags, holdouts, layers, lifecycle, snapshot
from upshot.assignment import WHOLE, Decider, Held, Terms, hash64
from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid, Malformed, UpshotError
from upshot.experiments import Draft, Experiment, Status
from upshot.flags import Flag, Kind, Rollout, RolloutDraft, Step, StepDraft
from upshot.holdouts import Holdout
from upshot.layers import Claim, Layer
from upshot.operations.snapshots import document_of
from upshot.overrides import OverrideDraft
from upshot.variants import VariantDraft

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "decisions.json").read_text(encoding="utf-8"))
ON: Any = True
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LAYER = Layer("layer-1", "checkout", "Checkout", NOW)
USERS = [f"user-{number}" for number in range(4_000)]


def made(**draft: Any) -> Experiment:
    """An experiment of two equal variants."""
    drafts = [VariantDraft("control"), VariantDraft("blue")]
    return experiments.create(Draft("Tried", drafts, **draft), NOW, FixedClock().new_id)


def flag(**fields: Any) -> Flag:
    """A boolean flag that is off by default."""
    return replace(
        Flag("salt", "banner", "", Kind.BOOLEAN, default=False, enabled=True, created_at=NOW, updated_at=NOW), **fields
    )


def faults(error: pytest.ExceptionInfo[Any]) -> set[tuple[str, str]]:
    """The faults that an error names."""
    return {(fault.pointer, fault.code) for fault in error.value.faults}


def wrong(read: snapshot.Snapshot) -> int:
    """How many golden answers a snapshot gets wrong."""
    count = 0
    for case in VECTORS["cases"]:
        now = datetime.fromisoformat(case["now"])
        for key, wanted in case["experiments"].items():
            found = read.experiments[key].decide(case["user_id"], case["context"])
            count += (found.variant and found.variant.name, found.reason) != (wanted["variant"], wanted["reason"])
        for key, wanted in case["flags"].items():
            got = read.evaluate(key, case["user_id"], case["context"], now)
            count += got is None or got[:3] != (wanted["value"], wanted["reason"], wanted["variant"])
    return count


def test_golden_decisions_are_those_of_every_implementation() -> None:
    """Of the snapshot, and of a second implementation straight from the rules; one that decides otherwise is caught."""
    document = VECTORS["document"]
    read = snapshot.read(document)
    careless = json.loads(json.dumps(document))
    for entry in careless["experiments"]:
        entry["layers"], entry["holdouts"] = [], []

    assert wrong(read) == 0
    assert wrong(snapshot.read(careless)) > 0
    for case in VECTORS["cases"]:
        now = datetime.fromisoformat(case["now"])
        for entry in document["experiments"]:
            wanted = case["experiments"][entry["key"]]
            assert decision(entry, case["user_id"], case["context"]) == (wanted["variant"], wanted["reason"])
        for each in document["flags"]:
            told = evaluation(document, each, case["user_id"], case["context"], now)
            assert dict(zip(("value", "reason", "variant"), told, strict=True)) == case["flags"][each["key"]]


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8).filter(any), st.text(max_size=30))
def test_edges_choose_as_buckets_do(weights: list[int], user: str) -> None:
    """Comparing digests with edges gives what multiply-shift gives, for every weight and user."""
    entry = {
        "overrides": [], "status": "running", "targeting": {}, "holdouts": [], "layers": [], "traffic": WHOLE, "salt": "s",
        "variants": [{"name": str(place), "weight": weight} for place, weight in enumerate(weights)],
    }  # fmt: skip
    if any("\ud800" <= letter <= "\udfff" for letter in user):
        user = "somebody"
    decide = Decider(Terms("s", running=True, weights=tuple(weights)), [str(place) for place in range(len(weights))])

    assert decide(user, {}).variant == decision(entry, user, {})[0]


def test_what_is_published_decides_as_the_server_does() -> None:
    """The document of experiments and flags, read again, gives every user what the experiments themselves give."""
    clock = FixedClock()
    first = made(
        key="first", tags=["web"],
        overrides=[OverrideDraft("blue", ["tester"]), OverrideDraft("control", (), {"countries": ["DE"]})],
        traffic_percentage=Decimal(40), targeting={"countries": ["US", "DE"]},
    )  # fmt: skip
    second = replace(
        made(key="second"),
        layers=(layers.place(LAYER, Claim("checkout", Decimal(30)), [(0, 500_000)]),),
        holdouts=(Held("h", "holdout-1", 200_000),),
        id=clock.new_id(),
    )
    second = replace(second, salt=second.id)
    driven = flag(experiment=second.id, values={"blue": True}, rollout=Rollout(ON, (Step(None, 300_000),)))
    document = json.loads(json.dumps(document_of([first, second], [driven])))
    read = snapshot.read(document)

    for user in [*USERS[:500], "tester"]:
        for context in ({}, {"country": "US"}, {"country": "DE"}):
            for experiment in (first, second):
                ours, theirs = experiment.decide(user, context), read.experiments[experiment.key].decide(user, context)
                assert (ours.variant and ours.variant.id, ours.reason) == (
                    theirs.variant and theirs.variant.id,
                    theirs.reason,
                )
            mine = flags.evaluate(driven, user, context, NOW, second, second.decide(user, context))
            assert read.evaluate("banner", user, context, NOW) == mine
    assert "tester" not in json.dumps(document)
    assert read.evaluate("unknown", "somebody", {}, NOW) is None


@pytest.mark.parametrize("document", [None, [], {}, {"format": 1}, {"format": 1, "experiments": [{}], "flags": []}, 7])
def test_what_is_no_snapshot_is_refused(document: object) -> None:
    """And one of a format to come, too."""
    with pytest.raises(Malformed):
        snapshot.read(document)
    with pytest.raises(Malformed):
        snapshot.read({**VECTORS["document"], "format": 2})


def test_experiments_of_a_layer_share_no_user() -> None:
    """Each has its share of the users; with layers ignored they would share many."""
    slots: list[tuple[int, int]] = []
    placed = []
    for number, percentage in enumerate((30, 50, 20)):
        slot = layers.place(LAYER, Claim("checkout", Decimal(percentage)), slots)
        slots += slot.ranges
        placed.append(replace(made(), layers=(slot,), salt=f"salt-{number}"))

    inside = [{user for user in USERS if each.decide(user, {}).variant} for each in placed]

    assert sum(map(len, inside)) == len(set().union(*inside)) == len(USERS)
    assert all(
        abs(len(users) - share) < 4 * share**0.5 for users, share in zip(inside, (1_200, 2_000, 800), strict=True)
    )
    assert all(replace(each, layers=()).decide(USERS[0], {}).variant for each in placed)


def test_an_experiment_in_two_layers_takes_who_is_inside_both() -> None:
    """Its users are those of both shares, which are drawn independently."""
    other = replace(LAYER, id="layer-2", key="prices")
    both = replace(
        made(),
        layers=(
            layers.place(LAYER, Claim("checkout", Decimal(50)), ()),
            layers.place(other, Claim("prices", Decimal(50)), ()),
        ),
    )
    inside = sum(both.decide(user, {}).variant is not None for user in USERS)

    assert abs(inside - 1_000) < 4 * 1_000**0.5
    assert {both.decide(user, {}).reason for user in USERS} == {"assigned", "not_in_traffic"}


def test_a_layer_gives_its_lowest_free_slices_and_no_more_than_it_has() -> None:
    """In pieces where it must; the refusal says how much is free."""
    taken = [(100_000, 300_000), (500_000, 900_000)]

    slot = layers.place(LAYER, Claim("checkout", Decimal(35)), taken)

    assert slot.ranges == ((0, 100_000), (300_000, 500_000), (900_000, 950_000))
    assert layers.free([*taken, *slot.ranges]) == [(950_000, 1_000_000)]
    with pytest.raises(Conflict, match="only 40 % is free"):
        layers.place(LAYER, Claim("checkout", Decimal("40.0001")), taken)


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ([Claim("a", Decimal(1)), Claim("a", Decimal(2))], ("/layers", "duplicate_layer")),
        ([Claim("a", Decimal(0))], ("/layers/0/percentage", "bad_percentage")),
        ([Claim("a", Decimal("0.00001"))], ("/layers/0/percentage", "bad_percentage")),
        ([Claim(str(number), Decimal(1)) for number in range(11)], ("/layers", "too_many")),
    ],
)
def test_shares_of_layers_that_are_none_are_refused(claims: list[Claim], fault: tuple[str, str]) -> None:
    """Each with its place."""
    with pytest.raises(Invalid) as error:
        made(layers=claims)

    assert faults(error) == {fault}


def test_a_holdout_leaves_its_share_out_of_every_experiment() -> None:
    """The same users of each, and nobody else."""
    holdout = Holdout("holdout-1", "h1", "First half", 100_000, (), NOW)
    held = [replace(made(), salt=f"salt-{n}", holdouts=holdouts.attached([holdout], ())) for n in range(3)]

    out = [{user for user in USERS if each.decide(user, {}).reason == "held_out"} for each in held]

    assert out[0] == out[1] == out[2] == {user for user in USERS if held[0].holds_out(user)}
    assert abs(len(out[0]) - 400) < 4 * 400**0.5


def test_a_holdout_concerns_the_experiments_of_its_tags_until_it_ends() -> None:
    """One without tags concerns all."""
    everything, of_web = (
        Holdout(str(n), str(n), str(n), 1, tags, NOW) for n, tags in enumerate([(), ("web", "mobile")])
    )

    assert holdouts.attached([everything, of_web], ["web"]) == (everything.held, of_web.held)
    assert holdouts.attached([everything, of_web], ["mail"]) == (everything.held,)
    assert holdouts.attached([holdouts.ended(everything, NOW)], ["web"]) == ()
    with pytest.raises(Conflict):
        holdouts.ended(holdouts.ended(everything, NOW), NOW)


@pytest.mark.parametrize("status", [Status.DRAFT, Status.RUNNING, Status.PAUSED])
def test_an_override_goes_before_all_else_until_the_experiment_is_over(status: Status) -> None:
    """For users and for contexts; the first one that fits."""
    drafts = [
        OverrideDraft("blue", ["tester"]),
        OverrideDraft("control", (), {"attribute": "qa", "operator": "eq", "value": True}),
    ]
    tried = replace(made(overrides=drafts, traffic_percentage=Decimal(0)), status=status)

    found = [tried.decide("tester", {"qa": True}), tried.decide("other", {"qa": True}), tried.decide("other", {})]

    assert [(each.variant and each.variant.name, each.reason) for each in found[:2]] == [
        ("blue", "overridden"),
        ("control", "overridden"),
    ]
    assert found[2].variant is None
    assert replace(tried, status=Status.COMPLETED).decide("tester", {}).reason == "not_running"


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        (OverrideDraft("red", ["tester"]), ("/overrides/0/variant", "unknown_variant")),
        (OverrideDraft("blue"), ("/overrides/0", "nobody")),
        (OverrideDraft("blue", ["null"]), ("/overrides/0/users/0", "placeholder")),
        (OverrideDraft("blue", (), {"x": 1}), ("/overrides/0/targeting/x", "unknown_key")),
        (OverrideDraft("blue", ["u"] * 1_001), ("/overrides/0/users", "too_many")),
    ],
)
def test_an_override_that_says_nothing_is_refused(draft: OverrideDraft, fault: tuple[str, str]) -> None:
    """With its place; before the start and after it."""
    with pytest.raises(Invalid) as error:
        made(overrides=[draft])
    with pytest.raises(Invalid) as later:
        lifecycle.change(made(), {"overrides": [draft]}, NOW, FixedClock().new_id, ())

    assert faults(error) == faults(later) == {fault}


def test_an_override_of_a_variant_that_was_removed_is_gone() -> None:
    """It does not move to another variant."""
    three = experiments.create(
        Draft("Three", [VariantDraft(name) for name in "abc"], overrides=[OverrideDraft("b", ["tester"])]),
        NOW,
        FixedClock().new_id,
    )
    two = lifecycle.change(three, {"variants": [VariantDraft("a"), VariantDraft("c")]}, NOW, FixedClock().new_id, ())

    assert three.decide("tester", {}).reason == "overridden"
    assert two.decide("tester", {}).reason == "assigned"


def test_layers_are_chosen_before_the_start_and_tags_and_overrides_at_any_time() -> None:
    """Users that have entered would else belong to two experiments."""
    with pytest.raises(Conflict):
        lifecycle.change(made(), {"layers": []}, NOW, FixedClock().new_id, ())

    changed = lifecycle.change(made(), {"tags": ["web", "web", "app"], "overrides": []}, NOW, FixedClock().new_id, ())
    assert changed.tags == ("app", "web")


def test_a_winner_is_a_variant_of_an_experiment_that_is_being_completed() -> None:
    """By name or id."""
    running = made()
    completed = lifecycle.move(running, "complete", NOW, "blue")

    assert completed.winning == "blue"
    assert lifecycle.move(completed, "archive", NOW).winning == "blue"
    assert lifecycle.move(running, "complete", NOW).winning is None
    for action, winner, code in (("complete", "red", "unknown_variant"), ("pause", "blue", "too_early")):
        with pytest.raises(Invalid) as error:
            lifecycle.move(running, action, NOW, winner)
        assert faults(error) == {("/winner", code)}


def test_a_growing_rollout_lets_users_in_and_drops_nobody() -> None:
    """Step by step by its schedule."""
    steps = tuple(Step(NOW + timedelta(days=day), share) for day, share in enumerate((50_000, 300_000, WHOLE)))
    growing = flag(rollout=Rollout(ON, steps))

    inside = [
        {user for user in USERS if flags.evaluate(growing, user, {}, NOW + timedelta(days=day)).value}
        for day in (-1, 0, 1, 2)
    ]

    assert inside[0] == set()
    assert inside[1] < inside[2] < inside[3] == set(USERS)
    assert abs(len(inside[2]) - 1_200) < 4 * 1_200**0.5


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        (RolloutDraft(ON, []), ("/rollout/steps", "bad_count")),
        (
            RolloutDraft(ON, [StepDraft(Decimal(1), NOW), StepDraft(Decimal(2), NOW)]),
            ("/rollout/steps", "not_ascending"),
        ),
        (RolloutDraft(ON, [StepDraft(Decimal(1)), StepDraft(Decimal(2))]), ("/rollout/steps", "not_ascending")),
        (RolloutDraft(ON, [StepDraft(Decimal(101))]), ("/rollout/steps/0/percentage", "bad_percentage")),
        (RolloutDraft(ON, [StepDraft(Decimal(1))], {"x": 1}), ("/rollout/targeting/x", "unknown_key")),
    ],
)
def test_a_rollout_that_is_none_is_refused(draft: RolloutDraft, fault: tuple[str, str]) -> None:
    """With its place."""
    with pytest.raises(Invalid) as error:
        flags.rollout_of(draft)

    assert faults(error) == {fault}
    assert (
        flags.rollout_of(RolloutDraft(ON, [StepDraft(Decimal(1)), StepDraft(Decimal(2), NOW)])).steps[1].share == 20_000
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.BOOLEAN, [True], [1, "true", None, {}]),
        (Kind.STRING, [""], [1, True, None]),
        (Kind.INTEGER, [1, -5], [1.0, True, "1", 2**53]),
        (Kind.NUMBER, [1, 2.5], [True, "1", None, 2.0**53]),
        (Kind.OBJECT, [{}, {"a": [1]}], [[], "x", None]),
    ],
)
def test_values_are_of_the_flags_type(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    """Everywhere in a flag; a number is a float, whatever was written."""
    variants = made().variants
    for value in good:
        kept = flags.checked(flag(kind=kind, default=value, values={"blue": value}), variants)
        assert type(kept.default) is type(kept.values["blue"]) is (float if kind is Kind.NUMBER else type(value))
    for value in bad:
        for fields in ({"default": value}, {"values": {"blue": value}}, {"rollout": Rollout(value, (Step(None, 1),))}):
            with pytest.raises(UpshotError):
                flags.checked(flag(**{"kind": kind, "default": good[0], **fields}), variants)
    with pytest.raises(Invalid):
        flags.checked(flag(values={"red": True}), variants)


def test_a_hash_of_another_purpose_is_independent() -> None:
    """Who is in a layer, a holdout, the traffic or a rollout says nothing about the others; one hash for all is caught."""

    def agreement(first: str, second: str) -> float:
        return sum((hash64(first, "s", user) >> 63) == (hash64(second, "s", user) >> 63) for user in USERS) / len(USERS)

    purposes = ("layer", "holdout", "traffic", "rollout", "override")
    pairs = [(one, other) for place, one in enumerate(purposes) for other in purposes[place + 1 :]]

    assert all(abs(agreement(*pair) - 0.5) < 4 * 0.5 / len(USERS) ** 0.5 for pair in pairs)
    assert agreement("layer", "layer") == 1
