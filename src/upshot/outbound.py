"""What goes out to an address that a user named, and never inside.

The rule: https, to a name, on a port of a short list (`webhooks.destinations`); the name is resolved once; every address that it
has belongs to the public internet, or nothing is sent; the connection goes to one of these very addresses, and its certificate is
that of the name. There is no redirect, no cookie, no proxy of the environment, no connection that two names share, and of the
answer nothing but the status comes back. The rule is no argument: what can be passed in are functions, never data, so that no
setting, row or request can relax it.

The exchange is one request on one connection of its own. An HTTP client with a pool tells connections apart by address, and would
send to one name over a connection whose certificate was checked for another.
"""

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote, urlsplit

import h11

from upshot.errors import ConfigurationError
from upshot.webhooks import PORTS, Answer, Destination, Failure, destination_of

CONNECT = 3.0  # seconds for each of: the name, a connection, its handshake
TOTAL = 15.0
ANSWER = 64 * 1024  # bytes of the answer, its head included
TRIED = 3  # addresses of one name

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Dial = Callable[[str, int], Awaitable[socket.socket]]

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address behind the translator (RFC 6052)
_NOT_OUTSIDE = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments, of which older Pythons know a part; Oracle's metadata is there
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, deprecated (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # a public address that Azure's virtual machines reach their host by
    IPv6Network("2001::/23"),  # the same: Teredo, ORCHID, benchmarking; newer Pythons take a part for global
    IPv6Network("2002::/16"),  # 6to4, deprecated: bits 17 to 48 are an IPv4 address
    IPv6Network("3fff::/20"),  # documentation
)
_CHUNK = 16 * 1024
_PROXY_FORM = "UPSHOT_EGRESS_PROXY: must be http://host:port"
# Threads of its own: names whose servers do not answer must not hold up what else the process does in threads.
_RESOLVERS = ThreadPoolExecutor(4, thread_name_prefix="resolver")


class _Refused(Exception):
    """Nothing is sent, for this reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Outbound:
    """Sends requests to addresses that users named.

    Args:
        dial: how a connection to an address that was found to be outside is made: `direct`, or `through` a proxy.
        resolve: the addresses of a name, asked once for each request.
        context: whose certificates are trusted; by default the authorities that the machine trusts.
        connect: seconds for the name, for each connection, and for its handshake.
        total: seconds for everything.
    """

    def __init__(
        self,
        dial: Dial | None = None,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        *,
        connect: float = CONNECT,
        total: float = TOTAL,
    ) -> None:
        self._dial = dial or direct
        self._resolve = resolve or addresses_of
        self._given = context
        self._connect, self._total = connect, total

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Read when it is needed first: the authorities of a machine are many."""
        return self._given or ssl.create_default_context()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The status of the answer to a POST, or why there is none. Nothing is raised for what the other side does."""
        destination = destination_of(url)
        if destination is None:
            return Failure.REFUSED_ADDRESS
        try:
            async with asyncio.timeout(self._total):
                return await self._exchange(destination, headers, body)
        except _Refused as refused:
            return refused.failure
        except ssl.SSLError:
            return Failure.TLS
        except TimeoutError:
            return Failure.TIMED_OUT
        except (OSError, h11.RemoteProtocolError):
            return Failure.UNREACHABLE

    async def _exchange(self, destination: Destination, headers: Mapping[str, str], body: bytes) -> Answer:
        addresses = await self._addresses(destination.host)
        connection = await self._connection(addresses, destination.port)
        try:
            async with asyncio.timeout(self._connect):
                reader, writer = await asyncio.open_connection(
                    sock=connection, ssl=self._context, server_hostname=destination.host, limit=_CHUNK
                )
        except BaseException:
            connection.close()
            raise
        try:
            exchange = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER)
            writer.write(_request(exchange, destination, headers, body))
            return await _status(exchange, reader)
        finally:
            writer.transport.abort()

    async def _addresses(self, host: str) -> Sequence[str]:
        """The addresses of a name, if all of them are outside."""
        try:
            async with asyncio.timeout(self._connect):
                addresses = await self._resolve(host)
        except OSError:
            raise _Refused(Failure.UNRESOLVABLE) from None
        if not addresses:
            raise _Refused(Failure.UNRESOLVABLE)
        if not all(map(is_outside, addresses)):
            raise _Refused(Failure.REFUSED_ADDRESS)
        return addresses

    async def _connection(self, addresses: Sequence[str], port: int) -> socket.socket:
        """A connection to the first address that takes one."""
        failure: OSError = ConnectionError()
        for address in addresses[:TRIED]:
            try:
                async with asyncio.timeout(self._connect):
                    return await self._dial(address, port)
            except OSError as error:
                failure = error
        raise failure


def is_outside(address: str) -> bool:
    """Whether an address is one of the public internet: global unicast, and no way of writing an address that is not."""
    try:
        where = ip_address(address)
    except ValueError:
        return False
    if isinstance(where, IPv6Address) and where in _NAT64:
        where = IPv4Address(where.packed[-4:])
    if isinstance(where, IPv6Address) and (where not in _GLOBAL_UNICAST or where.scope_id):
        return False
    special = where.is_multicast or any(where in network for network in _NOT_OUTSIDE)
    return where.is_global and not special


async def addresses_of(host: str) -> list[str]:
    """The addresses of a name, by the machine's resolver. The name is whole: no search domain of ours is put behind it.

    Raises:
        OSError: there are none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_RESOLVERS, _look_up, f"{host}.")
    return list(dict.fromkeys(found))


