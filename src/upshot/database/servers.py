"""PostgreSQL and MySQL: connections whose every wait has an end, also when the server is paused or a cable is cut.

A statement's own time limit is kept by the server; a server that is stopped keeps none. So each transaction has a deadline
here as well, past which its socket is shut down: the driver then fails at once, as it does for any lost connection.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from upshot.errors import ConfigurationError

CONNECT_SECONDS = 2
POOL_SECONDS = 1
LOCK_SECONDS = 2
IDLE_SECONDS = 10

LOST = frozenset({"40001", "40P01", "1213"})  # a serialization failure or a deadlock: the same again may well succeed
WAITED = frozenset({"55P03", "57014", "1205", "3024"})  # waited for a lock, or ran, longer than is allowed
REFUSED = frozenset({"28000", "28P01", "3D000", "1044", "1045", "1049"})  # our name, password or database is wrong

# PgBouncer in transaction mode forgets what a session set: limits are set in every transaction, in its first round trip.
_POSTGRESQL = (
    f"SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '{LOCK_SECONDS * 1000}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS * 1000}', true), set_config('upshot.client', %s, true)"
)
# Set once per connection; MariaDB and MySQL each read only their own comment. The deadlines of Upshot come before these limits.
_MYSQL = (
    f"SET SESSION time_zone = '+00:00', sql_mode = 'TRADITIONAL', innodb_lock_wait_timeout = {LOCK_SECONDS}"
    " /*M!100108 , max_statement_time = 30, tx_isolation = 'READ-COMMITTED' */"
    " /*!80000 , max_execution_time = 30000, transaction_isolation = 'READ-COMMITTED' */"
)


def engine(url: URL, setting: str) -> AsyncEngine:
    """An engine with a bounded pool. It does not connect yet.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if url.get_backend_name() == "postgresql":
        # Statements are not prepared: a pooler in transaction mode would look for them in another session.
        options |= {"prepare_threshold": None, "tcp_user_timeout": 5000, "application_name": "upshot"}
    else:
        options |= {"charset": "utf8mb4", "init_command": _MYSQL}
    try:
        return create_async_engine(
            url,
            pool_size=10,
            max_overflow=5,
            pool_timeout=POOL_SECONDS,
            pool_recycle=1800,
            hide_parameters=True,  # an error of a statement is logged: addresses of people and digests are none of the log's
            connect_args=options,
        )
    except ModuleNotFoundError as error:
        extra = url.get_backend_name()
        raise ConfigurationError(f"{setting}: {extra}:// needs: pip install 'upshot[{extra}]'") from error


async def prepare(
    connection: AsyncConnection, dialect: str, seconds: float, *, writing: bool, client: str | None
) -> None:
    """Begin a transaction with its limits; one that only reads sees one moment. Fails when a connection from the pool is dead.

    In PostgreSQL row-level security shows the transaction the rows of that client alone, and none without one.
    """
    if dialect == "postgresql":
        if not writing:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.exec_driver_sql(_POSTGRESQL, (str(round(seconds * 1000)), client or ""))
    elif dialect == "mysql":
        await connection.exec_driver_sql("SELECT 1" if writing else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


async def handle(connection: AsyncConnection) -> Any:
    """The driver's own connection."""
    return (await connection.get_raw_connection()).driver_connection


@contextmanager
def deadline(driver: Any, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer; no-op for SQLite, whose driver has no socket."""
    timer = asyncio.get_running_loop().call_later(seconds, _cut, driver)
    try:
        yield
    finally:
        timer.cancel()


def _cut(driver: Any) -> None:
    if hasattr(driver, "pgconn"):
        with suppress(OSError), socket.socket(fileno=os.dup(driver.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    elif hasattr(driver, "get_host_info"):
        driver.close()  # asyncmy drops the transport, and who reads from it sees the end


def code_of(error: BaseException | None) -> str:
    """The SQLSTATE (PostgreSQL) or number (MySQL) of a database's error, or nothing."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    arguments = getattr(cause, "args", ())
    return state or (str(arguments[0]) if arguments and isinstance(arguments[0], int) else "")
