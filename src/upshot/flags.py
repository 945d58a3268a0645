"""Feature flags: a typed value per user, which an experiment drives, or a rollout, or neither.

What a flag gives, the first that applies:

    switched off                                              the default        DISABLED
    its experiment has an override for the user               that variant's     TARGETING_MATCH
    its experiment was completed with a winner                the winner's       STATIC; to users held out the default, DEFAULT
    its experiment is paused                                  the default        DISABLED
    its experiment runs, and the user has a variant           that variant's     SPLIT
    its rollout has reached the user                          the rollout's      STATIC (all), TARGETING_MATCH (a rule), SPLIT
    otherwise                                                 the default        DEFAULT

The reasons are those of OpenFeature. A rollout's share grows by a schedule of steps; its users are those whose
`hash64("rollout", the flag's salt, user)` falls below the share, so that a growing share lets users in and drops nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from upshot import identifiers, targeting
from upshot.assignment import OVERRIDDEN, WHOLE, Decision, bucket, hash64
from upshot.errors import Fault, Invalid
from upshot.layers import millionths
from upshot.targeting import EVERYBODY, Rule

STEPS = 50
LARGEST = 2**53
"""Integers beyond it are not the same in every language."""


class Kind(StrEnum):
    """The types of a flag's values."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    OBJECT = "object"


class Reason(StrEnum):
    """Why a flag has its value, in OpenFeature's words."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"


class Step(NamedTuple):
    """From a moment on (None: from the first), the share of users, in millionths."""

    at: datetime | None
    share: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """A value for a growing share of the users that a rule matches; the steps ascend in time."""

    value: Any
    steps: tuple[Step, ...]
    rule: Rule = EVERYBODY

    def share_at(self, moment: datetime) -> int:
        """The share that is reached at a moment, in millionths."""
        share = 0
        for step in self.steps:
            if step.at is None or step.at <= moment:
                share = step.share
        return share


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag. Its id is the salt of its rollout's hash; `experiment` is the id of the one that drives it, `values` what it gives
    for each of that one's variants, by name: for a variant that is not named, the default."""

    id: str
    key: str
    description: str
    kind: Kind
    default: Any
    enabled: bool
    created_at: datetime
    updated_at: datetime
    version: int = 1
    experiment: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    rollout: Rollout | None = None


class Driver(Protocol):
    """What a flag asks of the experiment that drives it; experiments and those of a snapshot are such."""

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def winning(self) -> str | None:
        """The name of the variant that was shipped."""
        ...

    def holds_out(self, user_id: str) -> bool:
        """Whether a holdout keeps the user from it."""
        ...


class Named(Protocol):
    """A variant, by its name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


class Evaluation(NamedTuple):
    """The value of a flag for a user, why, and which variant it is; `driven` says that the experiment gave it."""

    value: Any
    reason: Reason
    variant: str | None = None
    driven: bool = False


def evaluate(
    flag: Flag,
    user_id: str,
    context: Mapping[str, object],
    now: datetime,
    driver: Driver | None = None,
    decision: Decision[Any] | None = None,
) -> Evaluation:
    """The flag's value for a user. `driver` is its experiment, `decision` what that one gives the user: stored, or fresh."""
    if not flag.enabled:
        return Evaluation(flag.default, Reason.DISABLED)
    if driver is not None:
        found = _driven(flag, user_id, driver, decision)
        if found is not None:
            return found
    rollout = flag.rollout
    if rollout is None or not targeting.matches(rollout.rule, context):
        return Evaluation(flag.default, Reason.DEFAULT)
    share = rollout.share_at(now)
    if share < WHOLE:
        if bucket(hash64("rollout", flag.id, user_id), WHOLE) >= share:
            return Evaluation(flag.default, Reason.DEFAULT)
        return Evaluation(rollout.value, Reason.SPLIT, "rollout")
    reason = Reason.TARGETING_MATCH if rollout.rule.tests else Reason.STATIC
    return Evaluation(rollout.value, reason, "rollout")


