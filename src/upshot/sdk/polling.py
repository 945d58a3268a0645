"""The configuration: when it is asked for, and what an answer does to it. No I/O, no clock.

Asked for with its ETag at every poll, a random tenth earlier or later; while a stream tells of changes, only every five minutes.
What cannot be read never replaces what could.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime

from upshot import snapshot
from upshot.errors import Malformed
from upshot.sdk import retries
from upshot.sdk.exchange import Answer, Jitter, Occasion, Purpose, Request, error_of
from upshot.sdk.reports import Reports
from upshot.sdk.retries import Retries
from upshot.snapshot import Snapshot

SUBJECT = "configuration"
STALE_POLLS = 3
WITH_STREAM = 300.0
_SPREAD = 0.1
_PATIENCE = 5
_BEHIND = 0.5
"""Seconds between two tries to get a configuration that the stream told of."""


class Polling:
    """What is known of the configuration, and when to ask again. `now` is of a monotonic clock, in seconds."""

    def __init__(self, seconds: float, jitter: Jitter, reports: Reports) -> None:
        self._seconds = seconds
        self._jitter = jitter
        self._reports = reports
        self._retries = Retries()
        self._due = -math.inf
        self._not_before = -math.inf
        self._wanted: str | None = None
        self._patience = 0
        self._hints = self._heeded = 0
        self._etag: str | None = None
        self._confirmed: datetime | None = None
        self._stale = False
        self._failed = False
        self.streaming = False
        """Whether a stream tells of changes."""
        self.tried = False
        """Whether the server was asked at least once."""
        self.unreadable = False
        """Whether the last document could not be read."""
        self.document = b""
        """The last good document, with its ETag and time, as it is kept in a file."""

    @property
    def version(self) -> str | None:
        """The ETag of the configuration, without its quotes; None while there is none."""
        return self._etag and self._etag.strip('"')

    def age(self, wall: datetime) -> float | None:
        """Seconds since the server confirmed the configuration; None while there is none."""
        return None if self._confirmed is None else max(0.0, (wall - self._confirmed).total_seconds())

    def next(self, now: float) -> Request | float:
        """The request that is due, or when one will be."""
        due = max(self._due, self._not_before)
        if now < due:
            return due
        self._heeded = self._hints
        headers = {"If-None-Match": self._etag} if self._etag else {}
        return Request(Purpose.CONFIGURATION, "GET", "/sdk/config", headers)

    def hint(self, etag: str | None = None) -> None:
        """There may be another one than we have: ask at once, unless the server wants to be left alone.

        Args:
            etag: of the one that there is, where that is known. Another process of the server may be a second behind: it is asked
                for a few times.
        """
        if etag is None or etag != self._etag:
            self._wanted, self._patience = etag, _PATIENCE
            self._hints += 1
            self._due = -math.inf

    def alive(self, wall: datetime) -> None:
        """The stream gave a sign of life: what would have changed it would have told."""
        if self._confirmed is not None and not self._stale:
            self._confirmed = wall

    def restore(self, document: bytes) -> Snapshot | None:
        """The configuration that was kept in a file; None where it cannot be read."""
        try:
            kept = json.loads(document)
            found = snapshot.read(kept["document"])
            etag, confirmed = kept["etag"], datetime.fromisoformat(kept["confirmed_at"])
        except (Malformed, KeyError, TypeError, ValueError, RecursionError):
            self._reports.tell("snapshot file", Malformed("The snapshot file cannot be read."))
            return None
        if self._etag is not None or confirmed.tzinfo is None:
            return None
        self._etag = etag if isinstance(etag, str) else None
        self._confirmed = confirmed
        return found

    def answered(
        self, answer: Answer | None, now: float, wall: datetime
    ) -> tuple[Snapshot | None, tuple[Occasion, ...]]:
        """Take in an answer (None: there was none in time); the configuration where there is another one, and what happened."""
        self.tried = True
        if answer is not None and answer.status == 304 and self._etag:
            return None, self._confirm(now, wall)
        if answer is None or answer.status != 200:
            return None, self._fail(answer, now, wall)
        document = answer.document()
        try:
            found = snapshot.read(document)
        except (Malformed, RecursionError):
            self.unreadable = True
            self._reports.tell(SUBJECT, Malformed("The configuration cannot be read."), "unreadable_configuration")
            self._due = now + self._interval()
            return None, self._failing(wall)
        known = self._confirmed is not None
        changed = answer.headers.get("etag") != self._etag or not known
        self._etag = answer.headers.get("etag")
        self.unreadable = False
        kept = {"etag": self._etag, "confirmed_at": wall.isoformat(), "document": document}
        self.document = json.dumps(kept, separators=(",", ":")).encode()
        occasions = self._confirm(now, wall)
        if not known:
            occasions = (Occasion.READY,)
        elif changed:
            occasions = (*occasions, Occasion.CHANGED)
        return found, occasions

    def _confirm(self, now: float, wall: datetime) -> tuple[Occasion, ...]:
        self._confirmed = wall
        self._retries.end()
        self._reports.well(SUBJECT)
        self._due = now + self._interval()
        if self._hints != self._heeded:
            self._due = -math.inf  # told of while this one was on its way
        elif self._wanted is not None and self._wanted != self._etag and self._patience:
            self._patience -= 1
            self._due = now + _BEHIND
        was_unwell = self._stale or self._failed
        self._stale = self._failed = False
        return (Occasion.READY,) if was_unwell else ()

    def _fail(self, answer: Answer | None, now: float, wall: datetime) -> tuple[Occasion, ...]:
        self._reports.tell(SUBJECT, error_of(answer), answer.code if answer else None)
        if answer is not None and answer.locks_out:
            self._not_before = now + self._retries.wait_locked_out(self._jitter())
            return self._failing(wall)
        headers: Mapping[str, str] = answer.headers if answer else {}
        ordered = retries.ordered(headers.get("retry-after"), wall)
        self._not_before = now + self._retries.wait(self._jitter(), ordered)
        return self._aged(wall)

    def _failing(self, wall: datetime) -> tuple[Occasion, ...]:
        was_failed, self._failed = self._failed, True
        return self._aged(wall) if was_failed else (Occasion.FAILED, *self._aged(wall))

    def _aged(self, wall: datetime) -> tuple[Occasion, ...]:
        age = self.age(wall)
        if self._stale or age is None or age < STALE_POLLS * self._seconds:
            return ()
        self._stale = True
        return (Occasion.STALE,)

    def _interval(self) -> float:
        seconds = max(WITH_STREAM, self._seconds) if self.streaming else self._seconds
        return seconds * (1 - _SPREAD + 2 * _SPREAD * self._jitter())
