"""Experiments and flags in the words of GrowthBook's SDKs (its payload of features), and back.

What a feature says, in order: the overrides of its experiment by a rule on the context, its winner, its experiment, its rollout,
its default. GrowthBook's SDKs decide by a hash of their own, of 10,000 slices (FNV-1a, version 2), not by ours: a user who is
asked for here and elsewhere may get two variants, which is a conflict of exposures. So an experiment is served by one door.

Users that overrides name are left out: the payload is public.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from upshot import targeting
from upshot.assignment import WHOLE
from upshot.experiments import Experiment
from upshot.flags import Flag, Kind

HASH = 2
UNIT = "id"
"""The attribute that GrowthBook's SDKs hash: the user's id."""

_ORDERS = {
    "lt": "$lt", "lte": "$lte", "gt": "$gt", "gte": "$gte",
    "semver_eq": "$veq", "semver_lt": "$vlt", "semver_lte": "$vlte", "semver_gt": "$vgt", "semver_gte": "$vgte",
}  # fmt: skip
_FROM = {theirs: ours for ours, theirs in _ORDERS.items()} | {"$eq": "eq", "$ne": "ne", "$in": "in", "$nin": "not_in",
                                                              "$regex": "regex", "$exists": "exists"}  # fmt: skip
_GROUPS = {"$and": "all", "$or": "any"}


def features_of(flags: Iterable[Flag], experiments: Mapping[str, Experiment], now: datetime) -> dict[str, Any]:
    """The features of a payload at a moment, by key; `experiments` by id."""
    return {flag.key: _feature(flag, experiments.get(flag.experiment or ""), now) for flag in flags}


def condition_of(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as a condition; `{}` matches everybody."""
    parts: list[dict[str, Any]] = []
    for key, value in rule.items():
        if key in {"all", "any"}:
            parts.append({"$and" if key == "all" else "$or": [condition_of(each) for each in value]})
        elif key == "not":
            parts.append({"$not": condition_of(value)})
        elif key == "countries":
            parts.append({"country": {"$regex": f"^(?:{'|'.join(map(_any_case, value))})$"}})
        elif key == "min_version":
            parts.append({"app_version": {"$vgte": value}})
        elif key == "attribute":
            parts.append({value: _test(str(rule["operator"]), rule.get("value"))})
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else {}


def _feature(flag: Flag, experiment: Experiment | None, now: datetime) -> dict[str, Any]:
    if not flag.enabled:
        return {"defaultValue": flag.default}
    rules = _driven(flag, experiment) if experiment is not None else []
    rollout = flag.rollout
    if rollout is not None:
        forced = {
            "force": rollout.value,
            "coverage": rollout.share_at(now) / WHOLE,
            "hashAttribute": UNIT,
            "seed": flag.id,
            "hashVersion": HASH,
        }
        rules.append(_with_condition(forced, targeting.dump(rollout.rule)))
    return {"defaultValue": flag.default, **({"rules": rules} if rules else {})}


def _driven(flag: Flag, experiment: Experiment) -> list[dict[str, Any]]:
    values = [flag.values.get(variant.name, flag.default) for variant in experiment.variants]
    if experiment.winning is not None:
        return [{"force": flag.values.get(experiment.winning, flag.default), **_filters(experiment, layers=False)}]
    rules = [
        {"condition": condition_of(targeting.dump(override.rule)), "force": value}
        for override in experiment.overrides
        if override.rule is not None
        for variant, value in zip(experiment.variants, values, strict=True)
        if variant.position == override.variant
    ]
    if not experiment.is_running:
        return rules
    total = sum(variant.weight for variant in experiment.variants)
    rule = {
        "key": experiment.key,
        "name": experiment.name,
        "phase": str(experiment.phase.number if experiment.phase else 0),
        "variations": values,
        "weights": [variant.weight / total for variant in experiment.variants],
        "meta": [{"key": variant.name, "name": variant.name} for variant in experiment.variants],
        "coverage": experiment.traffic / WHOLE,
        "seed": experiment.salt,
        "hashVersion": HASH,
        "hashAttribute": UNIT,
        **_filters(experiment, layers=True),
    }
    return [*rules, _with_condition(rule, targeting.dump(experiment.rule))]


