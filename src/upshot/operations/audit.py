"""Who did what: entries of the audit log, written in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from upshot.access import Caller
from upshot.access.trail import ALL, Entry, Sought, changed
from upshot.control import EntryPage, Transaction
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
    stores: Stores, client: str, sought: Sought = ALL, *, after: int | None = None, limit: int = 50
) -> EntryPage:
    """A page of the audit log, the newest first."""
    async with stores.control.browsing(client) as view:
        return await view.accounts.entries(client, sought, after=after, limit=limit)
