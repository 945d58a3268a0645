"""Give users their variants, and keep them.

A stored assignment is returned as it was made. Otherwise the pure core decides, and the decision is stored by
insert-or-nothing: what is answered is what the store holds, so that two first requests at one moment get the same row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from upshot import identifiers
from upshot.access import Caller
from upshot.assignment import ASSIGNED, Assignment, Decision, decide
from upshot.errors import Conflict, Fault, Invalid, Unavailable
from upshot.events import Rejection
from upshot.experiments import Experiment, Status
from upshot.operations import Stores, given, identities
from upshot.operations import experiments as experiment_operations
from upshot.variants import Variant

KIND = "assignment"
MANY = 1_000
PAGE = 200
PATIENCE = 1.0  # seconds that an assignment waits for the database before it is answered without
CONTEXT_ATTRIBUTES = 50
CONTEXT_LENGTH = 1_000

Context = Mapping[str, Any]


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


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An assignment that was made elsewhere, with its own time."""

    user_id: str
    variant: str
    assigned_at: datetime
    context: Context


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of imported rows: how many were new, how many were there already, and which were refused."""

    accepted: int
    duplicates: int
    rejected: list[tuple[int, Rejection]]


async def assign(stores: Stores, client: str, reference: str, user_id: str, context: Context) -> Assigned:
    """The variant of one user in one experiment; reading it is an exposure. Durable on return, if it says `persisted`.

    Raises:
        NotFound: there is no such experiment.
        Invalid: the user id or the context breaks its rules.
    """
    experiment = await experiment_operations.known(stores, client, reference)
    user = await identities.remembered(stores, client, user_id)
    cached: Assignment | None = await stores.cache.get(client, KIND, (experiment.number, user))
    if cached is not None and cached.exposed_at is not None:
        return _of(user_id, _assigned(experiment, cached, is_new=False))
    _check([(user_id, context)])
    return (await _assign(stores, client, experiment, [(user_id, context)], exposed=True))[0]


async def assign_many(
    stores: Stores, client: str, reference: str, users: Sequence[tuple[str, Context]]
) -> list[Assigned]:
    """The variants of many users in one experiment, ahead of time: no exposure. At most 1,000 users."""
    if len(users) > MANY:
        raise Invalid.of(Fault("/users", "too_many", f"at most {MANY} users at once"))
    experiment = await experiment_operations.known(stores, client, reference)
    _check(users, "/users/{index}")
    return await _assign(stores, client, experiment, users, exposed=False)


async def assign_everywhere(stores: Stores, client: str, user_id: str, context: Context) -> list[Assigned]:
    """The variants of one user in all running experiments, ahead of time: no exposure."""
    _check([(user_id, context)])
    found, after = [], None
    while True:
        # Not from a replica: what was paused or completed a moment ago must not be assigned.
        async with stores.control.reading(client) as transaction:
            page = await transaction.experiments(client, status=Status.RUNNING, after=after, limit=PAGE)
        for experiment in page.experiments:
            found += await _assign(stores, client, experiment, [(user_id, context)], exposed=False)
        after = page.following
        if after is None:
            return found


async def import_assignments(
    stores: Stores, caller: Caller, reference: str, rows: Sequence[tuple[int, Elsewhere]]
) -> Imported:
    """Store assignments that were made elsewhere; a user who has one already keeps it.

    Raises:
        Conflict: the experiment is a draft or archived.
    """
    client = caller.client
    experiment = await experiment_operations.read(stores, client, reference)
    if experiment.status in {Status.DRAFT, Status.ARCHIVED}:
        raise Conflict("Only an experiment that has started and is not archived takes imported assignments.")
    rejected, taken = [], []
    for index, row in rows:
        found = _elsewhere(experiment, row, stores.clock.now())
        if isinstance(found, Rejection):
            rejected.append((index, found))
        else:
            taken.append((index, found))
    if taken:
        earliest = min(assignment.assigned_at for _, assignment in taken)
        if experiment.started_at is not None and earliest < experiment.started_at:
            await experiment_operations.backdate(stores, caller, reference, earliest)
    accepted = duplicates = 0
    for start in range(0, len(taken), MANY):
        part = taken[start : start + MANY]
        stored = await given.assign(stores.control, client, [assignment for _, assignment in part])
        for (index, asked), (kept, is_new) in zip(part, stored, strict=True):
            if kept.variant != asked.variant:
                rejected.append((index, Rejection("/variant", "other_variant", "the user has another variant already")))
            else:
                accepted += is_new
                duplicates += not is_new
    stores.relay.wake()
    return Imported(accepted, duplicates, sorted(rejected))


async def _assign(
    stores: Stores, client: str, experiment: Experiment, users: Sequence[tuple[str, Context]], *, exposed: bool
) -> list[Assigned]:
    """What users get, whichever of their ids they are asked for by."""
    ask = partial(_assign_own, stores, client, experiment, exposed=exposed)
    answers = await identities.by_user(stores, client, users, ask)
    return [_of(user_id, answer) for (user_id, _), answer in zip(users, answers, strict=True)]


async def _assign_own(
    stores: Stores, client: str, experiment: Experiment, users: Sequence[tuple[str, Context]], *, exposed: bool
) -> tuple[list[Assigned], dict[str, str]]:
    """Decide for each; store decisions that gave a variant, look up the others. And whose ids are that are found to be linked."""
    now = stores.clock.now()
    decided = [decide(experiment, user_id, context) for user_id, context in users]
    phase = experiment.phase.number if experiment.phase else 0
    proposals = [
        stores.pending.earlier(
            client,
            Assignment(experiment.number, user_id, decision.variant.position, phase, now, now if exposed else None,
                       _encoded(context)),
        )
        for (user_id, context), decision in zip(users, decided, strict=True)
        if decision.variant
    ]  # fmt: skip
    try:
        kept = await stores.control.assign(client, proposals, PATIENCE)
        stored, linked = identities.parted(proposals, kept)
        others = [user_id for (user_id, _), decision in zip(users, decided, strict=True) if not decision.variant]
        if others and experiment.phases:
            there, elsewhere = await _stored(stores, client, experiment, others, now if exposed else None)
            stored, linked = stored | there, linked | elsewhere
    except Unavailable:
        away = _decided(users, decided, proposals)
        return [await _unstored(stores, client, experiment, *answer) for answer in away], {}
    answers = []
    for (user_id, _), decision in zip(users, decided, strict=True):
        if user_id not in stored:
            answers.append(Assigned(experiment, user_id, None, None, decision.reason, is_new=False, persisted=False))
            continue
        found, is_new = stored[user_id]
        await stores.cache.put(client, KIND, (experiment.number, user_id), found)
        answers.append(_assigned(experiment, found, is_new=is_new))
    if exposed:
        stores.relay.wake()
    return answers, linked


def _decided(
    users: Sequence[tuple[str, Context]], decided: Sequence[Decision], proposals: Sequence[Assignment]
) -> list[tuple[str, Decision, Assignment | None]]:
    """Each user with the decision and the assignment that it proposes."""
    proposed = {assignment.user_id: assignment for assignment in proposals}
    return [(user_id, decision, proposed.get(user_id)) for (user_id, _), decision in zip(users, decided, strict=True)]


async def _unstored(
    stores: Stores,
    client: str,
    experiment: Experiment,
    user_id: str,
    decision: Decision,
    proposal: Assignment | None,
) -> Assigned:
    """While the database is away: what this process remembers of the user, else what the hash says, to be stored later."""
    kept: Assignment | None = await stores.cache.get(client, KIND, (experiment.number, user_id))
    if kept is not None:
        if kept.exposed_at is None and proposal is not None and proposal.exposed_at is not None:
            stores.pending.add(client, replace(kept, exposed_at=proposal.exposed_at))
        return _assigned(experiment, kept, is_new=False)
    if proposal is None:
        return Assigned(experiment, user_id, None, None, decision.reason, is_new=False, persisted=False)
    return replace(_assigned(experiment, stores.pending.add(client, proposal), is_new=True), persisted=False)


async def _stored(
    stores: Stores, client: str, experiment: Experiment, user_ids: Sequence[str], exposed_at: datetime | None
) -> tuple[dict[str, tuple[Assignment, bool]], dict[str, str]]:
    """What users have who would not get a variant now; a first exposure is noted all the same. Of linked ids whose they are."""
    async with stores.control.reading(client) as transaction:
        linked = await transaction.identities.users_of(client, user_ids)
        own = [(experiment.number, user_id) for user_id in user_ids if user_id not in linked]
        found = await transaction.assignments(client, own) if own else []
    known = [assignment for assignment in found if assignment is not None]
    unseen = [assignment for assignment in known if exposed_at is not None and assignment.exposed_at is None]
    answers = {assignment.user_id: (assignment, False) for assignment in known}
    if unseen:
        proposals = [replace(assignment, exposed_at=exposed_at) for assignment in unseen]
        answers |= {kept.user_id: (kept, False) for kept, _ in await stores.control.assign(client, proposals)}
    return answers, linked


def _of(user_id: str, assigned: Assigned) -> Assigned:
    """The answer for who asked by that id."""
    return assigned if assigned.user_id == user_id else replace(assigned, user_id=user_id)


def _assigned(experiment: Experiment, kept: Assignment, *, is_new: bool) -> Assigned:
    variant = next(variant for variant in experiment.variants if variant.position == kept.variant)
    return Assigned(experiment, kept.user_id, variant, kept.assigned_at, ASSIGNED, is_new=is_new, persisted=True)


def _elsewhere(experiment: Experiment, row: Elsewhere, now: datetime) -> Assignment | Rejection:
    if found := identifiers.fault_of_user_id(row.user_id):
        return Rejection("/user_id", *found)
    variant = experiment.variant_called(row.variant)
    if variant is None:
        return Rejection("/variant", "unknown_variant", "names no variant of this experiment")
    if fault := _fault_of_context(row.context):
        return Rejection("/context", *fault)
    if row.assigned_at > now:
        return Rejection("/assigned_at", "in_the_future", "must not lie in the future")
    phase = experiment.phase_at(row.assigned_at)
    number = phase.number if phase else 1
    context = _encoded(row.context)
    return Assignment(
        experiment.number, row.user_id, variant.position, number, row.assigned_at, row.assigned_at, context
    )


def _check(users: Sequence[tuple[str, Context]], place: str = "") -> None:
    """Refuse users that break a rule. `place` is where one of several is told, as an id or an object that holds it."""
    faults = []
    for index, (user_id, context) in enumerate(users):
        at = place.format(index=index)
        fault = identifiers.check_user_id(user_id, at or "/user_id")
        if fault:
            faults.append(fault)
        if found := _fault_of_context(context):
            faults.append(Fault(f"{at}/context", *found))
    if faults:
        raise Invalid.of(*faults)


def _fault_of_context(context: Context) -> tuple[str, str] | None:
    """A context is a flat object of at most 50 attributes, short texts, numbers and booleans."""
    if len(context) > CONTEXT_ATTRIBUTES:
        return "too_many", f"a context holds at most {CONTEXT_ATTRIBUTES} attributes"
    for name, value in context.items():
        if identifiers.fault_of_text(name, identifiers.NAME_LENGTH):
            return (
                "bad_attribute",
                f"an attribute's name has 1 to {identifiers.NAME_LENGTH} printable characters",
            )
        if not isinstance(value, str | int | float | None):
            return "not_flat", "an attribute is a text, a number, a boolean or null"
        if isinstance(value, str) and (len(value) > CONTEXT_LENGTH or "\x00" in value):
            return "too_long", f"an attribute has at most {CONTEXT_LENGTH} characters, without NUL"
        if isinstance(value, int) and not -(2**53) < value < 2**53:
            return "too_large", "an integer must lie within ±(2^53 − 1)"
    return None


def _encoded(context: Context) -> str:
    return msgspec.json.encode(dict(context), order="deterministic").decode()