def _filters(experiment: Experiment, *, layers: bool) -> dict[str, Any]:
    """Whom holdouts and layers let pass."""
    passing: list[tuple[str, Sequence[tuple[int, int]]]] = []
    passing += [(held.salt, [(held.share, WHOLE)]) for held in experiment.holdouts]
    passing += [(slot.salt, slot.ranges) for slot in experiment.layers] if layers else []
    filters = [
        {
            "seed": seed,
            "hashVersion": HASH,
            "attribute": UNIT,
            "ranges": [[start / WHOLE, end / WHOLE] for start, end in ranges],
        }
        for seed, ranges in passing
    ]
    return {"filters": filters} if filters else {}


def _with_condition(rule: dict[str, Any], targeted: Mapping[str, Any]) -> dict[str, Any]:
    return {"condition": condition_of(targeted), **rule} if targeted else rule


def _test(operator: str, value: Any) -> dict[str, Any]:
    match operator:
        case "eq" | "in":
            return {"$in": _spellings(value)}
        case "ne" | "not_in":
            return {"$nin": _spellings(value)}
        case "prefix":
            return {"$regex": f"^{re.escape(value)}"}
        case "suffix":
            return {"$regex": f"{re.escape(value)}$"}
        case "contains":
            return {"$regex": re.escape(value)}
        case "regex":
            return {"$regex": value}
        case "exists":
            return {"$exists": value}
    return {_ORDERS[operator]: value}


def _spellings(value: Any) -> list[Any]:
    """Values, and what equals them: theirs are compared with their types, ours by what they spell."""
    found: list[Any] = []
    for each in value if isinstance(value, list) else [value]:
        found.append(each)
        if isinstance(each, bool):
            found.append("true" if each else "false")
        elif isinstance(each, int | float):
            found.append(f"{each:g}")
        elif (spelled := targeting.number(each)) is not None:
            found.append(spelled)
        elif each.lower() in {"true", "false"}:
            found.append(each.lower() == "true")
    return found


def _any_case(text: str) -> str:
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else re.escape(letter) for letter in text)


class Unusable(NamedTuple):
    """A rule of a feature that could not be taken over: its place and why."""

    feature: str
    rule: int
    reason: str


def rule_of(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition as a rule.

    Raises:
        ValueError: it says something that our rules cannot; the message says what.
    """
    parts: list[dict[str, Any]] = []
    for name, wanted in condition.items():
        if name in _GROUPS:
            parts.append({_GROUPS[name]: [rule_of(each) for each in wanted]})
        elif name == "$nor":
            parts.append({"not": {"any": [rule_of(each) for each in wanted]}})
        elif name == "$not":
            parts.append({"not": rule_of(wanted)})
        elif name.startswith("$"):
            raise ValueError(f"conditions with {name} are not taken over")
        elif isinstance(wanted, Mapping):
            parts += [_condition(name, operator, value) for operator, value in wanted.items()]
        elif isinstance(wanted, str | int | float):
            parts.append({"attribute": name, "operator": "eq", "value": wanted})
        else:
            raise ValueError("conditions on lists and objects are not taken over")
    return parts[0] if len(parts) == 1 else {"all": parts} if parts else {}


def _condition(name: str, operator: str, value: Any) -> dict[str, Any]:
    if operator == "$not" and isinstance(value, Mapping):
        return {"not": {"all": [_condition(name, inner, wanted) for inner, wanted in value.items()]}}
    if operator not in _FROM:
        raise ValueError(f"conditions with {operator} are not taken over")
    return {"attribute": name, "operator": _FROM[operator], "value": value}


def kind_of(value: Any) -> Kind | None:
    """The type of a flag whose default is that value; None where no flag can have it."""
    kinds: list[tuple[type, Kind]] = [(bool, Kind.BOOLEAN), (str, Kind.STRING), (int, Kind.NUMBER), (float, Kind.NUMBER),
                                      (dict, Kind.OBJECT)]  # fmt: skip
    return next((kind for type_, kind in kinds if isinstance(value, type_)), None)
