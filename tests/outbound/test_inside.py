"""Nothing that a user enters as a URL, and nothing that a name server answers, leads inside.

A canary listens on loopback, and must see no connection. Clients that look less closely reach it, so it would sing.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest
from tests.outbound import receivers
from tests.outbound.receivers import LOOPBACK, NAME, OUTSIDE, landing, leading
from tests.punctual import in_time, punctual

from upshot import outbound, webhooks
from upshot.outbound import Dial, Outbound, Resolve, is_outside
from upshot.webhooks import Answer, Failure

TRUST = ssl.create_default_context()
QUICK = 0.1  # seconds within which a refusal is there

# `{port}` is that of the canary, and one of those that are allowed.
HOSTILE = (
    # loopback, in every way of writing it
    "https://127.0.0.1:{port}/", "https://127.0.0.1.:{port}/", "https://127.1:{port}/", "https://127.0.1:{port}/",
    "https://127.127.127.127:{port}/", "https://2130706433:{port}/", "https://2130706433.:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0.0.1:{port}/", "https://0x7f.0x0.0x0.0x1:{port}/", "https://017700000001:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://0177.0.0.0x1:{port}/", "https://00000177.0.0.1:{port}/", "https://127.0.0.1%00.example.com:{port}/",
    "https://0:{port}/", "https://0.0.0.0:{port}/", "https://0x0:{port}/", "https://00:{port}/",
    "https://[::1]:{port}/", "https://[::]:{port}/", "https://[0:0:0:0:0:0:0:1]:{port}/", "https://[::1%25lo]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/", "https://[::ffff:7f00:1]:{port}/", "https://[::127.0.0.1]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/", "https://[64:ff9b::127.0.0.1]:{port}/", "https://[2002:7f00:1::]:{port}/",
    "https://[::ffff:0:127.0.0.1]:{port}/", "https://[v1.127.0.0.1]:{port}/",
    "https://localhost:{port}/", "https://localhost.:{port}/", "https://LOCALHOST:{port}/",
    "https://a.localhost:{port}/",
    "https://ip6-localhost:{port}/", "https://a.b.localhost:{port}/", "https://broadcasthost:{port}/",
    # the metadata of clouds, and networks inside
    "https://169.254.169.254/latest/meta-data/", "https://2852039166/", "https://0xa9fea9fe/",
    "https://[fd00:ec2::254]/",
    "https://metadata.google.internal/", "https://[::ffff:169.254.169.254]/", "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/", "https://100.100.100.200/", "https://[fe80::1]/", "https://[fc00::1]/",
    # other schemes, and none
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "file:///etc/passwd", "file://localhost/etc/passwd",
    "gopher://127.0.0.1:{port}/_PING", "dict://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/",
    "ldap://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock", "//127.0.0.1:{port}/", "127.0.0.1:{port}", "https:127.0.0.1:{port}",
    "https:/127.0.0.1:{port}/",
    "hTTp://127.0.0.1:{port}/", "ws://127.0.0.1:{port}/", "data:text/plain,x", "javascript:1", "",
    # what two parsers read differently
    "https://hooks.example.com@127.0.0.1:{port}/", "https://hooks.example.com:443@127.0.0.1:{port}/",
    "https://a:b@localhost:{port}/",
    "https://127.0.0.1:{port}#@hooks.example.com/", "https://127.0.0.1:{port}\\@hooks.example.com/",
    "https://hooks.example.com\\@127.0.0.1:{port}/", "https://127.0.0.1:{port}?@hooks.example.com/",
    "https:\\\\127.0.0.1:{port}\\", "https:///127.0.0.1:{port}/", "https://127.0.0.1\t:{port}/",
    "https://127.0.0.1\r\n:{port}/",
    "\thttps://127.0.0.1:{port}/", "https://127.0.0.1 :{port}/", "https://127.0.0.1:{port}\x00.example.com/",
    "https://127.0.0.1,hooks.example.com:{port}/", "https://{{127.0.0.1,hooks.example.com}}:{port}/",
    "https://*:{port}/",
    # letters and digits that some make ASCII
    "https://１２７.０.０.１:{port}/", "https://①②⑦.⓪.⓪.①:{port}/", "https://127。0。0。1:{port}/", "https://127．0．0．1:{port}/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/", "https://loc\u00adalhost:{port}/", "https://localhos\u200bt:{port}/",
    "https://lοcalhost:{port}/",
    "https://[：：1]:{port}/", "https://%6c%6f%63%61%6c%68%6f%73%74:{port}/", "https://%31%32%37.0.0.1:{port}/",
    # ports
    "https://hooks.example.com:22/", "https://hooks.example.com:6379/", "https://hooks.example.com:0/",
    "https://hooks.example.com:65979/",
    "https://hooks.example.com:4４3/", "https://hooks.example.com:443:22/", "https://hooks.example.com:+443/",
)  # fmt: skip

INSIDE = (
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.0.192",
    "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::169.254.169.254", "64:ff9b::168.63.129.16",
    "64:ff9b::224.0.0.1",
    "64:ff9b:1::7f00:1", "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:0:7f00:1::",
    "2001:0:808:808:0:0:80ff:fffe", "2001:2::1", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "4000::1",
    "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%lo", "2606:4700::1%lo", "fec0::1", "ff02::1", "ff0e::1",
    "", "localhost", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "8.8.8.8 ", "8.8.8.8:443", "[2606:4700::1]",
    "8.8.8",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", OUTSIDE, "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255", "172.15.255.255", "172.32.0.1", "192.167.255.255", "192.169.0.1", "223.255.255.255",
    "168.63.129.17",
    "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:800::200e", "64:ff9b::808:808",
)  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_outside(address: str) -> None:
    """In whichever way it is written or wrapped, and what is no address is neither."""
    assert not is_outside(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_outside(address: str) -> None:
    """Up to the edges of the networks that are not."""
    assert is_outside(address)


def test_the_library_alone_takes_addresses_inside_for_global() -> None:
    """The check above can fail: `is_global` by itself lets some of them through."""

    def is_global(address: str) -> bool:
        try:
            return ipaddress.ip_address(address).is_global
        except ValueError:
            return False

    assert {"224.0.0.1", "168.63.129.16", "64:ff9b::7f00:1"} <= {a for a in INSIDE if is_global(a)}


async def refused(sender: Outbound, url: str) -> float:
    """How soon a URL is refused, every time: the best of three tries, as a busy machine lets any of them wait."""
    took: list[float] = []
    while len(took) < 3 and min(took, default=QUICK) >= QUICK:
        began = time.monotonic()
        assert await sender.post(url, {}, b"{}") is Failure.REFUSED_ADDRESS, url
        took.append(time.monotonic() - began)
    return min(took)


async def test_who_always_takes_long_is_seen_to() -> None:
    """The control: three tries do not hide a sender that is slow each time."""

    class Slow(Outbound):
        async def post(self, *_: object) -> Failure:
            await asyncio.sleep(2 * QUICK)
            return Failure.REFUSED_ADDRESS

    assert await refused(Slow(), "https://a.example/") >= QUICK


async def test_no_hostile_url_reaches_loopback() -> None:
    """Refused as it is entered, and again where it would be sent, by the sender that production has, in under 100 ms each."""
    sender = Outbound()
    slow = []

    async with receivers.canary(*reversed(webhooks.PORTS)) as canary:
        for template in HOSTILE:
            url = template.format(port=canary.port)
            if await refused(sender, url) >= QUICK:
                slow.append(url)

            assert webhooks.check_url(url) is not None, url
        await asyncio.sleep(0.05)

    assert len(set(HOSTILE)) == len(HOSTILE) >= 60
    assert (canary.connections, slow) == (0, [])


@pytest.mark.slow
async def test_a_client_that_does_not_look_reaches_loopback() -> None:
    """The check above can fail: the same canary hears of many of the same URLs from an ordinary client."""
    async with receivers.canary() as canary, httpx.AsyncClient(timeout=1, trust_env=False) as client:
        for template in HOSTILE:
            if "{port}" in template:
                try:
                    await client.post(template.format(port=canary.port), content=b"{}")
                except (httpx.HTTPError, httpx.InvalidURL, ValueError):
                    continue

    assert canary.connections >= 20


@pytest.mark.parametrize("address", [address for address in INSIDE if address])
async def test_no_name_that_leads_inside_is_connected_to(address: str) -> None:
    """Not even where another address of it is outside."""
    async with receivers.canary() as canary:
        for addresses in ([address], [OUTSIDE, address], [address, OUTSIDE]):
            sender = Outbound(landing(canary.port), leading({NAME: addresses}), TRUST)

            assert await refused(sender, f"https://{NAME}/") < QUICK

    assert canary.connections == 0


async def test_without_the_rule_a_name_leads_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: with a rule that takes every address the canary sings."""
    monkeypatch.setattr(outbound, "is_outside", lambda _: True)

    async with receivers.canary() as canary:
        sender = Outbound(landing(canary.port), leading({NAME: ["127.0.0.1"]}))
        answer = await sender.post(f"https://{NAME}/", {}, b"{}")

    assert answer is not Failure.REFUSED_ADDRESS
    assert canary.connections == 1


