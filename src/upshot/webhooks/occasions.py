"""Occasions: what a webhook can be told of, and what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from upshot import analysisplan
from upshot.allocation import percent_of
from upshot.analysisplan import PlanChange
from upshot.description import describe
from upshot.experiments import Experiment, Status

SEEN = ("name", "description", "hypothesis", "status", "primary_metric", "metrics", "guardrails", "targeting",
        "traffic_percentage", "tags", "owner", "holdouts")  # fmt: skip


class Occasion(StrEnum):
    """What can be told. The words are the `type` of a payload."""

    STARTED = "experiment.started"
    CHANGED = "experiment.changed"
    COMPLETED = "experiment.completed"
    BREACHED = "guardrail.breached"
    MISMATCHED = "sample_ratio.alarm"


@dataclass(frozen=True, slots=True)
class Breach:
    """A guardrail that is worse in a variant than in control. `lift` and its interval are fractions of control's value; None is a
    number that does not exist, or a side that is unbounded. `direction` is the one in which the metric gets better."""

    metric: str
    variant: str
    baseline: str
    direction: str
    lift: float | None
    lower: float | None
    upper: float | None
    confidence_level: float


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Users who did not arrive in the planned shares: the p-value that holds at every look, and users by variant name."""

    p_value: float
    expected: Mapping[str, float]
    observed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Notice:
    """One occasion of one experiment, as it was at that moment, with what is known beyond it."""

    occasion: Occasion
    at: datetime
    experiment: Experiment
    fact: tuple[PlanChange, ...] | Breach | Mismatch | None = None


def of_change(before: Experiment | None, after: Experiment) -> Notice | None:
    """What the step from one version of an experiment to the next is worth telling; `before` is None where it is new.

    Nothing is told of drafts, which change until they are right, nor of a step that changes nothing a reader sees.
    """
    if after.status is Status.DRAFT:
        return None
    if before is None or before.status is Status.DRAFT:
        return Notice(Occasion.STARTED, after.updated_at, after)
    if after.status is Status.COMPLETED and before.status is not Status.COMPLETED:
        return Notice(Occasion.COMPLETED, after.updated_at, after)
    changes = tuple(analysisplan.differences(_seen(before), _seen(after), after.updated_at))
    return Notice(Occasion.CHANGED, after.updated_at, after, changes) if changes else None


def breached(experiment: Experiment, breach: Breach, at: datetime) -> Notice:
    """A guardrail was found to be harmed."""
    return Notice(Occasion.BREACHED, at, experiment, breach)


def mismatched(experiment: Experiment, mismatch: Mismatch, at: datetime) -> Notice:
    """The sample ratio was found to be off."""
    return Notice(Occasion.MISMATCHED, at, experiment, mismatch)


def allocation_of(experiment: Experiment) -> dict[str, float]:
    """The share of new users that each variant gets, in percent, by name."""
    total = sum(variant.weight for variant in experiment.variants)
    return {variant.name: percent_of(variant.weight, total) for variant in experiment.variants}


def _seen(experiment: Experiment) -> dict[str, Any]:
    """What can change of an experiment that has started, as JSON values; its key, control and configurations cannot.

    Of the users in overrides it says how many there are: who they are is nobody's business outside.
    """
    described = describe(experiment)
    seen = {name: described[name] for name in SEEN}
    seen["overrides"] = [each | {"users": len(each["users"])} for each in described["overrides"]]
    return {**seen, "traffic_allocation": allocation_of(experiment), **described["plan"]}
