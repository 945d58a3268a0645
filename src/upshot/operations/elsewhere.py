"""Take in assignments that were made elsewhere: by another tool, or by an SDK, which decides by itself.

What the store holds already stays. A user whom an SDK showed another variant than the stored one was shown two: a conflict, and
the user counts in this experiment no longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from upshot import events, identifiers
from upshot.access import Caller
from upshot.assignment import Assignment
from upshot.contexts import Context, fault_of_context
from upshot.errors import Conflict, NotFound
from upshot.events import CROSSOVER, Rejection, Withdrawal
from upshot.experiments import Experiment, Status
from upshot.operations import Stores, given
from upshot.operations import experiments as experiment_operations
from upshot.operations.answers import encoded
from upshot.operations.assignments import MANY


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An assignment that was made elsewhere (the variant by name or id), with its own time."""

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


class Exposed(NamedTuple):
    """What became of exposures: new ones, those known before, those in conflict with a stored variant, and those refused."""

    accepted: int
    duplicates: int
    conflicts: int
    rejected: list[tuple[int, Rejection]]


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


async def expose(
    stores: Stores, client: str, rows: Sequence[tuple[int, str, Elsewhere]], sent_at: datetime | None = None
) -> Exposed:
    """Store what SDKs showed, each in an experiment by id or key; at most 1,000. Durable on return.

    `sent_at` is the SDK's clock when it sent them: by it their moments are corrected, as those of events are. A moment in the
    future becomes the present, one before the start of the experiment its start.
    """
    now = stores.clock.now()
    skew = timedelta(microseconds=events.receipt(now, sent_at).skew)
    known = {reference: await _started(stores, client, reference) for reference in {row[1] for row in rows}}
    rejected: list[tuple[int, Rejection]] = []
    taken: list[Assignment] = []
    for index, reference, row in rows:
        experiment = known[reference]
        if isinstance(experiment, Rejection):
            rejected.append((index, experiment))
            continue
        started = experiment.started_at or now
        moment = min(now, max(started, row.assigned_at + skew))
        found = _elsewhere(experiment, replace(row, assigned_at=moment), now)
        if isinstance(found, Rejection):
            rejected.append((index, found))
        else:
            taken.append(found)
    stored = await given.assign(stores.control, client, taken)
    crossed = [kept for asked, (kept, _) in zip(taken, stored, strict=True) if kept.variant != asked.variant]
    if crossed:
        async with stores.control.transaction(client) as transaction:
            gone = [Withdrawal(kept.experiment, kept.user_id, CROSSOVER) for kept in crossed]
            await transaction.withdraw(client, gone)
    new = sum(is_new for _, is_new in stored)
    stores.relay.wake()
    return Exposed(new, len(taken) - new - len(crossed), len(crossed), rejected)


async def _started(stores: Stores, client: str, reference: str) -> Experiment | Rejection:
    try:
        experiment = await experiment_operations.known(stores, client, reference)
    except NotFound:
        return Rejection("/experiment", "unknown_experiment", "there is no such experiment")
    if experiment.status in {Status.DRAFT, Status.ARCHIVED}:
        return Rejection("/experiment", "not_started", "the experiment has not started, or is archived")
    return experiment


def _elsewhere(experiment: Experiment, row: Elsewhere, now: datetime) -> Assignment | Rejection:
    if found := identifiers.fault_of_user_id(row.user_id):
        return Rejection("/user_id", *found)
    variant = experiment.variant_called(row.variant)
    if variant is None:
        return Rejection("/variant", "unknown_variant", "names no variant of this experiment")
    if fault := fault_of_context(row.context):
        return Rejection("/context", *fault)
    if row.assigned_at > now:
        return Rejection("/assigned_at", "in_the_future", "must not lie in the future")
    phase = experiment.phase_at(row.assigned_at)
    number = phase.number if phase else 1
    context = encoded(row.context)
    return Assignment(
        experiment.number, row.user_id, variant.position, number, row.assigned_at, row.assigned_at, context
    )
