"""Migrations make exactly the tables that the code works with, once, whoever starts first and whenever it is killed."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from upshot import control
from upshot.control import migrate
from upshot.control.tables import metadata
from upshot.errors import ConfigurationError


def differences(path: Path, expected: MetaData) -> list[object]:
    """What Alembic would still change to make the database equal to `expected`."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        found = list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), expected))
    engine.dispose()
    return found


async def test_migrations_equal_the_metadata(tmp_path: Path) -> None:
    """From empty to head: no table, column or constraint differs; a further table would be noticed."""
    path = tmp_path / "control.db"
    revision = await migrate.upgrade(f"sqlite:///{path}")
    other = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(other)
    Table("extra", other, Column("id", Integer, primary_key=True))

    assert revision == "0002"
    assert differences(path, metadata) == []
    assert differences(path, other) != []


async def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """Starting again on a migrated database is harmless."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    await migrate.upgrade(url)
    before = (tmp_path / "control.db").read_bytes()

    await migrate.upgrade(url)

    assert (tmp_path / "control.db").read_bytes() == before


async def test_of_several_starters_one_migrates(tmp_path: Path) -> None:
    """The others wait and find it done."""
    url = f"sqlite:///{tmp_path / 'control.db'}"

    revisions = await asyncio.gather(*(migrate.upgrade(url) for _ in range(5)))

    assert revisions == ["0002"] * 5


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """The program names both versions and does not start."""
    path = tmp_path / "control.db"
    await migrate.upgrade(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    with pytest.raises(ConfigurationError, match=r"9999.*0002"):
        await migrate.upgrade(f"sqlite:///{path}")


@pytest.mark.slow
def test_a_migration_that_is_killed_leaves_the_old_or_the_new_schema(tmp_path: Path) -> None:
    """Killed at twenty different moments, the database has no table or all, and the next run completes it."""
    script = (
        "import asyncio, sys; from upshot.control import migrate; "
        "print('go', flush=True); asyncio.run(migrate.upgrade(sys.argv[1]))"
    )
    seen = set()
    for attempt in range(20):
        path = tmp_path / f"{attempt}.db"
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"sqlite:///{path}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(attempt * 0.01)
        process.kill()
        process.wait()
        process.stdout.close()
        with sqlite3.connect(path) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
        seen.add(len(tables & set(metadata.tables)))
        assert asyncio.run(migrate.upgrade(f"sqlite:///{path}")) == "0002"
        assert differences(path, metadata) == []

    assert seen <= {0, len(metadata.tables)}


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "oracle://host/db", "sqlite:////proc/none/control.db"]
)
async def test_a_url_that_cannot_work_says_so(url: str) -> None:
    """One line that names the setting."""
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await control.connect(url)
