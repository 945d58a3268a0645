"""An experiment of the configuration, prepared so that a decision is one call and makes nothing new."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from upshot.assignment import ASSIGNED, OVERRIDDEN, REASONS, Decision
from upshot.contexts import ATTRIBUTES, fault_of_context
from upshot.sdk.contract import Choice
from upshot.snapshot import Arm, Entry

Decide = Callable[[str, Mapping[str, object]], Choice]


class Prepared:
    """An experiment whose decisions are choices.

    Args:
        entry: the experiment.
        shown: who was shown which variant, as far as is remembered at hand.
    """

    __slots__ = ("_arms", "_without", "assigned", "decide", "entry", "shown")

    def __init__(self, entry: Entry, shown: dict[str, str]) -> None:
        self.entry = entry
        self.shown = shown
        self.assigned = {arm.name: _choice(entry, arm, ASSIGNED) for arm in entry.arms}
        overridden = [_choice(entry, arm, OVERRIDDEN) for arm in entry.arms]
        self._without = {reason: Choice(entry.key, None, None, reason, is_control=False) for reason in REASONS}
        chooser = entry.decide.answering([*self.assigned.values()], overridden, self._without)
        self.decide: Decide = chooser.__call__  # bound, it is called sooner
        self._arms = {arm.name: arm for arm in entry.arms}

    def without(self, reason: str) -> Choice:
        """The choice of nobody, for that reason."""
        return self._without.get(reason) or Choice(self.entry.key, None, None, reason, is_control=False)

    def as_decided(self, choice: Choice) -> Decision[Arm]:
        """A choice as flags take it."""
        return Decision(self._arms.get(choice.variant or ""), choice.reason)


def _choice(entry: Entry, arm: Arm, reason: str) -> Choice:
    return Choice(entry.key, arm.name, arm.config, reason, arm.is_control)


def tellable(context: Mapping[str, Any]) -> dict[str, Any]:
    """What can be told of a context: flat attributes within the limits; lists and what is deeper are only decided by."""
    try:
        if fault_of_context(context) is None and all(map(_is_finite, context.values())):
            return dict(context)
    except (AttributeError, TypeError):
        pass  # a name that is no text
    told = {
        name: value
        for name, value in context.items()
        if type(name) is str and fault_of_context({name: value}) is None and _is_finite(value)
    }
    return dict([*told.items()][:ATTRIBUTES])


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or isfinite(value)
