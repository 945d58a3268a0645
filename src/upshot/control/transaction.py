"""Every query about experiments and assignments, client first, on every dialect."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, Table, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncTransaction

from upshot.assignment import Assignment
from upshot.control import Labels, Page, records
from upshot.control.entries import OutboxEntry, encoded
from upshot.control.listing import labelled, listed
from upshot.control.sqlaccounts import SqlAccounts
from upshot.control.sqlanswers import SqlAnswers
from upshot.control.sqlfeatures import SqlFeatures
from upshot.control.sqlhooks import SqlHooks
from upshot.control.sqlidentities import SqlIdentities
from upshot.control.sqlmetrics import SqlMetrics
from upshot.control.sqlpart import SqlPart
from upshot.control.tables import assignments, experiments, outbox, phases, variants
from upshot.database.inserting import among, overwrite
from upshot.diagnosis import Assigned
from upshot.events import Withdrawal
from upshot.experiments import Experiment, Status

PARAMETERS = 10_000  # of a statement; SQLite takes 32,766
TAKEN = "Another experiment has this key."


class SqlTransaction(SqlPart):
    """A transaction on one connection. It never commits: `SqlStore.transaction` does, once, at the end.

    One that may write locks the experiments and definitions that it reads, so that of two changes the second sees the first.
    """

    @property
    def accounts(self) -> SqlAccounts:
        """People, keys, sign-ins, the audit log."""
        return SqlAccounts(self._connection, writing=self._writing)

    @property
    def answers(self) -> SqlAnswers:
        """Answers that are given again."""
        return SqlAnswers(self._connection, writing=self._writing)

    @property
    def features(self) -> SqlFeatures:
        """Layers, holdouts, flags."""
        return SqlFeatures(self._connection, writing=self._writing)

    @property
    def metrics(self) -> SqlMetrics:
        """What the keys of metrics mean."""
        return SqlMetrics(self._connection, writing=self._writing)

    @property
    def hooks(self) -> SqlHooks:
        """Webhooks and what they were told."""
        return SqlHooks(self._connection, writing=self._writing)

    def part(self) -> AsyncTransaction:
        """A part that is undone alone when its block does not end well."""
        return self._connection.begin_nested()

    async def experiment(self, client: str, reference: str) -> Experiment | None:
        """The experiment with that id or key."""
        query = select(experiments).where(
            experiments.c.client_id == client,
            or_(experiments.c.id == reference, experiments.c.key == reference),
        )
        if self._writing:
            query = query.with_for_update()
        found = await self._experiments(query.order_by(experiments.c.id != reference).limit(1))
        return found[0] if found else None

    async def experiments(
        self,
        client: str,
        *,
        status: Collection[Status] | None = None,
        search: str | None = None,
        tag: str | None = None,
        owner: str | None = None,
        after: int | None = None,
        limit: int | None = 50,
    ) -> Page:
        """A page of experiments, newest first; all of them without a limit."""
        query = listed(client, status=status, search=search, tag=tag, owner=owner, after=after)
        found = await self._experiments(query if limit is None else query.limit(limit + 1))
        return Page(tuple(found[:limit]), None if limit is None or len(found) <= limit else found[limit - 1].number)

    async def labels(self, client: str) -> Labels:
        """The owners and tags that experiments have, sorted."""
        return records.labels_of((await self._connection.execute(labelled(client))).all())

    async def assignments(self, client: str, keys: Sequence[tuple[int, str]]) -> list[Assignment | None]:
        """The stored assignment of each (experiment number, user id), or None."""
        wanted = assignments.c.client_id == client, among(assignments, keys)
        rows = await self._connection.execute(select(assignments).where(*wanted))
        found = {(row.experiment, row.user_id): records.assignment_of(row) for row in rows}
        return [found.get(key) for key in keys]

    async def assigned(self, client: str, experiment: int) -> Assigned:
        """How many users have an assignment, and the moment of the last one: a range of the primary key."""
        query = select(func.count(), func.max(assignments.c.assigned_at))
        own = query.where(assignments.c.client_id == client, assignments.c.experiment == experiment)
        return Assigned(*(await self._connection.execute(own)).one())

    async def add(self, client: str, experiment: Experiment) -> Experiment:
        """Store a new experiment and number it."""
        values = records.columns_of(experiment) | {"client_id": client}
        added = await self._unique(insert(experiments).values(values), TAKEN)
        stored = replace(experiment, number=added.inserted_primary_key[0])
        await self._put_parts(client, stored)
        await self.features.touch(client)
        return stored

    async def save(self, client: str, experiment: Experiment) -> None:
        """Store a changed experiment."""
        number = experiment.number
        same = experiments.c.client_id == client, experiments.c.number == number
        await self._unique(update(experiments).where(*same).values(records.columns_of(experiment)), TAKEN)
        await self._put_parts(client, experiment)
        await self.features.touch(client)

    async def delete(self, client: str, experiment: Experiment) -> None:
        """Remove an experiment; its variants and phases go with it."""
        await self._connection.execute(
            delete(experiments).where(experiments.c.client_id == client, experiments.c.number == experiment.number)
        )
        await self.features.touch(client)

    async def occupied(self, client: str, experiment: Experiment) -> frozenset[int]:
        """The positions of the variants that have users."""
        query = select(assignments.c.variant).distinct()
        rows = await self._connection.execute(
            query.where(assignments.c.client_id == client, assignments.c.experiment == experiment.number)
        )
        return frozenset(rows.scalars())

    @property
    def identities(self) -> SqlIdentities:
        """Whose an id is."""
        return SqlIdentities(self._connection)

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments."""
        if withdrawals:
            await self.leave(OutboxEntry(withdrawals={client: withdrawals}))

    async def leave(self, entry: OutboxEntry) -> None:
        """Put an entry into the outbox. A client's own transaction may, though it sees none of them: nothing is asked back."""
        await self._connection.execute(insert(outbox).values(exposures=encoded(entry)).inline())

    async def insert_or_nothing(self, asked: Sequence[tuple[str, Assignment]]) -> list[tuple[Assignment, bool]]:
        """Store those of (client, assignment) whose user has none yet, with an outbox entry for the exposures; of an id that is
        linked nothing: its answer names the user."""
        first: dict[tuple[int, str], tuple[str, Assignment]] = {}
        for client, assignment in asked:
            first.setdefault((assignment.experiment, assignment.user_id), (client, assignment))
        new, users = await self.identities.insert(first)
        stored = {key: assignment for key, (_, assignment) in first.items() if key in new}
        stored |= await self._read_back([key for key in first if key not in new and key not in users])
        own = [pair for pair in asked if (pair[1].experiment, pair[1].user_id) not in users] if users else asked
        exposed = [key for key in new if first[key][1].exposed_at] + await self._expose(stored, own)
        if exposed:
            exposures = [records.exposure_of(first[key][0], stored[key]) for key in exposed]
            await self.leave(OutboxEntry(exposures))
        answers = []
        for _, assignment in asked:
            key = (assignment.experiment, assignment.user_id)
            kept = replace(assignment, user_id=users[key]) if key in users else stored[key]
            answers.append((kept, key in new))
            new.discard(key)  # who asks a second time in the same group gets what is stored
        return answers

    async def _expose(
        self, stored: dict[tuple[int, str], Assignment], asked: Sequence[tuple[str, Assignment]]
    ) -> list[tuple[int, str]]:
        """Note the first exposure of users that were assigned without one, in one statement; returns their keys."""
        moments: dict[tuple[int, str], datetime] = {}
        for _, assignment in asked:
            key = (assignment.experiment, assignment.user_id)
            if assignment.exposed_at is not None and stored[key].exposed_at is None:
                moments.setdefault(key, assignment.exposed_at)
        # Another process may note one of them at the same moment: who holds the row decides.
        stored |= await self._read_back(list(moments), locked=True)
        exposed = [key for key in moments if stored[key].exposed_at is None]
        for key in exposed:
            stored[key] = replace(stored[key], exposed_at=moments[key])
        owners = {(assignment.experiment, assignment.user_id): client for client, assignment in asked}
        await overwrite(
            self._connection, assignments, [records.row_of(owners[key], stored[key]) for key in exposed], "exposed_at"
        )
        return exposed

    async def _read_back(
        self, keys: Sequence[tuple[int, str]], *, locked: bool = False
    ) -> dict[tuple[int, str], Assignment]:
        if not keys:
            return {}
        query = select(assignments).where(among(assignments, keys))
        rows = await self._connection.execute(query.with_for_update() if locked else query)
        return {(row.experiment, row.user_id): records.assignment_of(row) for row in rows}

    async def _experiments(self, query: Select[Any]) -> list[Experiment]:
        rows = (await self._connection.execute(query)).all()
        numbers = [row.number for row in rows]
        arms = await self._parts(variants, numbers, variants.c.position)
        stretches = await self._parts(phases, numbers, phases.c.number)
        return [records.experiment_of(row, arms[row.number], stretches[row.number]) for row in rows]

    async def _parts(self, table: Any, numbers: Sequence[int], order: Any) -> dict[int, list[Row[Any]]]:
        found: dict[int, list[Row[Any]]] = {number: [] for number in numbers}
        for start in range(0, len(numbers), PARAMETERS):
            some = table.c.experiment.in_(numbers[start : start + PARAMETERS])
            for row in await self._connection.execute(select(table).where(some).order_by(order)):
                found[row.experiment].append(row)
        return found

    async def _put_parts(self, client: str, experiment: Experiment) -> None:
        owner = {"experiment": experiment.number, "client_id": client}
        arms = [owner | asdict(variant) for variant in experiment.variants]
        stretches = [
            owner | {"number": phase.number, "started_at": phase.started_at, "weights": records.weights_of(phase)}
            for phase in experiment.phases
        ]
        await self._put(variants, variants.c.position, experiment.number, arms)
        await self._put(phases, phases.c.number, experiment.number, stretches)

    async def _put(self, table: Table, key: Column[int], number: int, rows: Sequence[dict[str, Any]]) -> None:
        """Make these the rows of an experiment. What is as it was is left alone: MySQL locks the neighbours of a row that is
        deleted and inserted again, so that two which change experiments side by side were a deadlock."""
        found = (await self._parts(table, [number], key))[number]
        stored = {getattr(row, key.name): dict(row._mapping) for row in found}  # noqa: SLF001 - documented
        wanted = {row[key.name]: row for row in rows}
        gone = [place for place, row in stored.items() if wanted.get(place) != row]
        new = [row for place, row in wanted.items() if stored.get(place) != row]
        if gone:
            await self._connection.execute(delete(table).where(table.c.experiment == number, key.in_(gone)))
        if new:
            await self._connection.execute(insert(table), new)
