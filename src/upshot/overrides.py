"""Overrides: who looks at a variant to test it, without becoming part of the experiment.

An override names users, or contexts by a rule, and gives them its variant in every state before the experiment is completed, in
a draft, too. Nothing is stored of it and nothing is exposed; users who had entered before count no longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upshot import identifiers, targeting
from upshot.assignment import Forced, override_hash
from upshot.errors import Fault, Invalid
from upshot.targeting import Rule
from upshot.variants import Variant

MOST = 50
USERS = 1_000


@dataclass(frozen=True, slots=True)
class Override:
    """The users, by id, and the contexts, by rule, that get the variant at a position."""

    variant: int
    users: tuple[str, ...]
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class OverrideDraft:
    """An override as a request describes it; the variant by name or id."""

    variant: str
    users: Sequence[str] = ()
    targeting: Mapping[str, Any] | None = None


def arrange(drafts: Sequence[OverrideDraft], variants: Sequence[Variant]) -> tuple[Override, ...]:
    """Overrides from drafts.

    Raises:
        Invalid: one names no variant, nobody, a user that cannot be one, or a rule that cannot be read; or there are too many.
    """
    if len(drafts) > MOST:
        raise Invalid.of(Fault("/overrides", "too_many", f"an experiment has at most {MOST} overrides"))
    return tuple(_override(draft, variants, f"/overrides/{place}") for place, draft in enumerate(drafts))


def _override(draft: OverrideDraft, variants: Sequence[Variant], at: str) -> Override:
    variant = next((variant for variant in variants if draft.variant in {variant.name, variant.id}), None)
    if variant is None:
        raise Invalid.of(Fault(f"{at}/variant", "unknown_variant", "names no variant of this experiment"))
    if not draft.users and not draft.targeting:
        raise Invalid.of(Fault(at, "nobody", "names neither users nor a rule that contexts must match"))
    if len(draft.users) > USERS:
        raise Invalid.of(Fault(f"{at}/users", "too_many", f"an override names at most {USERS} users"))
    found = (identifiers.check_user_id(user, f"{at}/users/{place}") for place, user in enumerate(draft.users))
    if faults := [fault for fault in found if fault]:
        raise Invalid.of(*faults)
    rule = targeting.parse(draft.targeting, f"{at}/targeting") if draft.targeting else None
    return Override(variant.position, tuple(draft.users), rule)


def forced(overrides: Sequence[Override], variants: Sequence[Variant], salt: str) -> tuple[Forced, ...]:
    """What a decision needs of them; those of variants that are no more are left out."""
    places = {variant.position: place for place, variant in enumerate(variants)}
    return tuple(
        Forced(places[each.variant], frozenset(override_hash(salt, user) for user in each.users), each.rule)
        for each in overrides
        if each.variant in places
    )
