"""Servers that many tests share, one of each per test process, and a summary of what ran on which version.

A pytest plugin: the first conftest names it in `pytest_plugins`.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.backends.clickhouse import ClickHouse, clickhouse
from tests.backends.daemon import VERSIONS, ran, server_folder
from tests.backends.mariadb import USER as MARIADB_USER
from tests.backends.mariadb import MariaDB, mariadb
from tests.backends.postgresql import USER as POSTGRESQL_USER
from tests.backends.postgresql import PostgreSQL, postgresql

_LATER = {"postgresql", "mariadb", "clickhouse", "chdb", "pgbouncer", "rabbitmq", "redis", "kafka", "sqs"}
_LATER_FILES = {
    *(f"contract/test_{name}.py" for name in ("clickhouse", "filters", "metrics", "rollups")),
    *("backends/test_servers.py", "operations/test_celery.py", "http/test_hostile.py", "acceptance/test_story.py"),
    *("core/test_calibration.py", "core/statistics/test_calibration_rows.py"),
}
_LATER_FIXTURES = {"server", "port"}  # a real process, raw sockets
_EVENT_STORES = {"fresh", "store"}
_INTEGRATION = {"acceptance", "browser", "cli", "contract", "faults", "http", "migration", "operations"}
# Of `make test`, whose processes take module after module: first those that take long, so that both end at the same moment; those
# that watch a clock between others that keep a core busy.
_LONG = (
    "http/test_openapi.py", "faults/test_outages.py", "migration/test_migration.py", "faults/test_kill.py",
    "contract/test_eventqueue.py", "contract/test_identities.py", "faults/test_slow_clients.py", "contract/test_metrics.py",
    "faults/test_cache.py", "contract/test_eventstore.py", "faults/test_worker.py", "core/test_calibration.py",
    "cache/test_outages.py", "contract/test_clickhouse.py", "faults/test_backup.py", "acceptance/test_replay.py",
    "faults/test_retry_storm.py", "contract/test_filters.py", "faults/test_power_cut.py", "http/test_hostile.py",
    "faults/test_flips.py", "contract/test_rollups.py", "faults/test_disk_full.py", "core/statistics/test_calibration_rows.py",
    "operations/test_celery.py", "acceptance/test_story.py", "ratelimits/test_outages.py", "contract/test_control.py",
    "cache/test_groups.py", "operations/test_copies.py", "contract/test_links.py", "contract/test_delivery.py",
)  # fmt: skip
_MISSING = re.compile(r"(?:Skipped|Failed): (.+?): not installed, so not run; to have it: (.+)")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL server; take a fresh database of it."""
    with server_folder(POSTGRESQL_USER) as folder, postgresql(folder) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    """A MariaDB server; take a fresh database of it."""
    with server_folder(MARIADB_USER) as folder, mariadb(folder) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[ClickHouse]:
    """A ClickHouse server; take a fresh database of it."""
    with server_folder() as folder, clickhouse(folder) as server:
        ran("ClickHouse", server.version)
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make check` leaves to `make test`: what opens stores or the application, and what needs a server or takes long."""
    first = {place: number for number, place in enumerate(_LONG)}
    items.sort(key=lambda item: first.get(_place(item), len(first)))
    for item in items:
        said, fixtures = getattr(item, "callspec", None), set(getattr(item, "fixturenames", ()))
        words = set(re.findall("[a-z]+", " ".join(map(str, said.params.values())))) if said else set()
        elsewhere = "sqlite" in words and fixtures >= _EVENT_STORES  # control data are in SQLite, events in DuckDB
        if words & _LATER or _place(item) in _LATER_FILES or fixtures & _LATER_FIXTURES or elsewhere:
            item.add_marker(pytest.mark.slow)
        if _place(item).partition("/")[0] in _INTEGRATION:
            item.add_marker(pytest.mark.integration)


def _place(item: pytest.Item) -> str:
    return item.path.as_posix().rpartition("/tests/")[2]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands what it ran to the one that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = VERSIONS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take what a process of pytest-xdist ran."""
    VERSIONS.update(getattr(node, "workeroutput", {}).get("servers", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers ran, and shout which did not."""
    reports = [report for kind in ("skipped", "failed", "error") for report in terminalreporter.stats.get(kind, [])]
    reasons = [report.longrepr[2] if report.skipped else str(report.longrepr) for report in reports]
    missing = {found[1]: found[2] for reason in reasons for found in _MISSING.finditer(reason)}
    if not VERSIONS and not missing:
        return
    terminalreporter.section("servers")
    for server, version in sorted(VERSIONS.items()):
        terminalreporter.line(f"{server} {version}")
    for server, how in sorted(missing.items()):
        terminalreporter.line(f"NOT RUN: {server} is not installed; to have it: {how}", red=True, bold=True)
