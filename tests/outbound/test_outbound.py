"""What is sent arrives at the right receiver, and no receiver can do harm by how it answers."""

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from tests.outbound import receivers
from tests.outbound.authority import Authority
from tests.outbound.receivers import LOOPBACK, NAME, OUTSIDE, answers, landing, leading, receiver
from tests.punctual import Late, in_time, punctual

from upshot.errors import ConfigurationError
from upshot.outbound import ANSWER, Outbound, direct, through
from upshot.webhooks import Failure

URL = f"https://{NAME}/upshot?x=1"
HEADERS = {"content-type": "application/json", "webhook-id": "m1"}
NAMES = {NAME: [OUTSIDE], "other.example.com": [OUTSIDE]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the senders of this module trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


def sender(authority: Authority, port: int, **options: Any) -> Outbound:
    """A sender whose outside is a port of loopback."""
    usual: dict[str, Any] = {"dial": landing(port), "resolve": leading(NAMES), "context": authority.trusted()}
    return Outbound(**usual | options)


async def test_a_request_arrives_as_it_was_given(authority: Authority) -> None:
    """Method, path, headers and body; the host is the name, and the connection is not kept."""
    async with receiver(answers(202), authority.server(NAME)) as there:
        answer = await sender(authority, there.port).post(URL, HEADERS, b'{"a":1}')

    (request,) = there.requests
    assert answer == 202
    assert (request.start, request.body) == ("POST /upshot?x=1 HTTP/1.1", b'{"a":1}')
    assert request.headers == HEADERS | {"host": NAME, "content-length": "7", "connection": "close"}


async def test_a_port_is_part_of_the_host(authority: Authority) -> None:
    """And the connection goes to that port of the address."""
    dialled: list[tuple[str, int]] = []

    async with receiver(answers(200), authority.server(NAME)) as there:
        outbound = sender(authority, there.port, dial=landing(there.port, dialled))
        await outbound.post(f"https://{NAME}:8443/", HEADERS, b"")

    assert there.requests[0].headers["host"] == f"{NAME}:8443"
    assert dialled == [(OUTSIDE, 8443)]


@pytest.mark.parametrize("status", [200, 204, 301, 307, 410, 500, 503])
async def test_the_status_is_all_that_comes_back(authority: Authority, status: int) -> None:
    """Whatever it is."""
    async with receiver(answers(status, body=b""), authority.server(NAME)) as there:
        assert await sender(authority, there.port).post(URL, HEADERS, b"{}") == status


async def test_a_redirect_is_not_followed(authority: Authority) -> None:
    """It is an answer like any other; a client that follows it reaches the canary, so the canary sings."""
    async with receivers.canary() as canary:
        there_is = answers(307, headers=f"Location: http://{LOOPBACK}:{canary.port}/\r\n", body=b"")
        async with receiver(there_is, authority.server(NAME)) as there:
            answer = await sender(authority, there.port).post(URL, HEADERS, b"{}")
            seen = canary.connections
        async with receiver(there_is, None) as there, httpx.AsyncClient(follow_redirects=True) as client:
            with pytest.raises(httpx.HTTPError):
                await client.post(f"http://{LOOPBACK}:{there.port}/", content=b"{}")

    assert (answer, seen) == (307, 0)
    assert canary.connections == 1


async def test_an_answer_may_be_preceded_and_ended_by_the_connection(authority: Authority) -> None:
    """100 is no answer, and the status after it is."""
    async with receiver(receivers.continues, authority.server(NAME)) as there:
        assert await sender(authority, there.port).post(URL, HEADERS, b"{}") == 204


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    """Nothing is sent; a sender that does not look sends it all."""
    async with receiver(answers(200), authority.server("other.example.com")) as there:
        answer = await sender(authority, there.port).post(URL, HEADERS, b"{}")
        refused = len(there.requests)
        careless = authority.trusted()
        careless.check_hostname = False
        broken = await sender(authority, there.port, context=careless).post(URL, HEADERS, b"{}")

    assert (answer, refused) == (Failure.TLS, 0)
    assert (broken, len(there.requests)) == (200, 1)


async def test_a_certificate_for_the_address_is_not_one_for_the_name(authority: Authority) -> None:
    """Connecting to an address changes nothing about whose certificate is wanted."""
    async with receiver(answers(200), authority.server(OUTSIDE)) as there:
        assert await sender(authority, there.port).post(URL, HEADERS, b"{}") == Failure.TLS


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    """By a sender that trusts another one, and by one that trusts what the machine trusts."""
    async with receiver(answers(200), Authority(tmp_path).server(NAME)) as there:
        ours = await sender(authority, there.port).post(URL, HEADERS, b"{}")
        default = await sender(authority, there.port, context=None).post(URL, HEADERS, b"{}")

    assert (ours, default, there.requests) == (Failure.TLS, Failure.TLS, [])


async def test_two_names_at_one_address_share_no_connection(authority: Authority) -> None:
    """The second name is not sent to over a connection that was made for the first, as a pool keyed by address would do."""
    async with receiver(answers(200), authority.server(NAME)) as there:
        outbound = sender(authority, there.port)
        first = await outbound.post(URL, HEADERS, b"{}")
        second = await outbound.post("https://other.example.com/", HEADERS, b"{}")
        pooled = await over_a_pool(authority, there.port)

    assert (first, second, there.connections) == (200, Failure.TLS, 3)
    assert pooled == [200, 200]


async def over_a_pool(authority: Authority, port: int) -> list[int]:
    """What two names get that are sent to by address, with the name for TLS beside it, from a client that keeps connections."""
    async with httpx.AsyncClient(verify=authority.trusted(), trust_env=False) as client:
        return [
            (
                await client.post(
                    f"https://{LOOPBACK}:{port}/",
                    headers={"Host": name},
                    extensions={"sni_hostname": name},
                    content=b"{}",
                )
            ).status_code
            for name in NAMES
        ]


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (receivers.hangs, Failure.TIMED_OUT),
        (receivers.drips, Failure.TIMED_OUT),
        (receivers.floods, Failure.TOO_LARGE),
        (receivers.floods_the_head, Failure.TOO_LARGE),
        (receivers.says_goodbye, Failure.UNREACHABLE),
        (receivers.babbles, Failure.UNREACHABLE),
    ],
)
@punctual
async def test_a_receiver_that_misbehaves_is_cut(
    authority: Authority, behave: receivers.Behaviour, failure: Failure
) -> None:
    """At the total deadline, or at 64 KiB; then the connection is closed and the receiver knows it."""
    total = 0.4 if failure is Failure.TIMED_OUT else 15  # which must not come first on a busy machine
    async with receiver(behave, authority.server(NAME)) as there:
        began = time.monotonic()
        answer = await sender(authority, there.port, total=total).post(URL, HEADERS, b"{}")
        in_time(time.monotonic() - began, 0.8)

    assert answer is failure
    assert there.sent < 32 << 20  # what fits into the buffers of two sockets


