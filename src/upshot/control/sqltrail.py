"""Every query about the audit log, approvals and what a client's admins chose, client first, on every dialect."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, select, update

from upshot.access.trail import ALL, Approval, Entry, Sought, State
from upshot.control.accesstables import approvals, audit, client_settings
from upshot.control.accounts import EntryPage
from upshot.control.sqlpart import SqlPart
from upshot.database import insert_new

LISTED = 200


class SqlTrail(SqlPart):
    """What a transaction knows of what was done and what waits for a second person."""

    async def record(self, client: str, entries: Sequence[Entry]) -> None:
        """Add to the audit log."""
        rows = [asdict(entry) | {"client_id": client} for entry in entries]
        for row in rows:
            del row["number"]  # the database gives it
        await self._connection.execute(insert(audit), rows)

    async def entries(
        self, client: str, sought: Sought = ALL, *, after: int | None = None, limit: int = 50
    ) -> EntryPage:
        """A page of the audit log, the newest first."""
        query = select(audit).where(audit.c.client_id == client)
        for name, wanted in asdict(sought).items():
            if wanted is not None:
                query = query.where(audit.c[name] == wanted)
        if after is not None:
            query = query.where(audit.c.number < after)
        rows = (await self._connection.execute(query.order_by(audit.c.number.desc()).limit(limit + 1))).all()
        found = tuple(Entry(**{name: getattr(row, name) for name in Entry.__slots__}) for row in rows[:limit])
        return EntryPage(found, rows[limit - 1].number if len(rows) > limit else None)

    async def approval(self, client: str, approval_id: str) -> Approval | None:
        """The approval with that id."""
        query = select(approvals).where(approvals.c.client_id == client, approvals.c.id == approval_id)
        row = (await self._read(query)).one_or_none()
        return None if row is None else _approval_of(row)

    async def approvals(
        self, client: str, state: State | None = None, experiment_id: str | None = None
    ) -> list[Approval]:
        """The last 200 approvals, the newest first."""
        query = select(approvals).where(approvals.c.client_id == client)
        if state is not None:
            query = query.where(approvals.c.state == state)
        if experiment_id is not None:
            query = query.where(approvals.c.experiment_id == experiment_id)
        rows = await self._connection.execute(
            query.order_by(approvals.c.requested_at.desc(), approvals.c.id).limit(LISTED)
        )
        return list(map(_approval_of, rows))

    async def add_approval(self, client: str, approval: Approval) -> None:
        """Store a new approval."""
        await self._connection.execute(insert(approvals).values(asdict(approval) | {"client_id": client}))

    async def save_approval(self, client: str, approval: Approval) -> None:
        """Store a changed approval."""
        same = approvals.c.client_id == client, approvals.c.id == approval.id
        await self._connection.execute(update(approvals).where(*same).values(asdict(approval)))

    async def settings(self, client: str) -> dict[str, Any]:
        """What the client's admins chose."""
        query = select(client_settings.c.chosen).where(client_settings.c.client_id == client)
        row = (await self._read(query)).one_or_none()
        return {} if row is None else dict(row.chosen)

    async def save_settings(self, client: str, chosen: dict[str, Any]) -> None:
        """Store what the client's admins chose."""
        await insert_new(self._connection, client_settings, [{"client_id": client, "chosen": chosen}])
        same = client_settings.c.client_id == client
        await self._connection.execute(update(client_settings).where(same).values(chosen=chosen))


def _approval_of(row: Any) -> Approval:
    return Approval(**{name: getattr(row, name) for name in Approval.__slots__} | {"state": State(row.state)})
