"""The control store: experiments, variants, phases, metric definitions, assignments, linked ids, and the outbox of exposures;
people, keys, sign-ins and the audit log (`accounts.py`).

This page is the contract. One backend serves SQLite, PostgreSQL, MySQL and MariaDB; it is loaded when it is used:

    store = await connect("postgresql://upshot@db/upshot", replica="postgresql://upshot@replica/upshot")

Every method that touches a client's data takes the client first. Changes happen inside `transaction(client)`, one per operation;
`assign` joins the transactions of concurrent callers into one commit and answers after it.
"""

import importlib
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from upshot.assignment import Assignment
from upshot.control.accounts import Accounts, EntryPage, ReadAccounts
from upshot.control.answers import Answers, Asked, Question
from upshot.control.entries import OutboxEntry
from upshot.control.features import Features, ReadFeatures
from upshot.control.hooks import Hooks, ReadHooks
from upshot.control.identities import Linking, ReadIdentities, Verdict
from upshot.control.lists import Definition, DefinitionPage, Labels, Page
from upshot.control.metrics import Metrics, ReadMetrics
from upshot.diagnosis import Assigned
from upshot.events import Withdrawal
from upshot.experiments import Experiment, Status
from upshot.webhooks import Delivery

__all__ = [
    "Accounts", "Answers", "Asked", "ControlStore", "Credential", "Definition", "DefinitionPage", "EntryPage", "Features",
    "Hooks", "Labels", "Linking", "Metrics", "OutboxEntry", "Page", "Question", "ReadAccounts", "ReadFeatures", "ReadHooks",
    "ReadIdentities", "ReadMetrics", "ReadTransaction", "Transaction", "Verdict", "connect",
]  # fmt: skip


READ_SECONDS = 5.0


class Credential(StrEnum):
    """What somebody may show before we know whose it is."""

    KEY = "key"
    SESSION = "session"
    REFRESH = "refresh"
    INVITATION = "invitation"


class ReadTransaction(Protocol):
    """What can be read."""

    @property
    def accounts(self) -> ReadAccounts:
        """People, keys, sign-ins, the audit log."""
        ...

    @property
    def hooks(self) -> ReadHooks:
        """Webhooks and what they were told."""
        ...

    @property
    def features(self) -> ReadFeatures:
        """Layers, holdouts, flags."""
        ...

    @property
    def metrics(self) -> ReadMetrics:
        """What the keys of metrics mean."""
        ...

    @property
    def identities(self) -> ReadIdentities:
        """Whose an id is."""
        ...

    async def experiment(self, client: str, reference: str) -> Experiment | None:
        """The experiment with that id or key."""
        ...

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
        """A page of experiments, newest first, from below number `after`; all of them without a limit."""
        ...

    async def labels(self, client: str) -> Labels:
        """The owners and tags that experiments have, sorted."""
        ...

    async def assignments(self, client: str, keys: Sequence[tuple[int, str]]) -> list[Assignment | None]:
        """The stored assignment of each (experiment number, user id), or None; at most 1,000 keys."""
        ...

    async def assigned(self, client: str, experiment: int) -> Assigned:
        """How many users have an assignment in an experiment (its number), and the moment of the last one."""
        ...


class Transaction(ReadTransaction, Protocol):
    """What can be changed; all of it is durable when the transaction ends well, none of it when it does not."""

    @property
    def accounts(self) -> Accounts:
        """People, keys, sign-ins, the audit log."""
        ...

    @property
    def hooks(self) -> Hooks:
        """Webhooks and what they were told."""
        ...

    @property
    def features(self) -> Features:
        """Layers, holdouts, flags."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What the keys of metrics mean."""
        ...

    @property
    def answers(self) -> Answers:
        """Answers that are given again."""
        ...

    def part(self) -> AbstractAsyncContextManager[object]:
        """A part of the transaction that is undone alone when its block does not end well."""
        ...

    async def add(self, client: str, experiment: Experiment) -> Experiment:
        """Store a new experiment; returns it with its number. Raises Conflict when the client has that key."""
        ...

    async def save(self, client: str, experiment: Experiment) -> None:
        """Store a changed experiment. Raises Conflict when the client has that key elsewhere."""
        ...

    async def delete(self, client: str, experiment: Experiment) -> None:
        """Remove an experiment that has no assignments."""
        ...

    async def occupied(self, client: str, experiment: Experiment) -> frozenset[int]:
        """The positions of the variants that have users."""
        ...

    async def withdraw(self, client: str, withdrawals: Sequence[Withdrawal]) -> None:
        """Leave users out of experiments from now on: through the outbox, with this transaction. Twice is as good as once."""
        ...


