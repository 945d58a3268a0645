"""Experiments: what one is. Which changes its state allows is said in `lifecycle.py`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from upshot import analysisplan, identifiers, layers, overrides, targeting
from upshot.analysisplan import AnalysisPlan
from upshot.assignment import Decider, Held, Slot, Terms
from upshot.errors import Fault, Invalid
from upshot.layers import Claim, millionths
from upshot.overrides import Override, OverrideDraft, forced
from upshot.variants import Variant, VariantDraft, arrange

TAGS = 20


class Status(StrEnum):
    """The states of an experiment."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ARCHIVED = "archived"


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
    tags: Sequence[str] = ()
    layers: Sequence[Claim] = ()
    overrides: Sequence[OverrideDraft] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment, and its decisions: `decide(user_id, context)`.

    `number` is its integer key inside the stores; `traffic` is in millionths of the eligible users; `layers` and `holdouts` are
    what it has of them; `winner` is the position of the variant that was shipped, `owner` whom people ask about it.
    """

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
    tags: tuple[str, ...] = ()
    layers: tuple[Slot, ...] = ()
    holdouts: tuple[Held, ...] = ()
    overrides: tuple[Override, ...] = ()
    winner: int | None = None
    owner: str = ""
    decide: Decider[Variant] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the decisions."""
        object.__setattr__(self, "decide", Decider(self.terms, self.variants))

    @property
    def terms(self) -> Terms:
        """What decisions depend on."""
        return Terms(
            self.salt, self.is_running, tuple(variant.weight for variant in self.variants), self.traffic,
            self.rule, self.layers, self.holdouts,
            () if self.is_over else forced(self.overrides, self.variants, self.salt),
        )  # fmt: skip

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.status is Status.RUNNING

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self.status is Status.PAUSED

    @property
    def winning(self) -> str | None:
        """The name of the variant that was shipped."""
        return next((variant.name for variant in self.variants if variant.position == self.winner), None)

    def holds_out(self, user_id: str) -> bool:
        """Whether a holdout keeps the user from it."""
        return self.decide.holds_out(user_id)

    @property
    def is_over(self) -> bool:
        """Whether it is completed, archived or not."""
        return self.status in {Status.COMPLETED, Status.ARCHIVED}

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
        rule=targeting.parse(draft.targeting or {}, "/targeting"),
        traffic=millionths(draft.traffic_percentage, "/traffic_percentage"), salt=identity, phases=(),
        started_at=None, ended_at=None, created_at=now, updated_at=now, version=1,
        plan=analysisplan.plan_of(draft.plan), tags=tags_of(draft.tags), owner=draft.owner or "",
    )  # fmt: skip
    layers.check(draft.layers)
    experiment = dataclasses.replace(experiment, overrides=overrides.arrange(draft.overrides, experiment.variants))
    return started(experiment, now) if draft.status is Status.RUNNING else experiment


def started(experiment: Experiment, now: datetime) -> Experiment:
    """The experiment in its first phase."""
    phase = Phase(1, now, weights_of(experiment.variants))
    plan = dataclasses.replace(experiment.plan, locked_at=now)
    return dataclasses.replace(
        experiment, status=Status.RUNNING, started_at=now, updated_at=now, phases=(phase,), plan=plan
    )


def weights_of(variants: Sequence[Variant]) -> dict[int, int]:
    """The weight of each variant by its position."""
    return {variant.position: variant.weight for variant in variants}


def tags_of(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags, sorted and each once.

    Raises:
        Invalid: one breaks the rules of a name, or there are too many.
    """
    found = [identifiers.check_name(tag, f"/tags/{place}") for place, tag in enumerate(tags)]
    faults = [fault for fault in found if fault]
    if len(tags) > TAGS:
        faults.append(Fault("/tags", "too_many", f"at most {TAGS} tags"))
    if faults:
        raise Invalid.of(*faults)
    return tuple(sorted(set(tags)))
