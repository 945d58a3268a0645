"""Every query about linked ids, client first, on every dialect."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.assignment import Assignment
from upshot.control import records
from upshot.control.identities import Verdict
from upshot.control.identitytables import identity_links
from upshot.control.tables import assignments, experiments
from upshot.database import insert_new
from upshot.database.inserting import among, insert_showing, overwrite
from upshot.experiments import Status

Id = tuple[str, str]
"""Client and id."""

Key = tuple[int, str]
"""Experiment number and id."""

Asked = tuple[str, str, str, datetime]
"""Client, anonymous id, user, and when."""

# Whose the id of an assignment is, null where it is nobody else's. As a text: beside an insertion, columns are written without
# their tables.
_USER: ColumnElement[str] = literal_column(
    "(SELECT links.user_id FROM identity_links AS links WHERE links.client_id = assignments.client_id"
    " AND links.id = assignments.user_id AND links.id <> links.user_id)"
).label("linked_to")


class SqlIdentities:
    """What a transaction knows of linked ids."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def users_of(self, client: str, ids: Collection[str]) -> dict[str, str]:
        """The users whom these ids are linked to."""
        found = await self.linked({(client, own) for own in ids})
        return {own: user for (_, own), user in found.items()}

    async def linked(self, ids: Collection[Id]) -> dict[Id, str]:
        """The same for the ids of several clients."""
        return {key: user for key, user in (await self._owners(ids)).items() if user != key[1]}

    async def insert(self, first: Mapping[Key, tuple[str, Assignment]]) -> tuple[set[Key], dict[Key, str]]:
        """Insert assignments, or nothing where there is one or the id is linked; which were added, and whose the linked ids are.

        Where the database says what it inserts, it says whose the id is in the same breath, and the few rows that should not be
        there are removed: nearly all ids are nobody else's, and no question of its own is asked about them.
        """
        if self._connection.dialect.name == "mysql":
            users = await self._linked_of(first, first)
            rows = [records.row_of(*first[key]) for key in first if key not in users]
            return {(key[0], key[1]) for key in await insert_new(self._connection, assignments, rows)}, users
        added, users = set[Key](), dict[Key, str]()
        rows = [records.row_of(*first[key]) for key in sorted(first)]
        for experiment, own, user in await insert_showing(self._connection, assignments, rows, _USER):
            if user is None:
                added.add((experiment, own))
            else:
                users[experiment, own] = user
        if users:
            await self._connection.execute(delete(assignments).where(among(assignments, list(users))))
        if len(added) + len(users) < len(first):
            users |= await self._linked_of(first, first.keys() - added - users.keys())
        return added, users

    async def _linked_of(self, first: Mapping[Key, tuple[str, Assignment]], keys: Collection[Key]) -> dict[Key, str]:
        own = {key: (first[key][0], key[1]) for key in keys}
        linked = await self.linked(set(own.values()))
        return {key: linked[who] for key, who in own.items() if who in linked}

    async def add(self, asked: Sequence[Asked]) -> list[Verdict]:
        """Store the links that are new; what became of each, one after the other."""
        ids = {(client, own) for client, *pair, _ in asked for own in pair}
        while True:
            verdicts, rows = _judged(asked, await self._owners(ids))
            new = await insert_new(self._connection, identity_links, rows)
            if len(new) == len(rows):
                return verdicts
            # Somebody linked one of them at this moment: what is there now decides.
            if new:
                await self._connection.execute(delete(identity_links).where(among(identity_links, list(new))))

    async def assignments_of(self, client: str, ids: Collection[str]) -> dict[tuple[int, str], Assignment]:
        """All stored assignments of these ids, held until the transaction ends."""
        own = experiments.c.client_id == client, experiments.c.status != Status.DRAFT
        numbers = (await self._connection.execute(select(experiments.c.number).where(*own))).scalars().all()
        query = select(assignments).where(
            assignments.c.client_id == client, assignments.c.experiment.in_(numbers), assignments.c.user_id.in_(ids)
        )
        rows = await self._connection.execute(query.with_for_update()) if numbers else ()
        return {(row.experiment, row.user_id): records.assignment_of(row) for row in rows}

    async def expose_earlier(self, client: str, exposed: Sequence[Assignment]) -> None:
        """Store an earlier exposure of users who have one."""
        rows = [records.row_of(client, assignment) for assignment in exposed]
        await overwrite(self._connection, assignments, rows, "exposed_at")

    async def _owners(self, ids: Collection[Id]) -> dict[Id, str]:
        if not ids:
            return {}
        columns = identity_links.c
        query = select(columns.client_id, columns.id, columns.user_id).where(among(identity_links, list(ids)))
        found = {(row.client_id, row.id): row.user_id for row in await self._connection.execute(query)}
        return {key: user for key, user in found.items() if key in ids}


def _judged(asked: Sequence[Asked], owners: Mapping[Id, str]) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """What becomes of each link where ids have these owners, and the rows to add."""
    verdicts: list[Verdict] = []
    added: dict[Id, datetime] = {}
    known = dict(owners)
    for client, anonymous_id, user_id, now in asked:
        alias, user = (client, anonymous_id), (client, user_id)
        if known.get(alias) == user_id:
            verdicts.append(Verdict.KNOWN)
        elif known.get(alias) == anonymous_id:
            verdicts.append(Verdict.ID_IS_A_USER)
        elif alias in known:
            verdicts.append(Verdict.LINKED_ELSEWHERE)
        elif known.get(user, user_id) != user_id:
            verdicts.append(Verdict.USER_IS_LINKED)
        else:
            added |= {key: now for key in (alias, user) if key not in known}
            known |= {alias: user_id, user: user_id}
            verdicts.append(Verdict.LINKED)
    rows = [
        {"client_id": client, "id": own, "user_id": known[client, own], "linked_at": now}
        for (client, own), now in added.items()
    ]
    return verdicts, rows
