"""The pages on which an experiment is made and changed, and what they load beside: the picture of a split, a plan."""

from typing import Annotated, Any

import msgspec
from fastapi import Query
from pydantic import BaseModel
from starlette.responses import Response

from upshot import targeting
from upshot.access.trail import State
from upshot.allocation import percent_of
from upshot.assignment import WHOLE
from upshot.dashboard import charts
from upshot.errors import Invalid, Malformed
from upshot.experiments import Status
from upshot.http import body
from upshot.http.answers import ExperimentOut
from upshot.http.dashboard.visitors import Editor, Reader, Visitor, pages
from upshot.http.planning import PlanAnswer, PlanRequest
from upshot.http.stores import StoresOf
from upshot.lifecycle import EDITABLE
from upshot.operations import Stores, approvals, events, experiments, metrics, planner

router = pages()

_OPERATORS = (
    ("eq", "is"), ("ne", "is not"), ("in", "one of"), ("not_in", "none of"), ("gt", ">"), ("gte", "≥"), ("lt", "<"), ("lte", "≤"),
    ("prefix", "begins with"), ("suffix", "ends with"), ("contains", "contains"), ("regex", "matches"),
    ("semver_eq", "version ="), ("semver_gt", "version >"), ("semver_gte", "version ≥"), ("semver_lt", "version <"),
    ("semver_lte", "version ≤"), ("exists", "is known"),
)  # fmt: skip
_STOPPINGS = (
    ("", "as it fits: planned looks with planned users, else at any time"),
    ("always_valid", "at any time (always valid)"),
    ("group_sequential", "at planned looks (group sequential)"),
    ("fixed", "once, at the planned end"),
)
_NEW = ({"name": "control", "share": 50, "is_control": True, "config": ""},
        {"name": "treatment", "share": 50, "is_control": False, "config": ""})  # fmt: skip
_LONGEST_SPLIT = 10_000


@router.get("/dashboard/new")
async def new(visitor: Editor, stores: StoresOf) -> Response:
    """The page to make an experiment on."""
    shown: dict[str, Any] = {
        "experiment": None,
        "variants": _NEW,
        "editable": EDITABLE[Status.DRAFT],
        "traffic": 100,
        "targeting": "",
        "lists": {"metrics": [], "guardrails": []},
        "plan": None,
        "layers": "",
        "overrides": "",
    }
    return await _form(visitor, stores, shown)


@router.get("/dashboard/experiments/{experiment_id}/edit")
async def edit(visitor: Reader, stores: StoresOf, experiment_id: str) -> Response:
    """The page to change an experiment on, and to move it on."""
    experiment = await experiments.read(stores, visitor.client, experiment_id)
    out = ExperimentOut.of(experiment)
    waiting = await approvals.every(stores, visitor.client, State.PENDING, experiment.id)
    shown = {
        "experiment": experiment,
        "variants": [
            {
                "name": each.name,
                "share": each.weight,
                "is_control": each.is_control,
                "config": "" if each.config is None else _text(each.config),
            }
            for each in experiment.variants
        ],
        "editable": EDITABLE[experiment.status] if visitor.may_edit else frozenset(),
        "traffic": f"{percent_of(experiment.traffic, WHOLE):g}",
        "targeting": _text_of_some(targeting.dump(experiment.rule)),
        "lists": {name: [_reference(each) for each in getattr(experiment, name)] for name in ("metrics", "guardrails")},
        "plan": experiment.plan,
        "layers": _text_of_some([{"layer": each.layer, "percentage": each.percentage} for each in out.layers]),
        "overrides": _text_of_some([each.model_dump() for each in out.overrides]),
        "waiting": waiting,
    }
    return await _form(visitor, stores, shown)


@router.get("/dashboard/split")
async def split(visitor: Reader, variants: Annotated[str, Query(max_length=_LONGEST_SPLIT)]) -> Response:
    """The picture of a split: names and shares of 1, as JSON."""
    try:
        found = msgspec.json.decode(variants, type=list[tuple[str, float]])
    except msgspec.MsgspecError:
        raise Malformed("The variants must be a JSON list of names and shares.") from None
    picture = charts.shares([(name, min(1.0, max(0.0, share))) for name, share in found])
    return visitor.part(picture)


class PlanQuery(BaseModel):
    """What the page asks a plan for; shares are in percent. `planner` says what cannot be planned."""

    baseline: float
    effect: float
    users_per_day: float
    power: float = 80
    variants: int = 2
    stopping: str = "group_sequential"
    alpha: float = 0.05

    def document(self) -> dict[str, Any]:
        """The request of the API that asks the same."""
        return {
            "baseline": {"value": self.baseline / 100, "users_per_day": self.users_per_day},
            "relative_effect": self.effect / 100,
            "power": self.power / 100,
            "variants": self.variants,
            "stopping": self.stopping,
            "alpha": self.alpha,
        }


@router.get("/dashboard/plan")
async def plan(visitor: Reader, stores: StoresOf, asked: Annotated[PlanQuery, Query()]) -> Response:
    """How many users, how many days, for which lift."""
    try:
        wanted = body.validated(PlanRequest, asked.document())
        found = PlanAnswer.of(await planner.answer(stores, visitor.client, wanted.asked()))
    except Invalid as error:
        told = "; ".join(f"{fault.pointer.split('/')[-1].replace('_', ' ')} {fault.message}" for fault in error.faults)
        raise Invalid(f"This cannot be planned: {told}.") from None
    in_days = all(point.days for point in found.curve)
    drawn = [
        (float(point.days or 0) if in_days else float(point.users), point.detectable.relative) for point in found.curve
    ]
    picture = charts.curve(drawn, label="Smallest lift that is shown", unit="days" if in_days else "users")
    return visitor.page(
        "_plan",
        planned=found,
        effect=found.effect.relative,
        power=found.power,
        curve=found.curve,
        in_days=in_days,
        picture=picture,
    )


async def _form(visitor: Visitor, stores: Stores, shown: dict[str, Any]) -> Response:
    types = await events.types_seen(stores, visitor.client)
    defined = await metrics.search(stores, visitor.client, search=None, after=None, limit=200)
    known = [definition.metric.key for definition in defined.definitions] + [each.event_type for each in types[:200]]
    whole = sum(each["share"] for each in shown["variants"])
    pairs = [(each["name"], each["share"] / whole) for each in shown["variants"]]
    return visitor.page(
        "experiment_form",
        known=list(dict.fromkeys(known)),
        split=_text(pairs),
        operators=_OPERATORS,
        stoppings=_STOPPINGS,
        **{"waiting": [], **shown},
    )


def _reference(reference: Any) -> str:
    return reference if isinstance(reference, str) else _text(reference)


def _text_of_some(value: Any) -> str:
    """What is empty is an empty field."""
    return _text(value) if value else ""


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
