"""GrowthBook's payload: served to its SDKs, and taken over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from upshot import growthbook, identifiers
from upshot.access import Caller
from upshot.errors import UpshotError
from upshot.experiments import Draft, Status
from upshot.flags import RolloutDraft, StepDraft
from upshot.growthbook import Unusable
from upshot.operations import Stores, experiments, flags, snapshots
from upshot.operations.flags import FlagDraft
from upshot.variants import VariantDraft

FEATURES = 500


@dataclass(slots=True)
class TakenOver:
    """What became of a payload: keys of flags and of experiments that were made, and what could not be taken over."""

    flags: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    left: list[Unusable] = field(default_factory=list)


async def payload(stores: Stores, client: str) -> dict[str, Any]:
    """What GrowthBook's SDKs decide by."""
    published = await snapshots.known(stores, client)
    features = growthbook.features_of(published.flags.values(), published.by_id, stores.clock.now())
    return {"status": 200, "features": features, "dateUpdated": published.composed_at.isoformat()}


async def take_over(stores: Stores, caller: Caller, features: Mapping[str, Any]) -> TakenOver:
    """Make a flag of every feature, of its first experiment a draft, of its first forced value a rollout.

    GrowthBook divided users by another hash: an experiment is a draft, to be started when its users may be divided anew.
    """
    found = TakenOver()
    for key, feature in features.items():
        try:
            await _take(stores, caller, key, feature, found)
        except (ValueError, KeyError, TypeError, AttributeError):
            found.left.append(Unusable(key, -1, "the feature cannot be read"))
        except UpshotError as error:
            found.left.append(Unusable(key, -1, "; ".join(fault.message for fault in error.faults) or error.detail))
    return found


async def _take(stores: Stores, caller: Caller, key: str, feature: Mapping[str, Any], found: TakenOver) -> None:
    name, default = identifiers.key_of_name(key), feature["defaultValue"]
    kind = growthbook.kind_of(default)
    if kind is None:
        found.left.append(Unusable(key, -1, "a flag's default must be a boolean, a text, a number or an object"))
        return
    draft: tuple[str, dict[str, Any]] | None = None
    rollout: RolloutDraft | None = None
    for place, rule in enumerate(feature.get("rules") or ()):
        try:
            if "variations" in rule and draft is None:
                draft = await _experiment(stores, caller, name, rule)
                found.experiments.append(draft[0])
            elif "force" in rule and rollout is None:
                rollout = _rollout(rule)
            else:
                found.left.append(Unusable(key, place, "a flag has one experiment and one rollout"))
        except ValueError as error:
            found.left.append(Unusable(key, place, str(error)))
        except UpshotError as error:
            reason = "; ".join(fault.message for fault in error.faults) or error.detail
            found.left.append(Unusable(key, place, reason))
    await flags.create(
        stores,
        caller,
        FlagDraft(
            key=name,
            kind=kind,
            default=default,
            description=str(feature.get("description") or ""),
            experiment=draft[0] if draft else None,
            values=draft[1] if draft else None,
            rollout=rollout,
        ),
    )
    found.flags.append(name)


async def _experiment(
    stores: Stores, caller: Caller, feature: str, rule: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The id of a draft like a rule, and the flag's values by variant."""
    for unknown in ("namespace", "filters", "ranges", "parentConditions"):
        if rule.get(unknown):
            raise ValueError(f"experiments with {unknown} are not taken over")
    variations = rule["variations"]
    meta = rule.get("meta") or [{} for _ in variations]
    names = [str(part.get("key") or part.get("name") or place) for place, part in enumerate(meta)]
    weights = rule.get("weights") or [1 / len(variations) for _ in variations]
    key = identifiers.key_of_name(str(rule.get("key") or feature))
    made = await experiments.create(
        stores,
        caller,
        Draft(
            name=str(rule.get("name") or key),
            key=key,
            variants=[
                VariantDraft(name, weight=Decimal(str(weight))) for name, weight in zip(names, weights, strict=True)
            ],
            status=Status.DRAFT,
            targeting=growthbook.rule_of(rule.get("condition") or {}),
            traffic_percentage=Decimal(str(rule.get("coverage", 1))) * 100,
        ),
    )
    return made.id, dict(zip(names, variations, strict=True))


def _rollout(rule: Mapping[str, Any]) -> RolloutDraft:
    if rule.get("filters") or rule.get("range") or rule.get("parentConditions"):
        raise ValueError("forced values with filters, ranges or parents are not taken over")
    step = StepDraft(Decimal(str(rule.get("coverage", 1))) * 100)
    return RolloutDraft(rule["force"], [step], growthbook.rule_of(rule.get("condition") or {}))