@punctual
async def test_a_receiver_is_waited_for_by_a_client_without_a_total_deadline(authority: Authority) -> None:
    """The check above can fail: a timeout per read never ends what drips."""
    async with (
        receiver(receivers.drips, authority.server(NAME)) as there,
        httpx.AsyncClient(verify=authority.trusted(), timeout=0.4, trust_env=False) as client,
    ):
        try:
            async with asyncio.timeout(1.2):
                await client.post(f"https://{LOOPBACK}:{there.port}/", extensions={"sni_hostname": NAME})
        except httpx.TimeoutException as busy:
            raise Late("no byte came within 0.4 s") from busy
        except TimeoutError:
            ended = False
        else:
            ended = True

    assert not ended
    if there.sent <= 20:
        raise Late(f"only {there.sent} bytes came")


async def test_an_answer_of_64_kib_is_read(authority: Authority) -> None:
    """Its head included; a byte more is too much."""
    head = len(b"HTTP/1.1 200 Said\r\nContent-Length: 65000\r\n\r\n")
    for size, expected in ((ANSWER - head, 200), (ANSWER - head + 1, Failure.TOO_LARGE)):
        async with receiver(answers(200, body=b"x" * size), authority.server(NAME)) as there:
            assert await sender(authority, there.port).post(URL, HEADERS, b"{}") == expected


@punctual
async def test_a_receiver_without_tls_gets_nothing(authority: Authority) -> None:
    """Not even the headers, and it is not waited for as long as an answer is."""
    began = time.monotonic()
    async with receiver(answers(200), None) as there:
        answer = await sender(authority, there.port, connect=0.3).post(URL, HEADERS, b"{}")

    assert (answer, there.requests) == (Failure.TIMED_OUT, [])
    in_time(time.monotonic() - began, 2)


async def test_the_next_address_is_tried_when_one_takes_no_connection(authority: Authority) -> None:
    """In the order of the resolver, three at most, and each for so long."""
    dialled: list[str] = []

    async def dial(address: str, _port: int) -> socket.socket:
        dialled.append(address)
        if address == "1.1.1.1":
            raise ConnectionRefusedError
        if address == "1.1.1.2":
            outbound._connect = 30  # for the next one, which answers as soon as the machine lets it
            await asyncio.sleep(60)
        return await direct(LOOPBACK, there.port)

    async with receiver(answers(200), authority.server(NAME)) as there:
        names = {NAME: ["1.1.1.1", "1.1.1.2", OUTSIDE], "other.example.com": ["1.1.1.1"] * 9}
        outbound = sender(authority, there.port, dial=dial, resolve=leading(names), connect=0.3)
        answer = await outbound.post(URL, HEADERS, b"{}")
        tried, dialled[:] = list(dialled), []
        other = await outbound.post("https://other.example.com/", HEADERS, b"{}")

    assert (answer, tried) == (200, names[NAME])
    assert (other, len(dialled)) == (Failure.UNREACHABLE, 3)


