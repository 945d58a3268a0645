"""What is answered to who asks for a variant: what is stored, else what the hash says, which is stored by insert-or-nothing.

So two first requests at one moment get the same row. While the database is away the hash alone answers, and it is stored later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import msgspec

from upshot.assignment import ASSIGNED, OVERRIDDEN, Assignment, Decision
from upshot.contexts import Context
from upshot.errors import Unavailable
from upshot.experiments import Experiment
from upshot.operations import Stores, identities, withdrawals
from upshot.operations import experiments as experiment_operations
from upshot.operations.copies import ASSIGNMENT
from upshot.variants import Variant

PATIENCE = 1.0
"""Seconds that an answer waits for the database before it is given without."""


class Question(NamedTuple):
    """Which variant a user gets in an experiment, with what is known of the user."""

    experiment: Experiment
    user_id: str
    context: Context

    @property
    def key(self) -> tuple[int, str]:
        """What an answer is stored under."""
        return self.experiment.number, self.user_id

    @property
    def copied(self) -> tuple[str, str]:
        """What a copy of an answer is kept under."""
        return self.user_id, self.experiment.id


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a user got: a variant, or None with the reason."""

    experiment: Experiment
    user_id: str
    variant: Variant | None
    assigned_at: datetime | None
    reason: str
    is_new: bool
    persisted: bool


async def first(stores: Stores, client: str, question: Question) -> Assigned:
    """The answer to a user who is shown a variant, and of whom this process remembers nothing: nearly always the hash's, which is
    stored alone. Durable on return, if it says `persisted`.
    """
    own = question._replace(user_id=identities.remembered(stores, client, question.user_id))
    experiment, user_id, context = own
    decision = experiment.decide(user_id, context)
    if decision.variant is not None and decision.reason == ASSIGNED:
        proposal = _proposal(stores, client, own, decision.variant, stores.clock.now(), exposed=True)
        try:
            [(kept, is_new)] = await stores.control.assign(client, [proposal], PATIENCE)
            if kept.user_id == user_id:
                experiment = await experiment_operations.with_variants(stores, client, experiment, [kept.variant])
                stores.cache.put(client, ASSIGNMENT, own.copied, kept)
                stores.relay.wake()
                return assigned_of(experiment, kept, question.user_id, is_new=is_new)
        except Unavailable:
            return _of(question.user_id, await _unstored(stores, client, own, decision, proposal))
    return (await several(stores, client, [question], exposed=True))[0]


async def several(stores: Stores, client: str, questions: Sequence[Question], *, exposed: bool) -> list[Assigned]:
    """What users get, whichever of their ids they are asked for by. Durable on return, where it says `persisted`."""

    async def ask(asked: Sequence[tuple[str, Question]]) -> tuple[list[Assigned], dict[str, str]]:
        own = [about._replace(user_id=user_id) for user_id, about in asked]
        known = [None if exposed else _remembered(stores, client, question) for question in own]
        rest = [question for question, answer in zip(own, known, strict=True) if answer is None]
        found, linked = await _own(stores, client, rest, exposed=exposed) if rest else ([], {})
        following = iter(found)
        return [answer or next(following) for answer in known], linked

    answers = await identities.by_user(stores, client, [(about.user_id, about) for about in questions], ask)
    return [_of(about.user_id, answer) for about, answer in zip(questions, answers, strict=True)]


async def _own(
    stores: Stores, client: str, questions: Sequence[Question], *, exposed: bool
) -> tuple[list[Assigned], dict[str, str]]:
    """Decide each question; store the decisions that gave a variant, look up what is stored for the others: one statement each.
    And whose ids are that are found to be linked, to be asked for again.

    Nothing is stored for whom an override gives a variant.
    """
    now = stores.clock.now()
    decided = [experiment.decide(user_id, context) for experiment, user_id, context in questions]
    judged = list(zip(questions, decided, strict=True))
    proposals = {
        question.key: _proposal(stores, client, question, decision.variant, now, exposed=exposed)
        for question, decision in judged
        if decision.variant and decision.reason != OVERRIDDEN
    }
    others = [question for question, decision in judged if not decision.variant and question.experiment.phases]
    try:
        asked = list(proposals.values())
        stored, linked = identities.parted(asked, await stores.control.assign(client, asked, PATIENCE))
        if others:
            there, elsewhere = await _stored(stores, client, others, now if exposed else None)
            stored, linked = stored | there, linked | elsewhere
        if exposed:
            shown = [question for question, each in judged if each.reason == OVERRIDDEN]
            await withdrawals.of_overridden(stores, client, [(each.experiment, each.user_id) for each in shown])
        questions = await _current(stores, client, questions, stored)
    except Unavailable:
        away = [await _unstored(stores, client, *each, proposals.get(each[0].key)) for each in judged]
        return away, {}
    answers = []
    for question, decision in zip(questions, decided, strict=True):
        if decision.reason == OVERRIDDEN or question.key not in stored:
            answers.append(_without_row(question, decision))
            continue
        kept, is_new = stored[question.key]
        stores.cache.put(client, ASSIGNMENT, question.copied, kept)
        answers.append(assigned_of(question.experiment, kept, question.user_id, is_new=is_new))
    if exposed:
        stores.relay.wake()
    return answers, linked


