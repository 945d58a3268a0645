"""Between rows and what they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from upshot import analysisplan, targeting
from upshot.assignment import Assignment, Held, Slot
from upshot.control import Definition, Labels
from upshot.control.tables import experiments
from upshot.events import Exposure, micros
from upshot.experiments import Experiment, Phase, Status
from upshot.flags import Flag, Kind, Rollout, Step
from upshot.metrics import Metric, define, describe
from upshot.overrides import Override
from upshot.variants import Variant


def columns_of(experiment: Experiment) -> dict[str, Any]:
    """The row of an experiment, without its client and its parts."""
    columns = {name: getattr(experiment, name) for name in experiments.c.keys() if hasattr(experiment, name)}  # noqa: SIM118
    del columns["number"]  # the database gives it
    return columns | {
        "targeting": targeting.dump(experiment.rule),
        "plan": analysisplan.dump(experiment.plan),
        "overrides": [
            {"variant": each.variant, "users": each.users, "targeting": each.rule and targeting.dump(each.rule)}
            for each in experiment.overrides
        ],
    }


def weights_of(phase: Phase) -> dict[str, int]:
    """The weights of a phase as a JSON object."""
    return {str(position): weight for position, weight in phase.weights.items()}


def experiment_of(row: Row[Any], arms: Sequence[Row[Any]], stretches: Sequence[Row[Any]]) -> Experiment:
    """The experiment of a row, with the rows of its variants and phases."""
    columns = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented accessor
    columns.pop("client_id")
    return Experiment(
        **columns
        | {
            "status": Status(row.status),
            "metrics": tuple(row.metrics),
            "guardrails": tuple(row.guardrails),
            "variants": tuple(
                Variant(arm.id, arm.name, arm.position, arm.is_control, arm.weight, arm.config) for arm in arms
            ),
            "phases": tuple(
                Phase(part.number, part.started_at, {int(key): weight for key, weight in part.weights.items()})
                for part in stretches
            ),
            "rule": targeting.parse(columns.pop("targeting")),
            "plan": analysisplan.load(row.plan, row.started_at),
            "tags": tuple(row.tags or ()),
            "owner": row.owner or "",
            "layers": tuple(
                Slot(slot["layer"], slot["salt"], tuple((start, end) for start, end in slot["ranges"]))
                for slot in row.layers or ()
            ),
            "holdouts": tuple(Held(held["key"], held["salt"], held["share"]) for held in row.holdouts or ()),
            "overrides": tuple(
                Override(
                    each["variant"], tuple(each["users"]), each["targeting"] and targeting.parse(each["targeting"])
                )
                for each in row.overrides or ()
            ),
        }
    )


def labels_of(rows: Sequence[Row[Any]]) -> Labels:
    """What the owners and tags of experiments are, each once and sorted."""
    tags = {tag for row in rows for tag in row.tags or ()}
    return Labels(tuple(sorted({row.owner for row in rows if row.owner})), tuple(sorted(tags)))


def assignment_of(row: Row[Any]) -> Assignment:
    """The assignment of a row."""
    return Assignment(row.experiment, row.user_id, row.variant, row.phase, row.assigned_at, row.exposed_at, row.context)


def row_of(client: str, assignment: Assignment) -> dict[str, Any]:
    """The row of an assignment."""
    return {
        "experiment": assignment.experiment,
        "user_id": assignment.user_id,
        "client_id": client,
        "variant": assignment.variant,
        "phase": assignment.phase,
        "assigned_at": assignment.assigned_at,
        "exposed_at": assignment.exposed_at,
        "context": assignment.context,
    }


def exposure_of(client: str, assignment: Assignment) -> Exposure:
    """The exposure that an assignment's first reading is."""
    return Exposure(
        client=client,
        experiment=assignment.experiment,
        user_id=assignment.user_id,
        variant=assignment.variant,
        phase=assignment.phase,
        exposed_at=micros(assignment.exposed_at or assignment.assigned_at),
        context=assignment.context,
    )


def columns_of_definition(metric: Metric) -> dict[str, Any]:
    """The row of a metric's definition, without its client, its version and its moments."""
    columns = {"key": metric.key, "name": metric.name, "description": metric.description}
    return columns | {"definition": describe(metric)}


def definition_of(row: Row[Any]) -> Definition:
    """The definition of a row; its metric says its version."""
    return Definition(replace(define(row.definition), version=row.version), row.created_at, row.archived_at)


def columns_of_flag(flag: Flag) -> dict[str, Any]:
    """The row of a flag, without its client."""
    rollout = flag.rollout
    return {field.name: getattr(flag, field.name) for field in fields(flag)} | {
        "kind": str(flag.kind),
        "rollout": rollout
        and {"value": rollout.value, "steps": rollout.steps, "targeting": targeting.dump(rollout.rule)},
    }


def flag_of(row: Row[Any]) -> Flag:
    """The flag of a row."""
    columns = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented accessor
    columns.pop("client_id")
    return Flag(**columns | {"kind": Kind(row.kind), "rollout": row.rollout and _rollout_of(row.rollout)})


def _rollout_of(raw: Mapping[str, Any]) -> Rollout:
    steps = tuple(Step(at and datetime.fromisoformat(at), share) for at, share in raw["steps"])
    return Rollout(raw["value"], steps, targeting.parse(raw["targeting"]))
