"""Make, list and end holdouts."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from upshot import holdouts, identifiers
from upshot.access import Caller
from upshot.allocation import percent_of
from upshot.assignment import WHOLE
from upshot.control import Transaction
from upshot.errors import Invalid, NotFound
from upshot.experiments import tags_of
from upshot.holdouts import Holdout
from upshot.layers import millionths
from upshot.operations import Stores, audit, experiments, snapshots

LEAST = Decimal("0.0001")


async def create(
    stores: Stores, caller: Caller, key: str, name: str, percentage: Decimal, tags: Sequence[str]
) -> Holdout:
    """A new holdout. Experiments that start from now on are attached to it, those that have started are not.

    Raises:
        Invalid: the key, the name, a tag or the percentage breaks a rule.
        Conflict: the client has that key.
    """
    faults = [fault for fault in (identifiers.check_key(key), identifiers.check_name(name, "/name")) if fault]
    if faults:
        raise Invalid.of(*faults)
    now = stores.clock.now()
    share = millionths(percentage, "/percentage", LEAST)
    holdout = Holdout(stores.clock.new_id(), key, name, share, tags_of(tags), now)
    async with stores.control.transaction(caller.client) as transaction:
        await transaction.features.add_holdout(caller.client, holdout)
        await _note(transaction, caller, "holdout.created", holdout, now)
    return holdout


async def browse(stores: Stores, client: str) -> list[Holdout]:
    """All holdouts, by key, those that ended, too."""
    async with stores.control.browsing(client) as transaction:
        return await transaction.features.holdouts(client)


async def end(stores: Stores, caller: Caller, key: str) -> Holdout:
    """End a holdout: it is taken off every experiment, and its users may enter.

    Raises:
        NotFound: there is none with that key.
        Conflict: it has ended already.
    """
    client, now = caller.client, stores.clock.now()
    taken_off = []
    async with stores.control.transaction(client) as transaction:
        holdout = await transaction.features.holdout(client, key)
        if holdout is None:
            raise NotFound("There is no such holdout.")
        holdout = holdouts.ended(holdout, now)
        for identity in await _attached_to(transaction, client, holdout):
            experiment = await transaction.experiment(client, identity)  # locked, and as others left it
            if experiment is not None:
                kept = tuple(held for held in experiment.holdouts if held.salt != holdout.id)
                changed = replace(experiment, holdouts=kept, updated_at=now, version=experiment.version + 1)
                taken_off.append(changed)
        # Saving makes a revision, for which all changes of a client wait: whoever has it may not wait for an experiment.
        for changed in taken_off:
            await transaction.save(client, changed)
        await transaction.features.save_holdout(client, holdout)
        await _note(transaction, caller, "holdout.ended", holdout, now)
    for experiment in taken_off:
        experiments.remember(stores, client, experiment)
    snapshots.forget(stores, client)
    return holdout


async def _attached_to(transaction: Transaction, client: str, holdout: Holdout) -> list[str]:
    """The ids of the experiments that a holdout is attached to."""
    every = (await transaction.experiments(client, limit=None)).experiments
    return [each.id for each in every if any(held.salt == holdout.id for held in each.holdouts)]


async def _note(transaction: Transaction, caller: Caller, action: str, holdout: Holdout, now: Any) -> None:
    after = {
        "key": holdout.key,
        "name": holdout.name,
        "percentage": percent_of(holdout.share, WHOLE),
        "tags": list(holdout.tags),
    }
    await audit.note(transaction, caller, action, ("holdout", holdout.id), now, after=after)
