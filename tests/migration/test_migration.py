"""Migrations make exactly the tables that the code works with, once, whoever starts first and whenever it is killed.

SQLite, PostgreSQL and MariaDB; the latter commits every statement that changes a schema, so that a migration which was broken
off there is run again.
"""

import asyncio
import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from tests.contract.databases import NAMES, Fresh, fresh
from tests.faults.conftest import seed
from tests.faults.reporting import say
from tests.migration.databases import (
    EARLIER,
    HEAD,
    BrokenOff,
    Rows,
    connected,
    described,
    differences,
    earlier_release,
    partitions,
    stamped,
    watched,
)
from tests.migration.processes import migrating

from upshot import control
from upshot.access import EVERYONE
from upshot.analysisplan import AnalysisPlan
from upshot.control import migrate
from upshot.control.schema import metadata
from upshot.control.tables import PARTITIONS
from upshot.database import parsed, schema
from upshot.errors import ConfigurationError, Unavailable

__all__ = ["fresh", "seed"]

NEW_COLUMNS = {"plan"}
TRANSACTIONAL = ("sqlite", "postgresql")
KILLS = 20
PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # a process that has imported what each would import again for a second
PROCESSES.set_forkserver_preload(["tests.migration.processes"])

Schema = dict[str, dict[str, str]]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """A database system."""
    return str(request.param)


@pytest.fixture
def url(name: str, fresh: Fresh) -> str:
    """An empty database."""
    return fresh(name)


@pytest.fixture(scope="module")
def targets() -> dict[str, Schema]:
    """The schema that the code works with, in each database system in which it has been made."""
    return {}


@pytest.fixture
def target(name: str, fresh: Fresh, targets: dict[str, Schema]) -> Schema:
    """The schema that the code works with."""
    if name not in targets:
        made = fresh(name)
        with connected(made) as connection:
            metadata.create_all(connection)
        targets[name] = described(made)
    return targets[name]


async def test_migrations_equal_the_metadata(url: str, name: str, target: Schema) -> None:
    """From empty to head: no table, column, constraint or collation differs; a further table would be noticed."""
    revision = await migrate.upgrade(url)
    other = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(other)
    Table("extra", other, Column("id", Integer, primary_key=True))

    assert revision == HEAD
    assert differences(url) == []
    assert described(url) == target
    assert differences(url, other) != []
    assert len(partitions(url)) == (PARTITIONS if name == "postgresql" else 0)


@pytest.mark.parametrize(
    ("revision", "users"),
    [
        *((each, 2_000) for each in EARLIER),
        pytest.param(EARLIER[0], 100_000, marks=pytest.mark.slow),
    ],  # every step on many rows
)
async def test_an_earlier_release_is_upgraded_with_all_its_rows(
    url: str, target: Schema, revision: str, users: int
) -> None:
    """Every row is there as it was, and the schema is the same as a new database's; a changed row would be noticed."""
    rows = earlier_release(url, revision, users)
    assert described(url) != target

    assert await migrate.upgrade(url) == HEAD

    assert rows.counts["assignments"] == users
    assert rows.summed(url) == rows.checksum
    assert described(url) == target
    assert differences(url) == []
    with connected(url) as connection:
        connection.execute(text("UPDATE assignments SET phase = 2 WHERE user_id = 'User-7-ü'"))
    assert rows.summed(url) != rows.checksum


@pytest.mark.parametrize("revision", EARLIER)
async def test_an_experiment_of_an_earlier_release_has_the_default_plan(url: str, revision: str) -> None:
    """Locked when it started, without any definition; and it can be stored again."""
    earlier_release(url, revision, users=10)

    store = await control.connect(url)
    try:
        async with store.transaction(EVERYONE) as transaction:
            found = await transaction.experiment("one", "Key-1")
            assert found is not None
            assert found.plan == AnalysisPlan(locked_at=found.started_at)
            assert found.plan.locked_at is not None
            await transaction.save("one", found)
            assert await transaction.experiment("one", "Key-1") == found
    finally:
        await store.close()


