"""Give users their variants, and keep them.

A stored assignment is returned as it was made. Otherwise the pure core decides, and the decision is stored by
insert-or-nothing: what is answered is what the store holds, so that two first requests at one moment get the same row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import msgspec

from upshot.assignment import ASSIGNED, OVERRIDDEN, Assignment, Decision
from upshot.contexts import Context, check
from upshot.errors import Fault, Invalid, Unavailable
from upshot.experiments import Experiment
from upshot.operations import Stores, identities, snapshots, withdrawals
from upshot.operations import experiments as experiment_operations
from upshot.operations.copies import ASSIGNMENT
from upshot.variants import Variant

MANY = 1_000
PATIENCE = 1.0  # seconds that an assignment waits for the database before it is answered without


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


async def assign(stores: Stores, client: str, reference: str, user_id: str, context: Context) -> Assigned:
    """The variant of one user in one experiment; reading it is an exposure. Durable on return, if it says `persisted`.

    Raises:
        NotFound: there is no such experiment.
        Invalid: the user id or the context breaks its rules.
    """
    experiment, kept = await recall(stores, client, reference, user_id, context)
    if kept is not None:
        return _of(user_id, _assigned(experiment, kept, is_new=False))
    return (await _answer(stores, client, [Question(experiment, user_id, context)], exposed=True))[0]


async def recall(
    stores: Stores, client: str, reference: str, user_id: str, context: Context
) -> tuple[Experiment, Assignment | None]:
    """An experiment, and what is remembered of a user who was exposed in it: the same object as long as nothing changes.

    Raises:
        NotFound: there is no such experiment.
        Invalid: nothing is remembered, and the user id or the context breaks its rules.
    """
    experiment = await experiment_operations.known(stores, client, reference)
    if experiment.overrides and experiment.decide.overridden(user_id, context) is not None:
        return experiment, None
    key = identities.remembered(stores, client, user_id), experiment.id
    kept = stores.cache.remembered(client, ASSIGNMENT, key)
    if kept is None or kept.exposed_at is None:
        check([(user_id, context)])
        kept = await stores.cache.get(client, ASSIGNMENT, key)
    if kept is None or kept.exposed_at is None:
        return experiment, None
    return await experiment_operations.with_variants(stores, client, experiment, [kept.variant]), kept


async def assigned(stores: Stores, client: str, experiment: Experiment, user_id: str) -> Variant | None:
    """The variant that is stored for a user; None where none is. Asks only."""
    user = identities.remembered(stores, client, user_id)
    kept = await stores.cache.get(client, ASSIGNMENT, (user, experiment.id))
    if kept is None:
        async with stores.control.reading(client) as transaction:
            user = (await transaction.identities.users_of(client, [user])).get(user, user)
            kept = (await transaction.assignments(client, [(experiment.number, user)]))[0]
    if kept is None:
        return None
    experiment = await experiment_operations.with_variants(stores, client, experiment, [kept.variant])
    return _assigned(experiment, kept, is_new=False).variant


async def assign_many(
    stores: Stores, client: str, reference: str, users: Sequence[tuple[str, Context]]
) -> list[Assigned]:
    """The variants of many users in one experiment, ahead of time: no exposure. At most 1,000 users."""
    if len(users) > MANY:
        raise Invalid.of(Fault("/users", "too_many", f"at most {MANY} users at once"))
    experiment = await experiment_operations.known(stores, client, reference)
    check(users, "/users/{index}")
    questions = [Question(experiment, user_id, context) for user_id, context in users]
    return await _answer(stores, client, questions, exposed=False)


async def assign_everywhere(stores: Stores, client: str, user_id: str, context: Context) -> list[Assigned]:
    """The variants of one user in all running experiments, ahead of time: no exposure."""
    check([(user_id, context)])
    experiments = [
        experiment for experiment in (await snapshots.known(stores, client)).experiments if experiment.is_running
    ]
    return await assign_in(stores, client, experiments, user_id, context)


async def assign_in(
    stores: Stores, client: str, experiments: Sequence[Experiment], user_id: str, context: Context
) -> list[Assigned]:
    """The variants of one user in several experiments, ahead of time: no exposure."""
    questions = [Question(experiment, user_id, context) for experiment in experiments]
    answers: list[Assigned] = []
    for start in range(0, len(questions), MANY):
        answers += await _answer(stores, client, questions[start : start + MANY], exposed=False)
    return answers


async def _answer(stores: Stores, client: str, questions: Sequence[Question], *, exposed: bool) -> list[Assigned]:
    """What users get, whichever of their ids they are asked for by."""

    async def ask(asked: Sequence[tuple[str, Question]]) -> tuple[list[Assigned], dict[str, str]]:
        own = [about._replace(user_id=user_id) for user_id, about in asked]
        known = [None if exposed else _remembered(stores, client, question) for question in own]
        rest = [question for question, answer in zip(own, known, strict=True) if answer is None]
        found, linked = await _answer_own(stores, client, rest, exposed=exposed) if rest else ([], {})
        following = iter(found)
        return [answer or next(following) for answer in known], linked

    answers = await identities.by_user(stores, client, [(about.user_id, about) for about in questions], ask)
    return [_of(about.user_id, answer) for about, answer in zip(questions, answers, strict=True)]


async def _answer_own(
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
        question.key: stores.pending.earlier(client, _proposal(question, decision.variant, now, exposed=exposed))
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
        answers.append(_assigned(question.experiment, kept, is_new=is_new))
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
    return _assigned(experiment, kept, is_new=False)


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


def _proposal(question: Question, variant: Variant, now: datetime, *, exposed: bool) -> Assignment:
    experiment, user_id, context = question
    phase = experiment.phase.number if experiment.phase else 0
    at = now if exposed else None
    return Assignment(experiment.number, user_id, variant.position, phase, now, at, encoded(context))


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
        return _assigned(question.experiment, kept, is_new=False)
    if proposal is None:
        return _without_row(question, decision)
    waiting = stores.pending.add(client, proposal)
    return replace(_assigned(question.experiment, waiting, is_new=True), persisted=False)


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


def _assigned(experiment: Experiment, kept: Assignment, *, is_new: bool) -> Assigned:
    variant = next((variant for variant in experiment.variants if variant.position == kept.variant), None)
    if variant is None:  # another process added it, and the database cannot be asked for it now
        raise Unavailable("The experiment cannot be read as it is now.", retry_after=1)
    return Assigned(experiment, kept.user_id, variant, kept.assigned_at, ASSIGNED, is_new=is_new, persisted=True)


def encoded(context: Context) -> str:
    """A context as it is stored."""
    return msgspec.json.encode(dict(context), order="deterministic").decode()
