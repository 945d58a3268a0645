"""Who a token, a key or a cookie stands for.

What was found is believed for two seconds, so that a revocation takes effect in every process well within five, and a key that
asks a thousand times a second costs one question every two. While the database is away, what it said last is believed for an
hour.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from upshot.access import EVERYTHING, SCOPES, Caller, Kind
from upshot.access.keys import PREFIX, ApiKey, digest_of, id_of
from upshot.access.sessions import COOKIE_PREFIX, Means
from upshot.control import Credential
from upshot.errors import Unavailable
from upshot.operations import Stores

FRESH = timedelta(seconds=2)
BELIEVED = timedelta(hours=1)
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Found:
    caller: Caller
    at: datetime
    until: datetime | None


class Credentials:
    """Finds callers. `tokens` are those of the environment and their clients: keys that are good for everything."""

    def __init__(self, stores: Stores, tokens: Mapping[str, str]) -> None:
        self._stores = stores
        self._tokens = {
            digest: Caller(client, Kind.TOKEN, digest.hex()[:12], "a token of the environment", EVERYTHING)
            for digest, client in ((sha256(token.encode()).digest(), client) for token, client in tokens.items())
        }
        self._found: OrderedDict[bytes, _Found] = OrderedDict()
        self._public: dict[str, _Found] = {}  # as many as there are keys of browsers
        self._used: defaultdict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))

    def known(self, secret: bytes) -> Caller | None:
        """Who is behind a secret, where that is known without asking anybody."""
        # By its digest: how long the search takes tells nothing of the secret.
        digest = sha256(secret).digest()
        caller = self._tokens.get(digest)
        if caller is not None:
            return caller
        found = self._found.get(digest)
        now = self._stores.clock.now()
        return found.caller if found is not None and now - found.at < FRESH and _lasts(found, now) else None

    async def find(self, secret: bytes) -> Caller | None:
        """Who is behind a secret; None where it is good for nothing.

        Raises:
            Unavailable: the database is away, and we did not see the secret in the last hour.
        """
        caller = self.known(secret)
        if caller is not None:
            return caller
        digest, now = sha256(secret).digest(), self._stores.clock.now()
        try:
            found = await self._ask(secret.decode("ascii"), now)
        except UnicodeDecodeError:
            return None
        except Unavailable:
            earlier = self._found.get(digest)
            if earlier is None or now - earlier.at >= BELIEVED or not _lasts(earlier, now):
                raise
            return earlier.caller
        if found is None:
            self._found.pop(digest, None)
            return None
        self._found[digest] = found
        self._found.move_to_end(digest)
        if len(self._found) > REMEMBERED:
            self._found.popitem(last=False)
        return found.caller

    async def public(self, key_id: str) -> Caller | None:
        """Who is behind the id of a browser's key, which is public as the key itself; None of any other id.

        Raises:
            Unavailable: the database is away, and the id was not asked for in the last two seconds.
        """
        now = self._stores.clock.now()
        found = self._public.get(key_id)
        if found is not None and now - found.at < FRESH:
            return found.caller
        client = await self._stores.control.owner(Credential.KEY, key_id)
        if client is None:
            return None
        async with self._stores.control.reading(client) as view:
            key = await view.accounts.key(client, key_id)
        if key is None or not key.origins or not key.active(now):
            return None
        self._used[client][0].add(key.id)
        self._public[key_id] = found = _found_of(client, key, now)
        return found.caller

    async def note_use(self) -> int:
        """Store when keys and sessions were used last; returns how many were."""
        used, self._used = self._used, defaultdict(lambda: (set(), set()))
        for client, (keys, sessions) in used.items():
            async with self._stores.control.transaction(client) as transaction:
                await transaction.accounts.note_use(client, sorted(keys), sorted(sessions), self._stores.clock.now())
        return len(used)

    async def _ask(self, secret: str, now: datetime) -> _Found | None:
        if secret.startswith(PREFIX):
            return await self._of_key(secret, now)
        if secret.startswith(COOKIE_PREFIX):
            return await self._of_cookie(secret, now)
        return await self._of_access_token(secret, now)

    async def _of_key(self, secret: str, now: datetime) -> _Found | None:
        key_id = id_of(secret)
        client = None if key_id is None else await self._stores.control.owner(Credential.KEY, key_id)
        if key_id is None or client is None:
            return None
        async with self._stores.control.reading(client) as view:
            key = await view.accounts.key(client, key_id)
        if key is None or not key.matches(secret) or not key.active(now):
            return None
        self._used[client][0].add(key.id)
        return _found_of(client, key, now)

    async def _of_cookie(self, secret: str, now: datetime) -> _Found | None:
        digest = digest_of(secret)
        client = await self._stores.control.owner(Credential.SESSION, digest)
        if client is None:
            return None
        async with self._stores.control.reading(client) as view:
            session = await view.accounts.session_with(client, digest)
        if session is None or session.means is not Means.COOKIE:
            return None
        return await self._of_session(client, session.user_id, session.id, now)

    async def _of_access_token(self, secret: str, now: datetime) -> _Found | None:
        claims = self._stores.keyring.read(secret, now)
        if claims is None:
            return None
        found = await self._of_session(claims.client, claims.user, claims.session, now, claims.issued_at)
        return found and _Found(found.caller, found.at, claims.expires_at)

    async def _of_session(
        self, client: str, user_id: str, session_id: str, now: datetime, issued_at: datetime | None = None
    ) -> _Found | None:
        async with self._stores.control.reading(client) as view:
            session = await view.accounts.session(client, session_id)
            user = await view.accounts.user(client, user_id)
        if session is None or user is None or session.user_id != user.id or not session.active(now):
            return None
        # The moment of an access token has whole seconds.
        too_old = issued_at is not None and issued_at < user.not_before.replace(microsecond=0)
        if user.disabled_at is not None or too_old:
            return None
        self._used[client][1].add(session.id)
        caller = Caller(client, Kind.USER, user.id, user.email, SCOPES[user.role], session=session.id)
        return _Found(caller, now, session.expires_at)


def _found_of(client: str, key: ApiKey, now: datetime) -> _Found:
    caller = Caller(client, Kind.KEY, key.id, key.name, key.scopes, origins=key.origins)
    return _Found(caller, now, key.expires_at)


def _lasts(found: _Found, now: datetime) -> bool:
    return found.until is None or now < found.until
