"""Which variant a user gets: the hash contract, and the decision that explains itself.

The contract (golden vectors in `vectors/assignment.json` and `vectors/decisions.json`, shared with every SDK):

1. `hash64(*parts)` is SHA-256 over each part's length in bytes (4 bytes, big endian) followed by the part in UTF-8; the
   first 8 bytes of the digest, read big endian, are the value. The lengths make ("1", "23") and ("12", "3") different.
2. `bucket(value, total)` is `value * total >> 64`: multiply-shift onto `total` equal slices. No float and no modulo.
3. The variant's hash is `hash64(salt, user)`. The bucket among the sum of the integer weights falls into the half-open
   range of one variant, in the order of the variants' positions. Weights 1:1:1 are exactly equal thirds.
4. Who enters at all is decided by independent hashes on a million slices, all of which must let the user pass:
   `hash64("traffic", salt, user)` below the traffic (raising it lets users in and never moves one that was already in),
   `hash64("layer", the layer's salt, user)` in one of the experiment's ranges of each of its layers, and
   `hash64("holdout", the holdout's salt, user)` not below the share of any of its holdouts.
5. An override gives its variant to a user whose `hash64("override", salt, user)`, as 16 hexadecimal digits, it lists, or whose
   context its rule matches; the first one that does. It goes before all else.

A decision is made of comparisons of digests with edges that are made once: `bucket(value, total) < n` holds exactly when the
digest is less than the 8 bytes of the least value whose bucket is n.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from upshot.targeting import EVERYBODY, Rule, matches

WHOLE = 1_000_000
"""Shares of users (traffic, layers, holdouts, rollouts) are kept in millionths: 4 decimals of a percent, exactly."""

ASSIGNED = "assigned"
OVERRIDDEN = "overridden"
NOT_RUNNING = "not_running"
NOT_TARGETED = "not_targeted"
NOT_IN_TRAFFIC = "not_in_traffic"
HELD_OUT = "held_out"

REASONS = (NOT_RUNNING, NOT_TARGETED, NOT_IN_TRAFFIC, HELD_OUT)
"""Why a user has no variant."""

_sha256 = hashlib.sha256
_LENGTHS = tuple(length.to_bytes(4, "big") for length in range(1024))  # of user ids: up to 200 characters
_BEYOND = b"\xff" * 33  # greater than every digest

Outcome = TypeVar("Outcome")
Answer = TypeVar("Answer")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The variant (by position) that a user has in an experiment (by number), for good.

    `exposed_at` is when the user was first given the variant to see, None before that; `context` is JSON.
    """

    experiment: int
    user_id: str
    variant: int
    phase: int
    assigned_at: datetime
    exposed_at: datetime | None
    context: str


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an experiment in a layer: half-open ranges of the layer's million slices, ascending."""

    layer: str
    salt: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A share of the users, in millionths, that gets no variant of the experiments it is attached to."""

    key: str
    salt: str
    share: int


@dataclass(frozen=True, slots=True)
class Forced:
    """Who gets the variant at an index whatever else holds: users by their hash (`override_hash`), or contexts by a rule."""

    index: int
    users: frozenset[str]
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a decision depends on; `weights` are those of the variants in order, `traffic` is in millionths."""

    salt: str
    running: bool
    weights: tuple[int, ...]
    traffic: int = WHOLE
    rule: Rule = EVERYBODY
    slots: tuple[Slot, ...] = ()
    holdouts: tuple[Held, ...] = ()
    forced: tuple[Forced, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision(Generic[Outcome]):
    """A variant, or the reason why there is none."""

    variant: Outcome | None
    reason: str


def hash64(*parts: str) -> int:
    """An unsigned 64-bit hash of the parts, equal on every platform and in every run (rule 1)."""
    return int.from_bytes(_sha256(b"".join(map(_counted, parts))).digest()[:8], "big")


def bucket(value: int, total: int) -> int:
    """The slice, 0 ≤ slice < total, that a 64-bit value falls into (rule 2)."""
    return value * total >> 64


def choose(weights: Sequence[int], value: int) -> int:
    """The index of the weight whose range holds the value's bucket (rule 3); the weights' sum must be positive."""
    point = bucket(value, sum(weights))
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    raise ValueError("the weights must have a positive sum")


def override_hash(salt: str, user_id: str) -> str:
    """What stands for a user in a list of overrides, so that a list in a public configuration names nobody (rule 5)."""
    return f"{hash64('override', salt, user_id):016x}"


class Gate:
    """Lets users pass whose hash falls into half-open ranges of a million slices."""

    __slots__ = ("_edges", "_prefix", "reason")

    def __init__(
        self, purpose: str, salt: str, ranges: Sequence[tuple[int, int]], reason: str = NOT_IN_TRAFFIC
    ) -> None:
        self._prefix = _counted(purpose) + _counted(salt)
        self._edges = [_edge(point, WHOLE) for each in ranges for point in each]
        self.reason = reason

    def lets(self, user_id: str) -> bool:
        """Whether the user passes."""
        return self.lets_counted(_counted(user_id))

    def lets_counted(self, user: bytes) -> bool:
        """The same for a user id that is in bytes with its length already."""
        return bool(bisect_right(self._edges, _sha256(self._prefix + user).digest()) & 1)


class Chooser(Generic[Answer]):
    """The decisions of one experiment for users without a stored assignment, prepared once, in a form of the caller's.

    Args:
        terms: what a decision depends on.
        assigned: what is answered with each variant, in order.
        overridden: what is answered where an override gives it.
        without: what is answered for each reason why there is no variant.
    """

    __slots__ = (
        "_assigned",
        "_edges",
        "_forced",
        "_gates",
        "_held",
        "_not_running",
        "_not_targeted",
        "_overridden",
        "_prefix",
        "_running",
        "_terms",
        "_tests",
        "_without",
    )

    def __init__(
        self,
        terms: Terms,
        assigned: Sequence[Answer],
        overridden: Sequence[Answer],
        without: Mapping[str, Answer],
    ) -> None:
        self._terms = terms
        self._forced = bool(terms.forced)
        self._running = terms.running
        self._tests = tuple(terms.rule.tests)
        self._held = tuple(Gate("holdout", held.salt, [(held.share, WHOLE)], HELD_OUT) for held in terms.holdouts)
        gates = [*self._held, *(Gate("layer", slot.salt, slot.ranges) for slot in terms.slots)]
        if terms.traffic < WHOLE:
            gates.append(Gate("traffic", terms.salt, [(0, terms.traffic)]))
        self._gates = tuple(gates)
        self._prefix = _counted(terms.salt)
        total, ends = sum(terms.weights), [sum(terms.weights[: place + 1]) for place in range(len(terms.weights) - 1)]
        self._edges = [_edge(end, total) for end in ends]
        self._assigned = tuple(assigned)
        self._overridden = tuple(overridden)
        self._without = without
        self._not_running = without[NOT_RUNNING]
        self._not_targeted = without[NOT_TARGETED]

    def __call__(self, user_id: str, context: Mapping[str, object]) -> Answer:
        """The variant of a user with that context, or the reason why there is none."""
        if self._forced and (found := self.overridden(user_id, context)) is not None:
            return found
        if not self._running:
            return self._not_running
        for test in self._tests:
            if not test(context):
                return self._not_targeted
        data = user_id.encode()
        size = len(data)
        user = _LENGTHS[size] + data if size < 1024 else _counted(user_id)
        if self._gates:
            for gate in self._gates:
                if not gate.lets_counted(user):
                    return self._without[gate.reason]
        return self._assigned[bisect_right(self._edges, _sha256(self._prefix + user).digest())]

    def overridden(self, user_id: str, context: Mapping[str, object]) -> Answer | None:
        """The decision of the first override that is for the user or the context; None where none is."""
        if not self._forced:
            return None
        hashed = override_hash(self._terms.salt, user_id)
        for forced in self._terms.forced:
            if hashed in forced.users or (forced.rule is not None and matches(forced.rule, context)):
                return self._overridden[forced.index]
        return None

    def holds_out(self, user_id: str) -> bool:
        """Whether a holdout keeps the user from what the experiment tests."""
        return not all(gate.lets(user_id) for gate in self._held)

    def answering(
        self, assigned: Sequence[Other], overridden: Sequence[Other], without: Mapping[str, Other]
    ) -> "Chooser[Other]":
        """The same decisions in another form."""
        return Chooser(self._terms, assigned, overridden, without)


class Decider(Chooser[Decision[Outcome]]):
    """The decisions of one experiment as an outcome, such as a variant, and the reason."""

    __slots__ = ()

    def __init__(self, terms: Terms, outcomes: Sequence[Outcome]) -> None:
        assigned: list[Decision[Outcome]] = [Decision(outcome, ASSIGNED) for outcome in outcomes]
        overridden: list[Decision[Outcome]] = [Decision(outcome, OVERRIDDEN) for outcome in outcomes]
        super().__init__(terms, assigned, overridden, _WITHOUT)


def _counted(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def _edge(count: int, total: int) -> bytes:
    """The 8 bytes of the least 64-bit value whose bucket among `total` is `count` or more."""
    least = -(-(count << 64) // total)
    return least.to_bytes(8, "big") if least < 1 << 64 else _BEYOND


_WITHOUT: Mapping[str, Decision[Any]] = {reason: Decision(None, reason) for reason in REASONS}