# A name that leads outside when it is looked at, and inside when it is connected to


class Rebinding:
    """A name server that answers the first question with an address outside, and every later one with loopback."""

    def __init__(self) -> None:
        self.questions = 0

    async def resolve(self, _host: str) -> Sequence[str]:
        """The answer of the moment."""
        self.questions += 1
        return [OUTSIDE] if self.questions == 1 else [LOOPBACK]


def world(canary: int, dialled: list[str]) -> Dial:
    """Connections of a world in which loopback is where the canary is, and nobody answers outside."""

    async def dial(address: str, _port: int) -> socket.socket:
        dialled.append(address)
        if is_outside(address):
            raise ConnectionRefusedError
        return await outbound.direct(LOOPBACK, canary)

    return dial


Post = Callable[[str, Resolve, Dial], Awaitable[Answer]]


async def ours(url: str, resolve: Resolve, dial: Dial) -> Answer:
    """What is sent by the sender of the product."""
    return await Outbound(dial, resolve).post(url, {}, b"{}")


async def twice(_url: str, resolve: Resolve, dial: Dial) -> Answer:
    """A sender that looks at the addresses of a name, and then connects to the name."""
    if not all(map(is_outside, await resolve(NAME))):
        return Failure.REFUSED_ADDRESS
    (address, *_) = await resolve(NAME)
    (await dial(address, 443)).close()
    return 200


