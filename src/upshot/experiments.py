"""Experiments: what one is, and which change its state allows.

    draft → running ⇄ paused → completed → archived        (a running one can be completed, too)

Changing the allocation while an experiment runs opens a new phase: it binds new users only, and results never pool users
of different phases naively.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from upshot import analysisplan, identifiers, targeting
from upshot.analysisplan import AnalysisPlan
from upshot.errors import Conflict, Fault, Invalid
from upshot.variants import Variant, VariantDraft, arrange

TRAFFIC_WHOLE = 1_000_000  # the traffic percentage is kept in millionths: 4 decimals of a percent, exactly


class Status(StrEnum):
    """The states of an experiment."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ARCHIVED = "archived"


# action → (the states it may start from, the state it leads to)
ACTIONS: Mapping[str, tuple[frozenset[Status], Status]] = MappingProxyType(
    {
        "start": (frozenset({Status.DRAFT}), Status.RUNNING),
        "pause": (frozenset({Status.RUNNING}), Status.PAUSED),
        "resume": (frozenset({Status.PAUSED}), Status.RUNNING),
        "complete": (frozenset({Status.RUNNING, Status.PAUSED}), Status.COMPLETED),
        "archive": (frozenset({Status.COMPLETED}), Status.ARCHIVED),
    }
)

