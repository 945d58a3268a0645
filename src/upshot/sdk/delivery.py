"""Sending exposures and events: in batches, one at a time, again where that may help. No I/O, no clock.

A batch goes out when it is full, or a second after its first item came. Then:

    2xx                        taken; what the server refused of it is counted, with its codes
    no answer, 408, 429, 3xx,  the server's state: the batch stays, and is sent again with full jitter from 100 ms to 30 s, not
    502, 503, 504              before `Retry-After`, within a budget of one early retry for ten successes
    401, 403                   the same, up to 60 s apart: a key can be put right
    other 5xx, unreadable 2xx  sent again, but five times at most: it may be the batch
    other 4xx                  refused for good, counted with the problem's code
"""

import math
from collections.abc import Callable
from datetime import datetime

from upshot.errors import Invalid
from upshot.sdk import retries
from upshot.sdk.exchange import JSON, Answer, Jitter, Purpose, Request, error_of
from upshot.sdk.outbox import BATCH, Item, Kind, Outbox
from upshot.sdk.reports import Reports
from upshot.sdk.retries import Retries

LINGER = 1.0
TRIES = 5
_SUBJECT = "delivery"
_REFUSED = "refused"


class Delivery:
    """The batch that is on its way, and what became of those before. `now` is of a monotonic clock, in seconds.

    Args:
        forget: is told of exposures that did not arrive (experiment and user), so that they can be told anew.
    """

    def __init__(self, outbox: Outbox, jitter: Jitter, reports: Reports, forget: Callable[[str, str], None]) -> None:
        self._outbox = outbox
        self._jitter = jitter
        self._reports = reports
        self._forget = forget
        self._retries = Retries()
        self._kind = Kind.EXPOSURES
        self._batch: list[Item] = []
        self._tries = 0
        self._not_before = -math.inf
        self._since: dict[Kind, float] = {}
        self.sent = 0
        self.refused = 0
        self.failed = 0
        self.conflicts = 0

    def next(self, now: float, wall: datetime, *, hurry: bool = False) -> Request | float:
        """The request that is due, or when one will be (never: infinity). In a hurry a batch need not be full."""
        if not self._batch:
            due = self._due(now, hurry=hurry)
            if now < due:
                return due
            self._batch = self._outbox.take(self._kind)
            self._tries = 0
        if now < self._not_before:
            return self._not_before
        body = b'{"sent_at":"%s","%s":[%s]}' % (
            wall.isoformat().encode(),
            self._kind.encode(),
            b",".join(item.content for item in self._batch),
        )
        return Request(Purpose.DELIVERY, "POST", f"/{self._kind}", JSON, body)

    def answered(self, answer: Answer | None, now: float, wall: datetime) -> None:
        """Take in an answer; None: there was none in time."""
        if answer is not None and answer.is_good:
            self._taken(answer, now, wall)
        elif answer is None or answer.says_later:
            self._again(answer, now, wall)
        elif answer.locks_out:
            self._reports.tell(_SUBJECT, error_of(answer), answer.code)
            self._not_before = now + self._retries.wait_locked_out(self._jitter())
        elif answer.status >= 500:
            self._doubtful(answer, now, wall)
        else:
            self._reports.tell(_REFUSED, error_of(answer), answer.code)
            self.refused += len(self._batch)
            self._settle(lost=self._batch)

    def abandon(self) -> None:
        """In a process that was forked: the batch is the parent's."""
        self._batch = []
        self._since = {}
        self.sent = self.refused = self.failed = self.conflicts = 0

    def _due(self, now: float, *, hurry: bool) -> float:
        """When the next batch is due; chooses its kind. Exposures go first: what a user does counts from there on."""
        earliest = math.inf
        for kind in Kind:
            waiting = self._outbox.waiting(kind)
            if not waiting:
                self._since.pop(kind, None)
                continue
            due = now if hurry or waiting >= BATCH else self._since.setdefault(kind, now) + LINGER
            if due < earliest:
                earliest, self._kind = due, kind
        return earliest

    def _taken(self, answer: Answer, now: float, wall: datetime) -> None:
        found = answer.document()
        rejected = found.get("rejected") if isinstance(found, dict) else None
        if not isinstance(rejected, list):
            self._doubtful(answer, now, wall)
            return
        if rejected:
            codes = {str(each.get("code")) for each in rejected if isinstance(each, dict)}
            self._reports.tell(
                _REFUSED, Invalid("The server refused a part of what was sent."), ", ".join(sorted(codes))
            )
        else:
            self._reports.well(_REFUSED)
        self.refused += len(rejected)
        self.sent += len(self._batch) - len(rejected)
        if self._kind is Kind.EXPOSURES:
            self.conflicts += int(found.get("conflicts") or 0)
        self._retries.end()
        self._reports.well(_SUBJECT)
        self._settle()

    def _again(self, answer: Answer | None, now: float, wall: datetime) -> None:
        self._reports.tell(_SUBJECT, error_of(answer), answer.code if answer else None)
        said = answer.headers.get("retry-after") if answer else None
        self._not_before = now + self._retries.wait(self._jitter(), retries.ordered(said, wall))

    def _doubtful(self, answer: Answer, now: float, wall: datetime) -> None:
        """It may be the batch: not for ever."""
        self._tries += 1
        self._again(answer, now, wall)
        if self._tries >= TRIES:
            self.failed += len(self._batch)
            self._settle(lost=self._batch)

    def _settle(self, lost: list[Item] | None = None) -> None:
        for item in lost or ():
            if item.shown:
                self._forget(*item.shown)
        self._outbox.settle(len(self._batch))
        self._since.pop(self._kind, None)
        self._batch = []
