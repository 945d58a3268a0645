"""Two servers that share a database and a cache, and callers that ask one what the other has answered."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.traffic import HALVES, Answer
from tests.faults.wire import NoAnswer, Wire
from tests.servers import TOKEN, RunningServer, running

CALLERS = 4
PACE = 0.04  # seconds between two requests of a caller: a hundred in a second, of all


class Load:
    """Callers at work on two servers, and what they were told."""

    def __init__(self, servers: Sequence[RunningServer], experiment: str, seed: int) -> None:
        self.servers, self.experiment = servers, experiment
        self.answers: list[Answer] = []
        self.told: dict[str, str] = {}
        self.flips = 0
        self.phases: list[tuple[str, float, float]] = []
        self._seed = seed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask for the time of the block."""
        stopping = threading.Event()
        threads = [threading.Thread(target=self._run, args=(number, stopping)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join(60)

    @contextmanager
    def phase(self, name: str, seconds: float) -> Iterator[None]:
        """A time in which the block's outage lasts."""
        begun = time.monotonic()
        yield
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        self.phases.append((name, begun, time.monotonic()))

    def took(self, begun: float, over: float) -> list[float]:
        """How long the assignments took that were asked for in a time."""
        return [each.seconds for each in self.answers if each.what != "events" and begun <= each.at < over]

    def _run(self, number: int, stopping: threading.Event) -> None:
        chance, own = random.Random(f"{self._seed}/{number}"), list[str]()
        wires = [Wire(server.url, TOKEN) for server in self.servers]
        while not stopping.wait(PACE):
            wire, choice = chance.choice(wires), chance.random()
            if choice < 0.15:
                event = {"user_id": f"u{number}", "event_type": "buy", "event_id": f"{number}-{len(self.answers)}"}
                self._ask("events", partial(wire.post, "/events", [event]))
            elif choice < 0.5 or not own:
                own.append(f"caller{number}-{len(own)}")
                self._assign("new", wire, own[-1])
            else:
                self._assign("known", wire, chance.choice(own))
        for wire in wires:
            wire.close()

    def _assign(self, what: str, wire: Wire, user: str) -> None:
        found = self._ask(what, partial(wire.get, f"/experiments/{self.experiment}/assignment/{user}"))
        if found is not None:
            self.flips += self.told.setdefault(user, found["variant_id"]) != found["variant_id"]

    def _ask(self, what: str, ask: Callable[[], tuple[int, Any]]) -> Any:
        begun = time.monotonic()
        try:
            status, content = ask()
        except NoAnswer:
            status, content = 0, None
        self.answers.append(Answer(what, begun, time.monotonic() - begun, status))
        return content if status in {200, 201} else None


@contextmanager
def sharing(database: str, cache: str, folder: Path, *command: str, **more: str) -> Iterator[list[RunningServer]]:
    """Two servers with a database and a cache, which start at the same moment."""
    environment = {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database, "CACHE_URL": cache} | more
    with ExitStack() as exits, ThreadPoolExecutor() as threads:
        made = [running(folder / name, *command, environment=environment) for name in ("one", "other")]
        yield list(threads.map(exits.enter_context, made))


@contextmanager
def loaded(database: str, cache: str, folder: Path, seed: int, *command: str, **more: str) -> Iterator[Load]:
    """Callers that ask two servers."""
    with sharing(database, cache, folder, *command, **more) as servers:
        with servers[0].client() as client:
            made = client.post("/experiments", json={"name": "shared", "variants": HALVES}).raise_for_status().json()
        load = Load(servers, made["id"], seed)
        with load.running():
            time.sleep(1)
            yield load
