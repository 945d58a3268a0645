"""Quotas over HTTP: what a small application that charges its callers answers, through the real envelope and problems."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from tests.http.test_hostile import is_problem
from tests.ratelimits.test_limiters import Ticks

from upshot.errors import QuotaExceeded, Unavailable
from upshot.http import limits as limits_of_http
from upshot.http import problems
from upshot.http.envelope import Envelope
from upshot.http.limits import AT_ONCE, CLOSED, KINDS, Limits, quotas
from upshot.ratelimits import Quota, Verdict
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.ratelimits.quotas import NANOSECONDS
from upshot.settings import Settings

EVENTS = Quota("events", 1_000, 5_000)
ITEM = re.compile(r'"([a-z_-]+)"((?:;[a-z]+=(?:\d+|"[a-z-]+"))+)')
"""One member of a list of RFC 9651: a text with parameters."""


@pytest.fixture
def ticks() -> Ticks:
    """The clock of the buckets."""
    return Ticks()


@pytest.fixture
def limits(ticks: Ticks) -> Limits:
    """The published quotas, in memory."""
    return Limits(InProcessLimiter(ticks), quotas(Settings()))


@pytest.fixture
async def api(limits: Limits) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose one route charges what the request says."""
    app = FastAPI()
    problems.install(app)

    @app.post("/events")
    async def record(request: Request, credential: str, client: str = "first", weight: int = 1) -> Response:
        request.state.headers = await limits.charge("events", client, credential, weight)
        return Response("ok")

    @app.get("/results")
    async def results(request: Request, client: str = "first") -> Response:
        async with AsyncExitStack() as stack:
            for _ in range(int(request.query_params.get("at_once", "1"))):
                await stack.enter_async_context(limits.under_way("results", client))
        return Response("ok")

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Envelope(app, app, 100)), base_url="http://upshot"
    ) as client:
        yield client


def fields(response: httpx.Response) -> dict[str, dict[str, str]]:
    """The two header fields, parsed: each must be one member of a list with parameters."""
    found = {}
    for name in ("ratelimit-policy", "ratelimit"):
        member = ITEM.fullmatch(response.headers[name])
        assert member, response.headers[name]
        found[name] = {"name": member[1]} | dict(part.split("=") for part in member[2][1:].split(";"))
    return found


async def test_an_answer_says_what_may_be_asked_and_what_is_left(api: httpx.AsyncClient) -> None:
    """The policy is the bucket and the time in which it fills; then what is left, and in how many seconds it is full."""
    response = await api.post("/events?credential=a&weight=10")

    assert response.status_code == 200
    assert response.headers["ratelimit-policy"] == '"events";q=5000;w=5'
    assert response.headers["ratelimit"] == '"events";r=4990;t=1'
    assert fields(response)["ratelimit"]["name"] == "events"


