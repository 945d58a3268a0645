"""Variants that stay: in a store of the application's, or as the server has stored them.

By the hash alone a user keeps a variant as long as the shares, the traffic and the targeting do not change. With a store, what a
user was given stays, in every state of the experiment that the configuration still tells of; only overrides go before it.

`by_store` and `by_server` say what is to be looked up, kept and asked, and get what was found (generators, so that a thread and
a task can both carry it out).
"""

import math
from collections import OrderedDict, deque
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import quote

from upshot.assignment import ASSIGNED, OVERRIDDEN, Decision
from upshot.identifiers import fault_of_user_id
from upshot.sdk.contract import Choice
from upshot.sdk.exchange import JSON, Answer, Jitter, Purpose, Request
from upshot.sdk.outbox import encoded
from upshot.sdk.prepared import Decide, Prepared, tellable
from upshot.sdk.retries import Backoff

REMEMBERED = 100_000
_PAUSE = 1.0
"""Seconds for which no caller waits for a server that did not answer one; the least."""


class StickyStore(Protocol):
    """Where an application keeps the variants of its users; used by many threads at once. An error counts as "not known"."""

    def get(self, experiment: str, user_id: str) -> str | None:
        """The name of the variant that the user has in the experiment (by key), or None."""
        ...

    def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep the variant that the user was given."""
        ...


class AsyncStickyStore(Protocol):
    """The same for the asynchronous client."""

    async def get(self, experiment: str, user_id: str) -> str | None:
        """The name of the variant that the user has in the experiment (by key), or None."""
        ...

    async def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep the variant that the user was given."""
        ...


class Look(NamedTuple):
    """Look up in the store which variant a user has; the answer is its name, or None."""

    experiment: str
    user_id: str


class Keep(NamedTuple):
    """Keep in the store which variant a user was given."""

    experiment: str
    user_id: str
    variant: str


class Question(NamedTuple):
    """Ask the server which variant it has stored for a user in an experiment (by id), or stores now; the answer is a `Kept`."""

    experiment: str
    user_id: str
    context: Mapping[str, Any]

    @property
    def request(self) -> Request:
        """As a request. It is no exposure, unlike reading a single assignment: the exposure is told when there is one."""
        path = f"/experiments/{quote(self.experiment, safe='')}/assignments"
        content = encoded({"users": [{"user_id": self.user_id, "context": self.context}]})
        return Request(Purpose.ASSIGNMENT, "POST", path, JSON, content)


def question_of_all(user_id: str, context: Mapping[str, Any]) -> Request:
    """Ask what the server has stored, or stores now, for a user in every running experiment."""
    return Request(Purpose.ASSIGNMENT, "POST", "/assignments", JSON, encoded({"user_id": user_id, "context": context}))


class Kept(NamedTuple):
    """What is remembered of a user: the variant's name, or None with the reason; `settled` if the server said so."""

    variant: str | None
    reason: str
    settled: bool


class StoredAssignments:
    """What the server has stored, as far as it was asked. No I/O, no clock; the caller holds a lock.

    A user whom the server could not be asked about has the variant of the hash, until the server answers a later question.
    """

    def __init__(self, jitter: Jitter, remembered: int = REMEMBERED) -> None:
        self._jitter = jitter
        self._remembered = remembered
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._open: deque[Question] = deque(maxlen=remembered)
        self._backoff = Backoff()
        self._not_before = -math.inf

    def get(self, experiment: str, user_id: str) -> Kept | None:
        """What is remembered."""
        found = self._kept.get((experiment, user_id))
        if found is not None:
            self._kept.move_to_end((experiment, user_id))
        return found

    def put(self, experiment: str, user_id: str, kept: Kept) -> None:
        """Remember; the least recently used is forgotten."""
        self._kept[experiment, user_id] = kept
        self._kept.move_to_end((experiment, user_id))
        if len(self._kept) > self._remembered:
            self._kept.popitem(last=False)

    def may_ask(self, now: float) -> bool:
        """Whether a caller may wait for the server: it answered the last time, or a while has passed."""
        return now >= self._not_before

    def postpone(self, question: Question) -> None:
        """Ask later, in the background."""
        self._open.append(question)

    def answered(self, question: Question, answer: Answer | None, now: float) -> Kept | None:
        """Take in an answer; what it says, or None where the question stays open."""
        found = answer.document() if answer is not None and answer.is_good else None
        rows = found.get("assignments") if isinstance(found, dict) else None
        if isinstance(rows, list) and len(rows) == 1:
            self._backoff.end()
            self._not_before = -math.inf
            return self.learn(question.experiment, question.user_id, rows[0])
        self.failed(now)
        if answer is None or answer.says_later or answer.locks_out or answer.status >= 500:
            self.postpone(question)
        return None

    def failed(self, now: float) -> None:
        """The server did not answer in time: nobody waits for it for a while."""
        self._not_before = now + _PAUSE + self._backoff.wait(self._jitter())

    def learn(self, experiment: str, user_id: str, row: Any) -> Kept:
        """Remember what a row of an answer says."""
        parts = row if isinstance(row, dict) else {}
        variant, reason = parts.get("variant"), str(parts.get("reason"))
        name = variant.get("name") if isinstance(variant, dict) and reason == ASSIGNED else None
        kept = Kept(name if isinstance(name, str) else None, reason, settled=True)
        self.put(experiment, user_id, kept)
        return kept

    def next(self, now: float) -> Question | float:
        """The open question that is to be asked in the background, or when one will be (never: infinity)."""
        if not self._open:
            return math.inf
        return self._open.popleft() if now >= self._not_before else self._not_before

    def abandon(self) -> None:
        """In a process that was forked: open questions are the parent's."""
        self._open.clear()


Steps: TypeAlias = Generator[Look | Keep | Question, Any, Decision[Choice]]


def by_store(prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any]) -> Steps:
    """What a user gets who keeps what a store of the application's says."""
    decision = decide(user_id, context)
    if decision.reason == OVERRIDDEN or prepared.entry.status == "draft" or fault_of_user_id(user_id):
        return decision
    key = prepared.entry.key
    name = yield Look(key, user_id)
    kept = prepared.kept(name) if isinstance(name, str) else None
    if kept is not None:
        return kept
    if decision.variant is not None and decision.variant.variant is not None:
        yield Keep(key, user_id, decision.variant.variant)
    return decision


def by_server(prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any], kept: Kept | None) -> Steps:
    """What a user gets who keeps what the server has stored; `kept` is what is remembered of that."""
    decision = decide(user_id, context)
    if decision.reason == OVERRIDDEN or prepared.entry.status == "draft" or fault_of_user_id(user_id):
        return decision
    nothing_stored = kept is not None and kept.variant is None
    if kept is None or (nothing_stored and decision.variant is not None):
        kept = yield Question(prepared.entry.id, user_id, tellable(context))
    if kept is None:
        return decision
    if kept.variant is None:
        return Decision(None, kept.reason) if decision.variant is not None else decision
    return prepared.kept(kept.variant) or decision
