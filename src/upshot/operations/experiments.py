"""Create, read, change and move experiments."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from upshot import experiments, holdouts, lifecycle, metrics
from upshot.access import Caller
from upshot.access.trail import Approval, State
from upshot.control import Labels, Page, Transaction
from upshot.description import describe
from upshot.errors import Conflict, NotFound, Unavailable
from upshot.experiments import Draft, Experiment, Status
from upshot.operations import Stores, approvals, audit, layers, snapshots, webhooks, withdrawals
from upshot.operations import metrics as metric_operations
from upshot.operations.copies import EXPERIMENT
from upshot.webhooks import of_change

PATIENCE = 1.0
_DONE = {"start": "started", "pause": "paused", "resume": "resumed", "complete": "completed", "archive": "archived"}


async def create(stores: Stores, caller: Caller, draft: Draft) -> Experiment:
    """A new experiment; running unless the draft says otherwise.

    Raises:
        Conflict: the client has that key; or it is to run at once where a start needs a second person.
    """
    client, now = caller.client, stores.clock.now()
    owned = draft if draft.owner else replace(draft, owner=caller.name)
    experiment = experiments.create(owned, now, stores.clock.new_id)
    metrics.of_experiment(experiment)  # most faults do not wait for the database
    async with stores.control.transaction(client) as transaction:
        if experiment.status is Status.RUNNING:
            experiment = await _attached(transaction, client, experiment)
        if draft.key is None:
            experiment = await _with_free_key(transaction, client, experiment)
        if experiment.status is Status.RUNNING and "start" in await approvals.guarded(transaction, client):
            raise Conflict(
                "A start needs a second person here: create the experiment as a draft, then ask to start it."
            )
        experiment = await metric_operations.checked(transaction, client, experiment)
        experiment = replace(experiment, layers=await layers.placed(transaction, client, experiment, draft.layers))
        stored = await transaction.add(client, experiment)
        await _note(stores, transaction, caller, "experiment.created", now, None, stored)
    snapshots.forget(stores, client)
    return stored


async def read(stores: Stores, client: str, reference: str) -> Experiment:
    """The experiment with that id or key; at most two seconds old, so that every process sees a change soon.

    Raises:
        NotFound: there is none, or it is another client's.
    """
    held = await stores.cache.get(client, EXPERIMENT, (reference,))
    return held or await _shared(stores, client, reference, None)


async def known(stores: Stores, client: str, reference: str) -> Experiment:
    """As `read`; but while the database does not answer, the experiment as it was last seen here, however old."""
    held = await stores.cache.get(client, EXPERIMENT, (reference,))
    if held is not None:
        return held
    seen = stores.cache.remembered(client, EXPERIMENT, (reference,))
    try:
        return await _shared(stores, client, reference, None if seen is None else PATIENCE)
    except Unavailable:
        if seen is None:
            raise
        return seen


def knows(experiment: Experiment, positions: Collection[int]) -> bool:
    """Whether the experiment has variants at all these positions."""
    return {variant.position for variant in experiment.variants}.issuperset(positions)


async def with_variants(stores: Stores, client: str, experiment: Experiment, positions: Collection[int]) -> Experiment:
    """The experiment, read again when it does not have a variant that somebody has: another process may have added it."""
    return experiment if knows(experiment, positions) else await _stored(stores, client, experiment.id)


async def browse(stores: Stores, client: str, reference: str) -> Experiment:
    """As `read`, from the replica where there is one; from the primary what the replica does not have yet."""
    async with stores.control.browsing(client) as transaction:
        experiment = await transaction.experiment(client, reference)
    return experiment or await read(stores, client, reference)


async def search(
    stores: Stores,
    client: str,
    *,
    status: Status | None,
    search: str | None,
    after: int | None,
    limit: int,
    tag: str | None = None,
    owner: str | None = None,
) -> Page:
    """A page of experiments, newest first."""
    async with stores.control.browsing(client) as transaction:
        wanted = None if status is None else {status}
        return await transaction.experiments(
            client, status=wanted, search=search, tag=tag, owner=owner, after=after, limit=limit
        )


async def labels(stores: Stores, client: str) -> Labels:
    """Whose experiments there are, and with which tags."""
    async with stores.control.browsing(client) as transaction:
        return await transaction.labels(client)


async def change(
    stores: Stores, caller: Caller, reference: str, changes: Mapping[str, Any], version: int | None
) -> Experiment:
    """The experiment with some fields changed; `version` is the one that the caller has seen, if it says so."""
    client, now = caller.client, stores.clock.now()
    async with stores.control.transaction(client) as transaction:
        experiment = _found(await transaction.experiment(client, reference))
        if version is not None and version != experiment.version:
            raise Conflict(f"The experiment is at version {experiment.version} by now; read it again.")
        occupied = await transaction.occupied(client, experiment) if "variants" in changes else frozenset()
        changed = lifecycle.change(experiment, changes, now, stores.clock.new_id, occupied)
        if "layers" in changes:
            changed = replace(changed, layers=await layers.placed(transaction, client, changed, changes["layers"]))
        changed = await metric_operations.checked(transaction, client, changed, experiment)
        await transaction.save(client, changed)
        if "overrides" in changes:
            await withdrawals.of_named(transaction, client, changed)
        await _note(stores, transaction, caller, "experiment.changed", now, experiment, changed)
    if changed.key != experiment.key:
        stores.cache.forget(client, EXPERIMENT, (experiment.key,))
    snapshots.forget(stores, client)
    return remember(stores, client, changed)


async def move(
    stores: Stores, caller: Caller, reference: str, action: str, winner: str | None = None
) -> Experiment | Approval:
    """The experiment after `start`, `pause`, `resume`, `complete` (with the variant that won, if one is to be shipped) or
    `archive`; or what waits for a second person now."""
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        await _hold(transaction, caller.client, action)
        experiment = _found(await transaction.experiment(caller.client, reference))
        if action in await approvals.guarded(transaction, caller.client):
            lifecycle.move(experiment, action, now, winner)  # what the state forbids need not wait for anybody
            shipped = experiment.variant_called(winner) if winner else None
            wanted = action, shipped.id if shipped else None
            return await approvals.ask(transaction, caller, experiment, wanted, stores.clock.new_id(), now)
        moved = await _moved(stores, transaction, caller, experiment, (action, winner), now)
    snapshots.forget(stores, caller.client)
    return remember(stores, caller.client, moved)


async def approve(stores: Stores, caller: Caller, approval_id: str) -> Experiment:
    """The experiment after what somebody asked for and the caller agrees to.

    Raises:
        NotFound: the client has no such approval.
        Forbidden: the caller is no person, or the one who asked.
        Conflict: it is decided already, or the experiment was changed since.
    """
    now = stores.clock.now()
    async with stores.control.reading(caller.client) as view:
        asked = approvals.found(await view.accounts.approval(caller.client, approval_id))
    async with stores.control.transaction(caller.client) as transaction:
        await _hold(transaction, caller.client, asked.action)
        there = await transaction.experiment(caller.client, asked.experiment_id)
        approval = await approvals.decide(transaction, caller, approval_id, State.APPROVED, now)
        experiment = _found(there)
        if experiment.version != approval.version:
            raise Conflict("The experiment was changed since this was asked for; ask again.")
        moved = await _moved(stores, transaction, caller, experiment, (approval.action, approval.winner), now)
    snapshots.forget(stores, caller.client)
    return remember(stores, caller.client, moved)


async def _moved(
    stores: Stores,
    transaction: Transaction,
    caller: Caller,
    experiment: Experiment,
    wanted: tuple[str, str | None],
    now: datetime,
) -> Experiment:
    action, winner = wanted
    moved = lifecycle.move(experiment, action, now, winner)
    if action == "start":
        moved = await metric_operations.checked(transaction, caller.client, moved, experiment)
        moved = await _attached(transaction, caller.client, moved)
    await transaction.save(caller.client, moved)
    await _note(stores, transaction, caller, f"experiment.{_DONE[action]}", now, experiment, moved)
    return moved


async def delete(stores: Stores, caller: Caller, reference: str) -> None:
    """Delete a draft.

    Raises:
        NotFound: there is none with that id or key.
        Conflict: the experiment has started (it can be archived instead), or it drives a flag.
    """
    client = caller.client
    async with stores.control.transaction(client) as transaction:
        experiment = _found(await transaction.experiment(client, reference))
        if experiment.status is not Status.DRAFT:
            raise Conflict("Only a draft can be deleted; complete and archive an experiment that has started.")
        flags = await transaction.features.driven_by(client, experiment.id)
        if flags:
            raise Conflict(f"The experiment drives flags; take it off them or delete them first: {', '.join(flags)}.")
        await transaction.delete(client, experiment)
        await _note(stores, transaction, caller, "experiment.deleted", stores.clock.now(), experiment, None)
    snapshots.forget(stores, client)
    for known in (experiment.id, experiment.key):
        stores.cache.forget(client, EXPERIMENT, (known,))


async def backdate(stores: Stores, caller: Caller, reference: str, earliest: datetime) -> None:
    """Move the start back to assignments that were made elsewhere before it."""
    client = caller.client
    async with stores.control.transaction(client) as transaction:
        experiment = _found(await transaction.experiment(client, reference))
        changed = lifecycle.backdate(experiment, earliest)
        await transaction.save(client, changed)
        await _note(stores, transaction, caller, "experiment.backdated", stores.clock.now(), experiment, changed)
    remember(stores, client, changed)


async def _note(
    stores: Stores,
    transaction: Transaction,
    caller: Caller,
    action: str,
    now: datetime,
    before: Experiment | None,
    after: Experiment | None,
) -> None:
    earlier, later = (None if part is None else describe(part) for part in (before, after))
    if after is not None:
        await webhooks.tell(stores, transaction, caller.client, of_change(before, after), now)
    thing = ("experiment", (after or before).id)  # type: ignore[union-attr]  # one of the two is there
    await audit.note(transaction, caller, action, thing, now, before=earlier, after=later)


async def _attached(transaction: Transaction, client: str, experiment: Experiment) -> Experiment:
    """An experiment that starts, with the holdouts in force that concern it."""
    found = await transaction.features.holdouts(client)
    return replace(experiment, holdouts=holdouts.attached(found, experiment.tags))


async def _hold(transaction: Transaction, client: str, action: str) -> None:
    """Lock the holdouts where an experiment is to start: one that ends at this moment is taken off it, or is not attached.

    Every operation locks in this order, so that no two wait for each other: holdouts, experiments, the client's settings,
    approvals, layers, and last, by saving, the revision.
    """
    if action == "start":
        await transaction.features.holdouts(client)


async def _with_free_key(transaction: Transaction, client: str, experiment: Experiment) -> Experiment:
    """A key made from a name gets the beginning of the id behind it when it is taken: the user did not choose it."""
    if await transaction.experiment(client, experiment.key) is None:
        return experiment
    return replace(experiment, key=f"{experiment.key}-{experiment.id[:8]}")


def remember(stores: Stores, client: str, experiment: Experiment, *references: str, age: float = 0.0) -> Experiment:
    """Keep the newest version in the cache, whoever read it last; returns that one. `age` is in seconds."""
    for reference in references or (experiment.id, experiment.key):
        experiment = stores.cache.put(client, EXPERIMENT, (reference,), experiment, max(0.0, age))
    return experiment


async def _shared(stores: Stores, client: str, reference: str, patience: float | None) -> Experiment:
    """What is stored, read once for all who miss it at the same moment."""
    flight = "experiment", client, reference
    try:
        found: Experiment = await stores.reading.share(flight, lambda: _stored(stores, client, reference), patience)
    except NotFound:
        return await _stored(stores, client, reference)  # others may have begun to read before somebody made it
    return found


async def _stored(stores: Stores, client: str, reference: str) -> Experiment:
    begun = stores.clock.now()
    async with stores.control.reading(client) as transaction:
        experiment = _found(await transaction.experiment(client, reference))
    return remember(stores, client, experiment, reference, age=(stores.clock.now() - begun).total_seconds())


def _found(experiment: Experiment | None) -> Experiment:
    if experiment is None:
        raise NotFound("There is no such experiment.")
    return experiment
