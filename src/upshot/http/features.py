"""The shapes of layers, holdouts and flags, both ways."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from upshot import targeting
from upshot.allocation import percent_of
from upshot.assignment import WHOLE
from upshot.errors import Fault, Invalid
from upshot.events import moment_of
from upshot.flags import Flag, Kind, Rollout, RolloutDraft, StepDraft
from upshot.holdouts import Holdout
from upshot.http.wire import TEXT_LENGTH, In, Key, Name, decimal_of
from upshot.layers import share_of
from upshot.operations.flags import FlagDraft
from upshot.operations.layers import Occupied

Percentage = Annotated[float, Field(ge=0, le=100)]


class LayerIn(In):
    """A new layer: experiments in it share no users."""

    key: Key
    name: Name | None = None


class LayerExperimentOut(BaseModel):
    """An experiment in a layer: its share in percent, and its half-open ranges of the layer's million slices."""

    id: str
    key: str
    percentage: float
    ranges: list[tuple[int, int]]


class LayerOut(BaseModel):
    """A layer; `free_percentage` is what no experiment has."""

    id: str
    key: str
    name: str
    created_at: datetime
    free_percentage: float
    experiments: list[LayerExperimentOut]

    @classmethod
    def of(cls, occupied: Occupied) -> "LayerOut":
        """The wire form of a layer."""
        layer = occupied.layer
        inside = [
            LayerExperimentOut(
                id=each.id, key=each.key, percentage=percent_of(share_of(slot), WHOLE), ranges=list(slot.ranges)
            )
            for each in occupied.experiments
            for slot in each.layers
            if slot.salt == layer.id
        ]
        return cls(
            id=layer.id,
            key=layer.key,
            name=layer.name,
            created_at=layer.created_at,
            free_percentage=percent_of(occupied.free, WHOLE),
            experiments=inside,
        )


class LayersOut(BaseModel):
    """All layers, by key."""

    layers: list[LayerOut]


class HoldoutIn(In):
    """A new holdout: a share of the users, in percent, that experiments which start from now on leave out."""

    key: Key
    name: Name | None = None
    percentage: Annotated[float, Field(gt=0, le=100)]
    tags: list[Name] = Field(
        default_factory=list, max_length=20, description="Only experiments with one of these; all without."
    )


class HoldoutOut(BaseModel):
    """A holdout."""

    id: str
    key: str
    name: str
    percentage: float
    tags: list[str]
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, holdout: Holdout) -> "HoldoutOut":
        """The wire form of a holdout."""
        own = {name: getattr(holdout, name) for name in cls.model_fields if hasattr(holdout, name)}
        return cls(**own | {"percentage": percent_of(holdout.share, WHOLE), "tags": list(holdout.tags)})


class HoldoutsOut(BaseModel):
    """All holdouts, by key."""

    holdouts: list[HoldoutOut]


class FlagExperimentIn(In):
    """The experiment that drives a flag, by id or key, and the flag's value for each of its variants, by name."""

    key: str
    values: dict[str, Any] = Field(min_length=1, max_length=20)


class StepIn(In):
    """From a moment on, the share of users in percent; the first step may do without a moment."""

    percentage: Percentage
    at: str | None = Field(None, description="ISO 8601 with an offset.", examples=["2026-12-01T09:00:00Z"])

    def draft(self, place: int) -> StepDraft:
        """The core's form.

        Raises:
            Invalid: the moment is none.
        """
        moment = None if self.at is None else moment_of(self.at)
        if self.at is not None and moment is None:
            raise Invalid.of(
                Fault(
                    f"/rollout/steps/{place}/at",
                    "bad_timestamp",
                    "must be ISO 8601 with an offset, from the year 2000 on",
                )
            )
        return StepDraft(decimal_of(self.percentage) or Decimal(0), moment)


