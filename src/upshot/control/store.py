"""The control store on one SQL database: its transactions, its group commit of assignments, its outbox and its leases."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Column, delete, func, or_, select, union, update

from upshot.access import EVERYONE
from upshot.assignment import Assignment
from upshot.control import READ_SECONDS, Credential, isolation, linking, migrate
from upshot.control.accesstables import answers, api_keys, invitations, refresh_tokens, sessions, users
from upshot.control.entries import OutboxEntry, decoded
from upshot.control.hooktables import webhook_deliveries, webhooks
from upshot.control.identities import Linking
from upshot.control.identitytables import identity_links
from upshot.control.sqlhooks import delivery_of
from upshot.control.sqlidentities import Asked
from upshot.control.tables import experiments, leases, outbox, progress
from upshot.control.transaction import SqlTransaction
from upshot.database import Database, insert_new
from upshot.errors import ConfigurationError, Unavailable
from upshot.experiments import Experiment, Status
from upshot.groupcommit import GroupCommit
from upshot.webhooks import Delivery

GROUP_ROWS = 500
WAITING_ROWS = 20_000
LIVE = timedelta(seconds=60)
FORGOTTEN = timedelta(days=1)

_REFERENCES: Mapping[Credential, tuple[Column[str], ...]] = MappingProxyType(
    {
        Credential.KEY: (api_keys.c.id,),
        Credential.SESSION: (sessions.c.digest,),
        Credential.REFRESH: (sessions.c.digest, refresh_tokens.c.digest),
        Credential.INVITATION: (invitations.c.digest,),
    }
)

_Asked = tuple[str, Sequence[Assignment]]
_Answer = list[tuple[Assignment, bool]]


class SqlStore:
    """The control store on one SQL database. It may come up after the program: until it is migrated, all raise Unavailable."""

    def __init__(self, url: str, database: Database, *, migrated: bool = True, owner: str | None = None) -> None:
        self._url = url
        self._owner = owner
        self._database = database
        self._migrated = migrated
        self._migrating = asyncio.Lock()
        self._group: GroupCommit[_Asked, _Answer] = GroupCommit(
            self._assign_group,
            group_weight=GROUP_ROWS,
            waiting_weight=WAITING_ROWS,
            weigh=lambda item: len(item[1]),
        )
        self._links: GroupCommit[Sequence[Asked], list[Linking]] = GroupCommit(
            self._link_group, group_weight=GROUP_ROWS, waiting_weight=WAITING_ROWS, weigh=len
        )

    @asynccontextmanager
    async def transaction(self, client: str) -> AsyncIterator[SqlTransaction]:
        """A transaction that may write; committed when the block ends well."""
        await self._ready()
        async with self._database.begin(client=client) as connection:
            yield SqlTransaction(connection, writing=True)

    @asynccontextmanager
    async def reading(self, client: str) -> AsyncIterator[SqlTransaction]:
        """A consistent view of what is stored now."""
        await self._ready()
        async with self._database.read(client=client) as connection:
            yield SqlTransaction(connection)

    @asynccontextmanager
    async def browsing(self, client: str, seconds: float = READ_SECONDS) -> AsyncIterator[SqlTransaction]:
        """A consistent view that may be some moments old: of the replica, where there is one."""
        await self._ready()
        async with self._database.read(seconds, replica=True, client=client) as connection:
            yield SqlTransaction(connection)

    async def assign(
        self, client: str, assignments: Sequence[Assignment], patience: float | None = None
    ) -> list[tuple[Assignment, bool]]:
        """Insert-or-nothing and read back, in one commit with whoever else waits."""
        if not assignments:
            return []
        return await self._group.submit((client, assignments), patience)

    async def _assign_group(self, group: Sequence[_Asked]) -> list[_Answer]:
        asked = [(client, assignment) for client, items in group for assignment in items]

        async def stored() -> list[tuple[Assignment, bool]]:
            async with self.transaction(EVERYONE) as transaction:
                return await transaction.insert_or_nothing(asked)

        answers = iter(await self._database.retried(stored))
        return [[next(answers) for _ in items] for _, items in group]

    async def link(self, client: str, links: Sequence[tuple[str, str]], now: datetime) -> list[Linking]:
        """Let ids be one user, in one commit with whoever else waits."""
        return await self._links.submit([(client, *pair, now) for pair in links]) if links else []

    async def _link_group(self, group: Sequence[Sequence[Asked]]) -> list[list[Linking]]:
        asked = [link for items in group for link in items]

        async def linked() -> list[Linking]:
            async with self.transaction(EVERYONE) as transaction:
                return await linking.link(transaction, asked)

        answers = iter(await self._database.retried(linked))
        return [[next(answers) for _ in items] for items in group]

    async def linked_since(self, moment: datetime) -> list[tuple[str, str, str]]:
        """The links that were made since then, of all clients."""
        await self._ready()
        columns = identity_links.c
        query = select(columns.client_id, columns.id, columns.user_id)
        lately = query.where(columns.linked_at >= moment, columns.id != columns.user_id)
        async with self._database.read(client=EVERYONE) as connection:
            return [(client, alias, user) for client, alias, user in await connection.execute(lately)]

    async def owner(self, credential: Credential, reference: str) -> str | None:
        """The client whose credential that is."""
        await self._ready()
        async with self._database.read(client=EVERYONE) as connection:
            for column in _REFERENCES[credential]:
                found = await connection.scalar(select(column.table.c.client_id).where(column == reference))
                if found is not None:
                    return str(found)
        return None

    async def take_deliveries(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, Delivery]]:
        """The deliveries that are due; whoever took them and was killed leaves them to others."""
        await self._ready()
        table = webhook_deliveries.c
        due = select(webhook_deliveries).where(table.next_at <= now).order_by(table.next_at).limit(limit)

        async def take() -> list[tuple[str, Delivery]]:
            async with self._database.begin(client=EVERYONE) as connection:
                rows = (await connection.execute(due.with_for_update(skip_locked=True))).all()
                if rows:
                    taken = update(webhook_deliveries).where(table.id.in_([row.id for row in rows]))
                    await connection.execute(taken.values(next_at=until))
                return [(row.client_id, delivery_of(row)) for row in rows]

        return await self._database.retried(take)

    async def forget_deliveries(self, before: datetime) -> int:
        """Remove deliveries that ended before that moment."""
        await self._ready()
        table = webhook_deliveries.c
        over = or_(table.delivered_at < before, table.given_up_at < before)
        async with self._database.begin(client=EVERYONE) as connection:
            return (await connection.execute(delete(webhook_deliveries).where(over))).rowcount

    async def forget_answers(self, before: datetime) -> int:
        """Remove answers that are not given again since that moment."""
        await self._ready()
        async with self._database.begin(client=EVERYONE) as connection:
            return (await connection.execute(delete(answers).where(answers.c.expires_at < before))).rowcount

    async def clients(self) -> list[str]:
        """The clients that have people, keys or webhooks."""
        await self._ready()
        async with self._database.read(client=EVERYONE) as connection:
            tables = users, api_keys, webhooks
            named = union(*(select(table.c.client_id) for table in tables))
            return sorted((await connection.execute(named)).scalars())

    async def running(self) -> list[tuple[str, Experiment]]:
        """The running experiments of all clients, with their clients."""
        async with self._database.read(replica=True, client=EVERYONE) as connection:
            query = select(experiments.c.client_id, experiments.c.id).where(experiments.c.status == Status.RUNNING)
            owned = (await connection.execute(query.order_by(experiments.c.number))).all()
            transaction = SqlTransaction(connection)
            found = [(client, await transaction.experiment(client, reference)) for client, reference in owned]
        return [(client, experiment) for client, experiment in found if experiment is not None]

    async def outbox(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """The oldest entries that have not been relayed."""
        await self._ready()
        async with self._database.read(client=EVERYONE) as connection:
            rows = await connection.execute(select(outbox).order_by(outbox.c.entry).limit(limit))
            return [(row.entry, decoded(row.exposures)) for row in rows]

    async def relayed(self, entries: Sequence[int]) -> None:
        """Forget relayed entries."""
        async with self._database.begin() as connection:
            await connection.execute(delete(outbox).where(outbox.c.entry.in_(list(entries))))

    async def lease(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take or keep the lease of a piece of scheduled work, unless another holder has it."""
        await self._ready()
        until = now + timedelta(seconds=seconds)
        ours_or_over = or_(leases.c.holder == holder, leases.c.expires_at <= now)
        taken = update(leases).where(leases.c.name == name, ours_or_over).values(holder=holder, expires_at=until)

        async def take() -> bool:
            async with self._database.begin() as connection:
                if (await connection.execute(taken)).rowcount:
                    return True
                first = {"name": name, "holder": holder, "expires_at": until}
                return bool(await insert_new(connection, leases, [first]))

        return await self._database.retried(take)

    async def report_progress(self, worker: str, complete_to: datetime, now: datetime) -> None:
        """Note how far a worker is; those that were silent for a day are forgotten."""
        await self._ready()
        values = {"complete_to": complete_to, "reported_at": now}
        async with self._database.begin() as connection:
            known = await connection.execute(update(progress).where(progress.c.worker == worker).values(values))
            if not known.rowcount:
                await insert_new(connection, progress, [{"worker": worker} | values])
                await connection.execute(delete(progress).where(progress.c.reported_at < now - FORGOTTEN))

    async def complete_to(self, now: datetime) -> datetime | None:
        """The moment up to which what was handed to the queue is stored: of the slowest live worker, else of the last one."""
        await self._ready()
        async with self._database.read() as connection:
            rows = (await connection.execute(select(progress))).all()
        live = [row.complete_to for row in rows if row.reported_at > now - LIVE]
        return min(live) if live else max((row.complete_to for row in rows), default=None)

    async def ping(self) -> str:
        """Reads one row; raises when the store does not answer."""
        await self._ready()
        async with self._database.read() as connection:
            waiting = await connection.scalar(select(func.count()).select_from(outbox))
        return f"{waiting} exposure groups to relay" if waiting else "ok"

    async def back_up(self, path: Path) -> None:
        """Copy a SQLite database into a new file; other ones have their own tools."""
        await self._database.back_up(path)

    async def close(self) -> None:
        """Finish the waiting groups, then close the connections."""
        await self._group.drain()
        await self._links.drain()
        await self._database.close()

    async def migrate(self) -> None:
        """Bring the schema to this version, once; a database that was away when the program started is brought up later."""
        async with self._migrating:
            if not self._migrated:
                await migrate.upgrade(self._url, self._owner)
                if self._owner is not None:
                    async with self._database.read() as connection:
                        await isolation.check(connection)
                self._migrated = True

    async def _ready(self) -> None:
        if not self._migrated:
            await self.migrate()


async def open_store(url: str, *, replica: str | None = None, owner: str | None = None) -> SqlStore:
    """The store at a URL, after its schema has been brought to this version; at once where a server is not up yet.

    Raises:
        ConfigurationError: the URL cannot be used, or the database refuses us or is of a newer version; or the schema has an
            owner of its own, and the application's role could bypass row-level security all the same.
    """
    store = SqlStore(url, Database(url, "DATABASE_URL", replica=replica), migrated=False, owner=owner)
    try:
        with suppress(Unavailable):
            await store.migrate()
    except ConfigurationError:
        await store.close()
        raise
    return store
