"""The properties of an event: what they may hold, as JSON, and the value that they name.

Rules 4 and 5 of events.py, which says what an event is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from upshot import identifiers
from upshot.errors import Fault, pointer

Encode = Callable[[object], bytes]

PROPERTY_KEYS = 200
PROPERTY_DEPTH = 10
STRING_LENGTH = 8_192
ARRAY_LENGTH = 1_000
EVENT_BYTES = 32_768
INTEGER = 2**53 - 1

_VALUE_KEYS = ("price", "amount", "revenue", "value")
_SHORT = 200  # bytes: flat properties whose JSON is no longer cannot break a limit
_ENVELOPE_BYTES = 1_024  # more than the identifiers of an event can take


def content(properties: Mapping[str, Any], encode: Encode) -> tuple[bytes, float | None] | Fault:
    """The properties as JSON by `encode`, and the event's value; or the first thing that is wrong with them."""
    flat = _flat(properties)
    if not flat and (fault := _fault_of_properties(properties)):
        return fault
    text = encode(properties)
    if flat and (len(text) > _SHORT or b"\\u" in text) and (fault := _fault_of_properties(properties)):
        return fault
    if len(text) > EVENT_BYTES - _ENVELOPE_BYTES:
        return Fault("/properties", "too_large", "an event must stay below 32 KiB")
    return text, _value_of(properties)


def _flat(properties: Mapping[str, Any]) -> bool:
    """Whether the properties nest nothing and hold no number that rule 4 forbids."""
    for value in properties.values():
        kind = type(value)
        if kind is int:
            if not -INTEGER <= value <= INTEGER:
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is dict or kind is list:
            return False
    return True


def _value_of(properties: Mapping[str, Any]) -> float | None:
    for key in _VALUE_KEYS:
        value = properties.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def _fault_of_properties(properties: Mapping[str, Any]) -> Fault | None:
    """The first property that breaks rule 4; without recursion."""
    keys = 0
    waiting: list[tuple[str, Any, int]] = [("/properties", properties, 1)]
    while waiting:
        place, holder, depth = waiting.pop()
        if isinstance(holder, dict):
            keys += len(holder)
        if fault := _fault_of_holder(holder, depth, keys):
            return Fault(place, *fault)
        for name, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(value, dict | list):
                waiting.append((place + pointer(name), value, depth + 1))
            elif found := _fault_of_scalar(value):
                return Fault(place + pointer(name), *found)
    return None


def _fault_of_holder(holder: dict[str, Any] | list[Any], depth: int, keys: int) -> tuple[str, str] | None:
    if depth > PROPERTY_DEPTH:
        return "too_deep", f"properties may nest {PROPERTY_DEPTH} levels"
    if keys > PROPERTY_KEYS:
        return "too_many_keys", f"properties may hold {PROPERTY_KEYS} keys in all"
    if isinstance(holder, list):
        return ("too_long", f"an array may hold {ARRAY_LENGTH} items") if len(holder) > ARRAY_LENGTH else None
    if any(len(key) > identifiers.EVENT_TYPE_LENGTH or "\x00" in key for key in holder):
        return "bad_key", "a key is at most 200 characters long, without NUL"
    return None


def _fault_of_scalar(value: object) -> tuple[str, str] | None:
    if isinstance(value, str):
        if len(value) > STRING_LENGTH:
            return "too_long", f"a text may be {STRING_LENGTH} characters long"
        if "\x00" in value:
            return "control_character", "must not hold NUL"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "not_finite", "must be a finite number"
    elif isinstance(value, int) and not -INTEGER <= value <= INTEGER:
        return "too_large", "an integer must lie within ±(2^53 − 1)"
    return None
