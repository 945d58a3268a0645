"""One SQL database as a store uses it: engines for every dialect, waits that end, and what a failure means.

    database = Database("postgresql://user@host/name", "DATABASE_URL", replica="postgresql://user@replica/name")
    async with database.begin() as connection: ...      # commits when the block ends well
    async with database.read() as connection: ...       # a consistent view, never written

Nothing here waits for ever: a connection is had within 3 seconds and a transaction ends within its deadline, or `Unavailable` is
raised. After several failures in a row callers are turned away at once for two seconds (a circuit breaker), then tried again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from circuitbreaker import CircuitBreaker
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from upshot.database import servers, sqlitefile
from upshot.database.inserting import insert_new
from upshot.database.urls import parsed
from upshot.errors import ConfigurationError, Unavailable

__all__ = ["Database", "insert_new", "parsed"]

SECONDS = 5.0
FAILURES = 5
OPEN_SECONDS = 2
TRIES = 3

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Database:
    """Engines on one database, and on a replica that may be some moments behind.

    Args:
        url: `sqlite:///path`, `postgresql://…` or `mysql://…` (MySQL 8 or MariaDB).
        setting: the setting that the URL came from, for messages.
        replica: where `read(replica=True)` reads; the same database by default.
        sqlite: what the SQLite engines take besides (see `sqlitefile.engines`).

    Raises:
        ConfigurationError: the URL cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str, setting: str, *, replica: str | None = None, **sqlite: Any) -> None:
        self.url = parsed(url, setting)
        self.setting = setting
        self.dialect = self.url.get_backend_name()
        if self.dialect == "sqlite":
            self._writer, self._readers = sqlitefile.engines(sqlitefile.path_of(self.url, setting), **sqlite)
        else:
            self._writer = self._readers = servers.engine(self.url, setting)
        self._replica = self._readers
        if replica:
            self._replica = servers.engine(parsed(replica, "READ_DATABASE_URL"), "READ_DATABASE_URL")
        # One for each: a replica that is away must not turn anybody away from the database itself.
        self._breakers = {
            engine: CircuitBreaker(FAILURES, OPEN_SECONDS, expected_exception=_is_outage)
            for engine in (self._writer, self._readers, self._replica)
        }
        self._unfinished: set[asyncio.Future[Any]] = set()
        self._closed = False

    @property
    def replicated(self) -> bool:
        """Whether `read(replica=True)` reads somewhere else."""
        return self._replica is not self._readers

    @asynccontextmanager
    async def begin(self, seconds: float = SECONDS, *, client: str | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write, of that client's rows; committed when the block ends well.

        Raises:
            Unavailable: the database cannot serve this now; what was under way is rolled back, or its outcome is unknown.
            ConfigurationError: it refuses our name, our password or the database.
        """
        async with self._transaction(self._writer, seconds, writing=True, client=client) as connection:
            yield connection
            await connection.commit()

    @asynccontextmanager
    async def read(
        self, seconds: float = SECONDS, *, replica: bool = False, client: str | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A consistent view of that client's rows, on the replica where that is good enough. Raises as `begin` does."""
        engine = self._replica if replica else self._readers
        async with self._transaction(engine, seconds, writing=False, client=client) as connection:
            yield connection

    async def retried(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of a whole transaction, begun again, at most three times, when it lost against another one."""
        attempts = AsyncRetrying(
            retry=retry_if_exception(_lost_against_another),
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.02, max=0.2),
            reraise=True,
        )
        return await attempts(work)

    async def back_up(self, path: Path) -> None:
        """Copy a SQLite database into a new file, as it is at one moment.

        Raises:
            ConfigurationError: it is not SQLite.
        """
        if self.dialect != "sqlite":
            raise ConfigurationError(f"{self.setting}: {self.dialect} is backed up with its own tools")
        await asyncio.to_thread(sqlitefile.copy, sqlitefile.path_of(self.url, self.setting), path)

    async def close(self) -> None:
        """Close every connection, after those who hold one gave it back; who comes later is turned away. What a server that is
        away keeps from coming back is not waited for.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(servers.CONNECT_SECONDS + servers.POOL_SECONDS):
                while self._unfinished:
                    await asyncio.wait(self._unfinished)
        for engine in (self._replica, self._readers, self._writer):
            await engine.dispose()

    @asynccontextmanager
    async def _transaction(
        self, engine: AsyncEngine, seconds: float, *, writing: bool, client: str | None
    ) -> AsyncIterator[AsyncConnection]:
        breaker = self._breakers[engine]
        if self._closed:
            raise Unavailable("The database is closed.", retry_after=OPEN_SECONDS)
        if breaker.opened:
            raise Unavailable("The database cannot be reached.", retry_after=OPEN_SECONDS)
        try:
            with breaker, self._under_way():
                connection = await self._connected(engine, seconds, writing=writing, client=client)
                try:
                    with servers.deadline(await servers.handle(connection), seconds):
                        yield connection
                finally:
                    await self._finish(connection.close())
        except (OperationalError, InterfaceError, InternalError, PoolTimeout, TimeoutError) as error:
            if servers.code_of(error) in servers.REFUSED:
                raise ConfigurationError(f"{self.setting}: the database refuses us: {_first_line(error)}") from error
            log.warning("%s: the database cannot serve this: %s", self.setting, _first_line(error))
            raise Unavailable("The database cannot serve this now.", retry_after=1) from error
        except ProgrammingError as error:
            # A table that is missing, a right that was taken: whoever runs the database mends it, and what was sent is good.
            log.exception("the database refuses a statement")
            raise Unavailable("The database refuses this now.", retry_after=5) from error

    async def _connected(
        self, engine: AsyncEngine, seconds: float, *, writing: bool, client: str | None
    ) -> AsyncConnection:
        """A connection whose transaction has begun. One from the pool may have died meanwhile; then a new one is made."""
        for last in (False, True):
            connection = await self._opened(engine)
            try:
                with servers.deadline(await servers.handle(connection), servers.CONNECT_SECONDS):
                    await servers.prepare(connection, self.dialect, seconds, writing=writing, client=client)
            except BaseException as error:
                await self._finish(connection.close())
                if last or not (isinstance(error, DBAPIError) and error.connection_invalidated):
                    raise
                continue
            break
        return connection

    async def _opened(self, engine: AsyncEngine) -> AsyncConnection:
        """A connection, of the pool or a new one. Who is broken off meanwhile leaves it to be closed."""
        opening = asyncio.ensure_future(engine.connect().start())
        try:
            async with asyncio.timeout(servers.CONNECT_SECONDS + servers.POOL_SECONDS):
                return await self._finish(opening)
        except (TimeoutError, asyncio.CancelledError):
            self._keep(asyncio.ensure_future(_abandoned(opening)))
            raise

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        over = self._keep(asyncio.get_running_loop().create_future())
        try:
            yield
        finally:
            over.set_result(None)

    async def _finish(self, work: Awaitable[Answer]) -> Answer:
        """The answer of what goes on to its end when who waits for it is broken off: a driver that is stopped while it opens or
        closes something leaves a file or a socket open.
        """
        return await asyncio.shield(self._keep(asyncio.ensure_future(work)))

    def _keep(self, work: "asyncio.Future[Answer]") -> "asyncio.Future[Answer]":
        self._unfinished.add(work)
        work.add_done_callback(self._unfinished.discard)
        return work


async def _abandoned(opening: "asyncio.Future[AsyncConnection]") -> None:
    """Close a connection that nobody waits for any longer, as soon as it is there."""
    with suppress(Exception):
        connection = await opening
        await connection.close()


def _is_outage(kind: type[BaseException], error: BaseException) -> bool:
    """Whether an error says that the database is away, not that it dislikes a statement."""
    if issubclass(kind, PoolTimeout | TimeoutError):
        return True
    gone = isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None)
    return gone and servers.code_of(error) not in servers.REFUSED


def _lost_against_another(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and servers.code_of(error.__cause__) in servers.LOST


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).partition("\n")[0]
