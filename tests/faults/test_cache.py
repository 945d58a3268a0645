"""Servers that share a cache which is refused, paused, emptied, failed over and resharded under load: nobody notices.

Two servers on one PostgreSQL. What one of them has answered is asked of the other, so that answers come through the Redis between
them; every answer is compared with the first one of its user, and in the end with what is stored.
"""

import itertools
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from redis.crc import key_slot
from tests.backends import redis, wait_until
from tests.backends.postgresql import PostgreSQL
from tests.faults.reporting import of, percentile, say
from tests.faults.sharing import Load, loaded, sharing
from tests.faults.traffic import HALVES
from tests.faults.watching import states

ADDED_SECONDS = 0.06  # what an outage may add to the 99th percentile in its first second
NOISE_SECONDS = 0.1  # what a busy machine adds to it
BACK_SECONDS = 5.0
SEEN_SECONDS = 2.0
SLOTS = 30
STOCK = (sys.executable, str(Path(__file__).with_name("broken_server.py")), "serve")

pytestmark = pytest.mark.slow


def check(load: Load) -> None:
    """No error, no flip, nothing lost, and nobody waited longer than an outage of the cache may make one wait."""
    normal = next((begun, over) for name, begun, over in load.phases if name == "normal")
    usual = percentile(load.took(*normal), 0.99)
    late = []
    for name, begun, over in load.phases:
        parts = (
            (("", begun, over),)
            if name == "normal"
            else (("first second", begun, begun + 1), ("then", begun + 1, over))
        )
        for part, since, until in parts:
            took = load.took(since, until)
            if not took:
                late.append(f"{name} {part}: nobody was answered")
                continue
            p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
            say(f"{name} {part}: {len(took)} assignments, p50 {p50:.4f} s, p99 {p99:.4f} s, max {max(took):.3f} s")
            if p99 > usual + ADDED_SECONDS + NOISE_SECONDS:
                late.append(f"{name} {part}")
    statuses = Counter(answer.status for answer in load.answers)
    failed = sum(count for status, count in statuses.items() if status not in {200, 201})
    say(of(failed, len(load.answers), "requests failed") + "; " + of(load.flips, len(load.told), "users flipped"))
    assert not failed, statuses
    assert not load.flips
    assert not late
    check_stored(load)


def check_stored(load: Load) -> None:
    """What callers were told is stored, as both servers say."""
    users = list(load.told)
    for server in load.servers:
        with server.client() as client:
            for start in range(0, len(users), 1_000):
                asked = {"users": users[start : start + 1_000]}
                found = client.post(f"/experiments/{load.experiment}/assignments", json=asked).raise_for_status().json()
                for stored in found["assignments"]:
                    assert not stored["is_new"]
                    assert stored["variant_id"] == load.told[stored["user_id"]]


def back(load: Load) -> float:
    """How many seconds it takes until both servers say that their cache is well."""
    begun = time.monotonic()
    wait_until(lambda: [states(server)["cache"] for server in load.servers] == ["ok"] * 2, BACK_SECONDS, "the cache")
    return time.monotonic() - begun


def test_an_outage_of_the_cache_is_felt_by_nobody(postgresql_server: PostgreSQL, tmp_path: Path, seed: int) -> None:
    """Refused, paused, and back empty: no error, no flip, and 60 ms at most in the 99th percentile."""
    (tmp_path / "redis").mkdir()
    with (
        redis.running(tmp_path / "redis") as store,
        loaded(postgresql_server.database("outage"), store.url, tmp_path, seed) as load,
    ):
        with load.phase("normal", 5):
            hits = b"keyspace_hits:0\r" not in store.ask("INFO", "stats")
        with load.phase("refused", 5):
            store.kill()
            time.sleep(3)
            away = [states(server)["cache"] for server in load.servers]
            ready = [httpx.get(f"{server.url}/readyz", timeout=5).status_code for server in load.servers]
        store.restart()
        say(f"back after {back(load):.2f} s")
        with load.phase("paused", 5):
            store.pause()
        store.resume()
        say(f"back after {back(load):.2f} s")
        store.lose()
        store.restart()
        say(f"back after {back(load):.2f} s")
        with load.phase("empty", 5):
            pass
        refilled = store.ask("DBSIZE")

        check(load)
    assert hits
    assert (away, ready) == (["away"] * 2, [200] * 2)
    assert refilled > 0


