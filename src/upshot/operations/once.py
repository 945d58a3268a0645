"""A change that is made once, however often it is asked for with the same key (draft-ietf-httpapi-idempotency-key-header).

Whoever asks takes the key before anything is read, for a minute at most, and gives it back when nothing came of it. The answer
is stored in the transaction of the change, so that there are both or neither, and given to whoever asks the same again within a
day. Keys are those of a credential: nobody gets another one's answer. Answers are sealed, as some hold secrets.

    once = Once(stores, lambda: caller, "a-key", lambda: digest)
    try:
        answer = await create(once.stores, caller, …)
    except Settled as settled: …                            # it is answered already, or is not to be
    except Exception: await once.give_up()
    else: await once.keep(answer)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar, cast

import msgspec

from upshot.access import Caller
from upshot.cache import Cache, Key, Kind
from upshot.control import READ_SECONDS, Asked, ControlStore, Question, ReadTransaction, Transaction
from upshot.errors import Conflict, Fault, Invalid, Unavailable, UnderWay, UpshotError
from upshot.operations import Stores, snapshots

KEPT = timedelta(hours=24)
TAKEN = timedelta(seconds=60)

Value = TypeVar("Value")


class Answer(msgspec.Struct, frozen=True):
    """What was answered: a status, some header fields, and a body of text."""

    status: int
    headers: dict[str, str]
    body: str


_answer = msgspec.json.Decoder(Answer)


class Settled(Exception):
    """What was asked for is not to be done (again): here is the answer, or why there is none."""

    def __init__(self, outcome: Answer | UpshotError) -> None:
        super().__init__()
        self.outcome = outcome


class Once:
    """A request with a key.

    Args:
        stores: of the process.
        caller: who asks, when that is known.
        key: of the request.
        digest: of all that is asked, when it has been read.
    """

    def __init__(self, stores: Stores, caller: Callable[[], Caller], key: str, digest: Callable[[], str]) -> None:
        self._stores = stores
        self._caller = caller
        self._key = key
        self._digest = digest
        self._question: Question | None = None
        self._opened = AsyncExitStack()
        self._transaction: Transaction | None = None
        self._cache = _CacheAfterwards(stores.cache)
        self.stores = stores.through(cast("ControlStore", _JoinedControl(self, stores.control)), self._cache)

    async def keep(self, answer: Answer) -> None:
        """Store the answer with what was changed.

        Raises:
            Unavailable: it took so long that somebody else took the key; nothing was changed.
        """
        if self._question is None:
            return  # nothing was even looked at
        client, until = self._caller().client, self._stores.clock.now() + KEPT
        sealed = self._stores.keyring.seal(msgspec.json.encode(answer).decode())
        async with self._opened:
            transaction = await self.transaction()
            if not await transaction.answers.keep(client, self._question, sealed, until):
                raise Unavailable("This took too long, and somebody asked for the same meanwhile.", retry_after=1)
        self._cache.catch_up()
        snapshots.forget(self._stores, client)

    async def give_up(self, error: BaseException) -> None:
        """Undo what was changed because of an error, and give the key back: whoever asks again is to have it done."""
        await self._opened.__aexit__(type(error), error, error.__traceback__)
        if self._question is not None:
            client = self._caller().client
            async with self._stores.control.transaction(client) as transaction:
                await transaction.answers.give_back(client, self._question)

    async def transaction(self) -> Transaction:
        """The one transaction of the request, which goes on until the answer is kept."""
        if self._transaction is None:
            joined = self._stores.control.transaction(self._caller().client)
            self._transaction = await self._opened.enter_async_context(joined)
        return self._transaction

    @property
    def begun(self) -> Transaction | None:
        """The transaction, if there is one yet."""
        return self._transaction

    async def take(self) -> None:
        """Take the key, unless this request has it.

        Raises:
            Settled: the question is answered, or being answered; or the key was used for another one.
        """
        if self._question is not None:
            return
        caller, now = self._caller(), self._stores.clock.now()
        key = sha256(f"{caller.credential}\n{self._key}".encode()).hexdigest()
        question = Question(key, self._digest(), self._stores.clock.new_id())
        async with self._stores.control.transaction(caller.client) as transaction:
            asked = await transaction.answers.take(caller.client, question, now, now + TAKEN)
        if asked is not None:
            raise Settled(self._outcome(question, asked))
        self._question = question

    def _outcome(self, question: Question, asked: Asked) -> Answer | UpshotError:
        if asked.digest != question.digest:
            return Invalid.of(Fault("/header/idempotency-key", "key_reused", "was sent with another request before"))
        if asked.answer is None:
            return UnderWay("A request with this key is under way.", retry_after=1)
        opened = self._stores.keyring.open(asked.answer)
        return (
            _answer.decode(opened)
            if opened
            else Conflict("This was done; its answer is sealed with a key that is gone.")
        )


class _JoinedControl:
    """A control store for one request: it takes the key before anything is read, and all that is changed is one transaction."""

    def __init__(self, once: Once, control: ControlStore) -> None:
        self._once = once
        self._control = control

    @asynccontextmanager
    async def transaction(self, _client: str) -> AsyncIterator[Transaction]:
        """A part of the transaction, which fails alone."""
        await self._once.take()
        transaction = await self._once.transaction()
        async with transaction.part():
            yield transaction

    def reading(self, client: str) -> AbstractAsyncContextManager[ReadTransaction]:
        """What is stored, and what was changed."""
        return self._seen(self._control.reading(client))

    def browsing(self, client: str, seconds: float = READ_SECONDS) -> AbstractAsyncContextManager[ReadTransaction]:
        """The same; of the replica as long as nothing was changed."""
        return self._seen(self._control.browsing(client, seconds))

    @asynccontextmanager
    async def _seen(self, view: AbstractAsyncContextManager[ReadTransaction]) -> AsyncIterator[ReadTransaction]:
        await self._once.take()
        if self._once.begun is not None:
            yield self._once.begun
            return
        async with view as seen:
            yield seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)


class _CacheAfterwards:
    """A cache that learns what was changed when that is stored, and not before."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._learned: list[Callable[[], object]] = []

    def catch_up(self) -> None:
        """Learn it."""
        for learn in self._learned:
            learn()

    def remembered(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What is remembered, however old."""
        return self._cache.remembered(client, kind, key)

    def fresh(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """What is remembered and still taken for good."""
        return self._cache.fresh(client, kind, key)

    async def get(self, client: str, kind: Kind[Value], key: Key) -> Value | None:
        """A fresh copy."""
        return await self._cache.get(client, kind, key)

    def put(self, client: str, kind: Kind[Value], key: Key, value: Value, age: float = 0.0) -> Value:
        """Remember a value later."""
        self._learned.append(partial(self._cache.put, client, kind, key, value, age))
        return value

    def forget(self, client: str, kind: Kind[Any], key: Key) -> None:
        """Forget a value later."""
        self._learned.append(partial(self._cache.forget, client, kind, key))

    async def ping(self) -> str:
        """The state in a word."""
        return await self._cache.ping()

    async def close(self) -> None:
        """Whoever opened the cache closes it."""