async def test_a_request_beyond_the_quota_is_429_with_the_time_to_come_again(
    api: httpx.AsyncClient, ticks: Ticks
) -> None:
    """The registered problem type, the same two fields and Retry-After; after that time the same request is taken."""
    await api.post("/events?credential=a&weight=5000")
    ticks.now += NANOSECONDS
    refused = await api.post("/events?credential=a&weight=2000")
    ticks.now += NANOSECONDS
    taken = await api.post("/events?credential=a&weight=2000")

    told = fields(refused)
    assert (refused.status_code, taken.status_code) == (429, 200)
    assert is_problem(refused)
    assert refused.json()["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert refused.json()["code"] == "quota_exceeded"
    assert refused.headers["retry-after"] == "1"
    assert told["ratelimit-policy"] == {"name": "events", "q": "5000", "w": "5"}
    assert told["ratelimit"] == {"name": "events", "r": "1000", "t": "4"}


async def test_what_takes_no_waiting_is_charged_as_everything_is(ticks: Ticks) -> None:
    """The same header fields and the same refusal, of either bucket; where the buckets are on a server, nothing is taken."""
    quota = quotas(Settings(limit_assignments="1/s burst 5"))
    prompt, patient = Limits(InProcessLimiter(ticks), quota), Limits(InProcessLimiter(ticks), quota)
    elsewhere = Recording()
    for credential in ("a", "a", "b", "a", "b"):
        told = prompt.charge_at_once("assignments", "first", credential)
        assert told == await patient.charge("assignments", "first", credential)
        assert told
    with pytest.raises(QuotaExceeded) as at_once:
        prompt.charge_at_once("assignments", "first", "c")
    with pytest.raises(QuotaExceeded) as awaited:
        await patient.charge("assignments", "first", "c")

    assert at_once.value.headers == awaited.value.headers
    assert at_once.value.retry_after == awaited.value.retry_after > 0
    assert Limits(elsewhere, quota).charge_at_once("assignments", "first", "a") is None
    assert elsewhere.keys == []


async def test_those_who_share_a_quota_do_not_come_back_together(limits: Limits) -> None:
    """Retry-After differs by up to a fifth either way, in whole seconds, and never says now."""
    await limits.charge("keys", "first", "a", 10)
    with pytest.raises(QuotaExceeded) as refused:
        await limits.charge("keys", "first", "a")

    waits = {int(problems.of_error(refused.value).headers["retry-after"]) for _ in range(500)}

    assert refused.value.retry_after == 360
    assert min(waits) >= 288
    assert max(waits) <= 432
    assert len(waits) > 50


async def test_each_credential_has_a_bucket_and_its_client_another(limits: Limits) -> None:
    """What a credential is refused does not touch its client's bucket; several credentials share that one."""
    await limits.charge("management", "first", "a", 30)
    with pytest.raises(QuotaExceeded):
        await limits.charge("management", "first", "a", 21)
    shared = await limits.charge("management", "first", "b", 20)
    with pytest.raises(QuotaExceeded) as used_up:
        await limits.charge("management", "first", "c")
    foreign = await limits.charge("management", "second", "a")

    assert shared[1] == (b"ratelimit", b'"management";r=0;t=5')
    assert used_up.value.headers[1] == (b"ratelimit", b'"management";r=0;t=5')
    assert foreign[1] == (b"ratelimit", b'"management";r=49;t=1')


async def test_what_is_left_is_that_of_the_emptier_bucket(limits: Limits) -> None:
    """A fresh credential of a client that has asked a lot is not told that everything is left."""
    await limits.charge("management", "first", "a", 30)

    fresh = await limits.charge("management", "first", "b", 5)

    assert fresh == [(b"ratelimit-policy", b'"management";q=50;w=5'), (b"ratelimit", b'"management";r=15;t=4')]


async def test_names_that_look_alike_have_buckets_of_their_own(limits: Limits) -> None:
    """A client cannot be named so that it asks at another's expense."""
    pairs = [("a", "management.b"), ("a.management", "b"), ("1.a", "b"), ("", "a.management.b"), ("a.", "b")]
    for client, credential in pairs:
        headers = await limits.charge("management", client, credential)

        assert headers[1] == (b"ratelimit", b'"management";r=49;t=1'), (client, credential)
        await limits.charge("management", client, "other", 49)


async def test_keys_that_run_together_are_caught(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without the length in front the same check fails."""
    monkeypatch.setattr(limits_of_http, "_key", lambda client, kind: f"{client}.{kind}")

    with pytest.raises((AssertionError, QuotaExceeded)):
        await test_names_that_look_alike_have_buckets_of_their_own(limits)


async def test_a_batch_larger_than_the_burst_is_taken_and_paid_for(api: httpx.AsyncClient, ticks: Ticks) -> None:
    """10,000 events at once with 5,000 in the bucket: the client then waits until the rest is paid."""
    large = await api.post("/events?credential=a&weight=10000")
    owing = await api.post("/events?credential=b")
    ticks.now += 5 * NANOSECONDS + EVENTS.interval
    paid = await api.post("/events?credential=a")

    assert (large.status_code, large.headers["ratelimit"]) == (200, '"events";r=0;t=10')
    assert owing.status_code == 429
    assert owing.headers["retry-after"] in {"4", "5", "6"}
    assert paid.status_code == 200


async def test_a_kind_without_a_quota_is_free(ticks: Ticks) -> None:
    """Nothing is counted, and nothing is said."""
    free = Limits(InProcessLimiter(ticks), quotas(Settings(limit_events="off", limit_login_account="off")))

    assert "events" not in quotas(Settings(limit_events="off"))
    assert await free.charge("events", "first", "a", 10**9) == []
    assert [value for _, value in await free.charge_login("ann", "192.0.2.1")] == [
        b'"login_address";q=20;w=60',
        b'"login_address";r=19;t=3',
    ]


async def test_attempts_to_sign_in_are_counted_by_account_and_by_address(limits: Limits) -> None:
    """Five a minute for an account from wherever, twenty a minute from an address for whatever account."""
    for number in range(5):
        await limits.charge_login("ann", f"192.0.2.{number}")
    with pytest.raises(QuotaExceeded) as of_account:
        await limits.charge_login("ann", "192.0.2.99")
    for number in range(20):
        await limits.charge_login(f"user{number}", "198.51.100.1")
    with pytest.raises(QuotaExceeded) as of_address:
        await limits.charge_login("somebody", "198.51.100.1")
    unused = await limits.charge_login("somebody", "203.0.113.1")

    assert of_account.value.headers[0] == (b"ratelimit-policy", b'"login_account";q=5;w=60')
    assert of_address.value.headers[0] == (b"ratelimit-policy", b'"login_address";q=20;w=60')
    assert (b"ratelimit", b'"login_account";r=4;t=12') in unused  # the refused attempt was not its


async def test_an_address_of_ipv6_counts_as_its_network(limits: Limits) -> None:
    """Who has a /64 has 2^64 addresses; IPv4 written as IPv6 is IPv4, and what is no address is one caller."""
    same = {
        "network": ["2001:db8::1", "2001:db8::ffff:1", "2001:0DB8:0:0:1::", "2001:db8::1%eth0"],
        "mapped": ["192.0.2.1", "::ffff:192.0.2.1"],
        "none": ["", ""],
    }
    for addresses in same.values():
        left = [(await limits.charge_login(f"{a} {n}", a))[1][1] for n, a in enumerate(addresses)]

        assert left == [b'"login_address";r=%d;t=%d' % (19 - n, 3 * (n + 1)) for n in range(len(addresses))]
    assert (await limits.charge_login("x", "2001:db8:0:1::1"))[1][1].startswith(b'"login_address";r=19')


class Recording:
    """A limiter that lets everything through and notes the keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
        """Note the key."""
        self.keys.append(key)
        return Verdict(weight <= quota.burst, quota.burst, 0, 0)

    def take_at_once(self, _key: str, _quota: Quota, _weight: int = 1) -> None:
        """Not without waiting."""

    async def close(self) -> None:
        """Nothing to close."""


async def test_no_name_of_a_person_is_kept_with_the_limits() -> None:
    """Accounts and addresses are digested, however long and strange they are."""
    recording = Recording()
    kept = Limits(recording, quotas(Settings()))

    await kept.charge_login("ann@example.org" * 1_000 + "\ud800", "192.0.2.1")

    assert [len(key) for key in recording.keys] == [
        len(f"0..{kind}.") + 32 for kind in ("login_address", "login_account")
    ]
    assert not any("ann" in key or "192" in key for key in recording.keys)


async def test_signing_in_is_refused_while_nobody_can_count() -> None:
    """The kinds of passwords are closed, and only those."""

    class Away(Recording):
        async def take(self, key: str, quota: Quota, weight: int = 1) -> Verdict:
            if quota.closed:
                raise Unavailable("It cannot be counted now.", retry_after=2)
            return await super().take(key, quota, weight)

    limits = Limits(Away(), quotas(Settings()))

    with pytest.raises(Unavailable):
        await limits.charge_login("ann", "192.0.2.1")
    for kind in set(KINDS) - CLOSED:
        assert await limits.charge(kind, "first", "a")


async def test_more_than_may_be_under_way_at_once_is_429(api: httpx.AsyncClient) -> None:
    """Four results of a client; the fifth is told to come again, and when one is done there is a place."""
    most = AT_ONCE["results"]
    fits = await api.get(f"/results?at_once={most}")
    refused = await api.get(f"/results?at_once={most + 1}")
    again = await api.get(f"/results?at_once={most}")

    assert (fits.status_code, refused.status_code, again.status_code) == (200, 429, 200)
    assert is_problem(refused)
    assert refused.headers["retry-after"] == "1"
    assert fields(refused) == {
        "ratelimit-policy": {"name": "results-under-way", "q": "4", "qu": '"concurrent-requests"'},
        "ratelimit": {"name": "results-under-way", "r": "0"},
    }


async def test_places_are_each_clients_own_and_given_back_after_an_error(limits: Limits) -> None:
    """One export at a time per client, whatever becomes of it; what is not bounded is not counted."""
    with pytest.raises(ZeroDivisionError):
        async with limits.under_way("export", "first"):
            raise ZeroDivisionError
    async with limits.under_way("export", "first"), limits.under_way("export", "second"):
        with pytest.raises(QuotaExceeded):
            async with limits.under_way("export", "first"):
                pass
        for _ in range(100):
            async with limits.under_way("events", "first"):
                pass
    async with limits.under_way("export", "first"):
        pass

    assert not limits._under_way


async def test_every_kind_says_its_policy(limits: Limits) -> None:
    """The window is that in which the bucket fills: q in w seconds is what may be asked for ever."""
    policies = {}
    for kind in set(KINDS) - CLOSED:
        policies[kind] = (await limits.charge(kind, "first", "a"))[0][1].decode()

    assert policies == {
        "events": '"events";q=5000;w=5',
        "assignments": '"assignments";q=2000;w=1',
        "management": '"management";q=50;w=5',
        "results": '"results";q=5;w=1',
        "export": '"export";q=1;w=60',
        "refresh": '"refresh";q=30;w=60',
        "keys": '"keys";q=10;w=3600',
    }