_ANALYSIS = frozenset({"name", "description", "hypothesis", "primary_metric", "metrics", "guardrails", "plan"})
_JUDGED_BY = ("primary_metric", "metrics", "guardrails")
_ENTRY = frozenset({"targeting", "traffic_percentage", "variants"})
EDITABLE: Mapping[Status, frozenset[str]] = MappingProxyType(
    {
        Status.DRAFT: _ANALYSIS | _ENTRY | {"key"},
        Status.RUNNING: _ANALYSIS | _ENTRY,
        Status.PAUSED: _ANALYSIS | _ENTRY,
        Status.COMPLETED: _ANALYSIS,
        Status.ARCHIVED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which the allocation did not change: weight of each variant by position, zero where absent."""

    number: int
    started_at: datetime
    weights: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Draft:
    """An experiment as a request describes it, before its rules are checked."""

    name: str
    variants: Sequence[VariantDraft]
    key: str | None = None
    description: str = ""
    hypothesis: str = ""
    status: Status = Status.RUNNING
    primary_metric: str | None = None
    metrics: Sequence[Any] = ()
    guardrails: Sequence[Any] = ()
    targeting: Any = None
    traffic_percentage: Decimal = Decimal(100)
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment. `number` is its integer key inside the stores; `traffic` is in millionths of the eligible users."""

    number: int
    id: str
    key: str
    name: str
    description: str
    hypothesis: str
    status: Status
    primary_metric: str | None
    metrics: tuple[Any, ...]
    guardrails: tuple[Any, ...]
    variants: tuple[Variant, ...]
    rule: targeting.Rule
    traffic: int
    salt: str
    phases: tuple[Phase, ...]
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    plan: AnalysisPlan = dataclasses.field(default_factory=AnalysisPlan)

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return next(variant for variant in self.variants if variant.is_control)

    @property
    def phase(self) -> Phase | None:
        """The phase that binds new users; None before the start."""
        return self.phases[-1] if self.phases else None

    def phase_at(self, moment: datetime) -> Phase | None:
        """The phase in force at a moment; the first one for moments before the start."""
        current = self.phases[0] if self.phases else None
        for phase in self.phases:
            if phase.started_at <= moment:
                current = phase
        return current

    def variant_called(self, name: str) -> Variant | None:
        """The variant of that name or id."""
        return next((variant for variant in self.variants if name in {variant.name, variant.id}), None)


def create(draft: Draft, now: datetime, new_id: Callable[[], str]) -> Experiment:
    """A new experiment from a draft, running or in draft.

    Raises:
        Invalid: a name, the variants, the allocation, the targeting or the traffic percentage breaks its rule.
    """
    faults = [identifiers.check_name(draft.name, "/name"), draft.key and identifiers.check_key(draft.key)]
    found = [fault for fault in faults if isinstance(fault, Fault)]
    if draft.status not in {Status.DRAFT, Status.RUNNING}:
        found.append(Fault("/status", "bad_status", "a new experiment is draft or running"))
    if found:
        raise Invalid.of(*found)
    identity = new_id()
    experiment = Experiment(
        number=0, id=identity, key=draft.key or identifiers.key_of_name(draft.name), name=draft.name,
        description=draft.description, hypothesis=draft.hypothesis, status=Status.DRAFT,
        primary_metric=draft.primary_metric, metrics=tuple(draft.metrics), guardrails=tuple(draft.guardrails),
        variants=arrange(draft.variants, (), new_id, allow_closed=False),
        rule=_rule(draft.targeting), traffic=_traffic(draft.traffic_percentage), salt=identity, phases=(),
        started_at=None, ended_at=None, created_at=now, updated_at=now, version=1,
        plan=analysisplan.plan_of(draft.plan),
    )  # fmt: skip
    return _started(experiment, now) if draft.status is Status.RUNNING else experiment


def move(experiment: Experiment, action: str, now: datetime) -> Experiment:
    """The experiment after `start`, `pause`, `resume`, `complete` or `archive`.

    Raises:
        Conflict: its state does not allow that; the message names what it allows.
    """
    sources, target = ACTIONS[action]
    if experiment.status not in sources:
        allowed = [name for name, (states, _) in ACTIONS.items() if experiment.status in states]
        possible = " or ".join(allowed) if allowed else "nothing"
        raise Conflict(f"The experiment is {experiment.status}; from there one can {possible}.")
    if action == "start":
        return dataclasses.replace(_started(experiment, now), version=experiment.version + 1)
    ended_at = now if target is Status.COMPLETED else experiment.ended_at
    return dataclasses.replace(
        experiment, status=target, ended_at=ended_at, updated_at=now, version=experiment.version + 1
    )


def change(
    experiment: Experiment,
    changes: Mapping[str, Any],
    now: datetime,
    new_id: Callable[[], str],
    occupied: Collection[int],
) -> Experiment:
    """The experiment with some fields changed; `occupied` are the positions of variants that have users.

    Raises:
        Conflict: the state does not allow one of the fields to change, or a variant with users would vanish.
        Invalid: a new value breaks its rule.
    """
    refused = sorted(set(changes) - EDITABLE[experiment.status])
    if refused:
        allowed = ", ".join(sorted(EDITABLE[experiment.status])) or "nothing"
        raise Conflict(f"A {experiment.status} experiment lets these change: {allowed}. Not: {', '.join(refused)}.")
    fields: dict[str, Any] = {name: value for name, value in changes.items() if name not in _ENTRY}
    _check_texts(fields)
    fields |= {name: tuple(fields[name]) for name in ("metrics", "guardrails") if name in fields}
    if "plan" in fields:
        fields["plan"] = analysisplan.plan_of(fields["plan"], experiment.plan)
    if "targeting" in changes:
        fields["rule"] = _rule(changes["targeting"])
    if "traffic_percentage" in changes:
        fields["traffic"] = _traffic(changes["traffic_percentage"])
    changed = dataclasses.replace(experiment, **fields, updated_at=now, version=experiment.version + 1)
    changed = _recorded(experiment, changed, now)
    return _allocate(changed, changes["variants"], now, new_id, occupied) if "variants" in changes else changed


def backdate(experiment: Experiment, earliest: datetime) -> Experiment:
    """The experiment as having started no later than `earliest`: assignments made elsewhere came before."""
    if experiment.started_at is None or earliest >= experiment.started_at:
        return experiment
    first, *later = experiment.phases
    phases = (dataclasses.replace(first, started_at=earliest), *later)
    return dataclasses.replace(experiment, started_at=earliest, phases=phases, version=experiment.version + 1)


def _allocate(
    experiment: Experiment,
    drafts: Sequence[VariantDraft],
    now: datetime,
    new_id: Callable[[], str],
    occupied: Collection[int],
) -> Experiment:
    """The experiment with another list of variants, in a new phase if it is under way."""
    variants = arrange(drafts, experiment.variants, new_id, allow_closed=experiment.status is not Status.DRAFT)
    kept = {variant.position for variant in variants}
    for variant in experiment.variants:
        if variant.position not in kept and variant.position in occupied:
            raise Conflict("A variant with users cannot be removed; set its traffic allocation to 0 instead.")
    if experiment.status is not Status.DRAFT and experiment.control.id not in {v.id for v in variants if v.is_control}:
        raise Conflict("The control of an experiment that has started cannot change.")
    configs = {variant.id: variant.config for variant in experiment.variants}
    if experiment.status is not Status.DRAFT and any(v.config != configs.get(v.id, v.config) for v in variants):
        raise Conflict("The configuration of a variant cannot change once the experiment has started.")
    changed = dataclasses.replace(experiment, variants=variants)
    if experiment.phase is None or _weights(variants) == dict(experiment.phase.weights):
        return changed
    phase = Phase(experiment.phase.number + 1, now, _weights(variants))
    return dataclasses.replace(changed, phases=(*experiment.phases, phase))


def _started(experiment: Experiment, now: datetime) -> Experiment:
    phase = Phase(1, now, _weights(experiment.variants))
    plan = dataclasses.replace(experiment.plan, locked_at=now)
    return dataclasses.replace(
        experiment, status=Status.RUNNING, started_at=now, updated_at=now, phases=(phase,), plan=plan
    )


def _recorded(before: Experiment, after: Experiment, now: datetime) -> Experiment:
    """The changed experiment with what changed in how it is judged, once it has started."""
    if before.status is Status.DRAFT:
        return after
    old, new = (
        analysisplan.options_of(e.plan) | {name: _listed(getattr(e, name)) for name in _JUDGED_BY}
        for e in (before, after)
    )
    changes = (*after.plan.changes, *analysisplan.differences(old, new, now))
    return dataclasses.replace(after, plan=dataclasses.replace(after.plan, changes=changes))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _weights(variants: Sequence[Variant]) -> dict[int, int]:
    return {variant.position: variant.weight for variant in variants}


def _check_texts(fields: Mapping[str, Any]) -> None:
    faults = (
        identifiers.check_name(fields["name"], "/name") if "name" in fields else None,
        identifiers.check_key(fields["key"]) if "key" in fields else None,
    )
    found = [fault for fault in faults if fault]
    if found:
        raise Invalid.of(*found)


def _rule(raw: Any) -> targeting.Rule:
    try:
        return targeting.parse({} if raw is None else raw)
    except targeting.InvalidTargeting as error:
        raise Invalid.of(Fault("/targeting" + error.pointer, error.code, error.message)) from None


def _traffic(percentage: Decimal) -> int:
    millionths = percentage * (TRAFFIC_WHOLE // 100)
    if not 0 <= percentage <= 100 or millionths != millionths.to_integral_value():
        raise Invalid.of(
            Fault("/traffic_percentage", "bad_percentage", "must be from 0 to 100, with at most 4 decimals")
        )
    return int(millionths)