@pytest.mark.parametrize("revision", EARLIER)
async def test_an_earlier_release_that_still_runs_can_write(url: str, revision: str) -> None:
    """Servers are replaced one by one: what the previous one adds after the migration is read as its older experiments are."""
    earlier_release(url, revision, users=10)
    await migrate.upgrade(url)
    with connected(url) as connection:
        found = MetaData()
        found.reflect(connection, only=["experiments"])
        columns = [column for column in found.tables["experiments"].columns if column.name not in NEW_COLUMNS]
        values = dict(connection.execute(select(*columns).limit(1)).one()._mapping)

        connection.execute(found.tables["experiments"].insert(), values | {"number": 99, "id": "late", "key": "late"})

    store = await control.connect(url)
    try:
        async with store.reading(EVERYONE) as view:
            assert [e.key for e in (await view.experiments("one", limit=1)).experiments] == ["late"]
    finally:
        await store.close()


async def test_a_second_run_changes_nothing(url: str) -> None:
    """Starting again on a migrated database is harmless; the first run is seen to change it."""
    with watched() as first:
        await migrate.upgrade(url)
    before = described(url)

    with watched() as second:
        await migrate.upgrade(url)

    assert len(first) > len(metadata.tables)
    assert second == []
    assert described(url) == before


async def test_a_second_run_does_not_touch_the_file(tmp_path: Path) -> None:
    """SQLite's file is the same to the last byte."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    await migrate.upgrade(url)
    before = (tmp_path / "control.db").read_bytes()

    await migrate.upgrade(url)

    assert (tmp_path / "control.db").read_bytes() == before


async def test_of_several_threads_one_migrates(url: str, target: Schema) -> None:
    """The others wait and find it done."""
    with watched() as statements:
        revisions = await asyncio.gather(*(migrate.upgrade(url) for _ in range(5)))

    assert revisions == [HEAD] * 5
    assert sum("CREATE TABLE" in statement and "leases" in statement for statement in statements) == 1
    assert described(url) == target


async def test_the_others_wait_until_it_is_committed(url: str) -> None:
    """However long the commit takes, nobody begins in between."""

    def slowly(_connection: object) -> None:
        time.sleep(0.5)

    event.listen(Engine, "commit", slowly)
    try:
        with watched() as statements:
            assert await asyncio.gather(*(migrate.upgrade(url) for _ in range(2))) == [HEAD] * 2
    finally:
        event.remove(Engine, "commit", slowly)
    assert sum("CREATE TABLE" in statement and "leases" in statement for statement in statements) == 1


@pytest.mark.slow
def test_of_several_processes_one_migrates(url: str, target: Schema) -> None:
    """The others wait and find it done."""
    processes = [Migrating(url) for _ in range(4)]
    for process in processes:
        process.go()

    assert [process.revision() for process in processes] == [HEAD] * 4
    assert described(url) == target
    assert differences(url) == []


async def test_several_databases_are_migrated_at_once(name: str, fresh: Fresh) -> None:
    """In one process, each gets its own schema."""
    urls = [fresh(name) for _ in range(4)]

    assert await asyncio.gather(*map(migrate.upgrade, urls)) == [HEAD] * 4
    assert [differences(url) for url in urls] == [[]] * 4


async def test_whoever_migrates_for_too_long_is_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program says so, and leaves the schema alone."""
    monkeypatch.setattr(schema, "_WAIT_SECONDS", 1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with schema.changing(parsed(url, "DATABASE_URL"), "DATABASE_URL"):
            held.set()
            done.wait(30)

    holding = asyncio.create_task(asyncio.to_thread(hold))
    await asyncio.to_thread(held.wait)
    try:
        with watched() as statements, pytest.raises((Unavailable, ConfigurationError), match=r"lock|nother process"):
            await migrate.upgrade(url)
    finally:
        done.set()
        await holding
    assert statements == []
    assert await migrate.upgrade(url) == HEAD


async def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    """The program names both versions and does not start."""
    await migrate.upgrade(url)
    with connected(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = described(url)

    with watched() as statements, pytest.raises(ConfigurationError, match=rf"9999.*{HEAD}"):
        await migrate.upgrade(url)

    assert statements == []
    assert described(url) == before


async def broken_off_everywhere(name: str, fresh: Fresh, target: Schema, revision: str | None = None) -> list[str]:
    """Break a migration, from empty or from a revision, off again and again, each time one statement that changes something
    later, until it comes to its end; what is wrong then, or on the way.

    MariaDB commits each statement: a run begins where the one before was broken off, at the step that the database does not say
    it has seen, whose statements before it does again. Elsewhere it is each time as if nothing had begun, and in a transaction
    one statement is like another.
    """
    url = fresh(name)
    rows = earlier_release(url, revision, 20) if revision else None
    before, last = described(url), 1
    while True:
        seen = stamped(url)
        with watched(last):
            try:
                await migrate.upgrade(url)
            except BrokenOff:
                pass
            except (Unavailable, ConfigurationError, DBAPIError) as error:
                return [f"after {seen} and {last}: {error}"]
            else:
                break
        if name not in TRANSACTIONAL:
            last = last + 1 if stamped(url) == seen else 1
        elif described(url) == before:
            last += 4
        else:
            return [f"after {last}: not the old schema"]
    faults = [str(found) for found in differences(url)]
    if described(url) != target:
        faults.append("another schema")
    if rows is not None and rows.summed(url) != rows.checksum:
        faults.append("other rows")
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, *EARLIER])
async def test_a_migration_that_is_broken_off_anywhere_is_completed(
    name: str, fresh: Fresh, target: Schema, revision: str | None
) -> None:
    """After whichever statement; where the database has transactions for it, it is as if nothing had begun."""
    assert await broken_off_everywhere(name, fresh, target, revision) == []


