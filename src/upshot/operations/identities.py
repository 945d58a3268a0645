"""Let an anonymous id and a known one be one user: what the anonymous visitor got and did belongs to who signed in.

Whose an id is, is remembered in the cache like assignments. What the cache does not know, the store tells when it is asked to
store an assignment (`control.assign`), so that ids that were never linked cost no question of their own.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from upshot import identifiers
from upshot.assignment import Assignment
from upshot.control import Verdict
from upshot.errors import Fault, Invalid
from upshot.events import Rejection
from upshot.operations import Stores
from upshot.operations.copies import IDENTITY

MANY = 1_000
OVERLAP = timedelta(seconds=30)
"""How far the clocks of servers may differ, and how long a link may take to be committed."""

Answer = TypeVar("Answer")
Context = TypeVar("Context")

Link = tuple[str, str]
"""Anonymous id and user."""

_REFUSED = {
    Verdict.LINKED_ELSEWHERE: Rejection("/anonymous_id", "linked_elsewhere", "is linked to another user, for good"),
    Verdict.USER_IS_LINKED: Rejection("/user_id", "is_linked", "is itself linked to a user; link to that one"),
    Verdict.ID_IS_A_USER: Rejection("/anonymous_id", "is_linked", "is a user whom other ids are linked to"),
}


@dataclass(frozen=True, slots=True)
class Linked:
    """What became of a request: how many links are new, how many were known, in how many experiments a user turned out to have
    had two variants, and what was refused, by index."""

    linked: int
    known: int
    conflicts: int
    rejected: list[tuple[int, Rejection]]


async def link(stores: Stores, client: str, items: Sequence[Link | Rejection]) -> Linked:
    """Link those that can be. Durable on return.

    Raises:
        Invalid: there are more than 1,000.
    """
    if len(items) > MANY:
        raise Invalid.of(Fault("/identities", "too_many", f"at most {MANY} identities at once"))
    judged = [item if isinstance(item, Rejection) else _fault_of(item) or item for item in items]
    rejected = [(index, item) for index, item in enumerate(judged) if isinstance(item, Rejection)]
    taken = [(index, item) for index, item in enumerate(judged) if not isinstance(item, Rejection)]
    found = await stores.control.link(client, [item for _, item in taken], stores.clock.now())
    verdicts = [linking.verdict for linking in found]
    for (index, item), verdict in zip(taken, verdicts, strict=True):
        if verdict in _REFUSED:
            rejected.append((index, _REFUSED[verdict]))
        else:
            stores.cache.put(client, IDENTITY, (item[0],), item[1])
    stores.relay.wake()
    return Linked(
        linked=verdicts.count(Verdict.LINKED),
        known=verdicts.count(Verdict.KNOWN),
        conflicts=sum(linking.conflicts for linking in found),
        rejected=sorted(rejected),
    )


def remembered(stores: Stores, client: str, user_id: str) -> str:
    """Whose an id is, as far as this process knows; the id itself where it does not."""
    return stores.cache.remembered(client, IDENTITY, (user_id,)) or user_id


async def by_user(
    stores: Stores,
    client: str,
    users: Sequence[tuple[str, Context]],
    ask: Callable[[Sequence[tuple[str, Context]]], Awaitable[tuple[list[Answer], Mapping[str, str]]]],
) -> list[Answer]:
    """What `ask` answers about (id, context), with ids that are linked in the place of whose they are; it answers whose the ids
    are that it finds to be linked, and is asked again about these."""
    asked = [(remembered(stores, client, own), context) for own, context in users]
    answers, linked = await ask(asked)
    if not linked:
        return answers
    for own, user in linked.items():
        stores.cache.put(client, IDENTITY, (own,), user)
    places = [place for place, (own, _) in enumerate(asked) if own in linked]
    again, _ = await ask([(linked[own], context) for own, context in (asked[place] for place in places)])
    for place, answer in zip(places, again, strict=True):
        answers[place] = answer
    return answers


def parted(
    asked: Sequence[Assignment], answers: Sequence[tuple[Assignment, bool]]
) -> tuple[dict[tuple[int, str], tuple[Assignment, bool]], dict[str, str]]:
    """The answers of `control.assign` by experiment and user id; and apart, whose the linked ids are, of which nothing was
    stored."""
    stored: dict[tuple[int, str], tuple[Assignment, bool]] = {}
    linked: dict[str, str] = {}
    for wanted, answer in zip(asked, answers, strict=True):
        user = answer[0].user_id
        if user == wanted.user_id:
            stored[wanted.experiment, user] = answer
        else:
            linked[wanted.user_id] = user
    return stored, linked


async def follow(stores: Stores, since: datetime) -> datetime:
    """Learn of the links that others made since that moment; returns since when to ask next.

    What is in the cache of an id that was linked elsewhere is found no more once the link is there.
    """
    now = stores.clock.now()
    for client, alias, user in await stores.control.linked_since(since):
        stores.cache.put(client, IDENTITY, (alias,), user)
    return now - OVERLAP


def _fault_of(item: Link) -> Rejection | None:
    for pointer, own in zip(("/anonymous_id", "/user_id"), item, strict=True):
        if found := identifiers.fault_of_user_id(own):
            return Rejection(pointer, *found)
    if item[0] == item[1]:
        return Rejection("/anonymous_id", "same_id", "must differ from user_id")
    return None
