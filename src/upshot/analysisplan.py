"""The analysis plan of an experiment: how it will be judged, said before it is seen.

The plan is locked when the experiment starts. It can be changed later, but never silently: every change is kept with its moment
and shown in the result, because a rule that is chosen after looking at the data no longer keeps its promise.

Stopping, in words (statistics.md 0.5):

- ``group_sequential``  a look at the end of every day, each spending its part of alpha; the default with a planned size
- ``always_valid``      a look at any time; the default without one
- ``fixed``             one look, when the planned size is reached or the experiment has ended
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from upshot.errors import Fault, Invalid
from upshot.statistics import Spending


class Stopping(StrEnum):
    """When a difference may be called significant."""

    FIXED = "fixed"
    GROUP_SEQUENTIAL = "group_sequential"
    ALWAYS_VALID = "always_valid"


class Allocation(StrEnum):
    """Whether the shares of the variants stay as they were set, or follow the chance to be best (Thompson sampling)."""

    FIXED = "fixed"
    THOMPSON = "thompson"


USERS_WITHOUT_PLAN = 10_000
"""The number of users of two arms at which always-valid results are tightest where no size was planned (statistics.md 2.8)."""

MOST_USERS = 10**12
_OPTIONS = frozenset({"stopping", "alpha", "planned_users", "spending", "adjust", "allocation", "prior_lift_sd"})


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A change after the start: which field of the plan or the experiment, what it was, and what it became."""

    at: datetime
    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """How an experiment will be judged.

    `stopping` None takes the default. `alpha` is the error rate over all looks together; `planned_users` counts the users of
    all arms. `adjust` lets what users did before their exposure make results more precise where it does. `prior_lift_sd` is
    the standard deviation of the lifts (fractions) that are expected, around 0, for those who want that belief to count.
    `definitions` are the metric definitions that the experiment referred to by key, as they were at the start.
    """

    stopping: Stopping | None = None
    alpha: float = 0.05
    planned_users: int | None = None
    spending: Spending = Spending.OBRIEN_FLEMING
    adjust: bool = True
    allocation: Allocation = Allocation.FIXED
    prior_lift_sd: float | None = None
    definitions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locked_at: datetime | None = None
    changes: tuple[PlanChange, ...] = ()

    @property
    def in_force(self) -> Stopping:
        """The mode of stopping that results follow."""
        if self.stopping is not None:
            return self.stopping
        return Stopping.ALWAYS_VALID if self.planned_users is None else Stopping.GROUP_SEQUENTIAL

    def tightest_at(self, arms: int) -> int:
        """The number of users of two arms at which always-valid results are tightest."""
        return USERS_WITHOUT_PLAN if self.planned_users is None else max(1, 2 * self.planned_users // arms)


def plan_of(
    options: Mapping[str, Any] | None, before: AnalysisPlan | None = None, pointer: str = "/plan"
) -> AnalysisPlan:
    """The plan with these options; those that are not named are as they were.

    Raises:
        Invalid: an option is unknown or breaks its rule, or group-sequential stopping has no planned size.
    """
    plan = before or AnalysisPlan()
    options = options or {}
    faults = [
        Fault(f"{pointer}/{name}", "unknown_field", f"has: {', '.join(sorted(_OPTIONS))}")
        for name in set(options) - _OPTIONS
    ]
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name in _OPTIONS:
            try:
                fields[name] = _READ[name](value)
            except ValueError as error:
                faults.append(Fault(f"{pointer}/{name}", "out_of_range", str(error)))
    if faults:
        raise Invalid.of(*faults)
    changed = replace(plan, **fields)
    if changed.stopping is Stopping.GROUP_SEQUENTIAL and changed.planned_users is None:
        raise Invalid.of(Fault(f"{pointer}/planned_users", "missing", "group-sequential looks need a planned size"))
    return changed


def options_of(plan: AnalysisPlan) -> dict[str, Any]:
    """The options of a plan, as `plan_of` reads them."""
    return {
        "stopping": None if plan.stopping is None else str(plan.stopping),
        "alpha": plan.alpha,
        "planned_users": plan.planned_users,
        "spending": str(plan.spending),
        "adjust": plan.adjust,
        "allocation": str(plan.allocation),
        "prior_lift_sd": plan.prior_lift_sd,
    }


def dump(plan: AnalysisPlan) -> dict[str, Any]:
    """The whole plan as a JSON document: `load(dump(plan)) == plan`."""
    return options_of(plan) | {
        "definitions": {key: dict(definition) for key, definition in plan.definitions.items()},
        "locked_at": None if plan.locked_at is None else plan.locked_at.isoformat(),
        "changes": [
            {"at": change.at.isoformat(), "field": change.field, "before": change.before, "after": change.after}
            for change in plan.changes
        ],
    }


def load(document: Mapping[str, Any] | None, started_at: datetime | None = None) -> AnalysisPlan:
    """The plan of a document; the default plan where there is none, because the experiment is older than plans are.

    An option that the document does not have is younger than it, and at its default. What the previous release started has no
    moment of locking: it was locked when the experiment started.
    """
    if not document:
        return AnalysisPlan(locked_at=started_at)
    locked_at = document["locked_at"]
    return replace(
        plan_of({name: document[name] for name in _OPTIONS & document.keys()}),
        definitions=document["definitions"],
        locked_at=started_at if locked_at is None else datetime.fromisoformat(locked_at),
        changes=tuple(
            PlanChange(datetime.fromisoformat(change["at"]), change["field"], change["before"], change["after"])
            for change in document["changes"]
        ),
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any], now: datetime) -> Sequence[PlanChange]:
    """What changed between two sets of fields."""
    return [PlanChange(now, name, before[name], after[name]) for name in before if before[name] != after[name]]


def _stopping(value: Any) -> Stopping | None:
    if value is None:
        return None
    try:
        return Stopping(value)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(Stopping)}") from None


def _alpha(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0005 <= value <= 0.2:
        raise ValueError("must be a number from 0.0005 to 0.2")
    return float(value)


def _planned_users(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MOST_USERS:
        raise ValueError("must be a number of users, at least 2")
    return value


def _spending(value: Any) -> Spending:
    if value not in {Spending.OBRIEN_FLEMING, Spending.POCOCK}:
        raise ValueError("must be obrien_fleming or pocock")
    return Spending(value)


def _adjust(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise ValueError("must be true or false")


def _allocation(value: Any) -> Allocation:
    try:
        return Allocation(value)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(Allocation)}") from None


def _prior_lift_sd(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 10:
        raise ValueError("must be a number from 0.001 to 10: 0.1 expects most lifts within ± 20 %")
    return float(value)


_READ = {
    "stopping": _stopping,
    "alpha": _alpha,
    "planned_users": _planned_users,
    "spending": _spending,
    "adjust": _adjust,
    "allocation": _allocation,
    "prior_lift_sd": _prior_lift_sd,
}
