"""Variants: the arms of an experiment, and how a list of them is made from a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from upshot import identifiers
from upshot.allocation import weights_of
from upshot.errors import Fault, Invalid

COUNT = range(2, 21)


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm. `position` is its lasting integer key within the experiment; `weight` is its share of new users."""

    id: str
    name: str
    position: int
    is_control: bool
    weight: int
    config: Any


@dataclass(frozen=True, slots=True)
class VariantDraft:
    """A variant as a request describes it; without `config` an existing variant keeps its own."""

    name: str
    is_control: bool | None = None
    percent: Decimal | None = None
    weight: Decimal | None = None
    config: Any = None


def arrange(
    drafts: Sequence[VariantDraft],
    existing: Sequence[Variant],
    new_id: Callable[[], str],
    *,
    allow_closed: bool,
) -> tuple[Variant, ...]:
    """Variants from drafts: those that exist (by name) keep id, position and config; positions are never used twice."""
    _check(drafts)
    weights = weights_of([(draft.percent, draft.weight) for draft in drafts], allow_closed=allow_closed)
    known = {variant.name: variant for variant in existing}
    said = [draft.is_control for draft in drafts]
    if not any(said):
        inherited = [draft.name in known and known[draft.name].is_control for draft in drafts]
        control = inherited.index(True) if any(inherited) else 0
    else:
        control = said.index(True)
    variants, position = [], max((variant.position for variant in existing), default=-1)
    for index, (draft, weight) in enumerate(zip(drafts, weights, strict=True)):
        old = known.get(draft.name)
        position += old is None
        variants.append(
            Variant(
                id=old.id if old else new_id(),
                name=draft.name,
                position=old.position if old else position,
                is_control=index == control,
                weight=weight,
                config=old.config if old and draft.config is None else draft.config,
            )
        )
    return tuple(sorted(variants, key=lambda variant: variant.position))


def _check(drafts: Sequence[VariantDraft]) -> None:
    faults = []
    if len(drafts) not in COUNT:
        faults.append(Fault("/variants", "bad_count", "an experiment has 2 to 20 variants"))
    for index, draft in enumerate(drafts):
        fault = identifiers.check_name(draft.name, f"/variants/{index}/name")
        if fault:
            faults.append(fault)
        elif draft.name in {other.name for other in drafts[:index]}:
            faults.append(Fault(f"/variants/{index}/name", "duplicate_name", "is the name of another variant"))
    if sum(draft.is_control is True for draft in drafts) > 1:
        faults.append(Fault("/variants", "several_controls", "exactly one variant is the control"))
    if faults:
        raise Invalid.of(*faults)
