"""The shapes of requests; those of responses are in `answers.py`, those of metric definitions and of plans, both ways, in
`definitions.py` and `planning.py`. The four are the only Pydantic beside the settings.

Field names have aliases on input, never on output: what five documents called one thing, each of them may go on calling it.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SkipValidation,
    Tag,
    WithJsonSchema,
)  # fmt: skip

from upshot.events import SEQUENCES
from upshot.experiments import Draft, Status
from upshot.http.body import ALTERNATIVE
from upshot.identifiers import NAME_LENGTH, PLACEHOLDERS, USER_ID_LENGTH
from upshot.variants import VariantDraft

TEXT_LENGTH = 10_000


def _status(value: Any) -> Any:
    """Status words in any case; `active` means running."""
    if not isinstance(value, str):
        return value
    word = value.lower()
    return "running" if word == "active" else word


Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=r"^[^\s\x00-\x1f\x7f-\x9f]")]
Number = Annotated[float, Field(ge=0, le=1e15)]  # strictly read, an integer is one, too; a union would lose its bounds
StatusWord = Annotated[Literal["draft", "running", "paused", "completed", "archived"], BeforeValidator(_status)]
NewStatus = Annotated[Literal["draft", "running"], BeforeValidator(_status)]
_NOBODY: dict[str, Any] = {"not": {"enum": sorted(PLACEHOLDERS)}}
UserId = Annotated[str, Field(min_length=1, max_length=USER_ID_LENGTH, examples=["user-18"], json_schema_extra=_NOBODY)]

# Alternatives are told apart by what a value is in JSON, so that faults are those of one alternative; their names are no part of
# the document (body.py).
TEXT, INTEGER, NUMBER, BOOLEAN, NULL, LIST, OBJECT = (
    Tag(ALTERNATIVE + name) for name in ("text", "integer", "number", "boolean", "null", "list", "object")
)
_KINDS = {str: TEXT, int: INTEGER, float: NUMBER, bool: BOOLEAN, type(None): NULL, list: LIST, dict: OBJECT}
_TAGS = {kind: alternative.tag for kind, alternative in _KINDS.items()}


def either(expected: str) -> Discriminator:
    """Of tagged alternatives the one for what is sent; `expected` says in words which there are."""
    return Discriminator(
        lambda value: _TAGS.get(type(value)),
        custom_error_type="bad_type",
        custom_error_message=f"must be {expected}",
    )


_Scalar = Annotated[
    Annotated[str, TEXT]
    | Annotated[int, INTEGER]
    | Annotated[float, NUMBER]
    | Annotated[bool, BOOLEAN]
    | Annotated[None, NULL],
    either("a text, a number, true, false or null"),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
Context = Annotated[dict[str, _Scalar], Field(max_length=50)]
MetricReference = Annotated[
    Annotated[str, TEXT] | Annotated[dict[str, Any], OBJECT], either("the name of a metric or a definition")
]


class In(BaseModel):
    """What a client sends: nothing is converted, nothing unknown is taken."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class VariantIn(In):
    """One arm of an experiment. Give every variant a percentage (summing to 100), or every one a weight, or none."""

    name: Name = Field(validation_alias=AliasChoices("name", "variant_name", "key"))
    is_control: bool | None = None
    traffic_allocation: Number | None = Field(
        None,
        validation_alias=AliasChoices("traffic_allocation", "traffic_allocation_percent"),
        description="Percent.",
    )
    weight: Number | None = Field(None, description="Summing to 1, or any positive integers.")
    config: Any = Field(
        None,
        validation_alias=AliasChoices("config", "configuration_json"),
        description="Any JSON, returned with assignments.",
    )

    def draft(self) -> VariantDraft:
        """The core's form."""
        return VariantDraft(
            self.name, self.is_control, _decimal(self.traffic_allocation), _decimal(self.weight), self.config
        )


class PlanIn(In):
    """How the experiment will be judged. It is locked at the start; later changes are kept and shown in every result."""

    stopping: Literal["fixed", "group_sequential", "always_valid"] | None = Field(
        None, description="When a difference may be called significant. By default group_sequential with planned_users, "
        "always_valid without.",
    )  # fmt: skip
    alpha: Annotated[float, Field(ge=0.0005, le=0.2)] = Field(
        0.05, description="The rate of false alarms over all looks together."
    )
    planned_users: Annotated[int, Field(ge=2, le=10**12)] | None = Field(
        None, description="How many users all variants together are planned to have."
    )
    spending: Literal["obrien_fleming", "pocock"] = Field(
        "obrien_fleming", description="How group-sequential looks share alpha: little at first, or evenly."
    )
    adjust: bool = Field(
        default=True, description="Whether what users did before their exposure may make results more precise (CUPED)."
    )
    allocation: Literal["fixed", "thompson"] = Field(
        "fixed",
        description="Whether the shares stay as they are set, or follow the chance of each variant to be best in the primary "
        "metric (Thompson sampling, once a day, each time in a new phase).",
    )
    prior_lift_sd: Annotated[float, Field(ge=0.001, le=10)] | None = Field(
        None, description="The standard deviation of the lifts that are expected, around 0: 0.1 expects most within ± 20 %. With "
        "it, comparisons also say what to believe under this prior (`informed`).",
    )  # fmt: skip