def test_a_change_is_seen_by_the_other_server_within_two_seconds(postgresql_server: PostgreSQL, tmp_path: Path) -> None:
    """However warm its copies are; and it is not unseen again."""
    (tmp_path / "redis").mkdir()
    users, took = itertools.count(), []
    with (
        redis.running(tmp_path / "redis") as store,
        sharing(postgresql_server.database("seen"), store.url, tmp_path) as (one, other),
        one.client() as changing,
        other.client() as asking,
    ):
        made = (
            changing.post("/experiments", json={"name": "shared", "variants": HALVES}).raise_for_status().json()["id"]
        )

        def told() -> str:
            found = asking.get(f"/experiments/{made}/assignment/user-{next(users)}").raise_for_status()
            return str(found.json()["reason"])

        for traffic, expected in ((0, "not_in_traffic"), (100, "assigned")) * 2:
            over = time.monotonic() + 0.7
            while time.monotonic() < over:
                told()
            changing.patch(f"/experiments/{made}", json={"traffic_percentage": traffic}).raise_for_status()
            begun = time.monotonic()
            while told() != expected:
                assert time.monotonic() < begun + SEEN_SECONDS
            took.append(time.monotonic() - begun)
            assert [told() for _ in range(50)] == [expected] * 50
        hits = b"keyspace_hits:0\r" not in store.ask("INFO", "stats")
    say(f"seen after {', '.join(f'{each:.2f}' for each in took)} s")
    assert hits


def test_a_client_as_it_comes_is_caught(postgresql_server: PostgreSQL, tmp_path: Path, seed: int) -> None:
    """The negative control: redis-py with its own limits hangs while the server is paused."""
    (tmp_path / "redis").mkdir()
    with (
        redis.running(tmp_path / "redis") as store,
        loaded(postgresql_server.database("stock"), store.url, tmp_path, seed, *STOCK, BREAK="stock") as load,
    ):
        with load.phase("normal", 3):
            pass
        with load.phase("paused", 4):
            store.pause()
        store.resume()

        with pytest.raises(AssertionError):
            check(load)


def test_a_failover_of_the_cache_is_felt_by_nobody(postgresql_server: PostgreSQL, tmp_path: Path, seed: int) -> None:
    """The primary is killed; two seconds later the Sentinels name another, which is used within five."""
    with (
        redis.sentinels(tmp_path) as group,
        loaded(postgresql_server.database("failover"), group.url, tmp_path, seed) as load,
    ):
        with load.phase("normal", 3):
            pass
        with load.phase("failover", 5):
            dead = group.fail_over()
        say(f"used again {back(load):.2f} s later")
        with load.phase("the other", 3):
            dead.restart()
        kept = group.primary.ask("DBSIZE")

        check(load)
    assert kept > 0


def test_a_resharding_of_the_cache_is_felt_by_nobody(postgresql_server: PostgreSQL, tmp_path: Path, seed: int) -> None:
    """Slots with their keys move from one node to another and back, one after the other."""
    with (
        redis.cluster(tmp_path) as group,
        loaded(postgresql_server.database("resharding"), group.url, tmp_path, seed) as load,
    ):
        with load.phase("normal", 3):
            pass
        first, second, _ = group.nodes
        slots = sorted({key_slot(key) for key in first.ask("KEYS", "*")})[:SLOTS]
        with load.phase("resharding", 3):
            begun = time.monotonic()
            group.move(slots, first, second)
            moved = second.ask("DBSIZE")
            group.move(slots, second, first)
            say(f"{len(slots)} slots there and back in {time.monotonic() - begun:.1f} s")
        well = [states(server)["cache"] for server in load.servers]

        check(load)
    assert len(slots) >= 20
    assert moved > len(slots)
    assert well == ["ok"] * 2
