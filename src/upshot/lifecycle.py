"""Which change the state of an experiment allows.

    draft → running ⇄ paused → completed → archived        (a running one can be completed, too)

Changing the allocation while an experiment runs opens a new phase: it binds new users only, and results never pool users
of different phases naively.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from upshot import analysisplan, identifiers, layers, overrides, targeting
from upshot.errors import Conflict, Fault, Invalid
from upshot.experiments import Experiment, Phase, Status, started, tags_of, weights_of
from upshot.variants import VariantDraft, arrange

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

_ANALYSIS = frozenset(
    {"name", "description", "hypothesis", "primary_metric", "metrics", "guardrails", "plan", "tags", "owner"}
)
_JUDGED_BY = ("primary_metric", "metrics", "guardrails")
_ENTRY = frozenset({"targeting", "traffic_percentage", "variants", "overrides"})
EDITABLE: Mapping[Status, frozenset[str]] = MappingProxyType(
    {
        Status.DRAFT: _ANALYSIS | _ENTRY | {"key", "layers"},
        Status.RUNNING: _ANALYSIS | _ENTRY,
        Status.PAUSED: _ANALYSIS | _ENTRY,
        Status.COMPLETED: _ANALYSIS,
        Status.ARCHIVED: frozenset(),
    }
)


def move(experiment: Experiment, action: str, now: datetime, winner: str | None = None) -> Experiment:
    """The experiment after `start`, `pause`, `resume`, `complete` or `archive`; completed, it may say which variant (by name or
    id) won, which the flags that it drives then give to everybody.

    Raises:
        Conflict: its state does not allow that; the message names what it allows.
        Invalid: the winner is none of its variants, or it is not being completed.
    """
    sources, target = ACTIONS[action]
    if experiment.status not in sources:
        allowed = [name for name, (states, _) in ACTIONS.items() if experiment.status in states]
        possible = " or ".join(allowed) if allowed else "nothing"
        raise Conflict(f"The experiment is {experiment.status}; from there one can {possible}.")
    if action == "start":
        return dataclasses.replace(started(experiment, now), version=experiment.version + 1)
    ended_at = now if target is Status.COMPLETED else experiment.ended_at
    return dataclasses.replace(
        experiment, status=target, ended_at=ended_at, winner=_won(experiment, winner, target), updated_at=now,
        version=experiment.version + 1,
    )  # fmt: skip


def _won(experiment: Experiment, winner: str | None, target: Status) -> int | None:
    if winner is None:
        return experiment.winner
    if target is not Status.COMPLETED:
        raise Invalid.of(Fault("/winner", "too_early", "only a completed experiment has a winner"))
    variant = experiment.variant_called(winner)
    if variant is None:
        raise Invalid.of(Fault("/winner", "unknown_variant", "names no variant of this experiment"))
    return variant.position


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
    fields: dict[str, Any] = {name: value for name, value in changes.items() if name not in _ENTRY | {"layers"}}
    _check_texts(fields)
    fields |= {name: tuple(fields[name]) for name in ("metrics", "guardrails") if name in fields}
    if "plan" in fields:
        fields["plan"] = analysisplan.plan_of(fields["plan"], experiment.plan)
    if "targeting" in changes:
        fields["rule"] = targeting.parse(changes["targeting"] or {}, "/targeting")
    if "traffic_percentage" in changes:
        fields["traffic"] = layers.millionths(changes["traffic_percentage"], "/traffic_percentage")
    if "tags" in changes:
        fields["tags"] = tags_of(changes["tags"])
    layers.check(changes.get("layers", ()))
    changed = dataclasses.replace(experiment, **fields, updated_at=now, version=experiment.version + 1)
    changed = _recorded(experiment, changed, now)
    if "variants" in changes:
        changed = _allocate(changed, changes["variants"], now, new_id, occupied)
    if "overrides" in changes:
        changed = dataclasses.replace(changed, overrides=overrides.arrange(changes["overrides"], changed.variants))
    return changed


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
    if experiment.phase is None or weights_of(variants) == dict(experiment.phase.weights):
        return changed
    phase = Phase(experiment.phase.number + 1, now, weights_of(variants))
    return dataclasses.replace(changed, phases=(*experiment.phases, phase))


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


def _check_texts(fields: Mapping[str, Any]) -> None:
    faults = (
        identifiers.check_name(fields["name"], "/name") if "name" in fields else None,
        identifiers.check_key(fields["key"]) if "key" in fields else None,
    )
    found = [fault for fault in faults if fault]
    if found:
        raise Invalid.of(*found)
