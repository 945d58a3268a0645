"""Variants that stay: in a store of the application's, or as the server has stored them.

By the hash alone a user keeps a variant as long as the shares, the traffic and the targeting do not change. With a store, what a
user was given stays, in every state of the experiment that the configuration still tells of; only overrides go before it.

`by_store` and `by_server` say what is to be looked up, kept and asked, and get what was found: generators, so that a thread and
a task can both carry it out.
"""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from upshot.assignment import OVERRIDDEN
from upshot.identifiers import fault_of_user_id
from upshot.sdk.contract import Choice
from upshot.sdk.prepared import Decide, Prepared, tellable
from upshot.sdk.stored import Kept, Question


class StickyStore(Protocol):
    """Where an application keeps the variants of its users; used by many threads at once. An error counts as "not known"."""

    def get(self, experiment: str, user_id: str) -> str | None:
        """The name of the variant that the user has in the experiment (by key), or None."""
        ...

    def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep the variant that the user was given."""
        ...


class AsyncStickyStore(Protocol):
    """The same for the asynchronous client."""

    async def get(self, experiment: str, user_id: str) -> str | None:
        """The name of the variant that the user has in the experiment (by key), or None."""
        ...

    async def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep the variant that the user was given."""
        ...


class Look(NamedTuple):
    """Look up in the store which variant a user has; the answer is its name, or None."""

    experiment: str
    user_id: str


class Keep(NamedTuple):
    """Keep in the store which variant a user was given."""

    experiment: str
    user_id: str
    variant: str


Steps: TypeAlias = Generator[Look | Keep | Question, Any, Choice]


def by_store(prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any]) -> Steps:
    """What a user gets who keeps what a store of the application's says."""
    choice = decide(user_id, context)
    if choice.reason == OVERRIDDEN or prepared.entry.status == "draft" or fault_of_user_id(user_id):
        return choice
    key = prepared.entry.key
    name = yield Look(key, user_id)
    if isinstance(name, str) and name in prepared.assigned:
        return prepared.assigned[name]
    if choice.variant is not None:
        yield Keep(key, user_id, choice.variant)
    return choice


def by_server(prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any], kept: Kept | None) -> Steps:
    """What a user gets who keeps what the server has stored; `kept` is what is remembered of that."""
    choice = decide(user_id, context)
    if choice.reason == OVERRIDDEN or prepared.entry.status == "draft" or fault_of_user_id(user_id):
        return choice
    nothing_stored = kept is not None and kept.variant is None
    if kept is None or (nothing_stored and choice.variant is not None):
        kept = yield Question(prepared.entry.id, user_id, tellable(context))
    if kept is None:
        return choice
    if kept.variant is None:
        return choice if choice.variant is None else prepared.without(kept.reason)
    return prepared.assigned.get(kept.variant, choice)