def _driven(flag: Flag, user_id: str, driver: Driver, decision: Decision[Any] | None) -> Evaluation | None:
    """What the experiment says; None where it says nothing about the user."""
    variant: Named | None = decision.variant if decision is not None else None
    if variant is not None and decision is not None and decision.reason == OVERRIDDEN:
        return _of_variant(flag, variant.name, Reason.TARGETING_MATCH)
    winner = driver.winning
    if winner is not None:
        held_out = driver.holds_out(user_id)
        return Evaluation(flag.default, Reason.DEFAULT) if held_out else _of_variant(flag, winner, Reason.STATIC)
    if driver.is_paused:
        return Evaluation(flag.default, Reason.DISABLED)
    return _of_variant(flag, variant.name, Reason.SPLIT) if driver.is_running and variant is not None else None


def _of_variant(flag: Flag, name: str, reason: Reason) -> Evaluation:
    return Evaluation(flag.values.get(name, flag.default), reason, name, driven=True)


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step as a request describes it: a percentage."""

    percentage: Decimal
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RolloutDraft:
    """A rollout as a request describes it."""

    value: Any
    steps: Sequence[StepDraft]
    targeting: Mapping[str, Any] | None = None


def checked(flag: Flag, variants: Sequence[Named] | None) -> Flag:
    """The flag with its values in the form of its kind; `variants` are those of its experiment.

    Raises:
        Invalid: its key or a value breaks a rule, or values are named for variants that there are not.
    """
    if fault := identifiers.check_key(flag.key):
        raise Invalid.of(fault)
    names = {variant.name for variant in variants or ()}
    unknown = [name for name in flag.values if name not in names]
    if unknown:
        raise Invalid.of(
            Fault("/experiment/values", "unknown_variant", "names a variant that the experiment does not have")
        )
    return replace(
        flag,
        default=_value(flag.default, flag.kind, "/default"),
        values={name: _value(value, flag.kind, "/experiment/values") for name, value in flag.values.items()},
        rollout=flag.rollout and replace(flag.rollout, value=_value(flag.rollout.value, flag.kind, "/rollout/value")),
    )


def rollout_of(draft: RolloutDraft) -> Rollout:
    """A rollout from a draft.

    Raises:
        Invalid: the rule cannot be read, or the steps do not ascend in time, or one has no percentage.
    """
    if not 0 < len(draft.steps) <= STEPS:
        raise Invalid.of(Fault("/rollout/steps", "bad_count", f"a rollout has 1 to {STEPS} steps"))
    moments = [step.at for step in draft.steps]
    later = [moment for moment in moments[1:] if moment is not None]
    ascending = all(earlier < moment for earlier, moment in zip(moments, later, strict=False) if earlier is not None)
    if len(later) < len(moments) - 1 or not ascending:
        raise Invalid.of(Fault("/rollout/steps", "not_ascending", "steps have moments, each later than the one before"))
    steps = tuple(
        Step(step.at, millionths(step.percentage, f"/rollout/steps/{place}/percentage"))
        for place, step in enumerate(draft.steps)
    )
    return Rollout(draft.value, steps, targeting.parse(draft.targeting or {}, "/rollout/targeting"))


def _value(value: Any, kind: Kind, at: str) -> Any:
    """A value of the kind; a whole number given for `number` becomes a float, so that every language reads one."""
    number = type(value) in {int, float}
    if number and abs(value) >= LARGEST:
        raise Invalid.of(Fault(at, "too_large", "a number must lie within ±(2^53 − 1)"))
    if number and kind is Kind.NUMBER:
        return float(value)
    if type(value) is not _TYPES[kind]:
        raise Invalid.of(Fault(at, "bad_type", "is not of the flag's type"))
    return value


_TYPES: Mapping[Kind, type] = MappingProxyType(
    {Kind.BOOLEAN: bool, Kind.STRING: str, Kind.INTEGER: int, Kind.NUMBER: float, Kind.OBJECT: dict}
)
