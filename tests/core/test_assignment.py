"""The hash contract, the shares it gives, and the decision for a user without a stored assignment."""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import chdtrc

from upshot import assignment, experiments
from upshot.assignment import bucket, choose, hash64
from upshot.clock import FixedClock
from upshot.experiments import Draft, Experiment, Status
from upshot.variants import VariantDraft

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "assignment.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALARM = 1e-4  # chance of a false alarm of one share test; users and salts are fixed, so it is decided once

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
weight_lists = st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any)


def experiment(*weights: int, salt: str = "salt", **draft: object) -> Experiment:
    """An experiment with those weights."""
    drafts = [VariantDraft(f"v{place}", weight=Decimal(weight)) for place, weight in enumerate(weights)]
    made = experiments.create(Draft("Shares", drafts, **draft), NOW, FixedClock().new_id)  # type: ignore[arg-type]
    return replace(made, salt=salt)


def chance_of_shares(weights: list[int], users: int, hashed: Callable[..., int], salt: str = "salt") -> float:
    """The chi-square probability of shares at least as far from the weights as those that a hash gives."""
    observed = [0] * len(weights)
    for number in range(users):
        observed[choose(weights, hashed(salt, f"user-{number}"))] += 1
    expected = [users * weight / sum(weights) for weight in weights]
    chi2 = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True) if e)
    return float(chdtrc(sum(1 for e in expected if e) - 1, chi2))


def test_golden_hashes_are_those_of_every_implementation() -> None:
    """hash64 gives the published value for every published case, and so does a second implementation of its rule."""
    for case in VECTORS["hash64"]:
        packed = b"".join(struct.pack(">I", len(part.encode())) + part.encode() for part in case["parts"])
        again = struct.unpack(">Q", hashlib.sha256(packed).digest()[:8])[0]

        assert str(hash64(*case["parts"])) == case["hash"] == str(again)


def test_golden_choices_are_those_of_every_implementation() -> None:
    """Buckets and choices have their published values."""
    for case in VECTORS["bucket"]:
        assert bucket(int(case["hash"]), case["total"]) == case["bucket"]
    for case in VECTORS["choose"]:
        assert choose(case["weights"], hash64(case["salt"], case["user_id"])) == case["index"]


@given(texts, texts, weight_lists)
def test_the_same_salt_and_user_give_the_same_variant(salt: str, user: str, weights: list[int]) -> None:
    """A choice depends on nothing but salt, user and weights, and never falls on a closed variant."""
    chosen = choose(weights, hash64(salt, user))

    assert choose(list(weights), hash64(salt, user)) == chosen
    assert weights[chosen] > 0


@given(texts, texts, texts)
def test_parts_cannot_run_into_each_other(first: str, second: str, third: str) -> None:
    """ "1"+"23" and "12"+"3" hash differently: the lengths are part of what is hashed."""
    moved = (first + second, third)

    assert (hash64(first, second + third) == hash64(*moved)) == ((first, second + third) == moved)


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, 1], [30, 70], [1, 2, 3, 4], [99, 1]])
def test_shares_follow_the_weights(weights: list[int]) -> None:
    """Shares of 50,000 users lie within what chance allows; a constant hash is caught."""
    assert chance_of_shares(weights, 50_000, hash64) > ALARM
    assert chance_of_shares(weights, 50_000, lambda *_: 7) < ALARM


def test_a_modulo_of_a_hundred_slices_is_caught_by_the_share_test() -> None:
    """Thirds cut from 100 slices (33, 33, 34) fail at 300,000 users, where exact thirds pass."""

    def hundredths(*parts: str) -> int:
        slice_of_hundred = hash64(*parts) % 100
        return (0 if slice_of_hundred < 33 else 1 if slice_of_hundred < 66 else 2) * (2**64 // 3) + 2**62

    assert chance_of_shares([1, 1, 1], 300_000, hash64) > ALARM
    assert chance_of_shares([1, 1, 1], 300_000, hundredths) < ALARM


def test_two_experiments_divide_users_independently() -> None:
    """Knowing one experiment's variant says nothing about another's; hashing without the salt is caught."""

    def chance_of_independence(hashed: Callable[..., int]) -> float:
        table = [[0, 0], [0, 0]]
        for number in range(20_000):
            user = f"user-{number}"
            table[choose([1, 1], hashed("one", user))][choose([1, 1], hashed("two", user))] += 1
        rows, columns = [sum(row) for row in table], [sum(column) for column in zip(*table, strict=True)]
        expected = [[row * column / 20_000 for column in columns] for row in rows]
        pairs = [(table[i][j], expected[i][j]) for i in (0, 1) for j in (0, 1)]
        return float(chdtrc(1, sum((o - e) ** 2 / e for o, e in pairs)))

    assert chance_of_independence(hash64) > ALARM
    assert chance_of_independence(lambda _salt, user: hash64(user)) < ALARM


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9))
def test_raising_the_traffic_never_moves_a_user_that_was_in(lower: int, higher: int, user: int) -> None:
    """Who is in at a percentage is in, with the same variant, at every higher one."""
    lower, higher = sorted((lower, higher))
    whole = experiment(1, 1)
    small, large = (replace(whole, traffic=traffic) for traffic in (lower, higher))

    before, after = small.decide(str(user), {}), large.decide(str(user), {})

    assert before.variant is None or before == after


def test_traffic_and_variant_are_independent() -> None:
    """Among the users of 30 % traffic the shares still follow the weights; using one hash for both is caught."""
    half = replace(experiment(1, 1), traffic=300_000)
    inside = [half.decide(f"user-{n}", {}).variant for n in range(30_000)]
    shares = [sum(v is not None and v.position == place for v in inside) for place in (0, 1)]
    same_hash = [choose([1, 1], hash64("salt", f"user-{n}")) for n in range(30_000)
                 if bucket(hash64("salt", f"user-{n}"), 10**6) < 300_000]  # fmt: skip

    assert abs(sum(shares) - 9_000) < 4 * (30_000 * 0.21) ** 0.5
    assert abs(shares[0] - shares[1]) < 4 * sum(shares) ** 0.5
    assert len(set(same_hash)) == 1


@pytest.mark.parametrize(
    ("state", "reason"),
    [(Status.DRAFT, "not_running"), (Status.PAUSED, "not_running"), (Status.COMPLETED, "not_running")],
)
def test_an_experiment_that_does_not_run_takes_no_new_user(state: Status, reason: str) -> None:
    """Only a running experiment decides for new users."""
    still = replace(experiment(1, 1), status=state)

    assert still.decide("somebody", {}) == assignment.Decision(None, reason)


def test_a_user_outside_the_target_gets_no_variant() -> None:
    """Targeting is applied to the given context."""
    targeted = experiment(1, 1, targeting={"countries": ["US"]})

    assert targeted.decide("somebody", {"country": "DE"}).reason == "not_targeted"
    assert targeted.decide("somebody", {"country": "us"}).reason == "assigned"
    assert experiment(1, 1, traffic_percentage=Decimal(0)).decide("somebody", {}).reason == "not_in_traffic"
