"""What needs a second person, as the client's admins chose: somebody asks, somebody else agrees or not. Both are people who
signed in; keys and tokens are none."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from upshot.access import Caller, Kind
from upshot.access.trail import GUARDED, Approval, State
from upshot.control import ReadTransaction, Transaction
from upshot.errors import Conflict, Fault, Forbidden, Invalid, NotFound
from upshot.experiments import Experiment
from upshot.operations import Stores, audit


async def guarded(transaction: Transaction, client: str) -> frozenset[str]:
    """What needs a second person at this client."""
    return frozenset((await chosen(transaction, client))["approvals"])


async def chosen(transaction: ReadTransaction, client: str) -> dict[str, Any]:
    """What the client's admins chose, or what holds where they chose nothing."""
    return {"approvals": [], "second_factor": False} | await transaction.accounts.settings(client)


async def settings(stores: Stores, client: str) -> dict[str, Any]:
    """The same, of what is stored now."""
    async with stores.control.reading(client) as view:
        return await chosen(view, client)


async def choose(stores: Stores, caller: Caller, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Change what holds for the whole client.

    Raises:
        Invalid: `approvals` names what no approval can be required for.
    """
    unknown = [index for index, action in enumerate(choices.get("approvals", ())) if action not in GUARDED]
    if unknown:
        allowed = " and ".join(GUARDED)
        raise Invalid.of(*(Fault(f"/approvals/{at}", "unknown_action", f"must be {allowed}") for at in unknown))
    async with stores.control.transaction(caller.client) as transaction:
        before = await chosen(transaction, caller.client)
        after = before | dict(choices)
        await transaction.accounts.save_settings(caller.client, after)
        thing = ("client", caller.client)
        await audit.note(transaction, caller, "client.changed", thing, stores.clock.now(), before=before, after=after)
    return after


async def ask(
    transaction: Transaction,
    caller: Caller,
    experiment: Experiment,
    wanted: tuple[str, str | None],
    approval_id: str,
    now: datetime,
) -> Approval:
    """Ask for a second person. What is wanted is an action and the id of the variant that is to be shipped by it, if any.

    Raises:
        Forbidden: the caller is no person who signed in.
        Conflict: somebody has asked for it already.
    """
    _check_person(caller)
    action, winner = wanted
    waiting = await transaction.accounts.approvals(caller.client, State.PENDING, experiment.id)
    same = wanted, experiment.version
    if any(((approval.action, approval.winner), approval.version) == same for approval in waiting):
        raise Conflict("Somebody has asked for this already; it waits for a second person.")
    for outdated in waiting:
        withdrawn = replace(outdated, state=State.WITHDRAWN, decided_at=now)
        await transaction.accounts.save_approval(caller.client, withdrawn)
    approval = Approval(approval_id, experiment.id, action, experiment.version, caller.id, caller.name, now,
                        winner=winner)  # fmt: skip
    await transaction.accounts.add_approval(caller.client, approval)
    thing, after = ("experiment", experiment.id), {"approval": approval.id, "action": action, "winner": winner}
    await audit.note(transaction, caller, "approval.requested", thing, now, after=after)
    return approval


async def decide(transaction: Transaction, caller: Caller, approval_id: str, state: State, now: datetime) -> Approval:
    """Say yes or no to what somebody else asked for; who asked may only say no.

    Raises:
        NotFound: the client has no such approval.
        Forbidden: the caller is no person who signed in, or agrees with themselves.
        Conflict: it is decided already.
    """
    _check_person(caller)
    approval = found(await transaction.accounts.approval(caller.client, approval_id))
    if approval.state is not State.PENDING:
        raise Conflict(f"This is {approval.state} already.")
    if state is State.APPROVED and approval.requested_by == caller.id:
        raise Forbidden("A second person must agree.")
    decided = replace(approval, state=state, decided_by=caller.id, decided_by_name=caller.name, decided_at=now)
    await transaction.accounts.save_approval(caller.client, decided)
    thing, after = ("experiment", approval.experiment_id), {"approval": approval.id, "action": approval.action}
    await audit.note(transaction, caller, f"approval.{state}", thing, now, after=after)
    return decided


async def reject(stores: Stores, caller: Caller, approval_id: str) -> Approval:
    """Say no; or withdraw what one asked for oneself. Raises as `decide`."""
    async with stores.control.transaction(caller.client) as transaction:
        return await decide(transaction, caller, approval_id, State.REJECTED, stores.clock.now())


async def every(stores: Stores, client: str, state: State | None, experiment_id: str | None) -> list[Approval]:
    """The last 200 approvals, the newest first."""
    async with stores.control.reading(client) as view:
        return await view.accounts.approvals(client, state, experiment_id)


def found(approval: Approval | None) -> Approval:
    """The approval that was looked for.

    Raises:
        NotFound: there is none.
    """
    if approval is None:
        raise NotFound("There is no such approval.")
    return approval


def _check_person(caller: Caller) -> None:
    if caller.kind is not Kind.USER:
        raise Forbidden("This needs two people: sign in as one; keys and tokens cannot ask or agree.")
