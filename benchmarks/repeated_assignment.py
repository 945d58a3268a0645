"""How fast is the question that is asked most, the assignment that a user has already?

Over HTTP with 64 keep-alive connections, from a running server. Yardsticks: a bare ASGI application that answers as many bytes,
on the same uvicorn with httptools and uvloop, with our protocol (goal ≥ 0.7 of its rate) and without; a plain FastAPI route
that answers the same JSON (goal ≥ 4 times its rate); and, where it is installed, Unleash, which decides anew each time.
"""

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import load, measure, peerservers
from benchmarks.application import create_experiment, served
from benchmarks.measure import Measured
from benchmarks.report import Table, at_least
from benchmarks.yardsticks import serving

CONNECTIONS = 64
USERS = 2_000


def run(*, quick: bool) -> Table:
    """The table."""
    seconds = 0.5 if quick else 2.0
    with tempfile.TemporaryDirectory() as name, load.Generator() as generator, ExitStack() as stack:
        folder = Path(name)
        ours = stack.enter_context(served(folder / "server"))
        experiment = create_experiment(ours)
        paths = [f"/experiments/{experiment}/assignment/user-{number}" for number in range(USERS)]
        requests = [load.get(path) for path in paths]
        generator.run(ours, CONNECTIONS, requests)  # the first time
        with ours.client() as client:
            content = client.get(paths[0]).content
        servers = {"ours": ours} | {
            kind: stack.enter_context(serving(kind, folder, content)) for kind in ("bounded", "raw", "fastapi")
        }
        asked = {kind: partial(generator.run, each, CONNECTIONS, requests, seconds) for kind, each in servers.items()}
        peer = stack.enter_context(peerservers.unleash())
        if peer is not None:
            questions = [peerservers.request(f"user-{number}") for number in range(USERS)]
            asked["unleash"] = partial(generator.run, peer, CONNECTIONS, questions, seconds)
        found = measure.alternate(asked)
    mine = found["ours"]
    rows = [
        at_least(what, _shown(mine), f"{name}: {_shown(found[kind])}", mine.speed_against(found[kind]), goal)
        for what, kind, name, goal in (
            ("raw ASGI, same protocol", "bounded", "raw ASGI, BoundedProtocol", 0.7),
            ("raw ASGI, uvicorn's own protocol", "raw", "raw ASGI, httptools", None),
            ("FastAPI route", "fastapi", "plain FastAPI route", 4.0),
        )
    ]
    if peer is not None:
        other = found["unleash"]
        rows.append(
            at_least(
                "a peer server", _shown(mine), f"Unleash {peer.version}: {_shown(other)}", mine.speed_against(other)
            )
        )
    costs = ", ".join(f"{kind} {mine.cost_against(found[kind]):.2f}" for kind in found if kind != "ours")
    return Table("Repeated assignment", rows, [f"CPU of the server per request, ours as a multiple of: {costs}."])


def _shown(found: Measured) -> str:
    return f"{found.rate:,.0f}/s, p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms, {found.cpu_micros:.0f} µs CPU"
