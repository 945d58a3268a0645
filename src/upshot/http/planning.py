"""The shapes of plans, in requests and responses. What the fields mean together is checked by `operations.planner`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from upshot.analysisplan import MOST_USERS, Stopping
from upshot.errors import Fault, Invalid
from upshot.http.wire import INTEGER, LIST, TEXT, In, MetricReference, either
from upshot.identifiers import EVENT_TYPE_LENGTH, NAME_LENGTH
from upshot.metrics import Direction, Kind
from upshot.operations.planner import HISTORY, Asked, Planned
from upshot.planner import LONGEST, LOOKS, MOST_LOOKS, Baseline, Change, Design
from upshot.statistics import Spending

EventType = Annotated[str, Field(min_length=1, max_length=EVENT_TYPE_LENGTH)]
PerDay = Annotated[float, Field(gt=0, le=1e12)]
Effect = Annotated[float, Field(ge=-1e15, le=1e15, json_schema_extra={"not": {"const": 0}})]
KindWord = Literal["conversion", "count", "sum", "mean", "ratio", "quantile", "retention", "funnel", "threshold"]


class BaselineIn(In):
    """Numbers that are known already, instead of measured ones."""

    value: Annotated[float, Field(ge=-1e15, le=1e15)] = Field(
        description="The metric as it is now: a share such as 0.05, or the mean per user.", examples=[0.05]
    )
    standard_deviation: Annotated[float, Field(gt=1e-15, le=1e15)] | None = Field(
        None, description="Of the users' numbers; a share needs none. Of a ratio that of its linearised value, of a quantile "
        "its standard error times the root of the users.",
    )  # fmt: skip
    users_per_day: PerDay | None = Field(
        None, description="How many new users come a day; without it there are no days."
    )
    variance_reduction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0, description="The share of variance that what is known of users before will take out (CUPED)."
    )


class PlanRequest(In):
    """What is to be planned. The baseline is given, or measured in an `experiment`, or among those who caused `entry` events;
    from there one of effect, `users` and `run_for_days` gives the others. An effect with users or days gives its power."""

    metric: MetricReference | None = Field(
        None, description="As everywhere: an event type, the key of a definition, or a definition. In an experiment by default "
        "its primary metric.", examples=["purchase"],
    )  # fmt: skip
    baseline: BaselineIn | None = Field(None, description="Given numbers.")
    kind: KindWord | None = Field(
        None, description="What a given baseline is the value of; by default conversion, a share of users."
    )
    experiment: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)] | None = Field(
        None, description="Id or key: measure in its control arm."
    )
    entry: (
        Annotated[
            Annotated[EventType, TEXT] | Annotated[list[EventType], Field(min_length=1, max_length=50), LIST],
            either("an event type or a list of them"),
        ]
        | None
    ) = Field(
        None, description="Event types by whose first event users would enter: measure among those who caused one.",
        examples=["visit"],
    )  # fmt: skip
    history_days: Annotated[int, Field(ge=1, le=400)] = Field(
        HISTORY, validation_alias=AliasChoices("history_days", "days"), description="Over how many days before now entry looks."
    )  # fmt: skip
    adjust: bool = Field(
        default=True, description="Whether what users did before may make the experiment more precise (CUPED)."
    )
    users_per_day: PerDay | None = Field(
        None, description="How many new users will come a day, instead of what was measured."
    )
    variants: Annotated[
        Annotated[int, Field(ge=2, le=20), INTEGER]
        | Annotated[list[Annotated[int, Field(ge=1, le=10**9)]], Field(min_length=2, max_length=20), LIST],
        either("a number of variants or their shares as whole numbers"),
    ] = Field(
        2, description="How many variants, or their shares as whole numbers, control's first.", examples=[[50, 50]]
    )
    alpha: Annotated[float, Field(ge=0.0005, le=0.2)] = Field(
        0.05, description="The rate of false alarms over all looks and variants together."
    )
    power: Annotated[float, Field(ge=0.5, le=0.999)] = Field(0.8, description="The chance to find the effect.")
    stopping: Literal["fixed", "group_sequential", "always_valid"] = Field(
        "group_sequential", description="When a difference may be called significant; see the results page."
    )
    spending: Literal["obrien_fleming", "pocock"] = Field(
        "obrien_fleming", description="How group-sequential looks share alpha: little at first, or evenly."
    )
    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)] | None = Field(
        None, description=f"How many group-sequential looks; by default one a day, at most {MOST_LOOKS}, and {LOOKS} where days "
        "are not known.",
    )  # fmt: skip
    relative_effect: Effect | None = Field(
        None, description="The smallest change that matters, as a share of the value: 0.05 is five percent more. By default the "
        "metric's minimum_effect.", examples=[0.05],
    )  # fmt: skip
    absolute_effect: Effect | None = Field(None, description="The same in the unit of the value.")
    users: Annotated[int, Field(ge=2, le=MOST_USERS)] | None = Field(
        None, description="How many users all variants will have."
    )
    run_for_days: Annotated[int, Field(ge=1, le=LONGEST)] | None = Field(None, description="How long it will run.")

    def asked(self) -> Asked:
        """The operations' form.

        Raises:
            Invalid: a field belongs to another source of the baseline.
        """
        misplaced = {
            "kind": self.baseline is None,
            "history_days": self.entry is None,
            "adjust": self.baseline is not None,
        }
        faults = [
            Fault(f"/{name}", "unexpected", "does not belong to where the baseline comes from")
            for name, wrong in misplaced.items()
            if wrong and name in self.model_fields_set and getattr(self, name) is not None
        ]
        if faults:
            raise Invalid.of(*faults)
        entry = [self.entry] if isinstance(self.entry, str) else self.entry or []
        return Asked(
            design=Design(
                shares=(1,) * self.variants if isinstance(self.variants, int) else tuple(self.variants),
                alpha=self.alpha,
                power=self.power,
                stopping=Stopping(self.stopping),
                spending=Spending(self.spending),
                looks=self.looks,
                relative_effect=self.relative_effect,
                absolute_effect=self.absolute_effect,
            ),
            users=self.users,
            days=self.run_for_days,
            given=self._given(),
            metric=self.metric,
            experiment=self.experiment,
            entry=tuple(sorted(set(entry))),
            history_days=self.history_days,
            users_per_day=self.users_per_day,
            adjust=self.adjust,
        )

    def _given(self) -> Baseline | None:
        given = self.baseline
        if given is None:
            return None
        return Baseline(
            kind=Kind(self.kind or Kind.CONVERSION),
            value=given.value,
            variance=None if given.standard_deviation is None else given.standard_deviation**2,
            users_per_day=given.users_per_day,
            variance_reduction=given.variance_reduction,
        )


class ChangeOut(BaseModel):
    """A change of the metric: relative to the size of its value, and absolute, in its unit."""

    relative: float | None
    absolute: float | None

    @classmethod
    def of(cls, change: Change) -> "ChangeOut":
        """The wire form of a change."""
        return cls(relative=change.relative, absolute=change.absolute)


class BaselineOut(BaseModel):
    """What the plan rests on."""

    source: Literal["given", "experiment", "entry"]
    metric: str | None = Field(description="The metric's key; null where the baseline was given.")
    kind: Kind
    direction: Direction = Field(
        description="Which way is better, and the way of a detectable effect where none was asked for."
    )
    value: float | None = Field(description="Share of users, mean per user, ratio or quantile.")
    standard_deviation: float | None = Field(
        description="Per user, before covariates take out their share of variance."
    )
    users: int | None = Field(description="On how many users it was measured.")
    users_per_day: float | None = Field(description="New users a day.")
    days_to_count: float = Field(
        description="Days from a user's coming until that user counts, where windows must be complete."
    )
    variance_reduction: float = Field(description="The share of variance that covariates take out.")
    start: datetime | None = Field(description="From when on it was measured.")
    end: datetime | None = Field(description="Until when.")
    reason: str | None = Field(
        description="Why no effect can be planned from it: a code, such as no_users or zero_variance."
    )


class PlannedVariantOut(BaseModel):
    """One variant, control first."""

    share: float = Field(description="Of all users.")
    users: int | None


class PointOut(BaseModel):
    """What so many users would show. A detectable effect is null where so few show none."""

    days: int | None
    users: int
    detectable: ChangeOut
    power: float | None = Field(description="The chance to find the effect asked for.")


class PlanAnswer(BaseModel):
    """A plan. A number that does not exist is null, and `reasons` says why, by name."""

    users: int | None = Field(description="Of all variants together.")
    days: int | None = Field(description="How long it runs, in whole weeks unless days were asked for.")
    exact_days: float | None = Field(description="When the last of these users has come.")
    variants: list[PlannedVariantOut]
    effect: ChangeOut = Field(description="The effect asked for.")
    power: float | None = Field(description="The chance that these users show it.")
    required_power: float = Field(description="The power asked for.")
    detectable: ChangeOut = Field(description="The smallest effect that these users show with the power asked for.")
    baseline: BaselineOut
    stopping: Stopping
    looks: int | None = Field(description="Null in an always_valid plan: as many as you like.")
    inflation: float = Field(description="How many times the users of a single look at the end the looks cost.")
    expected_users: int | None = Field(
        description="How many have come on average when a look ends the experiment, if the effect is there."
    )
    alpha: float = Field(description="Over all looks and variants together.")
    comparisons: int = Field(description="Variants that are compared with control.")
    alpha_per_comparison: float = Field(description="The part of alpha of each of them (Bonferroni).")
    critical_value: float = Field(description="That of the test with a single look that needs as many users.")
    curve: list[PointOut] = Field(description="From few users to twice the plan.")
    reasons: dict[str, str] = Field(description="Why a number is null: field → code.")
    plan: dict[str, Any] | None = Field(
        description="The analysis plan to create the experiment with; null without users."
    )

    @classmethod
    def of(cls, planned: Planned) -> "PlanAnswer":
        """The wire form of a plan."""
        found, design = planned.plan, planned.design
        shares = [share / sum(design.shares) for share in design.shares]
        users = found.users_per_variant or (None,) * len(shares)
        analysis = {"stopping": str(design.stopping), "alpha": design.alpha, "planned_users": found.users}
        if design.stopping is Stopping.GROUP_SEQUENTIAL:
            analysis["spending"] = str(design.spending)
        return cls(
            users=found.users,
            days=found.days,
            exact_days=found.exact_days,
            variants=[PlannedVariantOut(share=s, users=u) for s, u in zip(shares, users, strict=True)],
            effect=ChangeOut.of(found.effect),
            power=found.power,
            required_power=design.power,
            detectable=ChangeOut.of(found.detectable),
            baseline=_baseline(planned),
            stopping=design.stopping,
            looks=found.looks,
            inflation=found.inflation,
            expected_users=found.expected_users,
            alpha=design.alpha,
            comparisons=found.comparisons,
            alpha_per_comparison=found.level,
            critical_value=found.critical_value,
            curve=[
                PointOut(days=p.days, users=p.users, detectable=ChangeOut.of(p.detectable), power=p.power)
                for p in found.curve
            ],
            reasons=dict(found.reasons),
            plan=analysis if (found.users or 0) > 1 else None,
        )


def _baseline(planned: Planned) -> BaselineOut:
    baseline = planned.baseline
    known = baseline.spread > 0 or baseline.variance is not None
    return BaselineOut(
        source=planned.source,
        metric=planned.metric.key if planned.metric else None,
        kind=baseline.kind,
        direction=baseline.direction,
        value=baseline.value,
        standard_deviation=baseline.spread**0.5 if known else None,
        users=baseline.users,
        users_per_day=baseline.users_per_day,
        days_to_count=baseline.days_to_count,
        variance_reduction=baseline.variance_reduction,
        start=planned.start,
        end=planned.end,
        reason=baseline.fault,
    )
