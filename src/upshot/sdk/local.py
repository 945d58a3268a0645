"""What both clients are without their I/O: the configuration in use, what becomes of a decision, and what waits to be sent."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic

from upshot.assignment import ASSIGNED
from upshot.clock import SystemClock, jitter
from upshot.flags import Flag, Reason
from upshot.identifiers import fault_of_user_id
from upshot.sdk import contract
from upshot.sdk.contract import ERROR, INVALID_CONTEXT, INVALID_USER_ID, NOTHING, Choice, Evaluation, Stats, T
from upshot.sdk.delivery import Delivery
from upshot.sdk.exchange import Answer, Occasion, Request
from upshot.sdk.outbox import Outbox
from upshot.sdk.polling import Polling
from upshot.sdk.prepared import Decide, Prepared, tellable
from upshot.sdk.protocol import Outcome, Protocol
from upshot.sdk.recording import UNUSABLE, Recorder
from upshot.sdk.reports import Reports
from upshot.sdk.settings import Settings, Store
from upshot.sdk.snapshotfile import SnapshotFile
from upshot.sdk.sticky import Steps, by_server, by_store
from upshot.sdk.stored import Kept, Question, StoredAssignments, question_of_all
from upshot.snapshot import Entry, Snapshot

log = logging.getLogger("upshot.sdk")

Listener = Callable[[Occasion], None]


class LocalClient(ABC, Generic[Store]):
    """Decides, remembers, and keeps what is to be sent; who inherits carries the requests, in a thread or in a task.

    The experiments and flags in use are empty until that has begun in this process: so whoever finds none begins it.
    """

    def __init__(self, settings: Settings[Store]) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._reports = Reports(settings.on_error)
        self._outbox = Outbox(settings.queue_size, self._reports)
        self._recorder = Recorder(self._outbox, self._clock, self._reports, self._wake)
        self._stored = StoredAssignments(jitter) if settings.asks_server else None
        self._protocol = Protocol(
            Polling(settings.poll_seconds, jitter, self._reports),
            Delivery(self._outbox, jitter, self._reports, self._recorder.forget),
            self._stored,
        )
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._closed = False
        self._left = 0
        self._begun = False
        self._configured = False
        self._known: tuple[dict[str, Prepared], Mapping[str, Flag]] = ({}, {})
        self._experiments: Mapping[str, Prepared] = {}
        self._flags: Mapping[str, Flag] = {}
        self._file = SnapshotFile(settings.snapshot_file, self._reports) if settings.snapshot_file else None
        content = self._file.read() if self._file else b""
        restored = self._protocol.polling.restore(content) if content else None
        if restored is not None:
            self._adopt(restored)

    @abstractmethod
    def _wake(self) -> None:
        """Let the thread or the task look what there is to do; begin it where it has not begun."""

    @abstractmethod
    def _start(self) -> None:
        """Begin the thread or the task, if it has not begun in this process."""

    @property
    def stats(self) -> Stats:
        """What became of exposures and events, and how old the configuration is."""
        delivery, polling = self._protocol.delivery, self._protocol.polling
        return Stats(
            queued=len(self._outbox),
            sent=delivery.sent,
            dropped=self._outbox.dropped,
            refused=delivery.refused + self._recorder.unusable,
            failed=delivery.failed + self._left,
            conflicts=delivery.conflicts,
            last_error=self._reports.last,
            configuration=polling.version,
            age=polling.age(self._clock.now()),
        )

    def track(
        self,
        user_id: str,
        event_type: str,
        properties: Mapping[str, Any] = NOTHING,
        *,
        timestamp: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record that the user did something. Never raises, never waits.

        Args:
            timestamp: when, with its offset from UTC; now by default.
            event_id: an id of your own, where the same may be recorded twice; else one is made, so that a retry counts once.
        """
        self._recorder.track(user_id, event_type, properties, timestamp, event_id)

    def expose(self, key: str, user_id: str, variant: str, context: Mapping[str, Any] = NOTHING) -> None:
        """Record that the user is shown the variant of the experiment (by key), after a choice with `expose=False`.

        Told once per user and variant; who has the variant by an override is not told of. Never raises, never waits.
        """
        prepared = self._experiment(key)
        try:
            if prepared is not None and prepared.entry.decide.overridden(user_id, context) is not None:
                return
        except UNUSABLE:
            pass  # the recorder says what is wrong
        self._recorder.show(prepared.entry.id if prepared else key, user_id, variant, context)

    def watch(self, listener: Listener) -> None:
        """Call the listener of what happens to the configuration, from the client's own thread or task."""
        self._listeners.append(listener)

    def unwatch(self, listener: Listener) -> None:
        """Do not call the listener any more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def is_configured(self) -> bool:
        """Whether there is a configuration to decide by."""
        return self._configured

    @property
    def version(self) -> str | None:
        """The ETag of the configuration, without its quotes; None while there is none."""
        return self._protocol.polling.version

    def _experiment(self, key: str) -> Prepared | None:
        """The experiment of a key or an id."""
        self._start()
        try:
            return self._experiments.get(key)
        except TypeError:  # not even a key
            return None

    def _flag(self, key: str) -> Flag | None:
        self._start()
        try:
            return self._flags.get(key)
        except TypeError:
            return None

    def _use_known(self) -> None:
        """The thread or the task has begun: decide by what is known."""
        self._begun = True
        self._experiments, self._flags = self._known

    def _nowhere(self, key: str) -> Choice:
        reason = contract.UNKNOWN_EXPERIMENT if self.is_configured else contract.NO_CONFIGURATION
        return Choice(key, None, None, reason, is_control=False)

    def _no_flag(self, key: str, default: T) -> Evaluation[T]:
        if self.is_configured:
            code = contract.FLAG_NOT_FOUND
        else:
            code = contract.PARSE_ERROR if self._protocol.polling.unreadable else contract.NOT_READY
        return Evaluation(key, default, ERROR, error_code=code)

    def _settled(
        self, prepared: Prepared, choice: Choice, user_id: str, context: Mapping[str, Any], *, expose: bool
    ) -> Choice:
        """A choice that was not exposed before: exposed, where it is to be; of nobody, where the user cannot be recorded."""
        if choice.reason is not ASSIGNED:
            return choice
        if fault_of_user_id(user_id):
            return prepared.without(INVALID_USER_ID)
        if expose:
            self._show(prepared, choice, user_id, context)
        return choice

    def _unusable(self, prepared: Prepared, user_id: object) -> Choice:
        """The choice where an argument is not what it should be."""
        try:
            sound = isinstance(user_id, str) and bool(user_id.encode())
        except UnicodeEncodeError:
            sound = False
        return prepared.without(INVALID_CONTEXT if sound else INVALID_USER_ID)

    def _show(self, prepared: Prepared, choice: Choice, user_id: str, context: Mapping[str, Any]) -> None:
        if self._settings.exposures and prepared.entry.is_running and choice.variant is not None:
            self._recorder.show(prepared.entry.id, user_id, choice.variant, context)

    def _expose_flag(
        self,
        found: Evaluation[T],
        driver: Prepared | None,
        choice: Choice | None,
        user_id: str,
        context: Mapping[str, Any],
    ) -> None:
        """A flag that shows the variant of a running experiment is an exposure, like the choice itself."""
        if found.experiment is None or found.reason != Reason.SPLIT or driver is None or choice is None:
            return
        if driver.shown.get(user_id) != choice.variant:
            self._show(driver, choice, user_id, context)

    def _adopt(self, found: Snapshot) -> None:
        """Decide by another configuration from now on."""
        by_id: dict[str, Prepared] = {}
        for entry in found.experiments.values():
            if entry.id not in by_id:
                by_id[entry.id] = self._prepared(entry)
        self._known = ({name: by_id[entry.id] for name, entry in found.experiments.items()}, found.flags)
        if self._begun:
            self._use_known()
        self._configured = True

    def _prepared(self, entry: Entry) -> Prepared:
        return Prepared(entry, self._recorder.shown_in(entry.id))

    def _running(self) -> list[Prepared]:
        self._start()
        return [*{p.entry.id: p for p in self._experiments.values() if p.entry.is_running}.values()]

    def _take_in(self, outcome: Outcome) -> None:
        """What an answer changed."""
        if outcome.snapshot is not None:
            self._adopt(outcome.snapshot)
            if self._file is not None:
                self._file.write(self._protocol.polling.document)
        for occasion in outcome.occasions:
            for listener in tuple(self._listeners):
                try:
                    listener(occasion)
                except Exception:
                    log.exception("a listener failed")

    def _steps(self, prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any]) -> Steps:
        """How the choice of a user who keeps a variant is found."""
        if self._stored is None:
            return by_store(prepared, decide, user_id, context)
        return by_server(prepared, decide, user_id, context, self._stored.get(prepared.entry.id, user_id))

    def _may_ask(self, question: Question) -> bool:
        """Whether the caller may wait for the server; where not, the question is asked in the background."""
        if self._closed or self._stored is None:
            return False
        may = self._stored.may_ask(time.monotonic(), question)
        if not may:
            self._wake()
        return may

    def _answered(self, question: Question, answer: Answer | None) -> Kept | None:
        kept = self._stored.answered(question, answer, time.monotonic()) if self._stored else None
        if kept is None:
            self._wake()
        return kept

    def _request_of_all(self, running: Sequence[Prepared], user_id: str, context: Mapping[str, Any]) -> Request | None:
        """The question about a user in all experiments, where something is not known yet and the caller may wait."""
        stored = self._stored
        try:
            if stored is None or self._closed or fault_of_user_id(user_id) or not stored.may_ask(time.monotonic()):
                return None
            if stored.knows_all((each.entry.id for each in running), user_id):
                return None
            return question_of_all(user_id, tellable(context))
        except UNUSABLE:
            return None

    def _answered_of_all(self, user_id: str, answer: Answer | None) -> None:
        if self._stored is not None:
            self._stored.answered_of_all(user_id, answer, time.monotonic())

    def _fall_back(self, question: Question | None, choice: Choice) -> None:
        """Where a question found no answer, the user keeps what the hash gave."""
        if question is not None and self._stored is not None and choice.variant is not None:
            self._stored.fall_back(question, choice.variant)

    def _finish(self) -> None:
        """Nothing is taken in any more; what waits is given up, and counted."""
        self._closed = True
        self._left += self._outbox.close()

    def _abandon(self) -> None:
        """In a process that was forked: what waits is the parent's, the thread or the task too. What is known stays."""
        self._lock = threading.RLock()
        self._begun = False
        self._experiments, self._flags = {}, {}
        self._outbox.abandon()
        self._recorder.abandon()
        self._protocol.abandon()
