"""Make, change, list and delete flags, and evaluate them for a user."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from upshot import contexts, flags, snapshot
from upshot.access import Caller
from upshot.assignment import Decision
from upshot.control import Transaction
from upshot.errors import Conflict, Fault, Invalid, NotFound
from upshot.experiments import Experiment
from upshot.flags import Evaluation, Flag, Kind, RolloutDraft
from upshot.operations import Stores, assignments, audit, snapshots
from upshot.operations.assignments import Assigned
from upshot.variants import Variant


@dataclass(frozen=True, slots=True)
class FlagDraft:
    """A flag as a request describes it; its experiment by id or key."""

    key: str
    kind: Kind
    default: Any
    description: str = ""
    enabled: bool = True
    experiment: str | None = None
    values: Mapping[str, Any] | None = None
    rollout: RolloutDraft | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A flag for a user: its value and why, and the experiment that gave it, if one did."""

    flag: Flag
    evaluation: Evaluation
    experiment: Experiment | None


async def create(stores: Stores, caller: Caller, draft: FlagDraft) -> Flag:
    """A new flag.

    Raises:
        Invalid: a field breaks a rule, or there is no such experiment.
        Conflict: the client has that key.
    """
    client, now = caller.client, stores.clock.now()
    rollout = flags.rollout_of(draft.rollout) if draft.rollout else None
    flag = Flag(
        stores.clock.new_id(), draft.key, draft.description, draft.kind, draft.default, draft.enabled, now, now,
        experiment=draft.experiment, values=draft.values or {}, rollout=rollout,
    )  # fmt: skip
    async with stores.control.transaction(client) as transaction:
        flag = await _checked(transaction, client, flag)
        await transaction.features.add_flag(client, flag)
        await _note(transaction, caller, "flag.created", now, None, flag)
    snapshots.forget(stores, client)
    return flag


async def read(stores: Stores, client: str, key: str) -> Flag:
    """The flag with that key.

    Raises:
        NotFound: there is none.
    """
    async with stores.control.browsing(client) as transaction:
        return _found(await transaction.features.flag(client, key))


async def search(stores: Stores, client: str, *, after: str, limit: int) -> list[Flag]:
    """Flags, by key, from behind the key `after`."""
    async with stores.control.browsing(client) as transaction:
        return await transaction.features.flags(client, after=after, limit=limit)


async def change(stores: Stores, caller: Caller, key: str, changes: Mapping[str, Any], version: int | None) -> Flag:
    """The flag with some fields changed; `version` is the one that the caller has seen, if it says so.

    Raises:
        NotFound: there is none with that key.
        Conflict: it is at another version.
        Invalid: a field breaks a rule.
    """
    client, now = caller.client, stores.clock.now()
    fields = dict(changes)
    if fields.get("rollout") is not None:
        fields["rollout"] = flags.rollout_of(fields["rollout"])
    async with stores.control.transaction(client) as transaction:
        flag = _found(await transaction.features.flag(client, key))
        if version is not None and version != flag.version:
            raise Conflict(f"The flag is at version {flag.version} by now; read it again.")
        changed = replace(flag, **fields, updated_at=now, version=flag.version + 1)
        changed = await _checked(transaction, client, changed)
        await transaction.features.save_flag(client, changed)
        await _note(transaction, caller, "flag.changed", now, flag, changed)
    snapshots.forget(stores, client)
    return changed


async def delete(stores: Stores, caller: Caller, key: str) -> None:
    """Delete a flag: from now on whoever asks gets the default of their own code.

    Raises:
        NotFound: there is none with that key.
    """
    async with stores.control.transaction(caller.client) as transaction:
        flag = _found(await transaction.features.flag(caller.client, key))
        await transaction.features.delete_flag(caller.client, flag)
        await _note(transaction, caller, "flag.deleted", stores.clock.now(), flag, None)
    snapshots.forget(stores, caller.client)


async def evaluate(
    stores: Stores, client: str, key: str, user_id: str, context: Mapping[str, Any], *, exposed: bool
) -> Evaluated:
    """The value of one flag for a user; an exposure in the experiment that drives it where that is wanted.

    Raises:
        NotFound: there is no such flag.
        Invalid: the user id or the context breaks its rules.
    """
    contexts.check([(user_id, context)])
    published = await snapshots.known(stores, client)
    flag = _found(published.flags.get(key))
    driver = published.by_id.get(flag.experiment or "")
    assigned: dict[str, Assigned] = {}
    if driver is not None and driver.is_running and flag.enabled and exposed:
        assigned[driver.id] = await assignments.assign(stores, client, driver.id, user_id, context)
    elif driver is not None and driver.is_running and flag.enabled:
        [assigned[driver.id]] = await assignments.assign_in(stores, client, [driver], user_id, context)
    return _evaluated(flag, driver, assigned, user_id, context, stores.clock.now())


async def evaluate_all(stores: Stores, client: str, user_id: str, context: Mapping[str, Any]) -> list[Evaluated]:
    """The values of all flags for a user, by key: no exposure.

    Raises:
        Invalid: the user id or the context breaks its rules.
    """
    contexts.check([(user_id, context)])
    published = await snapshots.known(stores, client)
    drivers = {
        flag.key: published.by_id.get(flag.experiment or "") for flag in published.flags.values() if flag.enabled
    }
    running = {driver.id: driver for driver in drivers.values() if driver is not None and driver.is_running}
    found = await assignments.assign_in(stores, client, list(running.values()), user_id, context)
    assigned = {each.experiment.id: each for each in found}
    now = stores.clock.now()
    return [
        _evaluated(flag, drivers.get(flag.key), assigned, user_id, context, now) for flag in published.flags.values()
    ]


def _evaluated(
    flag: Flag,
    driver: Experiment | None,
    assigned: Mapping[str, Assigned],
    user_id: str,
    context: Mapping[str, Any],
    now: datetime,
) -> Evaluated:
    """The flag for a user; of an experiment that does not run only overrides matter, which nobody has to be asked about."""
    decision: Decision[Variant] | None = None
    if driver is not None and driver.id in assigned:
        decision = Decision(assigned[driver.id].variant, assigned[driver.id].reason)
    elif driver is not None:
        decision = driver.decide.overridden(user_id, context)
    evaluation = flags.evaluate(flag, user_id, context, now, driver, decision)
    return Evaluated(flag, evaluation, driver if evaluation.driven else None)


async def _checked(transaction: Transaction, client: str, flag: Flag) -> Flag:
    """The flag with its experiment by id, after its rules were checked."""
    if flag.experiment is None:
        return flags.checked(flag, None)
    experiment = await transaction.experiment(client, flag.experiment)
    if experiment is None:
        raise Invalid.of(Fault("/experiment/key", "unknown_experiment", "there is no such experiment"))
    return flags.checked(replace(flag, experiment=experiment.id), experiment.variants)


async def _note(
    transaction: Transaction, caller: Caller, action: str, now: datetime, before: Flag | None, after: Flag | None
) -> None:
    earlier, later = (None if flag is None else _described(flag) for flag in (before, after))
    thing = ("flag", (after or before).id)  # type: ignore[union-attr]  # one of the two is there
    await audit.note(transaction, caller, action, thing, now, before=earlier, after=later)


def _described(flag: Flag) -> dict[str, Any]:
    return snapshot.describe_flag(flag) | {"description": flag.description, "version": flag.version}


def _found(flag: Flag | None) -> Flag:
    if flag is None:
        raise NotFound("There is no such flag.")
    return flag
