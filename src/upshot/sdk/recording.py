"""What is told to the server: events as they happen, exposures once each. Nothing here waits, and nothing raises."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from upshot.clock import Clock
from upshot.errors import Invalid
from upshot.identifiers import EVENT_ID_LENGTH, EVENT_TYPE_LENGTH, fault_of_text, fault_of_user_id
from upshot.sdk.outbox import Item, Kind, Outbox, encoded
from upshot.sdk.prepared import tellable
from upshot.sdk.reports import Reports
from upshot.sdk.shown import Shown

UNUSABLE = (AttributeError, TypeError, ValueError, RecursionError)
"""What is raised by arguments that are not of the types they should be."""

_OFFSET = ("offset_required", "must say its offset from UTC")


class Recorder:
    """Puts exposures and events into the outbox.

    Args:
        wake: tells whoever sends that there is something.
    """

    def __init__(self, outbox: Outbox, clock: Clock, reports: Reports, wake: Callable[[], None]) -> None:
        self._outbox = outbox
        self._clock = clock
        self._reports = reports
        self._wake = wake
        self._shown = Shown()
        self._lock = threading.RLock()
        self.unusable = 0
        """How many could not be sent at all: a bad user id, properties that are no JSON."""

    def shown_in(self, experiment: str) -> dict[str, str]:
        """Who was lately shown which variant of an experiment; to be read only."""
        with self._lock:
            return self._shown.of(experiment)

    def forget(self, experiment: str, user_id: str) -> None:
        """An exposure did not arrive: the next one is told."""
        with self._lock:
            self._shown.forget(experiment, user_id)

    def show(self, experiment: str, user_id: str, variant: str, context: Mapping[str, Any]) -> None:
        """Tell that the user is shown the variant of the experiment (by id), unless that was told before."""
        with self._lock:
            if self._shown.knows(experiment, user_id, variant):
                return
            self._shown.add(experiment, user_id, variant)  # before it is sent, so that of two threads one tells
        parts = {
            "user_id": user_id,
            "experiment": experiment,
            "variant": variant,
            "exposed_at": self._clock.now().isoformat(),
        }
        try:
            fault = fault_of_user_id(user_id)
            content = encoded({**parts, "context": tellable(context)} if context else parts)
        except UNUSABLE:
            fault = ("invalid", "cannot be sent")
        if fault:
            self._refuse(*fault)
        if fault or not self._put(Kind.EXPOSURES, Item(content, (experiment, user_id))):
            self.forget(experiment, user_id)

    def track(
        self,
        user_id: str,
        event_type: str,
        properties: Mapping[str, Any],
        timestamp: datetime | None,
        event_id: str | None,
    ) -> None:
        """Tell that the user did something."""
        try:
            moment = timestamp or self._clock.now()
            identity = event_id or self._clock.new_id()
            fault = (
                fault_of_user_id(user_id)
                or fault_of_text(event_type, EVENT_TYPE_LENGTH)
                or fault_of_text(identity, EVENT_ID_LENGTH)
                or (_OFFSET if moment.tzinfo is None else None)
            )
            parts = {
                "user_id": user_id,
                "event_type": event_type,
                "timestamp": moment.isoformat(),
                "event_id": identity,
            }
            content = encoded({**parts, "properties": dict(properties)} if properties else parts)
        except UNUSABLE:
            fault = ("invalid", "cannot be sent")
        if fault:
            self._refuse(*fault)
        else:
            self._put(Kind.EVENTS, Item(content))

    def abandon(self) -> None:
        """In a process that was forked: what was told is still known, but nobody holds the lock."""
        self._lock = threading.RLock()
        self.unusable = 0

    def _put(self, kind: Kind, item: Item) -> bool:
        look_now = self._outbox.put(kind, item)
        if look_now:
            self._wake()
        return look_now is not None

    def _refuse(self, code: str, message: str) -> None:
        with self._lock:
            self.unusable += 1
        self._reports.tell("unusable", Invalid(f"What was recorded {message}."), code)
