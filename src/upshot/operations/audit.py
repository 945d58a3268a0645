"""Who did what: entries of the audit log, written in the transaction of the change; and what a client's admins chose."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from upshot.access import Caller
from upshot.access.trail import GUARDED, Entry, changed
from upshot.control import EntryPage, Transaction
from upshot.errors import Fault, Invalid
from upshot.operations import Stores

State = Mapping[str, Any]


async def note(
    transaction: Transaction,
    caller: Caller,
    action: str,
    thing: tuple[str, str],
    now: datetime,
    *,
    before: State | None = None,
    after: State | None = None,
) -> None:
    """Add to the audit log that the caller did this to the thing (its kind and id); of two states the parts that differ."""
    if before is not None and after is not None:
        before, after = changed(before, after)
    kind, reference = thing
    entry = Entry(now, caller.kind, caller.id, caller.name, action, kind, reference, before, after, caller.request)
    await transaction.accounts.record(caller.client, [entry])


async def read(
    stores: Stores,
    client: str,
    *,
    object_id: str | None = None,
    actor_id: str | None = None,
    action: str | None = None,
    after: int | None = None,
    limit: int = 50,
) -> EntryPage:
    """A page of the audit log, the newest first."""
    async with stores.control.browsing(client) as transaction:
        return await transaction.accounts.entries(
            client, object_id=object_id, actor_id=actor_id, action=action, after=after, limit=limit
        )


async def settings(stores: Stores, client: str) -> dict[str, Any]:
    """What the client's admins chose, or what holds where they chose nothing."""
    async with stores.control.reading(client) as transaction:
        return _whole(await transaction.accounts.settings(client))


async def choose(stores: Stores, caller: Caller, choices: State) -> dict[str, Any]:
    """Change what holds for the whole client.

    Raises:
        Invalid: `approvals` names what no approval can be required for.
    """
    unknown = [index for index, action in enumerate(choices.get("approvals", ())) if action not in GUARDED]
    if unknown:
        allowed = " and ".join(GUARDED)
        raise Invalid.of(*(Fault(f"/approvals/{at}", "unknown_action", f"must be {allowed}") for at in unknown))
    async with stores.control.transaction(caller.client) as transaction:
        before = _whole(await transaction.accounts.settings(caller.client))
        after = before | dict(choices)
        await transaction.accounts.save_settings(caller.client, after)
        thing = ("client", caller.client)
        await note(transaction, caller, "client.changed", thing, stores.clock.now(), before=before, after=after)
    return after


def _whole(chosen: State) -> dict[str, Any]:
    return {"approvals": []} | dict(chosen)