class RolloutIn(In):
    """A value for a growing share of the users that a rule matches."""

    value: Any
    percentage: Percentage | None = Field(None, description="One step, from now on; or give steps.")
    steps: list[StepIn] | None = Field(None, min_length=1, max_length=50)
    targeting: dict[str, Any] | None = None

    def draft(self) -> RolloutDraft:
        """The core's form."""
        if self.steps is None:
            steps = [StepDraft(Decimal(100) if self.percentage is None else decimal_of(self.percentage) or Decimal(0))]
        else:
            steps = [step.draft(place) for place, step in enumerate(self.steps)]
        return RolloutDraft(self.value, steps, self.targeting)


class _FlagFields(In):
    description: str | None = Field(None, max_length=TEXT_LENGTH)
    experiment: FlagExperimentIn | None = None
    rollout: RolloutIn | None = None


class FlagIn(_FlagFields):
    """A new flag: a typed value that an experiment drives, or a rollout, or neither."""

    key: Key
    type: Literal["boolean", "string", "integer", "number", "object"]
    default: Any
    enabled: bool = True

    def draft(self) -> FlagDraft:
        """The core's form."""
        driver = self.experiment
        return FlagDraft(
            key=self.key,
            kind=Kind(self.type),
            default=self.default,
            description=self.description or "",
            enabled=self.enabled,
            experiment=driver.key if driver else None,
            values=driver.values if driver else None,
            rollout=self.rollout.draft() if self.rollout else None,
        )


class FlagPatch(_FlagFields):
    """What to change; null takes the experiment or the rollout off. `enabled: false` is the kill switch."""

    default: Any = None
    enabled: bool | None = None
    version: Annotated[int, Field(ge=1, le=2**31)] | None = None

    def changes(self) -> Mapping[str, Any]:
        """The fields that were sent, in the core's form."""
        sent = self.model_fields_set
        changes: dict[str, Any] = {}
        if "description" in sent:
            changes["description"] = self.description or ""
        if "default" in sent:
            changes["default"] = self.default
        if self.enabled is not None:
            changes["enabled"] = self.enabled
        if "experiment" in sent:
            changes["experiment"] = self.experiment and self.experiment.key
            changes["values"] = self.experiment.values if self.experiment else {}
        if "rollout" in sent:
            changes["rollout"] = self.rollout and self.rollout.draft()
        return changes


class FlagExperimentOut(BaseModel):
    """The experiment that drives a flag, by id, and the flag's value for each of its variants."""

    id: str
    values: dict[str, Any]


class StepOut(BaseModel):
    """From a moment on, the share of users in percent."""

    percentage: float
    at: datetime | None


class RolloutOut(BaseModel):
    """A value for a growing share of the users that a rule matches."""

    value: Any
    steps: list[StepOut]
    targeting: dict[str, Any]

    @classmethod
    def of(cls, rollout: Rollout) -> "RolloutOut":
        """The wire form of a rollout."""
        steps = [StepOut(percentage=percent_of(step.share, WHOLE), at=step.at) for step in rollout.steps]
        return cls(value=rollout.value, steps=steps, targeting=targeting.dump(rollout.rule))


class FlagOut(BaseModel):
    """A flag."""

    id: str
    key: str
    description: str
    type: str
    default: Any
    enabled: bool
    experiment: FlagExperimentOut | None
    rollout: RolloutOut | None
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, flag: Flag) -> "FlagOut":
        """The wire form of a flag."""
        own = {name: getattr(flag, name) for name in cls.model_fields if hasattr(flag, name)}
        driven = FlagExperimentOut(id=flag.experiment, values=dict(flag.values)) if flag.experiment else None
        rollout = flag.rollout and RolloutOut.of(flag.rollout)
        return cls(**own | {"type": str(flag.kind), "experiment": driven, "rollout": rollout})


class FlagsOut(BaseModel):
    """A page of flags, by key; `next_cursor` is null on the last one."""

    flags: list[FlagOut]
    next_cursor: str | None
