"""The shapes of what `intake.py` is answered with: what users got, what became of events and exposures, the values of flags."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from upshot.operations.assignments import Assigned


class AssignedVariant(BaseModel):
    """The variant that a user has."""

    id: str
    name: str
    is_control: bool
    config: Any


class AssignmentOut(BaseModel):
    """What a user got. Without a variant, `reason` says why: not_running, not_targeted, not_in_traffic,
    held_out. `overridden` is the reason of a variant that an override gives: it is not stored."""

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


class ExposedOut(BaseModel):
    """What became of exposures: new ones, those of users who had the variant already, those of users who had another one."""

    accepted: int
    duplicates: int
    conflicts: int
    rejected: list[RejectedOut]


class ConfigurationOut(BaseModel):
    """What an SDK decides by; the SDK page describes it."""

    format: Literal[1]
    experiments: list[dict[str, Any]]
    flags: list[dict[str, Any]]


class EvaluationOut(BaseModel):
    """A flag's value for a context, as OpenFeature has it."""

    key: str
    value: Any
    reason: Literal["STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED"]
    variant: str | None
    metadata: dict[str, str | int | float | bool]


class EvaluationsOut(BaseModel):
    """The values of all flags for a context, and where changes are told and events taken."""

    flags: list[EvaluationOut]
    metadata: dict[str, str]
    eventStreams: list["EventStreamOut"]  # noqa: N815 - OpenFeature's name


class EventStreamOut(BaseModel):
    """An address that tells of changes by server-sent events."""

    type: Literal["sse"]
    url: str


class EvaluationFailureOut(BaseModel):
    """Why there is no value, as OpenFeature has it."""

    key: str
    errorCode: Literal["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"]  # noqa: N815
    errorDetails: str  # noqa: N815
    metadata: dict[str, str]


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
