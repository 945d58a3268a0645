"""The client for an event loop: decides where it is called, does everything else in a task of that loop."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

from upshot.sdk import lifetimes
from upshot.sdk.contract import NOTHING, Choice, Evaluation, T
from upshot.sdk.evaluation import evaluated
from upshot.sdk.exchange import Request
from upshot.sdk.local import LocalClient
from upshot.sdk.prepared import Prepared
from upshot.sdk.recording import UNUSABLE
from upshot.sdk.reports import OnError
from upshot.sdk.settings import Settings
from upshot.sdk.sticky import AsyncStickyStore, Keep, Look
from upshot.sdk.stored import Kept, Question
from upshot.sdk.task import Task

log = logging.getLogger("upshot.sdk")


class AsyncExperimentClient(LocalClient[AsyncStickyStore]):
    """`ExperimentClient` for an event loop: the same arguments and meanings; what may have to wait is awaited.

    Its task begins with the first use in a loop, and again in another loop or a forked child.

    >>> async with AsyncExperimentClient("http://127.0.0.1:8000", "upk_…") as client:
    ...     color = (await client.variant("checkout", "user-1", {"country": "US"})).or_else("control")
    ...     client.track("user-1", "purchase", {"price": 25.0})

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
        sticky: AsyncStickyStore | Literal["server"] | None = None,
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
        self._task: Task | None = None
        self._asking: Any = None
        lifetimes.register(self._end, self._abandon)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def ready(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109 - the caller's patience, not a cancellation
        """Wait until the server was asked for the configuration, at most so many seconds; whether there is one to decide by."""
        self._start()
        polling = self._protocol.polling
        if self._task is not None:
            await self._task.wait(lambda: self.is_configured and polling.tried, timeout)
        return self.is_configured

    async def variant(
        self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Choice:
        """What the user gets in the experiment (by key or id), and an exposure, once per user and variant. Never raises."""
        prepared = self._experiment(key)
        if prepared is None:
            return self._nowhere(key)
        try:
            if self._settings.sticky is None:
                choice = prepared.decide(user_id, context)
            else:
                choice = await self._kept(prepared, user_id, context)
            if prepared.shown.get(user_id) == choice.variant:
                return choice
            return self._settled(prepared, choice, user_id, context, expose=expose)
        except UNUSABLE:
            return self._unusable(prepared, user_id)

    async def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """What the user gets in every running experiment, by its key. No exposure: tell that with `expose`. Never raises."""
        running = self._running()
        if self._stored is not None:
            await self._ask_of_all(running, user_id, context)
        return {each.entry.key: await self.variant(each.entry.id, user_id, context, expose=False) for each in running}

    async def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The flag's value for the user; `default` where there is none of its type. Never raises."""
        return (await self.flag_details(key, user_id, default, context, expose=expose)).value

    async def flag_details(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Evaluation[T]:
        """The same, with the reason. The value of a running experiment's variant is an exposure, unless `expose` is false."""
        flag = self._flag(key)
        if flag is None:
            return self._no_flag(key, default)
        driver = self._experiments.get(flag.experiment) if flag.experiment else None
        choice = await self.variant(driver.entry.id, user_id, context, expose=False) if driver else None
        found = evaluated(flag, user_id, default, context, self._clock.now(), driver, choice)
        if expose:
            self._expose_flag(found, driver, choice, user_id, context)
        return found

    async def flush(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """Wait until all exposures and events are sent, at most so many seconds; whether they are."""
        self._start()
        if self._task is not None and len(self._outbox):
            await self._task.hurry(lambda: not len(self._outbox), timeout)
        return not len(self._outbox)

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109
        """Flush, and end: what is left after so many seconds is given up and counted. Decisions go on by what is known."""
        if self._closed:
            return
        if len(self._outbox):
            await self.flush(timeout)
        self._finish()
        task, self._task = self._task, None
        if task is not None:
            await task.stop()
        if self._asking is not None:
            await self._asking.aclose()

    def _start(self) -> None:
        """Begin the task in the running loop; where none runs, whoever comes next begins it."""
        task = self._task
        if task is not None and task.is_here:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._use_known()
        if not self._closed:
            self._asking = None
            self._task = Task(self._protocol, self._settings, self._transport, self._clock, self._take_in)
            self._task.start()
            lifetimes.begun(self._end)

    def _wake(self) -> None:
        self._start()
        if self._task is not None:
            self._task.wake()

    def _end(self, patience: float) -> None:
        """At the end of the process: no loop runs any more, or one in a thread that nobody waits for."""
        if self._closed:
            return
        if self._task is not None and self._task.is_running:
            self._task.flush_from_outside(self.flush, patience)
        else:
            self._drain(patience)
        self._finish()

    def _drain(self, patience: float) -> None:
        """Send what waits, without a loop."""
        deadline = time.monotonic() + patience
        if not len(self._outbox) or patience <= 0:
            return
        with self._transport.open_client(self._settings, min(patience, self._settings.timeout)) as http:
            while len(self._outbox) and (now := time.monotonic()) < deadline:
                step = self._protocol.next(now, self._clock.now(), hurry=True)
                if isinstance(step, Request):
                    answer = self._transport.exchange(http, step)
                    self._protocol.answered(step, answer, time.monotonic(), self._clock.now())
                else:
                    time.sleep(max(0.0, min(step, deadline) - now))

    def _abandon(self) -> None:
        super()._abandon()
        self._task = self._asking = None

    async def _kept(self, prepared: Prepared, user_id: str, context: Mapping[str, Any]) -> Choice:
        """What a user gets who keeps a variant."""
        steps = self._steps(prepared, prepared.decide, user_id, context)
        unanswered: Question | None = None
        found: Any = None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                choice: Choice = end.value
                break
            found = await self._carried(step)
            if isinstance(step, Question) and found is None:
                unanswered = step
        self._fall_back(unanswered, choice)
        return choice

    async def _carried(self, step: Look | Keep | Question) -> Any:
        """Carry out a step; None where that failed."""
        if isinstance(step, Question):
            return await self._asked(step)
        store = self._settings.store
        try:
            if store is not None and isinstance(step, Look):
                return await store.get(*step)
            if store is not None:
                await store.put(*step)
        except Exception:
            log.exception("the store of variants failed")
        return None

    async def _asked(self, question: Question) -> Kept | None:
        if not self._may_ask(question):
            return None
        answer = await self._transport.exchange_async(self._asker(), question.request)
        return self._answered(question, answer)

    async def _ask_of_all(self, running: Sequence[Prepared], user_id: str, context: Mapping[str, Any]) -> None:
        """Learn what the server has stored for a user, with one request for all experiments."""
        request = self._request_of_all(running, user_id, context)
        if request is not None:
            self._answered_of_all(user_id, await self._transport.exchange_async(self._asker(), request))

    def _asker(self) -> Any:
        """The connection of callers to the server."""
        if self._asking is None:
            self._asking = self._transport.open_async_client(self._settings, self._settings.sticky_timeout)
        return self._asking