async def direct(address: str, port: int) -> socket.socket:
    """A connection to an address. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return await _connected(family, (address, port))


def through(proxy: str) -> Dial:
    """Connections by way of an egress proxy, `http://[user:password@]host:port`.

    It is asked (CONNECT) for the address that was found to be outside, not for the name: the rule holds whatever the proxy does.

    Raises:
        ConfigurationError: the URL is not of that form.
    """
    try:
        parts = urlsplit(proxy)
        host, proxy_port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(_PROXY_FORM) from None
    if parts.scheme != "http" or not host or not proxy_port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(_PROXY_FORM)
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    permission = f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}\r\n" if parts.username else ""

    async def dial(address: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        family, *_, where = (await loop.getaddrinfo(host, proxy_port, type=socket.SOCK_STREAM))[0]
        connection = await _connected(family, where)
        try:
            target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{permission}\r\n"
            await loop.sock_sendall(connection, head.encode())
            await _permitted(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    return dial


async def _permitted(connection: socket.socket) -> None:
    """Read a proxy's answer to CONNECT, and not a byte of what comes after it. Raises ConnectionError when it says no."""
    loop = asyncio.get_running_loop()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(connection, 1)
        if not byte or len(head) > _CHUNK:
            raise ConnectionError("the proxy gave no answer")
        head += byte
    if not re.match(rb"HTTP/1\.[01] 2\d\d\b", head):
        raise ConnectionError("the proxy refused")


async def _connected(family: int, where: tuple[object, ...]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(0)
    try:
        await asyncio.get_running_loop().sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


def _look_up(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _request(exchange: h11.Connection, destination: Destination, headers: Mapping[str, str], body: bytes) -> bytes:
    host = destination.host if destination.port == PORTS[0] else f"{destination.host}:{destination.port}"
    own = {"host": host, "content-length": str(len(body)), "connection": "close"}
    start = h11.Request(method="POST", target=destination.target, headers=list((dict(headers) | own).items()))
    parts = [exchange.send(event) for event in (start, h11.Data(data=body), h11.EndOfMessage())]
    return b"".join(part for part in parts if part)


async def _status(exchange: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    """The status of an answer, once all of it is here: what never ends, or is as long as a page, is no receipt."""
    status, received = 0, 0
    while True:
        event = exchange.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            received += len(data)
            if received > ANSWER:
                return Failure.TOO_LARGE
            exchange.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return status
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("there is no answer")
