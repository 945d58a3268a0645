"""How fast does the Python SDK decide, against the SDKs of others and the least that a hash costs?

One task for all: three equal variants, one targeting rule (country in US, CA), three attributes, in this process, nothing sent.
Ours is `ExperimentClient.variant` with exposures on, for users who were exposed before (a first time is shown beside it); behind
OpenFeature it is our provider. The minimal loop hashes salt and user with SHA-256 and picks a third: no targeting, no reason, no
exposure. Goal: ≥ 0.8 of the loop's rate, and faster than every other SDK. Peers that are not installed are named as not run.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Measured, Sample
from benchmarks.peers import KEY, NAMES, PACKAGES, PEERS, Decide
from benchmarks.report import Row, Table, at_least
from upshot.sdk import ExperimentClient

SALT = "6fae61db-a90b-4f35-889d-279fa5416fc4"
ATTRIBUTES = {"country": "US", "device": "ios", "app_version": "2.1.0"}
ELSEWHERE = {**ATTRIBUTES, "country": "DE"}
USERS = 10_000


def minimal() -> Decide:
    """The least: SHA-256 of the salt and the user, and a third of its first 8 bytes."""
    salt = len(SALT).to_bytes(4, "big") + SALT.encode()
    sha256 = hashlib.sha256

    def decide(user: str, _attributes: dict[str, Any]) -> str:
        data = user.encode()
        digest = sha256(salt + len(data).to_bytes(4, "big") + data).digest()
        return NAMES[int.from_bytes(digest[:8], "big") * 3 >> 64]

    return decide


def document() -> dict[str, Any]:
    """The experiment as our server tells it."""
    variants = [
        {"id": name, "name": name, "is_control": name == "control", "weight": 1, "config": None} for name in NAMES
    ]
    rule = {"attribute": "country", "operator": "in", "value": ["US", "CA"]}
    experiment = {
        "id": SALT, "key": KEY, "status": "running", "phase": 1, "winner": None, "salt": SALT, "traffic": 1_000_000,
        "targeting": rule, "variants": variants, "layers": [], "holdouts": [], "overrides": [],
    }  # fmt: skip
    flag = {
        "key": KEY, "type": "string", "default": "", "enabled": True, "salt": KEY, "experiment": SALT, "rollout": None,
        "values": {name: name for name in NAMES},
    }  # fmt: skip
    return {"format": 1, "experiments": [experiment], "flags": [flag]}


def run(*, quick: bool) -> Table:
    """The table."""
    users = [f"user-{number}" for number in range(USERS // 10 if quick else USERS)]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        client, behind = _ours(Path(folder), stack)

        def ours(user: str, attributes: dict[str, Any]) -> str | None:
            return client.variant(KEY, user, attributes).variant

        deciders, missing = _peers()
        contestants: dict[str, Decide] = {"minimal": minimal(), "ours": ours, **deciders}
        if behind is not None:
            contestants["ours behind OpenFeature"] = behind
        _check(contestants, users)
        loops: dict[str, Callable[[], Sample]] = {
            name: partial(_timed, each, users) for name, each in contestants.items()
        }
        loops["minimal"] = partial(_timed_minimal, users)
        loops["ours"] = partial(_timed_ours, client, users)
        loops["first"] = _First(_ours(Path(folder), stack)[0], len(users))
        found = measure.alternate(loops)
    return Table("SDK decision in process", _rows(found, deciders), [*_notes(found), *missing])


def _ours(folder: Path, stack: ExitStack) -> tuple[ExperimentClient, Decide | None]:
    """Our client, whose server is away, and our provider, where OpenFeature is installed."""
    file = folder / "snapshot.json"
    file.write_text(json.dumps({"etag": '"1"', "confirmed_at": "2026-01-01T00:00:00+00:00", "document": document()}))
    client = ExperimentClient("http://127.0.0.1:9", "none", snapshot_file=file, queue_size=10_000_000)
    stack.callback(client.close, 0)
    try:
        from openfeature import api  # noqa: PLC0415 - not installed with the server
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415

        from upshot.sdk.openfeature import UpshotProvider  # noqa: PLC0415
    except ImportError:
        return client, None
    stack.callback(api.shutdown)
    api.set_provider_and_wait(UpshotProvider(client, patience=0.5), "upshot")
    features = api.get_client("upshot")
    return (
        client,
        lambda user, attributes: features.get_string_value(KEY, "", EvaluationContext(user, attributes)) or None,
    )


def _peers() -> tuple[dict[str, Decide], list[str]]:
    """The SDKs that are installed, and of the others what to install."""
    deciders: dict[str, Decide] = {}
    missing = []
    for name, make in PEERS.items():
        try:
            deciders[name] = make()
        except ImportError:
            missing.append(f"{name}: not run; `pip install {PACKAGES[name]}` in an environment of the benchmark's own.")
    return deciders, missing


def _check(contestants: dict[str, Decide], users: Sequence[str]) -> None:
    """Everybody does the same work: thirds for users in the US, nothing for others (but for the minimal loop)."""
    for name, decide in contestants.items():
        shares = Counter(decide(user, ATTRIBUTES) for user in users)
        assert set(shares) == set(NAMES), (name, shares)
        assert max(shares.values()) < 0.45 * len(users), (name, shares)
        assert name == "minimal" or decide(users[0], ELSEWHERE) is None, name


def _timed(decide: Decide, users: Sequence[str]) -> Sample:
    def work() -> None:
        for user in users:
            decide(user, ATTRIBUTES)

    return measure.timed(work, len(users))


def _timed_minimal(users: Sequence[str]) -> Sample:
    """The loop without the call of a function around it."""
    salt = len(SALT).to_bytes(4, "big") + SALT.encode()
    sha256 = hashlib.sha256

    def work() -> None:
        for user in users:
            data = user.encode()
            digest = sha256(salt + len(data).to_bytes(4, "big") + data).digest()
            NAMES[int.from_bytes(digest[:8], "big") * 3 >> 64]

    return measure.timed(work, len(users))


def _timed_ours(client: ExperimentClient, users: Sequence[str]) -> Sample:
    """As an application calls it: without a function around it, too."""
    variant = client.variant

    def work() -> None:
        for user in users:
            variant(KEY, user, ATTRIBUTES)

    return measure.timed(work, len(users))


class _First:
    """Decisions for users who were never exposed: each is recorded."""

    def __init__(self, client: ExperimentClient, count: int) -> None:
        self._client = client
        self._count = count
        self._rounds = 0

    def __call__(self) -> Sample:
        self._rounds += 1
        return _timed_ours(self._client, [f"new-{self._rounds}-{number}" for number in range(self._count)])


def _rows(found: dict[str, Measured], deciders: dict[str, Decide]) -> list[Row]:
    ours, minimal_loop = found["ours"], found["minimal"]
    rows = [at_least("minimal SHA-256 loop", _shown(ours), _shown(minimal_loop), ours.speed_against(minimal_loop), 0.8)]
    for name in deciders:
        what = f"{name} {version(PACKAGES[name])}"
        rows.append(at_least(what, _shown(ours), _shown(found[name]), ours.speed_against(found[name]), 1.0))
    behind, memory = found.get("ours behind OpenFeature"), found.get("OpenFeature in memory")
    if behind is not None and memory is not None:
        ratio = behind.speed_against(memory)
        rows.append(
            at_least("our OpenFeature provider, against theirs in memory", _shown(behind), _shown(memory), ratio)
        )
    return rows


def _notes(found: dict[str, Measured]) -> list[str]:
    return [f"The first decision for a user, with its exposure recorded: {_shown(found['first'])}."]


def _shown(found: Measured) -> str:
    return f"{found.micros:.2f} µs, {found.rate:,.0f}/s"
