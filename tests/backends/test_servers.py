"""The servers of the tests do what the tests ask of them, and leave nothing behind."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from tests.backends import wait_until
from tests.backends.daemon import alive, server_folder
from tests.backends.mariadb import USER as MARIADB_USER
from tests.backends.mariadb import MariaDB, mariadb
from tests.backends.pgbouncer import USER as PGBOUNCER_USER
from tests.backends.pgbouncer import pgbouncer
from tests.backends.postgresql import USER as POSTGRESQL_USER
from tests.backends.postgresql import PostgreSQL, postgresql

pytest_plugins = ["pytester"]
SHARED = ["postgresql_server", "mariadb_server"]
PRIVATE: dict[str, tuple[Callable[[Path], AbstractContextManager[PostgreSQL | MariaDB]], str | None]] = {
    "postgresql": (postgresql, POSTGRESQL_USER),
    "mariadb": (mariadb, MARIADB_USER),
}


@pytest.fixture(params=PRIVATE)
def private(request: pytest.FixtureRequest) -> Iterator[PostgreSQL | MariaDB]:
    """Each kind of server, one for this test, which may kill it."""
    starting, user = PRIVATE[request.param]
    with server_folder(user) as folder, starting(folder) as server:
        yield server


@pytest.mark.parametrize("name", SHARED)
def test_a_database_is_fresh_every_time(request: pytest.FixtureRequest, name: str) -> None:
    """Asked for twice, the second is empty."""
    server: PostgreSQL | MariaDB = request.getfixturevalue(name)

    first = server.database("fresh")
    server.ask("CREATE TABLE kept (value integer)", "fresh")
    second = server.database("fresh")
    server.ask("CREATE TABLE kept (value integer)", "fresh")

    assert first == second
    assert first.endswith("/fresh")
    assert server.version[0].isdigit()


@pytest.mark.parametrize("name", SHARED)
def test_a_paused_server_does_not_answer_until_it_is_resumed(request: pytest.FixtureRequest, name: str) -> None:
    """What was asked meanwhile is answered afterwards."""
    server: PostgreSQL | MariaDB = request.getfixturevalue(name)

    server.pause()
    try:
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(server.ask, "SELECT 7")
            with pytest.raises(TooLate):
                answer.result(0.5)
            server.resume()

            assert answer.result(10) == 7
    finally:
        server.resume()


def test_a_killed_server_keeps_a_committed_row(private: PostgreSQL | MariaDB) -> None:
    """It comes back on the same port, with everything that was committed."""
    url, killed = private.url, private.pids
    private.ask("CREATE TABLE kept (value integer)")
    private.ask("INSERT INTO kept VALUES (7)")

    private.kill()
    left = [pid for pid in killed if alive(pid)]
    private.restart()

    assert left == []
    assert private.url == url
    assert private.ask("SELECT value FROM kept") == 7


@pytest.mark.parametrize("name", PRIVATE)
def test_nothing_is_left_of_a_server_not_even_of_a_paused_one(name: str) -> None:
    """No process and no file."""
    starting, user = PRIVATE[name]

    with server_folder(user) as folder, starting(folder) as server:
        started = server.pids
        server.pause()

    assert started
    assert [pid for pid in started if alive(pid)] == []
    assert not folder.exists()


@pytest.mark.parametrize("name", PRIVATE)
def test_a_server_does_not_outlive_a_test_process_that_was_killed(name: str) -> None:
    """Not even a paused one, which could not end itself."""
    user = PRIVATE[name][1]
    killed = f"""
import os, pathlib, sys
from tests.backends.{name} import {name}
with {name}(pathlib.Path(sys.argv[1])) as server:
    server.pause()
    print(*server.pids, flush=True)
    os.kill(os.getpid(), 9)
"""
    with server_folder(user) as folder:
        command = [sys.executable, "-c", killed, str(folder)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False)
        left = [int(pid) for pid in done.stdout.split()]

        wait_until(lambda: not any(map(alive, left)), 10, "the end of the server's processes")

    assert done.returncode == -9
    assert left


def test_a_replica_follows_and_can_lag(postgresql_server: PostgreSQL) -> None:
    """It shows what the primary committed, later when it is held back, and takes no writes."""
    url = postgresql_server.database("copied")
    with (
        server_folder(POSTGRESQL_USER) as folder,
        postgresql_server.replica(folder) as replica,
        psycopg.connect(url, autocommit=True) as primary,
        psycopg.connect(replica.url.removesuffix("upshot") + "copied", autocommit=True) as copy,
    ):
        count = "SELECT count(*) FROM kept"
        primary.execute("CREATE TABLE kept (value integer)")
        replica.catch_up()
        with replica.lagging():
            primary.execute("INSERT INTO kept VALUES (7)")
            behind = copy.execute(count).fetchone()
        replica.catch_up()

        assert behind == (0,)
        assert copy.execute(count).fetchone() == (1,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            copy.execute("INSERT INTO kept VALUES (8)")


def test_the_pooler_shares_one_connection_between_clients(postgresql_server: PostgreSQL) -> None:
    """Two clients whose transactions do not overlap meet the same backend of the server."""
    with (
        server_folder(PGBOUNCER_USER) as folder,
        pgbouncer(postgresql_server.database("pooled"), folder) as pooler,
        psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as first,
        psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as second,
    ):
        backends = [client.execute("SELECT pg_backend_pid()").fetchone() for client in (first, second)]

        assert backends[0] == backends[1]
        assert pooler.version[0].isdigit()


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_the_summary_names_what_ran_and_what_did_not(pytester: pytest.Pytester, processes: tuple[str, ...]) -> None:
    """Once per server, whichever process of the run had it."""
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        import pytest
        from tests.backends import unavailable
        from tests.backends.daemon import ran

        @pytest.fixture(scope="session")
        def absent():
            unavailable("Quux Server", "apt install quux")

        @pytest.mark.parametrize("number", range(4))
        def test_present(number):
            ran("Present", "1.2.3")

        @pytest.mark.parametrize("number", range(4))
        def test_absent(absent, number):
            pass
        """
    )
    root = str(Path(__file__).parents[2])
    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", root)
    environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    environment.delenv("CI", raising=False)

    with environment.context():
        output = pytester.runpytest_subprocess("-p", "tests.backends.fixtures", "-p", "xdist", *processes).stdout

    output.fnmatch_lines(["Present 1.2.3", "NOT RUN: Quux Server is not installed; to have it: apt install quux"])
    assert str(output).count("NOT RUN") == 1
