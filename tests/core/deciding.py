"""A second, plain implementation of decisions and flags, straight from their rules, to check the first one with."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from upshot import targeting

WHOLE = 1_000_000


def hashed(*parts: str) -> int:
    """Rule 1 of the hash contract."""
    text = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def sliced(total: int, *parts: str) -> int:
    """The slice among `total` of a hash."""
    return (hashed(*parts) * total) >> 64


def decision(entry: Mapping[str, Any], user: str, context: Mapping[str, Any]) -> tuple[str | None, str]:  # noqa: C901 - the rules, one after another
    """(variant, reason) of a user in an experiment of the document."""
    for override in entry["overrides"]:
        named = f"{hashed('override', entry['salt'], user):016x}" in override["users"]
        rule = override["targeting"]
        if named or (rule and targeting.matches(targeting.parse(rule), context)):
            return override["variant"], "overridden"
    if entry["status"] != "running":
        return None, "not_running"
    if not targeting.matches(targeting.parse(entry["targeting"]), context):
        return None, "not_targeted"
    if held(entry, user):
        return None, "held_out"
    for layer in entry["layers"]:
        place = sliced(WHOLE, "layer", layer["salt"], user)
        if not any(start <= place < end for start, end in layer["ranges"]):
            return None, "not_in_traffic"
    if sliced(WHOLE, "traffic", entry["salt"], user) >= entry["traffic"]:
        return None, "not_in_traffic"
    point = sliced(sum(variant["weight"] for variant in entry["variants"]), entry["salt"], user)
    for variant in entry["variants"]:
        point -= variant["weight"]
        if point < 0:
            return variant["name"], "assigned"
    raise AssertionError("a point lies beyond all weights")


def held(entry: Mapping[str, Any], user: str) -> bool:
    """Whether a holdout leaves the user out."""
    return any(sliced(WHOLE, "holdout", each["salt"], user) < each["share"] for each in entry["holdouts"])


def evaluation(  # noqa: C901 - the rules, one after another
    document: Mapping[str, Any], flag: Mapping[str, Any], user: str, context: Mapping[str, Any], now: datetime
) -> tuple[Any, str, str | None]:
    """(value, reason, variant) of a flag of the document."""
    if not flag["enabled"]:
        return flag["default"], "DISABLED", None
    entry = next((each for each in document["experiments"] if each["id"] == flag["experiment"]), None)
    if entry is not None:
        variant, reason = decision(entry, user, context)
        if reason == "overridden":
            return flag["values"].get(variant, flag["default"]), "TARGETING_MATCH", variant
        if entry["winner"] is not None and held(entry, user):
            return flag["default"], "DEFAULT", None
        if entry["winner"] is not None:
            return flag["values"].get(entry["winner"], flag["default"]), "STATIC", entry["winner"]
        if entry["status"] == "paused":
            return flag["default"], "DISABLED", None
        if variant is not None:
            return flag["values"].get(variant, flag["default"]), "SPLIT", variant
    rollout = flag["rollout"]
    if rollout is None or not targeting.matches(targeting.parse(rollout["targeting"]), context):
        return flag["default"], "DEFAULT", None
    share = 0
    for step in rollout["steps"]:
        if step["at"] is None or datetime.fromisoformat(step["at"]) <= now:
            share = step["share"]
    if sliced(WHOLE, "rollout", flag["salt"], user) >= share:
        return flag["default"], "DEFAULT", None
    reason = "SPLIT" if share < WHOLE else "TARGETING_MATCH" if rollout["targeting"] else "STATIC"
    return rollout["value"], reason, "rollout"
