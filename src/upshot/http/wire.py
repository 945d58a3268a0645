"""The shapes of requests about experiments, and what all shapes share. Those of users and events are in `intake.py`, those of
responses in `answers.py`; metric definitions, plans and features have theirs, both ways, in `definitions.py`, `planning.py` and
`features.py`.

Field names have aliases on input, never on output: what five documents called one thing, each of them may go on calling it.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)  # fmt: skip

from upshot.experiments import Draft, Status
from upshot.http.body import ALTERNATIVE
from upshot.identifiers import NAME_LENGTH, PLACEHOLDERS, USER_ID_LENGTH
from upshot.layers import Claim
from upshot.overrides import OverrideDraft
from upshot.variants import VariantDraft

TEXT_LENGTH = 10_000


def _status(value: Any) -> Any:
    """Status words in any case; `active` means running."""
    if not isinstance(value, str):
        return value
    word = value.lower()
    return "running" if word == "active" else word


def whole(value: Any) -> Any:
    """A whole number, however JSON writes it: 7.0 is 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=r"^[^\s\x00-\x1f\x7f-\x9f]")]
Key = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=NAME_LENGTH)]
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

    # Built when the first one is read: a start does without.
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


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
            self.name, self.is_control, decimal_of(self.traffic_allocation), decimal_of(self.weight), self.config
        )


class LayerShareIn(In):
    """A share of a layer's users, in percent, that the experiment has for itself."""

    layer: Key
    percentage: Annotated[float, Field(gt=0, le=100)] = 100

    def claim(self) -> Claim:
        """The core's form."""
        return Claim(self.layer, decimal_of(self.percentage) or Decimal(0))


class OverrideIn(In):
    """Who gets a variant whatever else holds, without becoming part of the experiment: users by id, contexts by a rule."""

    variant: str
    users: list[UserId] = Field(default_factory=list, max_length=1_000)
    targeting: dict[str, Any] | None = None

    def draft(self) -> OverrideDraft:
        """The core's form."""
        return OverrideDraft(self.variant, self.users, self.targeting)


LayerShares = Annotated[
    Annotated[Key, TEXT]
    | Annotated[LayerShareIn, OBJECT]
    | Annotated[
        Annotated[
            list[
                Annotated[
                    Annotated[Key, TEXT] | Annotated[LayerShareIn, OBJECT],
                    either("the key of a layer or a share of one"),
                ]
            ],
            Field(max_length=10),
        ],
        LIST,
    ],
    either("the key of a layer, a share of one, or a list of these"),
]


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
    tags: list[Name] | None = Field(None, max_length=20)
    owner: Annotated[str, Field(min_length=1, max_length=254, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")] | None = Field(
        None, description="Whom people ask about it; whoever creates it, where nothing is said."
    )
    layers: LayerShares | None = Field(
        None,
        validation_alias=AliasChoices("layers", "layer"),
        description="Layers that the experiment shares with others, so that no user is in two: a key, or a share.",
    )
    overrides: list[OverrideIn] | None = Field(
        None, max_length=50, description="Who looks at a variant without taking part."
    )
    plan: PlanIn | None = Field(None, description="The analysis plan; options that are not named stay as they are.")

    def claims(self) -> list[Claim]:
        """The shares of layers that were sent."""
        sent = self.layers if isinstance(self.layers, list) else [] if self.layers is None else [self.layers]
        return [Claim(one, Decimal(100)) if isinstance(one, str) else one.claim() for one in sent]

    def override_drafts(self) -> list[OverrideDraft]:
        """The overrides that were sent."""
        return [override.draft() for override in self.overrides or ()]

    def plan_options(self) -> dict[str, Any] | None:
        """The options of the plan that were sent."""
        return None if self.plan is None else self.plan.model_dump(exclude_unset=True)


class ExperimentIn(_Editable):
    """A new experiment; it runs at once unless its status is `draft`."""

    name: Name
    key: Key | None = None
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
            traffic_percentage=decimal_of(self.traffic_percentage) or Decimal(0),
            plan=self.plan_options(),
            tags=self.tags or (),
            owner=self.owner,
            layers=self.claims(),
            overrides=self.override_drafts(),
        )


class ExperimentPatch(_Editable):
    """What to change. `version` is the one that was read: if it is not the present one, nothing changes (409)."""

    name: Name | None = None
    key: Key | None = None
    traffic_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    variants: list[VariantIn] | None = Field(None, min_length=2, max_length=20)
    version: Annotated[int, Field(ge=1, le=2**31)] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, in the core's form; null empties a text and resets a list."""
        sent = {name: getattr(self, name) for name in self.model_fields_set - {"version"}}
        empty = {"description": "", "hypothesis": "", "metrics": (), "guardrails": (), "tags": (), "owner": ""}
        changes = {name: empty.get(name) if value is None else value for name, value in sent.items()}
        if self.variants is not None:
            changes["variants"] = [variant.draft() for variant in self.variants]
        if self.traffic_percentage is not None:
            changes["traffic_percentage"] = decimal_of(self.traffic_percentage)
        if self.plan is not None:
            changes["plan"] = self.plan_options()
        lists = {"layers": self.claims(), "overrides": self.override_drafts()}
        changes |= {name: sent_as for name, sent_as in lists.items() if name in self.model_fields_set}
        return {
            name: value
            for name, value in changes.items()
            if value is not None or name in {"primary_metric", "targeting"}
        }


class CompletionIn(In):
    """How an experiment ends: perhaps with a variant that is shipped, by name or id."""

    winner: Name | None = None


def decimal_of(number: float | None) -> Decimal | None:
    """The number as it was written, without the digits that a binary float adds."""
    return None if number is None else Decimal(str(number))
