"""Contexts: what is known of a user when a variant is asked for, by which targeting decides and results are broken down."""

from collections.abc import Mapping, Sequence
from typing import Any

from upshot import identifiers
from upshot.errors import Fault, Invalid

ATTRIBUTES = 50
LENGTH = 1_000

Context = Mapping[str, Any]


def fault_of_context(context: Context) -> tuple[str, str] | None:
    """Why a context cannot be one: it is a flat object of at most 50 attributes, short texts, numbers and booleans; else None."""
    if len(context) > ATTRIBUTES:
        return "too_many", f"a context holds at most {ATTRIBUTES} attributes"
    for name, value in context.items():
        if identifiers.fault_of_text(name, identifiers.NAME_LENGTH):
            return (
                "bad_attribute",
                f"an attribute's name has 1 to {identifiers.NAME_LENGTH} printable characters",
            )
        if not isinstance(value, str | int | float | None):
            return "not_flat", "an attribute is a text, a number, a boolean or null"
        if isinstance(value, str) and (len(value) > LENGTH or "\x00" in value):
            return "too_long", f"an attribute has at most {LENGTH} characters, without NUL"
        if isinstance(value, int) and not -(2**53) < value < 2**53:
            return "too_large", "an integer must lie within ±(2^53 − 1)"
    return None


def check(users: Sequence[tuple[str, Context]], place: str = "") -> None:
    """Refuse users or contexts that break a rule. `place` says where one of several stands."""
    faults = []
    for index, (user_id, context) in enumerate(users):
        at = place.format(index=index)
        fault = identifiers.check_user_id(user_id, at or "/user_id")
        if fault:
            faults.append(fault)
        if found := fault_of_context(context):
            faults.append(Fault(f"{at}/context", *found))
    if faults:
        raise Invalid.of(*faults)
