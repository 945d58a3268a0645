"""Flips: many processes ask for the same users while the allocation changes under them; nobody's variant ever changes."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.backends import redis
from tests.backends.postgresql import PostgreSQL
from tests.faults.reporting import of, say
from tests.servers import TOKEN, RunningServer, running

from upshot import experiments, lifecycle
from upshot.clock import SystemClock
from upshot.experiments import Draft
from upshot.variants import VariantDraft

PROCESSES = 8
CHANGE_SECONDS = 0.05
FLUSH_SECONDS = 0.1
ARMS = ("control", "blue", "green")
ROOT = Path(__file__).parents[2]

Told = dict[str, set[str]]  # user → the variants that anyone was told


class Size(NamedTuple):
    """How much is asked."""

    users: int  # of one process
    rounds: int  # that each is asked for, and a little more, since what does not fill a batch is not asked
    pool: int  # of which the users are drawn: most are asked for by several processes


ONE_SERVER = Size(2_500, 6, 5_000)
TWO_SERVERS = Size(1_000, 4, 2_000)


@pytest.mark.slow
def test_no_variant_changes_while_processes_ask_and_the_allocation_changes(server: RunningServer, seed: int) -> None:
    """Eight processes ask a hundred thousand times, one by one and in batches; the allocation changes twenty times a second."""
    answers = check_flips([server], seed, ONE_SERVER)

    assert answers >= 100_000


@pytest.mark.slow
def test_no_variant_changes_between_servers_whose_shared_cache_is_flushed(
    postgresql_server: PostgreSQL, tmp_path: Path, seed: int
) -> None:
    """Two servers on one database, asked by turns; the allocation changes and their Redis is emptied all the time."""
    with ExitStack() as exits:
        store = exits.enter_context(redis.running(tmp_path))
        database = postgresql_server.database("flips")
        environment = {"DATABASE_URL": database, "UPSHOT_EVENTS_URL": database, "CACHE_URL": store.url}
        servers = [exits.enter_context(running(tmp_path / name, environment=environment)) for name in ("one", "other")]
        flushes = exits.enter_context(flushing(store))

        answers = check_flips(servers, seed, TWO_SERVERS)

        assert answers >= 28_000
        assert len(flushes) >= 10
        assert sum(flushes) > 500  # it was used: so many copies were thrown away
        say(f"flushed {len(flushes)} times, with up to {max(flushes):,} keys")


def check_flips(servers: Sequence[RunningServer], seed: int, size: Size) -> int:
    """Nobody is told two variants, by whichever server; how many answers there were."""
    with servers[0].client() as client:
        arms = [{"name": name, "weight": 1} for name in ARMS]
        experiment = str(client.post("/experiments", json={"name": "flips", "variants": arms}).json()["id"])
        begun = time.monotonic()
        with changing(servers[0], experiment, seed) as changes:
            reports = asked_by_processes(servers, experiment, seed, size)
        took = time.monotonic() - begun
        result = client.get(f"/experiments/{experiment}/results").json()
    told = merged((user, variant) for report in reports for user, seen in report["told"].items() for variant in seen)
    answers: int = sum(report["answers"] for report in reports)
    requests = sum(report["requests"] for report in reports)
    asked = f"{answers:,} answers in {requests:,} requests of {PROCESSES} processes"
    say(f"{asked}, {len(changes)} allocations, {took:.0f} s")
    differing = sum(len(variants) - 1 for variants in told.values())
    say(of(len(flipped(told)), len(told), "users flipped") + "; " + of(differing, answers, "answers differed"))
    say(f"crossovers in the results: {result['health']['crossovers']} of {result['summary']['total_users']:,} users")
    assert len(changes) > 20
    assert not flipped(told)
    assert sum(report["new"] for report in reports) == len(told)  # every user was new exactly once
    assert result["health"]["crossovers"] == 0
    assert 0 < result["summary"]["total_users"] <= len(told)
    return answers


@contextmanager
def flushing(store: redis.Redis) -> Iterator[list[int]]:
    """Empty a server again and again for the time of a block; yields how many keys it had each time."""
    done, flushes = threading.Event(), list[int]()

    def flush() -> None:
        while not done.wait(FLUSH_SECONDS):
            flushes.append(store.ask("DBSIZE"))
            store.ask("FLUSHALL")

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield flushes
    finally:
        done.set()
        thread.join(10)


@pytest.mark.slow
def test_a_hash_without_a_store_is_caught(seed: int) -> None:
    """The negative control: the same users asked as often under such allocations, decided each time anew."""
    clock, chance = SystemClock(), random.Random(seed)
    experiment = experiments.create(Draft("flips", [VariantDraft(name) for name in ARMS]), clock.now(), clock.new_id)
    phases = [experiment]
    for weights in allocations(random.Random(seed)):
        drafts = [VariantDraft(name, weight=Decimal(weight)) for name, weight in zip(ARMS, weights, strict=True)]
        phases.append(lifecycle.change(phases[-1], {"variants": drafts}, clock.now(), clock.new_id, ()))
        if len(phases) == 100:
            break
    told = merged(
        (user, variant.id)
        for user in (f"user-{index}" for index in range(ONE_SERVER.pool))
        for _ in range(ONE_SERVER.rounds)
        if (variant := chance.choice(phases).decide(user, {}).variant) is not None
    )
    say(of(len(flipped(told)), len(told), "users flipped"))
    assert len(flipped(told)) > len(told) / 10


def merged(answers: Iterable[tuple[str, str]]) -> Told:
    """Every variant that each user was given."""
    told: Told = {}
    for user, variant in answers:
        told.setdefault(user, set()).add(variant)
    return told


def flipped(told: Told) -> list[str]:
    """The users who saw more than one variant."""
    return [user for user, variants in told.items() if len(variants) > 1]


def allocations(chance: random.Random) -> Iterator[tuple[int, int, int]]:
    """Allocations for ever; now and then an arm is closed."""
    while True:
        yield (chance.randint(1, 9), chance.randint(0, 9), chance.randint(0, 9))


def asked_by_processes(
    servers: Sequence[RunningServer], experiment: str, seed: int, size: Size
) -> list[dict[str, Any]]:
    """What the client processes report, which begin together; each asks one server."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.asking", servers[number % len(servers)].url, TOKEN, experiment,
             f"{seed}/{number}", *map(str, size)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        reports = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return [json.loads(report) for report in reports]


@contextmanager
def changing(server: RunningServer, experiment: str, seed: int) -> Iterator[list[tuple[int, int, int]]]:
    """Change the allocation every 50 ms for the time of a block; yields the allocations that were acknowledged."""
    done, changes = threading.Event(), list[tuple[int, int, int]]()
    failures: list[str] = []
    thread = threading.Thread(target=_change, args=(server, experiment, seed, done.wait, changes, failures))
    thread.start()
    try:
        yield changes
    finally:
        done.set()
        thread.join(60)
    assert not failures, failures[:3]


def _change(
    server: RunningServer,
    experiment: str,
    seed: int,
    wait: Callable[[float], bool],
    changes: list[tuple[int, int, int]],
    failures: list[str],
) -> None:
    with server.client() as client:
        for weights in allocations(random.Random(seed)):
            arms = [{"name": name, "weight": weight} for name, weight in zip(ARMS, weights, strict=True)]
            answer = client.patch(f"/experiments/{experiment}", json={"variants": arms})
            if answer.status_code == 200:
                changes.append(weights)
            else:
                failures.append(answer.text)
            if wait(CHANGE_SECONDS):
                return
