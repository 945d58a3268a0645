"""Two tiers: what this process remembers, and behind it a Redis that all processes share.

A copy is looked for here first, then there; what is found there is remembered here. Nobody waits for the server longer than 50 ms
(`redisserver`), and whatever is wrong with it or with what it holds is a copy that is missing. Readers that want something at the
same moment share one round trip. What is written waits for the next one, in a bounded queue; nobody waits for that.

A key, in which all that people wrote is percent-encoded, so that no two things meet and what is one user's is in one slot:

    upshot:cache:1:assignment.5f0c2a9d1e7b:{client|user}:experiment

The first part is the version of this form, the digest that of the value's. A value is its own key and the copy, as JSON; another
key than was asked for is another's answer. An experiment is to be at most a second old there, counted from before it was read, by
the clock of whoever wrote it: what is left of the second goes along as its time to live.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from upshot import redisserver
from upshot.cache import Key, Kind
from upshot.cache.inprocess import InProcessCache
from upshot.clock import jitter
from upshot.errors import Unavailable
from upshot.groupcommit import GroupCommit
from upshot.redisserver import RedisServer
from upshot.singleflight import SingleFlight

PREFIX = "upshot:cache:1"
GROUP = 100  # keys in one round trip
WAITING = 1_000  # keys that wait for one; who comes then does without
JITTER = 0.1

Value = TypeVar("Value")
Command: TypeAlias = tuple[str | bytes | int, ...]

_envelope = msgspec.json.Decoder(tuple[str, msgspec.Raw])


class Written(NamedTuple):
    """A copy on its way to the server, and the moment of the process's clock until which it is good there."""

    kind: Kind[Any]
    value: Any
    until: float


class TwoTierCache:
    """A process's own cache, and a server's behind it.

    Args:
        own: what this process remembers.
        server: what all processes share.
        now: a monotonic clock in seconds.
    """

    def __init__(self, own: InProcessCache, server: RedisServer, now: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._server = server
        self._now = now
        self._flights = SingleFlight()
        self._reads: GroupCommit[str, bytes | None] = GroupCommit(
            self._read, group_weight=GROUP, waiting_weight=WAITING
        )
        self._waiting: dict[str, Written | None] = {}  # None is to be forgotten
        self._writer: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None

    def remembered(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What this process remembers, however old."""
        return self._own.remembered(client, kind, key)

    def fresh(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What this process has and still takes for good."""
        return self._own.fresh(client, kind, key)

    async def get(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """A fresh copy of this process, else of the server; who asks for the same at the same moment shares the answer."""
        held = self._own.fresh(client, kind, key)
        if held is not None or not self._usable():
            return held
        fetch = partial(self._fetch, client, kind, key)
        try:
            found: Value | None = await self._flights.share((client, kind.name, key), fetch, redisserver.SECONDS)
        except Unavailable:
            return None
        return found

    def put(self, client: str, kind: Kind[Value], key: Key, value: Value, age: float = 0.0) -> Value:
        """Remember a value here, and there unless a newer one is here."""
        kept = self._own.put(client, kind, key, value, age)
        if kept is value:
            life = kind.seconds * (1 + JITTER * (2 * jitter() - 1))
            self._send(place_of(client, kind, key), Written(kind, value, self._now() + life - age))
        return kept

    def forget(self, client: str, kind: Kind[Any], key: Key) -> None:
        """Forget a value here, and there."""
        self._own.forget(client, kind, key)
        self._send(place_of(client, kind, key), None)

    async def ping(self) -> str:
        """Whether the server answers."""
        try:
            await self._server.answer(lambda: self._server.client.get(PREFIX))
        except Unavailable:
            return "away"
        return "ok"

    async def close(self) -> None:
        """Send what waits, then close the connections."""
        while under_way := [task for task in (self._writer, self._pinging) if task is not None]:
            await asyncio.wait(under_way)
        await self._reads.drain()
        await self._server.close()

    async def _fetch(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        begun, place = self._now(), place_of(client, kind, key)
        content = await self._reads.submit(place)
        value = None if content is None else _copy(kind, place, content)
        if value is not None:
            self._own.put(client, kind, key, value, self._now() - begun)
        return self._own.fresh(client, kind, key)  # not what is older than a copy that was here already

    async def _read(self, places: Sequence[str]) -> Sequence[bytes | None]:
        return await self._sent([("GET", place) for place in places])

    async def _sent(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The answers to commands that are sent together."""
        if not commands:
            return ()
        together = self._server.client.pipeline(transaction=False)
        for command in commands:
            together.execute_command(*command)
        found: Sequence[Any] = await self._server.answer(together.execute)
        return found

    def _usable(self) -> bool:
        """Whether the server is to be asked. After a rest a ping finds out, beside: nobody waits to see whether it is back."""
        if self._server.well:
            return True
        if self._pinging is None and not self._server.resting:
            self._pinging = asyncio.create_task(self._ping())
        return False

    async def _ping(self) -> None:
        try:
            await self.ping()
        finally:
            self._pinging = None

    def _send(self, place: str, written: Written | None) -> None:
        if self._usable() and (place in self._waiting or len(self._waiting) < WAITING):
            self._waiting[place] = written
            if self._writer is None:
                self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                places = list(islice(self._waiting, GROUP))
                made = [self._command(place, self._waiting.pop(place)) for place in places]
                with suppress(Unavailable):
                    await self._sent([command for command in made if command])
        finally:
            self._writer = None

    def _command(self, place: str, written: Written | None) -> Command:
        if written is None:
            return "DEL", place
        left = int(1_000 * (written.until - self._now()))
        copy = msgspec.Raw(written.kind.codec.encode(written.value))
        return ("SET", place, msgspec.json.encode((place, copy)), "PX", left) if left > 0 else ()


def place_of(client: str, kind: Kind[Any], key: Key) -> str:
    """The key of a copy on the server."""
    tenant, owner, *rest = (quote(str(part), safe="", errors="surrogatepass") for part in (client, *key))
    return ":".join((PREFIX, f"{kind.name}.{kind.codec.shape}", f"{{{tenant}|{owner}}}", *rest))


def _copy(kind: Kind[Value], place: str, content: bytes) -> Value | None:
    """The copy in a value, if it is one of this kind and this key."""
    try:
        told, copy = _envelope.decode(content)
        return kind.codec.decode(copy) if told == place else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def open_cache(url: str) -> TwoTierCache:
    """The cache at a URL; nothing is connected yet.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    server = redisserver.connect(url, "CACHE_URL", "cache", "each process remembers for itself")
    return TwoTierCache(InProcessCache(), server)
