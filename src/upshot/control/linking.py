"""Let two ids be one user, in one transaction: the link, the first assignment of either, and what the event store must know.

Where the user has no assignment in an experiment, the one of the anonymous id becomes the user's, as it was made. Where both have
the same variant, the user was exposed when the first of them was. Where they differ, both stay as they are and the user is
withdrawn: whoever saw two variants says nothing about either.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from upshot.assignment import Assignment
from upshot.control.entries import OutboxEntry
from upshot.control.identities import Linking, Verdict
from upshot.control.sqlidentities import Asked
from upshot.events import IDENTITY_CONFLICT, Withdrawal

if TYPE_CHECKING:
    from upshot.control.transaction import SqlTransaction

Key = tuple[int, str]
"""Experiment number and user."""


async def link(transaction: "SqlTransaction", asked: Sequence[Asked]) -> list[Linking]:
    """Store the links that are new, with all that follows from them; what became of each."""
    verdicts = await transaction.identities.add(asked)
    new: dict[str, list[tuple[str, str]]] = {}
    for (client, anonymous_id, user_id, _), verdict in zip(asked, verdicts, strict=True):
        if verdict is Verdict.LINKED:
            new.setdefault(client, []).append((anonymous_id, user_id))
    conflicts: dict[tuple[str, str], list[int]] = {}
    for client, links in new.items():
        found = await _joined(transaction, client, links)
        users = dict(links)
        withdrawals = [
            Withdrawal(number, users[alias], IDENTITY_CONFLICT)
            for alias, numbers in found.items()
            for number in numbers
        ]
        conflicts |= {(client, alias): numbers for alias, numbers in found.items()}
        await transaction.leave(
            OutboxEntry(links={client: links}, withdrawals={client: withdrawals} if withdrawals else {})
        )
    return [
        Linking(verdict, len(conflicts.get((client, anonymous_id), ())) if verdict is Verdict.LINKED else 0)
        for (client, anonymous_id, _, _), verdict in zip(asked, verdicts, strict=True)
    ]


async def _joined(transaction: "SqlTransaction", client: str, links: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    """Give the users the assignments of their new ids; the experiments in which they have another one, by anonymous id."""
    stored = await transaction.identities.assignments_of(client, {own for pair in links for own in pair})
    now, sources, conflicts = dict(stored), dict[Key, str](), dict[str, list[int]]()
    by_id: dict[str, list[Assignment]] = {}
    for row in stored.values():
        by_id.setdefault(row.user_id, []).append(row)
    for alias, user in links:
        for row in by_id.get(alias, ()):
            experiment = row.experiment
            theirs = now.get((experiment, user))
            if theirs is not None and theirs.variant != row.variant:
                conflicts.setdefault(alias, []).append(experiment)
                continue
            now[experiment, user] = _first(theirs or replace(row, user_id=user), row)
            sources.setdefault((experiment, user), alias)
    exposed = {key for key, row in stored.items() if row.exposed_at}
    asked = [(key, now[key]) for key in sources if key not in stored or (key not in exposed and now[key].exposed_at)]
    answers = await transaction.insert_or_nothing([(client, row) for _, row in asked]) if asked else []
    for (key, row), (kept, _) in zip(asked, answers, strict=True):
        if kept.variant != row.variant:  # somebody assigned the user at this moment
            conflicts.setdefault(sources[key], []).append(key[0])
    earlier = [now[key] for key in sources if key in exposed and now[key] != stored[key]]
    await transaction.identities.expose_earlier(client, earlier)
    return conflicts


def _first(theirs: Assignment, other: Assignment) -> Assignment:
    """The assignment with the earlier of two exposures."""
    moments = [moment for moment in (theirs.exposed_at, other.exposed_at) if moment is not None]
    return replace(theirs, exposed_at=min(moments, default=None))
