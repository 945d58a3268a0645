"""Which variant a user gets: the hash contract, and the decision that explains itself.

The contract (golden vectors in `vectors/assignment.json`, shared with every SDK):

1. `hash64(*parts)` is SHA-256 over each part's length in bytes (4 bytes, big endian) followed by the part in UTF-8; the
   first 8 bytes of the digest, read big endian, are the value. The lengths make ("1", "23") and ("12", "3") different.
2. `bucket(value, total)` is `value * total >> 64`: multiply-shift onto `total` equal slices. No float and no modulo.
3. The variant's hash is `hash64(salt, user)`. The bucket among the sum of the integer weights falls into the half-open
   range of one variant, in the order of the variants' positions. Weights 1:1:1 are exactly equal thirds.
4. Who enters at all is decided by an independent hash, `hash64("traffic", salt, user)`, on a million slices: raising the
   traffic percentage lets users in and never moves one that was already in.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from upshot import targeting
from upshot.experiments import TRAFFIC_WHOLE, Experiment, Status
from upshot.variants import Variant

ASSIGNED = "assigned"
NOT_RUNNING = "not_running"
NOT_TARGETED = "not_targeted"
NOT_IN_TRAFFIC = "not_in_traffic"


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
class Decision:
    """A variant, or the reason why there is none."""

    variant: Variant | None
    reason: str


def hash64(*parts: str) -> int:
    """An unsigned 64-bit hash of the parts, equal on every platform and in every run (rule 1)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return int.from_bytes(digest.digest()[:8], "big")


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


def decide(experiment: Experiment, user_id: str, context: Mapping[str, object]) -> Decision:
    """Decide for a user without a stored assignment, from the experiment as it is and the user's context."""
    if experiment.status is not Status.RUNNING:
        return Decision(None, NOT_RUNNING)
    if not targeting.matches(experiment.rule, context):
        return Decision(None, NOT_TARGETED)
    if (
        experiment.traffic < TRAFFIC_WHOLE
        and bucket(hash64("traffic", experiment.salt, user_id), TRAFFIC_WHOLE) >= experiment.traffic
    ):
        return Decision(None, NOT_IN_TRAFFIC)
    variants = experiment.variants
    index = choose([variant.weight for variant in variants], hash64(experiment.salt, user_id))
    return Decision(variants[index], ASSIGNED)