class _Editable(In):
    description: str | None = Field(None, max_length=TEXT_LENGTH)
    hypothesis: str | None = Field(None, max_length=TEXT_LENGTH)
    primary_metric: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, validation_alias=AliasChoices("primary_metric", "primary_metric_name", "primary_event_type")
    )
    metrics: list[MetricReference] | None = Field(None, max_length=50)
    guardrails: list[MetricReference] | None = Field(None, max_length=50)
    targeting: dict[str, Any] | None = Field(None, description="Who is eligible; see the targeting page.")
    plan: PlanIn | None = Field(None, description="The analysis plan; options that are not named stay as they are.")

    def plan_options(self) -> dict[str, Any] | None:
        """The options of the plan that were sent."""
        return None if self.plan is None else self.plan.model_dump(exclude_unset=True)


class ExperimentIn(_Editable):
    """A new experiment; it runs at once unless its status is `draft`."""

    name: Name
    key: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=NAME_LENGTH)] | None = None
    status: NewStatus = "running"
    traffic_percentage: Annotated[float, Field(ge=0, le=100)] = 100
    variants: list[VariantIn] = Field(min_length=2, max_length=20)

    def draft(self) -> Draft:
        """The core's form."""
        return Draft(
            name=self.name,
            variants=[variant.draft() for variant in self.variants],
            key=self.key,
            description=self.description or "",
            hypothesis=self.hypothesis or "",
            status=Status(self.status),
            primary_metric=self.primary_metric,
            metrics=self.metrics or (),
            guardrails=self.guardrails or (),
            targeting=self.targeting,
            traffic_percentage=_decimal(self.traffic_percentage) or Decimal(0),
            plan=self.plan_options(),
        )


class ExperimentPatch(_Editable):
    """What to change. `version` is the one that was read: if it is not the present one, nothing changes (409)."""

    name: Name | None = None
    key: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=NAME_LENGTH)] | None = None
    traffic_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    variants: list[VariantIn] | None = Field(None, min_length=2, max_length=20)
    version: Annotated[int, Field(ge=1, le=2**31)] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, in the core's form; null empties a text and resets a list."""
        sent = {name: getattr(self, name) for name in self.model_fields_set - {"version"}}
        empty = {"description": "", "hypothesis": "", "metrics": (), "guardrails": ()}
        changes = {name: empty.get(name) if value is None else value for name, value in sent.items()}
        if self.variants is not None:
            changes["variants"] = [variant.draft() for variant in self.variants]
        if self.traffic_percentage is not None:
            changes["traffic_percentage"] = _decimal(self.traffic_percentage)
        if self.plan is not None:
            changes["plan"] = self.plan_options()
        return {
            name: value
            for name, value in changes.items()
            if value is not None or name in {"primary_metric", "targeting"}
        }


class UserIn(In):
    """A user to assign, with what is known about them."""

    user_id: UserId
    context: Context = Field(default_factory=dict)


class AssignManyIn(In):
    """Users to assign ahead of time: ids, or objects with a context."""

    users: list[
        Annotated[Annotated[UserId, TEXT] | Annotated[UserIn, OBJECT], either("a user id or a user with a context")]
    ] = Field(validation_alias=AliasChoices("users", "user_ids"), min_length=1, max_length=1_000)

    def pairs(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """(user id, context) of each."""
        return [(user, {}) if isinstance(user, str) else (user.user_id, user.context) for user in self.users]


class IdentityIn(In):
    """An anonymous id and the user whose it turned out to be."""

    anonymous_id: Annotated[UserId, Field(examples=["visitor-5f0c"])]
    user_id: UserId


class IdentitiesIn(In):
    """Several of these; each is judged by itself."""

    identities: list[SkipValidation[IdentityIn]] = Field(min_length=1, max_length=1_000)


class EventIn(In):
    """An event that a user caused. Without a timestamp it happened now; without an event_id a retry counts twice.

    With a session_id and a sequence, events that are lost on the way are noticed.
    """

    model_config = ConfigDict(
        json_schema_extra={"dependentRequired": {"session_id": ["sequence"], "sequence": ["session_id"]}}
    )

    user_id: UserId
    event_type: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(None, examples=["purchase"])
    type: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Another name of event_type."
    )
    timestamp: str | None = Field(None, description="ISO 8601 with an offset.", examples=["2026-01-31T12:00:00Z"])
    properties: dict[str, Any] | None = Field(None, examples=[{"price": 1000.0, "currency": "USD"}])
    experiment_id: str | None = Field(None, description="Id or key of an experiment; optional.")
    event_id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(None, description="Idempotency key.")
    session_id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="The client's session, where it numbers its events."
    )
    sequence: Annotated[int, Field(ge=1, lt=SEQUENCES)] | None = Field(
        None, description="The number of the event in its session, from 1 on, over events of all types."
    )


class EventsIn(In):
    """Several events, with the client's clock at the moment of sending, by which their times are corrected."""

    events: list[EventIn] = Field(min_length=1, max_length=10_000)
    sent_at: str | None = Field(None, description="ISO 8601 with an offset.")


class AssignmentRowIn(In):
    """An assignment that was made elsewhere."""

    user_id: UserId
    variant: str
    assigned_at: AwareDatetime
    context: Context = Field(default_factory=dict)


class ImportIn(In):
    """Assignments made elsewhere and past events, with their own times."""

    assignments: list[AssignmentRowIn] = Field(default_factory=list)
    events: list[EventIn] = Field(default_factory=list)


def _decimal(number: float | None) -> Decimal | None:
    """The number as it was written, without the digits that a binary float adds."""
    return None if number is None else Decimal(str(number))
