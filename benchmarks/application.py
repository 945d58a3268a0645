"""The product's own stores and experiments, as the benchmarks use them: in this process, or behind a real server."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from tests.callers import somebody
from tests.servers import UNLIMITED, RunningServer, running

from upshot import settings
from upshot.backends import open_stores
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, experiments
from upshot.variants import VariantDraft

CLIENT = "first"  # the client of tests.servers.TOKEN
ARMS = ("control", "blue", "green")

COUNTED = {f"UPSHOT_{name.upper()}": "999999/s" for name in UNLIMITED}
"""Every limit is asked, as for a caller, and reached by none."""

Answer = TypeVar("Answer")


class Application:
    """Stores in a folder, on an event loop like the server's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stores: Stores = self.run(open_stores(settings.load(data_dir=folder)))

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What a coroutine returns."""
        return self._runner.run(work)

    def experiment(self, **fields: Any) -> Experiment:
        """A running experiment of three equal arms."""
        draft = Draft(name="Benchmark", variants=[VariantDraft(name) for name in ARMS], **fields)
        return self.run(experiments.create(self.stores, somebody(CLIENT), draft))

    def close(self) -> None:
        """Let go of everything."""
        self.run(self.stores.close())
        self._runner.close()


def served(folder: Path) -> AbstractContextManager[RunningServer]:
    """A server process for the time of a block."""
    return running(folder, environment=COUNTED)


@contextmanager
def opened(folder: Path) -> Iterator[Application]:
    """The application for the time of a block."""
    application = Application(folder)
    try:
        yield application
    finally:
        application.close()


def create_experiment(server: RunningServer) -> str:
    """The id of a running experiment of three equal arms, made over HTTP."""
    with server.client() as client:
        answer = client.post("/experiments", json={"name": "Benchmark", "variants": [{"name": name} for name in ARMS]})
        answer.raise_for_status()
        return str(answer.json()["id"])
