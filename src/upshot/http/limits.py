"""How often callers may ask for what, and what an answer tells them of it.

| kind | what is counted | whose buckets |
| --- | --- | --- |
| `events` | events in requests, each one | credential, client |
| `assignments` | assignments that are asked for | credential, client |
| `management` | requests about experiments, metrics, plans and keys | credential, client |
| `results` | results that are computed; at most 4 at once | credential, client |
| `export` | exports that are begun; one at a time | credential, client |
| `login_address`, `login_account` | attempts to sign in with a password | network address, account |
| `refresh` | sessions that are prolonged | credential, client |
| `keys` | keys that are made | credential, client |

How many are allowed is a setting each (`UPSHOT_LIMIT_EVENTS=1000/s burst 5000`). Routes charge, and hand the header fields on:

    request.state.headers = await limits.charge("events", client, key_id, weight=len(events))
    async with limits.under_way("export", client): ...

The header fields are those of draft-ietf-httpapi-ratelimit-headers-11. `RateLimit-Policy: "events";q=5000;w=5` describes the
bucket: it holds q, and fills within w seconds, rounded up, so that q per w seconds is what may be asked for ever. `RateLimit:
"events";r=4990;t=1` says what is left in the emptier one of the two buckets, and in how many seconds that one will be full.
"""

import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2b
from math import ceil
from typing import TypeAlias

from upshot.errors import QuotaExceeded
from upshot.ratelimits import Limiter, Quota, Verdict, quota_of
from upshot.ratelimits.quotas import NANOSECONDS
from upshot.settings import Settings

Headers: TypeAlias = list[tuple[bytes, bytes]]

KINDS = (
    "events",
    "assignments",
    "management",
    "results",
    "export",
    "login_address",
    "login_account",
    "refresh",
    "keys",
)
CLOSED = frozenset({"login_address", "login_account"})
"""Kinds that are refused when nobody can count: passwords are not to be tried as often as one likes."""
AT_ONCE: Mapping[str, int] = {"results": 4, "export": 1, "streams": 200}
"""How many a client may have under way, in each server process."""


def quotas(settings: Settings) -> dict[str, Quota]:
    """The quota of each kind that has one."""
    found = (quota_of(kind, getattr(settings, f"limit_{kind}"), closed=kind in CLOSED) for kind in KINDS)
    return {quota.name: quota for quota in found if quota is not None}


class Limits:
    """What every caller has left. A kind without a quota is free.

    Args:
        limiter: the buckets; whoever opened it closes it.
        quotas: the quota of each kind.
    """

    def __init__(self, limiter: Limiter, quotas: Mapping[str, Quota]) -> None:
        self._limiter = limiter
        self._quotas = quotas
        self._policies = {kind: _policy(quota) for kind, quota in quotas.items()}
        self._under_way: Counter[tuple[str, str]] = Counter()

    async def charge(self, kind: str, client: str, credential: str, weight: int = 1) -> Headers:
        """Take `weight` from the credential's bucket and from the client's; the header fields that the answer carries.

        The credential is asked first: what it is refused does not touch the client's bucket. What it pays when then the client's
        bucket has less is not given back; it fills again as fast as that one.

        Raises:
            QuotaExceeded: one of them has less.
        """
        quota = self._quotas.get(kind)
        if quota is None:
            return []
        key = _key(client, kind)
        verdict = await self._limiter.take(f"{key}.{credential}", quota, weight)
        if verdict.allowed:
            verdict = _emptier(verdict, await self._limiter.take(key, quota, weight))
        return self._told(kind, verdict)

    def charge_at_once(self, kind: str, client: str, credential: str) -> Headers | None:
        """The same, one, where it takes no waiting; None, and nothing taken, where it does.

        Raises:
            QuotaExceeded: as `charge`.
        """
        quota = self._quotas.get(kind)
        if quota is None:
            return []
        key = _key(client, kind)
        verdict = self._limiter.take_at_once(f"{key}.{credential}", quota)
        whole = self._limiter.take_at_once(key, quota) if verdict and verdict.allowed else None
        if verdict and whole:
            verdict = _emptier(verdict, whole)
        return None if verdict is None else self._told(kind, verdict)

    async def charge_login(self, account: str, address: str) -> Headers:
        """Count an attempt to sign in to an account from a network address, before the password is looked at.

        The address is asked first: one that has used up its own attempts does not use up those of an account. The account is
        the name as it was sent, whether there is such an account or not, in the spelling that is looked up. An IPv6 address
        counts as its /64, which is what a household has.

        Raises:
            QuotaExceeded: there were too many attempts.
            Unavailable: attempts cannot be counted now.
        """
        headers: Headers = []
        for kind, who in (("login_address", _network(address)), ("login_account", account)):
            if kind in self._quotas:
                # Names are digested: they may be of any length, and a store of limits should not hold them.
                digest = blake2b(who.encode(errors="surrogatepass"), digest_size=16).hexdigest()
                verdict = await self._limiter.take(f"{_key('', kind)}.{digest}", self._quotas[kind])
                headers += self._told(kind, verdict)
        return headers

    @asynccontextmanager
    async def under_way(self, kind: str, client: str) -> AsyncIterator[None]:
        """Hold one of the places of a client for the time of the block.

        Raises:
            QuotaExceeded: all are taken.
        """
        most, place = AT_ONCE.get(kind), (kind, client)
        if most is not None and self._under_way[place] >= most:
            policy = f'"{kind}-under-way";q={most};qu="concurrent-requests"'
            fields = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", f'"{kind}-under-way";r=0'.encode())]
            raise QuotaExceeded(f"Under way at once may be: {most}.", retry_after=1, headers=fields)
        self._under_way[place] += 1
        try:
            yield
        finally:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]

    def _told(self, kind: str, verdict: Verdict) -> Headers:
        """The header fields of a verdict; raises QuotaExceeded with them where it was a refusal."""
        left = f'"{kind}";r={verdict.remaining};t={ceil(verdict.reset)}'
        headers = [self._policies[kind], (b"ratelimit", left.encode())]
        if not verdict.allowed:
            detail = "This was asked too often; RateLimit-Policy says how often it may be."
            raise QuotaExceeded(detail, retry_after=verdict.retry_after, headers=headers)
        return headers


def _emptier(own: Verdict, whole: Verdict) -> Verdict:
    """The verdict of the bucket that has less."""
    return whole if not whole.allowed or whole.remaining < own.remaining else own


def _policy(quota: Quota) -> tuple[bytes, bytes]:
    window = ceil(quota.window / NANOSECONDS)
    return b"ratelimit-policy", f'"{quota.name}";q={quota.burst};w={window}'.encode()


def _key(client: str, kind: str) -> str:
    """The key of a client's bucket. With its length in front no client's name can be read as another one's and a kind."""
    return f"{len(client)}.{client}.{kind}"


def _network(address: str) -> str:
    """Whose an address is: itself, or for IPv6 its /64. What is no address (a socket's path, nothing) stands for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.IPv6Network((found, 64), strict=False))
