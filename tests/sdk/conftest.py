"""What the tests of the SDK share: a scripted server, clients that end with their test, and nothing that goes wrong unseen."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.sdk.scripted import KEY, ScriptedServer, configuration, experiment, flag, scripted

from upshot.sdk import ExperimentClient

VALUES = {"control": "plain", "blue": "bold", "green": "calm"}


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    """A server with a running experiment, one with an override for "tester", and a flag that the first drives."""
    overridden = experiment("tried", overrides=[{"variant": "blue", "users": [], "targeting": {"countries": ["QA"]}}])
    flags = (flag("banner", "string", "none", experiment="id-button", values=VALUES),)
    with scripted(configuration(experiment(), overridden, flags=flags)) as server:
        yield server


@pytest.fixture
def connect(script: ScriptedServer) -> Iterator[Callable[..., ExperimentClient]]:
    """Makes clients of the scripted server that are ready."""
    made: list[ExperimentClient] = []

    def connected(**options: Any) -> ExperimentClient:
        client = ExperimentClient(script.url, KEY, **{"timeout": 20.0, "sticky_timeout": 20.0} | options)
        made.append(client)
        assert client.ready(10)
        return client

    yield connected
    for client in made:
        client.close(0.2)
