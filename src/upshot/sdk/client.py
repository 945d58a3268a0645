"""The client for threads: decides in the caller's thread, does everything else in one of its own."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

from upshot.sdk import lifetimes
from upshot.sdk.contract import NOTHING, Choice, Evaluation, T
from upshot.sdk.evaluation import evaluated
from upshot.sdk.local import LocalClient
from upshot.sdk.prepared import Decide, Prepared
from upshot.sdk.recording import UNUSABLE
from upshot.sdk.reports import OnError
from upshot.sdk.settings import Settings
from upshot.sdk.sticky import Keep, Look, StickyStore
from upshot.sdk.stored import Kept, Question
from upshot.sdk.worker import Worker
from upshot.snapshot import Entry

log = logging.getLogger("upshot.sdk")


class ExperimentClient(LocalClient[StickyStore]):
    """Decides locally by the server's configuration, and tells the server what was shown and what users did.

    Nothing of it raises or waits in the caller's path, but `ready`, `flush` and `close`, which wait as long as they are told to,
    and `sticky="server"`, which waits for the server once per user and experiment. Any thread may use it. Its own thread begins
    with the first use in a process, and again in a child that was forked.

    >>> with ExperimentClient("http://127.0.0.1:8000", "upk_…") as client:
    ...     color = client.variant("checkout", "user-1", {"country": "US"}).or_else("control")
    ...     client.track("user-1", "purchase", {"price": 25.0})

    Args:
        url: of the server.
        key: an API key with the scopes `assign` and `events:write`, or a token.
        poll_seconds: how often to ask for another configuration.
        stream: let the server tell of another configuration; where it cannot, polling goes on.
        snapshot_file: keeps the last good configuration, for a start while the server is away.
        sticky: None: by the hash, which moves users when the shares change; "server": as the server has stored; or your store.
        sticky_timeout: how long a decision waits for the server with sticky="server"; seconds.
        exposures: whether choices are told to the server; `expose` always tells.
        on_error: is called with what goes wrong, once until it is well again, mostly from the client's thread.
        timeout: of each step of a request in the background; seconds.
        queue_size: how many exposures and events wait at most.

    Raises:
        ConfigurationError: an argument cannot be.
    """

    def __init__(  # noqa: PLR0913 - what can be set is the contract
        self,
        url: str,
        key: str,
        *,
        poll_seconds: float = 10.0,
        stream: bool = False,
        snapshot_file: str | PathLike[str] | None = None,
        sticky: StickyStore | Literal["server"] | None = None,
        sticky_timeout: float = 0.5,
        exposures: bool = True,
        on_error: OnError | None = None,
        timeout: float = 5.0,
        queue_size: int = 10_000,
    ) -> None:
        from upshot.sdk import transport  # noqa: PLC0415 - httpx is not loaded with the package

        self._transport = transport
        settings = Settings(
            url,
            key,
            poll_seconds,
            stream,
            snapshot_file,
            sticky,
            sticky_timeout,
            exposures,
            on_error,
            timeout,
            queue_size,
        )
        super().__init__(settings)
        self._renew()
        lifetimes.register(self._end, self._abandon)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ready(self, timeout: float = 5.0) -> bool:
        """Wait until the server was asked for the configuration, at most so many seconds; whether there is one to decide by."""
        self._start()
        polling = self._protocol.polling
        self._worker.wait(lambda: self.is_configured and polling.tried, timeout)
        return self.is_configured

    def variant(self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True) -> Choice:
        """What the user gets in the experiment (by key or id), and an exposure, once per user and variant. Never raises.

        Args:
            context: what is known of the user, for targeting and breakdowns: texts, numbers, booleans.
            expose: whether the user is shown it now; else tell so later with `expose`.
        """
        try:
            prepared = self._experiments[key]
        except (KeyError, TypeError):
            found = self._experiment(key)
            if found is None:
                return self._nowhere(key)
            prepared = found
        try:
            choice = prepared.decide(user_id, context)
            if prepared.shown.get(user_id) == choice.variant:
                return choice
            return self._settled(prepared, choice, user_id, context, expose=expose)
        except UNUSABLE:
            return self._unusable(prepared, user_id)

    def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """What the user gets in every running experiment, by its key. No exposure: tell that with `expose`. Never raises."""
        running = self._running()
        if self._stored is not None:
            self._ask_of_all(running, user_id, context)
        return {each.entry.key: self.variant(each.entry.id, user_id, context, expose=False) for each in running}

    def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The flag's value for the user; `default` where there is none of its type. Never raises."""
        return self.flag_details(key, user_id, default, context, expose=expose).value

    def flag_details(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Evaluation[T]:
        """The same, with the reason. The value of a running experiment's variant is an exposure, unless `expose` is false."""
        flag = self._flag(key)
        if flag is None:
            return self._no_flag(key, default)
        driver = self._experiments.get(flag.experiment) if flag.experiment else None
        choice = self.variant(driver.entry.id, user_id, context, expose=False) if driver else None
        found = evaluated(flag, user_id, default, context, self._clock.now(), driver, choice)
        if expose:
            self._expose_flag(found, driver, choice, user_id, context)
        return found

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all exposures and events are sent, at most so many seconds; whether they are."""
        if not len(self._outbox):
            return True
        self._start()
        return self._worker.hurry(lambda: not len(self._outbox), timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Flush, and end: what is left after so many seconds is given up and counted. Decisions go on by what is known."""
        if self._closed:
            return
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._finish()
        self._worker.stop(max(0.1, deadline - time.monotonic()))
        if self._asking is not None:
            self._asking.close()

    def _end(self, patience: float) -> None:
        self.close(patience)

    def _renew(self) -> None:
        """What belongs to this process alone."""
        self._worker = Worker(self._protocol, self._settings, self._transport, self._clock, self._take_in)
        self._asking: Any = None

    def _abandon(self) -> None:
        super()._abandon()
        self._renew()

    def _start(self) -> None:
        if self._begun:
            return
        with self._lock:
            if not self._begun:
                self._use_known()
                if not self._closed:
                    self._worker.start()
                    lifetimes.begun(self._end)

    def _wake(self) -> None:
        self._start()
        self._worker.wake()

    def _prepared(self, entry: Entry) -> Prepared:
        prepared = super()._prepared(entry)
        if self._settings.sticky is not None:
            prepared.decide = partial(self._kept, prepared, prepared.decide)
        return prepared

    def _kept(self, prepared: Prepared, decide: Decide, user_id: str, context: Mapping[str, Any]) -> Choice:
        """What a user gets who keeps a variant."""
        steps = self._steps(prepared, decide, user_id, context)
        unanswered: Question | None = None
        found: Any = None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                choice: Choice = end.value
                break
            found = self._carried(step)
            if isinstance(step, Question) and found is None:
                unanswered = step
        self._fall_back(unanswered, choice)
        return choice

    def _carried(self, step: Look | Keep | Question) -> Any:
        """Carry out a step; None where that failed."""
        if isinstance(step, Question):
            return self._asked(step)
        store = self._settings.store
        try:
            if store is not None and isinstance(step, Look):
                return store.get(*step)
            if store is not None:
                store.put(*step)
        except Exception:
            log.exception("the store of variants failed")
        return None

    def _asked(self, question: Question) -> Kept | None:
        if not self._may_ask(question):
            return None
        answer = self._transport.exchange(self._asker(), question.request)
        return self._answered(question, answer)

    def _ask_of_all(self, running: Sequence[Prepared], user_id: str, context: Mapping[str, Any]) -> None:
        """Learn what the server has stored for a user, with one request for all experiments."""
        request = self._request_of_all(running, user_id, context)
        if request is not None:
            self._answered_of_all(user_id, self._transport.exchange(self._asker(), request))

    def _asker(self) -> Any:
        """The connection of callers to the server."""
        with self._lock:
            if self._asking is None:
                self._asking = self._transport.open_client(self._settings, self._settings.sticky_timeout)
            return self._asking
