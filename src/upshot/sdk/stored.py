"""What the server has stored of single users, as far as it was asked. No I/O, no clock; of any thread."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from upshot.assignment import ASSIGNED
from upshot.sdk.exchange import JSON, Answer, Jitter, Purpose, Request
from upshot.sdk.outbox import encoded
from upshot.sdk.retries import Backoff

REMEMBERED = 100_000
_PAUSE = 1.0
"""Seconds for which no caller waits for a server that did not answer one; the least."""


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
    """What is remembered of a user: the variant's name, or None with the reason."""

    variant: str | None
    reason: str


class StoredAssignments:
    """Answers of the server, the least recently used forgotten, and questions that are still open.

    A user whom the server could not be asked about has the variant of the hash, until the server answers a later question.
    """

    def __init__(self, jitter: Jitter, remembered: int = REMEMBERED) -> None:
        self._jitter = jitter
        self._remembered = remembered
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._open: deque[Question] = deque(maxlen=remembered)
        self._backoff = Backoff()
        self._not_before = -math.inf
        self._lock = threading.RLock()

    def get(self, experiment: str, user_id: str) -> Kept | None:
        """What is remembered."""
        with self._lock:
            found = self._kept.get((experiment, user_id))
            if found is not None:
                self._kept.move_to_end((experiment, user_id))
            return found

    def knows_all(self, experiments: Iterable[str], user_id: str) -> bool:
        """Whether something is remembered of the user in each of the experiments."""
        return all(self.get(experiment, user_id) for experiment in experiments)

    def may_ask(self, now: float, question: Question | None = None) -> bool:
        """Whether a caller may wait for the server: it answered the last time, or a while has passed. Else the question is asked
        in the background."""
        if now >= self._not_before:
            return True
        if question is not None:
            self._open.append(question)
        return False

    def answered(self, question: Question, answer: Answer | None, now: float) -> Kept | None:
        """Take in an answer; what it says, or None where the question stays open."""
        rows = _rows(answer)
        if rows is not None and len(rows) == 1:
            self._backoff.end()
            self._not_before = -math.inf
            return self._learn(question.experiment, question.user_id, rows[0])
        self._failed(now)
        if answer is None or answer.says_later or answer.locks_out or answer.status >= 500:
            self._open.append(question)
        return None

    def answered_of_all(self, user_id: str, answer: Answer | None, now: float) -> None:
        """Take in what the server says of a user in every running experiment."""
        rows = _rows(answer)
        if rows is None:
            self._failed(now)
        for row in rows or ():
            if isinstance(row, dict) and isinstance(row.get("experiment_id"), str):
                self._learn(row["experiment_id"], user_id, row)

    def fall_back(self, question: Question, variant: str) -> None:
        """The server could not be asked: the user keeps what the hash gave until it can be."""
        self._put(question.experiment, question.user_id, Kept(variant, ASSIGNED))

    def next(self, now: float) -> Question | float:
        """The open question that is to be asked in the background, or when one will be (never: infinity)."""
        if not self._open:
            return math.inf
        return self._open.popleft() if now >= self._not_before else self._not_before

    def abandon(self) -> None:
        """In a process that was forked: open questions are the parent's, and nobody holds the lock."""
        self._lock = threading.RLock()
        self._open.clear()

    def _learn(self, experiment: str, user_id: str, row: Any) -> Kept:
        """Remember what a row of an answer says."""
        parts = row if isinstance(row, dict) else {}
        variant, reason = parts.get("variant"), str(parts.get("reason"))
        name = variant.get("name") if isinstance(variant, dict) and reason == ASSIGNED else None
        return self._put(experiment, user_id, Kept(name if isinstance(name, str) else None, reason))

    def _put(self, experiment: str, user_id: str, kept: Kept) -> Kept:
        with self._lock:
            self._kept[experiment, user_id] = kept
            self._kept.move_to_end((experiment, user_id))
            if len(self._kept) > self._remembered:
                self._kept.popitem(last=False)
        return kept

    def _failed(self, now: float) -> None:
        self._not_before = now + _PAUSE + self._backoff.wait(self._jitter())


def _rows(answer: Answer | None) -> list[Any] | None:
    found = answer.document() if answer is not None and answer.is_good else None
    rows = found.get("assignments") if isinstance(found, dict) else None
    return rows if isinstance(rows, list) else None
