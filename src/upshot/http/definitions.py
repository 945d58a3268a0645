"""The shapes of metric definitions, in requests and responses. What the fields mean together is checked by `metrics.define`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from upshot.control import Definition
from upshot.http.wire import In
from upshot.identifiers import EVENT_TYPE_LENGTH
from upshot.metrics import describe

EventType = Annotated[str, Field(min_length=1, max_length=EVENT_TYPE_LENGTH)]
Duration = Annotated[str, Field(pattern="^[1-9][0-9]{0,8}[smhd]$", examples=["30m", "12h", "7d"])]


class SourceShape(In):
    """Which events count."""

    event_type: EventType | None = Field(None, description="The type of the events.", examples=["order"])
    event_types: list[EventType] | None = Field(None, min_length=1, description="Several types, instead of one.")
    where: dict[str, Any] | None = Field(
        None, description="Only events whose properties satisfy this rule, written as one of targeting.",
        examples=[{"attribute": "country", "operator": "eq", "value": "US"}],
    )  # fmt: skip


class QuantityShape(SourceShape):
    """One number of a user: whether there is an event, how many there are, or the sum of their values."""

    of: Literal["conversion", "count", "sum"] = Field("count", description="What is made of the events.")
    value: EventType | None = Field(None, description="The property that holds an event's value.")


class WinsorizeShape(In):
    """Percentiles (0 to 100, of the users of all variants together) beyond which a user's number is cut off."""

    lower: float | None = Field(None, gt=0, lt=100, description="The lower percentile.", examples=[1])
    upper: float | None = Field(None, gt=0, lt=100, description="The upper percentile.", examples=[99])
    ignore_zeros: bool = Field(default=False, description="Find the percentiles among users whose number is not zero.")


class _DefinitionShape(SourceShape):
    kind: Literal[
        "conversion", "count", "sum", "mean", "ratio", "quantile", "retention", "funnel", "threshold"
    ] | None = Field(
        None, description="How a user's events become that user's number. conversion: whether there is one; count: how many; "
        "sum: the sum of their values; mean: value per event; ratio: numerator per denominator; quantile: of the values; "
        "retention: conversion in a window that begins later; funnel: whether all steps happened in their order; threshold: "
        "whether the events reach an amount. By default conversion.",
    )  # fmt: skip
    value: EventType | None = Field(
        None, description="The property that holds an event's value; by default price, amount, revenue or value."
    )
    numerator: QuantityShape | None = Field(None, description="Of a ratio: what is divided.")
    denominator: QuantityShape | None = Field(None, description="Of a ratio: what divides.")
    steps: list[SourceShape] | None = Field(
        None, min_length=2, max_length=10, description="Of a funnel: each step at or after the one before."
    )
    level: float | None = Field(None, gt=0, lt=1, description="Of a quantile: which one.", examples=[0.9])
    per: Literal["event", "user"] | None = Field(
        None, description="Of a quantile: of the events' values (default), or of one number per user."
    )
    of: Literal["count", "sum"] | None = Field(
        None, description="Of a threshold (default count), or a quantile per user (default sum): a user's number."
    )
    at_least: float | None = Field(None, gt=0, le=1e300, description="Of a threshold: the amount to reach.")
    delay: Duration | None = Field(None, description="How long after the exposure events begin to count.")
    window: Duration | None = Field(
        None, description="For how long events count, from the exposure or the end of the delay; by default to the end."
    )
    complete_windows: bool | None = Field(
        None, description="Only users whose window is over count. Always so in retention; by default not so elsewhere."
    )
    winsorize: WinsorizeShape | None = Field(
        None, description="Of a count or a sum: cut off what single users do too much."
    )
    direction: Literal["increase", "decrease"] | None = Field(
        None, description="Which way is better; by default increase."
    )
    role: Literal["primary", "secondary", "guardrail"] | None = Field(None, description="What the metric is for.")
    minimum_effect: float | None = Field(
        None, gt=0, le=10, description="The smallest lift that matters, as a share of control's value.", examples=[0.02]
    )
    margin: float | None = Field(
        None, gt=0, le=1, description="Of a guardrail: the loss that is tolerated, as a share of control's value."
    )
    covariate: EventType | None = Field(
        None, description="The attribute of the context that makes results more precise (CUPED), instead of the metric "
        "itself before the exposure.",
    )  # fmt: skip
    lookback: Duration | None = Field(
        None, description="How long before the exposure the metric is read for that; by default 14d."
    )
    name: str | None = Field(None, max_length=2_000, description="What people call it.")
    description: str | None = Field(None, max_length=2_000, description="What it means, in words.")


class MetricDefinitionIn(_DefinitionShape):
    """A new metric definition; which fields it may have depends on its kind."""

    key: Annotated[str, Field(min_length=1, max_length=EVENT_TYPE_LENGTH, pattern="^[^/,]+$")] | None = Field(
        None, description="By which experiments and results refer to it; a conversion's is its event type by default.",
        examples=["checkout"],
    )  # fmt: skip

    def definition(self) -> dict[str, Any]:
        """What was sent; null is as nothing."""
        sent = self.model_dump(exclude_unset=True)
        return {name: value for name, value in sent.items() if value is not None}


class MetricDefinitionPatch(_DefinitionShape):
    """What to change; null takes a field away. `version` is the one that was read: if it is not the present one, nothing
    changes (409)."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return self.model_dump(exclude_unset=True, exclude={"version"})


class MetricDefinitionOut(_DefinitionShape):
    """A metric definition; fields at their default are left out."""

    key: str
    version: int
    created_at: datetime = Field(description="When this version was made.")
    archived_at: datetime | None = Field(description="Since when the key no longer means this.")

    @classmethod
    def showing(cls, definition: Definition) -> "MetricDefinitionOut":
        """The wire form of a definition."""
        metric = definition.metric
        moments = {"created_at": definition.created_at, "archived_at": definition.archived_at}
        return cls.model_validate({**describe(metric), "version": metric.version, **moments})


class MetricDefinitionsOut(BaseModel):
    """A page of metric definitions; `next_cursor` is null on the last one."""

    metric_definitions: list[MetricDefinitionOut]
    next_cursor: str | None