async def test_a_name_without_addresses_is_unresolvable(authority: Authority) -> None:
    """Unknown, empty, or not answered in time."""

    async def silent(_host: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    for resolve in (leading({}), leading({NAME: []}), silent):
        assert (
            await sender(authority, 1, resolve=resolve, connect=0.1).post(URL, HEADERS, b"{}") is Failure.UNRESOLVABLE
        )


async def test_many_are_sent_at_once_and_none_is_left_open(authority: Authority) -> None:
    """One that hangs holds up no other."""
    async with receiver(answers(200), authority.server(NAME)) as there, receiver(receivers.hangs, None) as silent:
        outbound, stuck = sender(authority, there.port, connect=15), sender(authority, silent.port, total=0.5)
        good = [outbound.post(URL, HEADERS, b"{}") for _ in range(20)]

        found = await asyncio.gather(*good, *(stuck.post(URL, HEADERS, b"{}") for _ in range(5)))

    assert found == [200] * 20 + [Failure.TIMED_OUT] * 5


def test_the_loop_of_the_server_sends_as_well(authority: Authority) -> None:
    """uvloop has its own TLS."""

    async def send() -> list[Any]:
        async with receiver(answers(200), authority.server(NAME)) as there, receiver(receivers.hangs, None) as silent:
            good = await sender(authority, there.port).post(URL, HEADERS, b"{}")
            wrong = await sender(authority, there.port).post("https://other.example.com", HEADERS, b"{}")
            return [good, wrong, await sender(authority, silent.port, total=0.3).post(URL, HEADERS, b"{}")]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(send()) == [200, Failure.TLS, Failure.TIMED_OUT]


# By way of a proxy


async def test_a_proxy_is_asked_for_the_address_and_the_certificate_is_that_of_the_name(authority: Authority) -> None:
    """With its credentials, which the receiver does not see."""
    async with receiver(answers(200), authority.server(NAME)) as there, receivers.proxy(there.port) as proxy:
        way = through(f"http://us%40er:pass@{LOOPBACK}:{proxy.port}")
        answer = await sender(authority, 1, dial=way).post(URL, HEADERS, b"{}")
        wrong = await sender(authority, 1, dial=way).post("https://other.example.com", HEADERS, b"{}")

    assert (answer, wrong) == (200, Failure.TLS)
    assert proxy.requests[0].start == f"CONNECT {OUTSIDE}:443 HTTP/1.1"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNAZXI6cGFzcw=="
    assert "proxy-authorization" not in there.requests[0].headers


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_is_a_receiver_out_of_reach(authority: Authority, status: int) -> None:
    """As is one that is not there."""
    async with receiver(answers(200), authority.server(NAME)) as there, receivers.proxy(there.port, status) as proxy:
        way = through(f"http://{LOOPBACK}:{proxy.port}/")
        assert await sender(authority, 1, dial=way).post(URL, HEADERS, b"{}") is Failure.UNREACHABLE

    with socket.socket() as nobody:  # has a port, so that nobody else takes it, and does not listen
        nobody.bind((LOOPBACK, 0))
        way = through(f"http://{LOOPBACK}:{nobody.getsockname()[1]}/")
        assert await sender(authority, 1, dial=way).post(URL, HEADERS, b"{}") is Failure.UNREACHABLE
    assert there.requests == []


async def test_a_proxy_does_not_relax_the_rule(authority: Authority) -> None:
    """What leads inside is refused before the proxy hears of it."""
    async with receivers.proxy(1) as proxy:
        way = through(f"http://{LOOPBACK}:{proxy.port}")
        inside = sender(authority, 1, dial=way, resolve=leading({NAME: ["10.0.0.1"]}))
        assert await inside.post(URL, HEADERS, b"{}") is Failure.REFUSED_ADDRESS

    assert proxy.connections == 0


@pytest.mark.parametrize("setting", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
async def test_a_proxy_of_the_environment_is_not_used(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """An HTTP client left to itself would use it."""
    async with receiver(answers(200), authority.server(NAME)) as there, receivers.proxy(there.port) as proxy:
        monkeypatch.setenv(setting, f"http://{LOOPBACK}:{proxy.port}")
        answer = await sender(authority, there.port).post(URL, HEADERS, b"{}")
        unused = proxy.connections
        async with httpx.AsyncClient(verify=authority.trusted()) as client:
            await client.post(f"https://{NAME}/")

    assert (answer, unused, proxy.connections) == (200, 0, 1)


@pytest.mark.parametrize(
    "url",
    ["", "proxy:3128", "http://proxy", "https://proxy:3128", "socks5://proxy:1", "http://proxy:99999", "http://:3128",
     "http://proxy:3128/path", "http://proxy:3128?x=1", "http://[::1:3128"],
)  # fmt: skip
def test_a_proxy_that_cannot_be_one_stops_the_start(url: str) -> None:
    """And the message does not repeat it: it may hold a password."""
    with pytest.raises(ConfigurationError) as refused:
        through(url)

    assert not url or url not in refused.value.detail


def test_a_sender_is_made_without_arguments() -> None:
    """As production makes it: it trusts what the machine trusts, and checks names."""
    context = Outbound()._context

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