BROKEN = {
    "sqlite": ('    op.create_table(\n        "variants"', '    op.execute("COMMIT")\n    op.execute("BEGIN")\n'),
    "postgresql": ('    op.create_table(\n        "variants"', '    op.execute("COMMIT")\n    op.execute("BEGIN")\n'),
    "mariadb": ("        if_not_exists=True,\n", ""),
}


@pytest.mark.slow
async def test_a_step_that_cannot_be_run_again_is_noticed(
    name: str, fresh: Fresh, target: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that commits in between, or on MariaDB does not look whether its table is there."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate._SCRIPTS, scripts)
    step = next(scripts.glob("versions/0001_*.py"))
    sound = step.read_text(encoding="utf-8")
    place, instead = BROKEN[name]
    broken = sound.replace(place, instead + place if instead else "", 1)
    assert broken != sound
    step.write_text(broken, encoding="utf-8")
    monkeypatch.setattr(migrate, "_SCRIPTS", scripts)

    assert await broken_off_everywhere(name, fresh, target) != []


class Migrating:
    """A process that migrates when it is told to."""

    def __init__(self, url: str) -> None:
        self._ours, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=migrating, args=(url, theirs))
        self.process.start()
        theirs.close()
        assert self._ours.recv() == "ready"

    def go(self) -> None:
        """Have it migrate."""
        self._ours.send("go")

    def revision(self) -> str:
        """What it has migrated to, when it has."""
        assert self._ours.poll(60)
        found = str(self._ours.recv())
        self.process.join()
        return found


def seconds_to_migrate(url: str) -> float:
    """How long a process needs."""
    process = Migrating(url)
    begin = time.monotonic()
    process.go()
    assert process.revision() == HEAD
    return time.monotonic() - begin


def killed(url: str, seconds: float) -> None:
    """Have a process migrate, and kill it after so many seconds."""
    process = Migrating(url)
    process.go()
    time.sleep(seconds)
    process.process.kill()
    process.process.join()


@pytest.mark.slow
def test_a_migration_that_is_killed_is_completed_by_the_next(
    name: str, fresh: Fresh, target: Schema, seed: int
) -> None:
    """At twenty different moments, from empty and from earlier releases: kill −9, then the next run; no row is harmed.

    A kill that came after the end says that a run takes less time than was measured, when the machine was busy perhaps.
    """
    moments = random.Random(seed)
    starts: list[Callable[[str], Rows | None]] = [
        lambda _: None,
        *(partial(earlier_release, revision=revision, users=200) for revision in EARLIER),
    ]
    durations: list[float] = []
    for start in starts:
        url = fresh(name)
        start(url)
        durations.append(seconds_to_migrate(url))
    cut = 0
    for attempt in range(KILLS):
        turn = attempt % len(starts)
        seconds = durations[turn] * (attempt + moments.random()) / KILLS
        url = fresh(name)
        rows = starts[turn](url)
        old = described(url)
        killed(url, seconds)
        found = described(url)
        if found == target:
            durations[turn] = seconds
        else:
            cut += 1
        if name in TRANSACTIONAL:
            assert found in (old, target)
        assert asyncio.run(migrate.upgrade(url)) == HEAD
        assert differences(url) == []
        assert described(url) == target
        assert rows is None or rows.summed(url) == rows.checksum
    say(f"{name}: {cut} of {KILLS} kills came before the end")
    assert cut > KILLS // 4


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "oracle://host/db", "sqlite:////proc/none/control.db"]
)
async def test_a_url_that_cannot_work_says_so(url: str) -> None:
    """One line that names the setting."""
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await control.connect(url)
