"""The shapes of responses about experiments, and what all responses share, as OpenAPI documents them; those to what is sent
in all day are in `outcomes.py`. Output has one name for each thing, and no aliases.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from upshot import analysisplan, targeting
from upshot.allocation import percent_of
from upshot.analysisplan import AnalysisPlan
from upshot.assignment import WHOLE
from upshot.experiments import Experiment
from upshot.http.wire import MetricReference
from upshot.layers import share_of


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; `errors` names each field by a JSON pointer."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list["ProblemField"] = Field(default_factory=list)


class ProblemField(BaseModel):
    """One thing that is wrong."""

    pointer: str
    code: str
    message: str


class VariantOut(BaseModel):
    """One arm; `traffic_allocation` in percent."""

    id: str
    name: str
    is_control: bool
    traffic_allocation: float
    config: Any


class PhaseOut(BaseModel):
    """A time in which the allocation did not change: percent by variant."""

    number: int
    started_at: datetime
    traffic_allocation: dict[str, float]


class PlanChangeOut(BaseModel):
    """A change after the start: which option of the plan or field of the experiment, what it was, and what it became."""

    at: datetime
    field: str
    before: Any
    after: Any


class PlanOut(BaseModel):
    """The analysis plan. `in_force` is the mode of stopping that results follow; `definitions` are the metric definitions
    that the experiment refers to by key, with their versions, as they were when they were locked."""

    stopping: str | None
    in_force: str
    alpha: float
    planned_users: int | None
    spending: str
    adjust: bool
    allocation: str
    prior_lift_sd: float | None
    locked_at: datetime | None
    changes: list[PlanChangeOut]
    definitions: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, plan: AnalysisPlan) -> "PlanOut":
        """The wire form of a plan."""
        return cls.model_validate({**analysisplan.dump(plan), "in_force": str(plan.in_force)})


class LayerShareOut(BaseModel):
    """What an experiment has of a layer: a share in percent, and half-open ranges of the layer's million slices."""

    layer: str
    percentage: float
    ranges: list[tuple[int, int]]


class OverrideOut(BaseModel):
    """Who gets a variant, by name, whatever else holds."""

    variant: str
    users: list[str]
    targeting: dict[str, Any] | None


class ExperimentOut(BaseModel):
    """An experiment. `holdouts` are the keys of those that it leaves out; `winner` the name of the variant that was shipped."""

    id: str
    key: str
    name: str
    description: str
    hypothesis: str
    status: str
    primary_metric: str | None
    metrics: list[MetricReference]
    guardrails: list[MetricReference]
    variants: list[VariantOut]
    targeting: dict[str, Any]
    traffic_percentage: float
    owner: str
    tags: list[str]
    layers: list[LayerShareOut]
    holdouts: list[str]
    overrides: list[OverrideOut]
    winner: str | None
    phases: list[PhaseOut]
    plan: PlanOut
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, experiment: Experiment) -> "ExperimentOut":
        """The wire form of an experiment."""
        total = sum(variant.weight for variant in experiment.variants)
        names = {variant.position: variant.name for variant in experiment.variants}
        own = {name: getattr(experiment, name) for name in cls.model_fields if hasattr(experiment, name)}
        return cls(
            **own
            | {
                "metrics": list(experiment.metrics),
                "guardrails": list(experiment.guardrails),
                "targeting": targeting.dump(experiment.rule),
                "plan": PlanOut.of(experiment.plan),
                "tags": list(experiment.tags),
                "layers": [
                    LayerShareOut(layer=slot.layer, percentage=percent_of(share_of(slot), WHOLE), ranges=list(slot.ranges))
                    for slot in experiment.layers
                ],
                "holdouts": [held.key for held in experiment.holdouts],
                "overrides": [
                    OverrideOut(
                        variant=names[each.variant],
                        users=list(each.users),
                        targeting=each.rule and targeting.dump(each.rule),
                    )
                    for each in experiment.overrides
                    if each.variant in names
                ],
                "winner": experiment.winning,
                "traffic_percentage": percent_of(experiment.traffic, WHOLE),
                "variants": [
                    VariantOut(id=v.id, name=v.name, is_control=v.is_control, config=v.config,
                               traffic_allocation=percent_of(v.weight, total))
                    for v in experiment.variants
                ],
                "phases": [
                    PhaseOut(
                        number=phase.number,
                        started_at=phase.started_at,
                        traffic_allocation={
                            names[position]: percent_of(weight, sum(phase.weights.values()))
                            for position, weight in phase.weights.items()
                            if position in names
                        },
                    )
                    for phase in experiment.phases
                ],
            }
        )  # fmt: skip


class ExperimentsOut(BaseModel):
    """A page of experiments; `next_cursor` is null on the last one."""

    experiments: list[ExperimentOut]
    next_cursor: str | None


class HealthOut(BaseModel):
    """The state of the server and of each backend."""

    status: Literal["ok", "degraded"]
    version: str
    backends: dict[str, str]
