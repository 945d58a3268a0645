"""The shapes of responses, as OpenAPI documents them. Output has one name for each thing, and no aliases."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from upshot import analysisplan, targeting
from upshot.allocation import percent_of
from upshot.analysisplan import AnalysisPlan
from upshot.experiments import TRAFFIC_WHOLE, Experiment
from upshot.http.wire import MetricReference
from upshot.operations.assignments import Assigned


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


class ExperimentOut(BaseModel):
    """An experiment."""

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
                "traffic_percentage": percent_of(experiment.traffic, TRAFFIC_WHOLE),
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


class AssignedVariant(BaseModel):
    """The variant that a user has."""

    id: str
    name: str
    is_control: bool
    config: Any


class AssignmentOut(BaseModel):
    """What a user got. Without a variant, `reason` says why: not_running, not_targeted, not_in_traffic."""

    experiment_id: str
    experiment_key: str
    user_id: str
    variant: AssignedVariant | None
    variant_id: str | None
    assigned_at: datetime | None
    reason: str
    is_new: bool
    persisted: bool


class AssignmentsOut(BaseModel):
    """What several users, or one user in several experiments, got."""

    assignments: list[AssignmentOut]


class RejectedOut(BaseModel):
    """An item that was not taken: its index in the request, which field, why."""

    index: int
    code: str
    pointer: str
    message: str


class IngestedOut(BaseModel):
    """What became of a batch. `conflicts` are duplicates by id with another content; the first one counts."""

    accepted: int
    duplicates: int
    conflicts: int
    rejected: list[RejectedOut]


class LinkedOut(BaseModel):
    """What became of identities. `conflicts` counts the experiments in which a user turned out to have had two variants."""

    linked: int
    known: int
    conflicts: int
    rejected: list[RejectedOut]


class ImportedOut(BaseModel):
    """What became of an import; at most the first 100 refused rows of each kind are listed, all are counted."""

    assignments: "ImportedPart"
    events: "ImportedPart"


class ImportedPart(BaseModel):
    """Counts of imported rows of one kind."""

    accepted: int
    duplicates: int
    rejected_count: int
    rejected: list[RejectedOut]


class EventTypeOut(BaseModel):
    """An event type that was seen."""

    event_type: str
    count: int
    first_at: datetime
    last_at: datetime


class EventTypesOut(BaseModel):
    """The event types seen, commonest first."""

    event_types: list[EventTypeOut]


class HealthOut(BaseModel):
    """The state of the server and of each backend."""

    status: Literal["ok", "degraded"]
    version: str
    backends: dict[str, str]


def assignment_content(assigned: Assigned) -> dict[str, Any]:
    """The wire form of an assignment, as AssignmentOut describes it."""
    variant = assigned.variant
    return {
        "experiment_id": assigned.experiment.id,
        "experiment_key": assigned.experiment.key,
        "user_id": assigned.user_id,
        "variant": variant
        and {
            "id": variant.id,
            "name": variant.name,
            "is_control": variant.is_control,
            "config": variant.config,
        },
        "variant_id": variant and variant.id,
        "assigned_at": assigned.assigned_at,
        "reason": assigned.reason,
        "is_new": assigned.is_new,
        "persisted": assigned.persisted,
    }