async def singing(post: Post) -> tuple[int, list[str], int]:
    """What a rebinding name brings: connections to the canary, addresses that were dialled, questions that were asked."""
    server, dialled = Rebinding(), list[str]()
    async with receivers.canary() as canary:
        await post(f"https://{NAME}/", server.resolve, world(canary.port, dialled))
        await asyncio.sleep(0.05)
    return canary.connections, dialled, server.questions


async def test_a_name_that_changes_its_mind_is_asked_once() -> None:
    """The address that was looked at is the one that is connected to, and there is no other."""
    assert await singing(ours) == (0, [OUTSIDE], 1)


async def test_a_sender_that_asks_twice_is_caught() -> None:
    """The check above can fail."""
    assert await singing(twice) == (1, [LOOPBACK], 2)


async def test_a_name_that_leads_inside_from_then_on_is_refused() -> None:
    """The next attempt asks again."""
    server, dialled = Rebinding(), list[str]()
    sender = Outbound(world(1, dialled), server.resolve)

    answers = [await sender.post(f"https://{NAME}/", {}, b"{}") for _ in range(2)]

    assert (answers, dialled) == ([Failure.UNREACHABLE, Failure.REFUSED_ADDRESS], [OUTSIDE])


async def test_the_machines_resolver_is_asked_for_the_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full stop at the end, so that no search domain makes an inside name of it; repeated addresses come once."""
    asked = []

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", (address, 0)) for address in (OUTSIDE, OUTSIDE, "2606:4700::1")]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    assert await outbound.addresses_of(NAME) == [OUTSIDE, "2606:4700::1"]
    assert asked == [f"{NAME}."]


@punctual
async def test_names_that_are_not_answered_hold_up_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait in threads of their own, and are given up at the deadline."""

    def look_up(*_: object, **__: object) -> list[object]:
        time.sleep(1.5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sender = Outbound(connect=0.1)
    began = time.monotonic()

    found = await asyncio.gather(*(sender.post(f"https://{NAME}/", {}, b"{}") for _ in range(50)))
    await asyncio.to_thread(time.sleep, 0)

    assert set(found) == {Failure.UNRESOLVABLE}
    in_time(time.monotonic() - began, 1.4)