def _remembered(stores: Stores, client: str, question: Question) -> Assigned | None:
    """The answer, where this process knows it without asking the store."""
    experiment, user_id, context = question
    forced = experiment.decide.overridden(user_id, context)
    if forced is not None:
        return _without_row(question, forced)
    kept = stores.cache.remembered(client, ASSIGNMENT, question.copied)
    if kept is None or not experiment_operations.knows(experiment, [kept.variant]):
        return None
    return assigned_of(experiment, kept, user_id, is_new=False)


async def _current(
    stores: Stores,
    client: str,
    questions: Sequence[Question],
    stored: Mapping[tuple[int, str], tuple[Assignment, bool]],
) -> list[Question]:
    """The questions, about experiments that have all variants which are stored."""
    found: dict[str, Experiment] = {}
    for question in questions:
        if question.key in stored:
            experiment, position = question.experiment, stored[question.key][0].variant
            newest = found.get(experiment.id, experiment)
            found[experiment.id] = await experiment_operations.with_variants(stores, client, newest, [position])
    return [
        question._replace(experiment=found.get(question.experiment.id, question.experiment)) for question in questions
    ]


def _proposal(
    stores: Stores, client: str, question: Question, variant: Variant, now: datetime, *, exposed: bool
) -> Assignment:
    """What is to be stored, unless something is: what was answered while the database was away, or what was decided now."""
    experiment, user_id, context = question
    phase = experiment.phase.number if experiment.phase else 0
    at = now if exposed else None
    proposal = Assignment(experiment.number, user_id, variant.position, phase, now, at, encoded(context))
    return stores.pending.earlier(client, proposal)


def _without_row(question: Question, decision: Decision[Variant]) -> Assigned:
    """An answer that no row stands behind: no variant, or that of an override."""
    return Assigned(
        question.experiment, question.user_id, decision.variant, None, decision.reason, is_new=False, persisted=False
    )


async def _unstored(
    stores: Stores, client: str, question: Question, decision: Decision[Variant], proposal: Assignment | None
) -> Assigned:
    """While the database is away: what the cache remembers of the user, else what the hash says, to be stored later."""
    if decision.reason == OVERRIDDEN:
        return _without_row(question, decision)
    kept = await stores.cache.get(client, ASSIGNMENT, question.copied)
    if kept is not None:
        if kept.exposed_at is None and proposal is not None and proposal.exposed_at is not None:
            stores.pending.add(client, replace(kept, exposed_at=proposal.exposed_at))
        return assigned_of(question.experiment, kept, question.user_id, is_new=False)
    if proposal is None:
        return _without_row(question, decision)
    waiting = stores.pending.add(client, proposal)
    return replace(assigned_of(question.experiment, waiting, question.user_id, is_new=True), persisted=False)


async def _stored(
    stores: Stores, client: str, questions: Sequence[Question], exposed_at: datetime | None
) -> tuple[dict[tuple[int, str], tuple[Assignment, bool]], dict[str, str]]:
    """What users have who would not get a variant now; a first exposure is noted all the same. Of linked ids whose they are."""
    async with stores.control.reading(client) as transaction:
        linked = await transaction.identities.users_of(client, {question.user_id for question in questions})
        own = [question.key for question in questions if question.user_id not in linked]
        found = await transaction.assignments(client, own) if own else []
    known = [assignment for assignment in found if assignment is not None]
    unseen = [assignment for assignment in known if exposed_at is not None and assignment.exposed_at is None]
    answers = {(assignment.experiment, assignment.user_id): (assignment, False) for assignment in known}
    if unseen:
        proposals = [replace(assignment, exposed_at=exposed_at) for assignment in unseen]
        seen = await stores.control.assign(client, proposals)
        answers |= {(kept.experiment, kept.user_id): (kept, False) for kept, _ in seen}
    return answers, linked


def _of(user_id: str, assigned: Assigned) -> Assigned:
    """The answer for who asked by that id."""
    return assigned if assigned.user_id == user_id else replace(assigned, user_id=user_id)


def assigned_of(experiment: Experiment, kept: Assignment, user_id: str, *, is_new: bool) -> Assigned:
    """A stored assignment as the answer to who asked by that id, which may be linked to the assignment's user.

    Raises:
        Unavailable: another process added the variant, and the database cannot be asked for it now.
    """
    for variant in experiment.variants:
        if variant.position == kept.variant:
            return Assigned(experiment, user_id, variant, kept.assigned_at, ASSIGNED, is_new=is_new, persisted=True)
    raise Unavailable("The experiment cannot be read as it is now.", retry_after=1)


def encoded(context: Context) -> str:
    """A context as it is stored."""
    return msgspec.json.encode(dict(context), order="deterministic").decode()
