"""Layers: experiments that must not share users divide the slices of one hash among themselves.

A layer has a million slices. An experiment takes a share of them in each layer that it names, and users outside of it do not
enter. Slices are given back when the experiment is completed. An experiment in several layers takes the users that are inside
its share of every one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from upshot.allocation import percent_of
from upshot.assignment import WHOLE, Slot
from upshot.errors import Conflict, Fault, Invalid

MOST = 10
"""How many layers one experiment may be in."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer. Its id is the salt of its hash."""

    id: str
    key: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What an experiment wants of a layer, by its key: a share in percent."""

    layer: str
    percentage: Decimal


def millionths(percentage: Decimal, pointer: str, least: Decimal = Decimal(0)) -> int:
    """A percentage in millionths of the users.

    Raises:
        Invalid: it is not from `least` to 100, or has more than 4 decimals.
    """
    share = percentage * (WHOLE // 100)
    if not least <= percentage <= 100 or share != share.to_integral_value():
        raise Invalid.of(Fault(pointer, "bad_percentage", f"must be from {least} to 100, with at most 4 decimals"))
    return int(share)


def check(claims: Sequence[Claim]) -> None:
    """Refuse too many layers, one that is named twice, and shares that are none.

    Raises:
        Invalid: one of these.
    """
    if len(claims) > MOST:
        raise Invalid.of(Fault("/layers", "too_many", f"an experiment is in at most {MOST} layers"))
    if len({claim.layer for claim in claims}) < len(claims):
        raise Invalid.of(Fault("/layers", "duplicate_layer", "names a layer twice"))
    for place, claim in enumerate(claims):
        millionths(claim.percentage, f"/layers/{place}/percentage", Decimal("0.0001"))


def free(taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of a layer that nobody has, ascending."""
    found, at = [], 0
    for start, end in [*sorted(taken), (WHOLE, WHOLE)]:
        if start > at:
            found.append((at, start))
        at = max(at, end)
    return found


def place(layer: Layer, claim: Claim, taken: Iterable[tuple[int, int]]) -> Slot:
    """The lowest free slices of a layer that make up the share.

    Raises:
        Conflict: so much is not free; the message says how much is.
    """
    wanted, ranges, open_ranges = millionths(claim.percentage, "/layers"), [], free(taken)
    left = wanted
    for start, end in open_ranges:
        if left:
            ranges.append((start, min(end, start + left)))
            left -= ranges[-1][1] - start
    if left:
        there = percent_of(wanted - left, WHOLE)
        raise Conflict(f"Of one of the layers only {there:g} % is free; complete an experiment in it, or ask for less.")
    return Slot(layer.key, layer.id, tuple(ranges))


def share_of(slot: Slot) -> int:
    """The slices of a slot, in millionths of the layer."""
    return sum(end - start for start, end in slot.ranges)