class ControlStore(Protocol):
    """One control store."""

    def transaction(self, client: str) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that may write; writers wait for one another."""
        ...

    def reading(self, client: str) -> AbstractAsyncContextManager[ReadTransaction]:
        """A consistent view to read from."""
        ...

    def browsing(self, client: str, seconds: float = READ_SECONDS) -> AbstractAsyncContextManager[ReadTransaction]:
        """A consistent view that may be some moments old, of a replica where there is one: for lists and results. It may
        be read from for so many seconds."""
        ...

    async def owner(self, credential: Credential, reference: str) -> str | None:
        """The client whose credential that is, by the id of a key or the digest of anything else: the one question that is
        asked before the client is known."""
        ...

    async def take_deliveries(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, Delivery]]:
        """The deliveries that are due, oldest first, with their clients; until then nobody else takes them."""
        ...

    async def forget_deliveries(self, before: datetime) -> int:
        """Remove deliveries that ended before that moment; returns how many."""
        ...

    async def forget_answers(self, before: datetime) -> int:
        """Remove answers that are not given again since that moment; returns how many."""
        ...

    async def clients(self) -> list[str]:
        """The clients that have people, keys or webhooks."""
        ...

    async def assign(
        self, client: str, assignments: Sequence[Assignment], patience: float | None = None
    ) -> list[tuple[Assignment, bool]]:
        """Insert each assignment or, where the user has one, nothing; returns the stored one and whether it is new.

        Where an assignment says `exposed_at` and the stored one does not yet, that is stored, too. The exposure goes into the
        outbox in the same transaction. Durable on return. Of an id that is linked to a user nothing is stored: the answer is
        what was asked for with the user's id, not new; who wants to know the user's variant asks again with that.

        Raises:
            Unavailable: too many writes are waiting; or it took longer than `patience` seconds: it may be stored later.
        """
        ...

    async def link(self, client: str, links: Sequence[tuple[str, str]], now: datetime) -> list[Linking]:
        """Let each (anonymous id, user) be one user, one after the other; what became of each. The first assignment wins, the
        event store is told through the outbox, all in one transaction. Durable on return.

        Raises:
            Unavailable: too many writes are waiting.
        """
        ...

    async def linked_since(self, moment: datetime) -> list[tuple[str, str, str]]:
        """The links that were made since then: (client, anonymous id, user), of all clients."""
        ...

    async def lease(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take or keep the lease of a piece of scheduled work for so long; False while another holder has it."""
        ...

    async def report_progress(self, worker: str, complete_to: datetime, now: datetime) -> None:
        """Note that what was handed to the queue before `complete_to` is in the event store, as far as this worker knows."""
        ...

    async def complete_to(self, now: datetime) -> datetime | None:
        """The moment up to which what was handed to the queue is stored; None when no worker has reported yet."""
        ...

    async def running(self) -> list[tuple[str, Experiment]]:
        """The running experiments of all clients, with their clients: for work that is done for everyone."""
        ...

    async def outbox(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """The oldest entries that have not been relayed, with their numbers."""
        ...

    async def relayed(self, entries: Sequence[int]) -> None:
        """Forget entries that the event store holds durably."""
        ...

    async def ping(self) -> str:
        """The state of the store in a word or two; raises when it does not answer."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the store."""
        ...


async def connect(url: str, replica: str | None = None, owner: str | None = None) -> ControlStore:
    """The control store at a URL, migrated to this version's schema; `replica` is where `browsing` reads, `owner` the URL of the
    role that changes the schema, where that is not the application's own.

    A database server that is away does not keep the program from starting: the store says Unavailable until it is there.

    Raises:
        ConfigurationError: no backend serves the URL's scheme, or the store cannot be opened.
    """
    module = importlib.import_module("upshot.control.store")  # loaded when it is used
    store: ControlStore = await module.open_store(url, replica=replica, owner=owner)
    return store
