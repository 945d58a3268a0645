"""Experiments and assignments of every shape, found by walking the fields of their classes, and a few plain ones."""

import dataclasses
import types
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from upshot import targeting
from upshot.assignment import Assignment
from upshot.clock import FixedClock
from upshot.experiments import Draft, Experiment, create
from upshot.targeting import Rule
from upshot.variants import Variant, VariantDraft

RULES: tuple[dict[str, Any], ...] = (
    {},
    {"countries": ["US", "de"], "min_version": "2.0.0-rc.1"},
    {"any": [{"attribute": "ä{}|:", "operator": "regex", "value": "^a+b?$"}, {"not": {"countries": ["FR"]}}][:1]},
    {"attribute": "age", "operator": "gte", "value": 17.5},
    {"all": [{"attribute": "plan", "operator": "in", "value": ["pro", True, 7]}]},
)

_LARGEST = 2**53
_texts = st.text(max_size=8)
_numbers = st.integers(-_LARGEST, _LARGEST)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_moments = st.integers(0, 10**15).map(lambda micros: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    Any: _json,
    str: _texts,
    bool: st.booleans(),
    int: st.integers(0, 10**6),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: _moments,
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
    Rule: st.sampled_from(RULES).map(targeting.parse),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type as it is written in a class; of a class, with every field that it has.

    Raises:
        TypeError: no value can be thought of; a new sort of field is to be added here, and may need a hand in the codec.
    """
    if hint in _LEAVES:
        return _LEAVES[hint]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        made = {field.name: values(hints[field.name]) for field in dataclasses.fields(hint) if field.init}
        return st.fixed_dictionaries(made).map(lambda said: hint(**_possible(hint, said)))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return st.one_of([values(each) for each in inner])
    if origin is tuple and inner[1:] == (...,):
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, inner))
    if origin is frozenset:
        return st.frozensets(values(inner[0]), max_size=3)
    if origin in {Mapping, dict}:
        return st.dictionaries(*map(values, inner), max_size=3)
    raise TypeError(f"no values of {hint}")


def _possible(kind: type[Any], said: dict[str, Any]) -> dict[str, Any]:
    """The fields of an experiment such that it can decide: arms with weights in order, overrides of those arms."""
    if kind is not Experiment:
        return said
    arms = said["variants"] or (Variant("id", "a", 0, True, 1, None),)  # noqa: FBT003 - of the class
    arms = tuple(replace(arm, position=n, weight=abs(arm.weight) + 1) for n, arm in enumerate(arms))
    overrides = tuple(replace(each, variant=each.variant % len(arms)) for each in said["overrides"])
    return said | {"variants": arms, "overrides": overrides}


def experiment(name: str = "Test", key: str | None = None) -> Experiment:
    """A running experiment of two variants."""
    clock = FixedClock()
    draft = Draft(name, (VariantDraft("a"), VariantDraft("b", config={"colour": "blue"})), key=key)
    return create(draft, clock.now(), clock.new_id)


def assignment(user: str = "user", variant: int = 0, *, exposed: bool = True) -> Assignment:
    """An assignment to the experiment of number 1."""
    moment = datetime(2026, 1, 1, 12, 0, 0, 7, tzinfo=UTC)
    return Assignment(1, user, variant, 1, moment, moment + timedelta(hours=1) if exposed else None, '{"country":"US"}')


def new() -> str:
    """A name that nobody has."""
    return uuid.uuid4().hex
