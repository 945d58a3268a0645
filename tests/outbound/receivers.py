"""Those whom something is sent to: a TLS server that behaves as told, a canary that nobody may reach, and a proxy."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from upshot.outbound import Dial, Resolve, direct

OUTSIDE = "93.184.216.34"  # an address of the public internet, which no test connects to
NAME = "hooks.example.com"
LOOPBACK = "127.0.0.1"
Behaviour = Callable[["Receiver", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    """One request as it came."""

    start: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server on a free port of loopback. `connections` counts all that were made, whatever became of them."""

    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    sent: int = 0


def answers(*statuses: int, headers: str = "", body: bytes = b"thanks") -> Behaviour:
    """Answers the first request with the first status, the second one with the second, and so on; the last one for ever."""

    async def behave(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        status = statuses[min(len(receiver.requests), len(statuses)) - 1]
        writer.write(f"HTTP/1.1 {status} Said\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return behave


async def drips(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Begins an answer and goes on with a byte every few milliseconds, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        receiver.sent += 1
        await asyncio.sleep(0.01)


async def hangs(_receiver: Receiver, _writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.sleep(60)


async def floods(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Answers with a gibibyte."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    await pours(receiver, writer)


async def floods_the_head(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Answers with a header of a gibibyte."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    await pours(receiver, writer)


async def pours(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Sends a gibibyte, as fast as it is read."""
    for _ in range(16_384):
        writer.write(b"x" * 65_536)
        await writer.drain()
        receiver.sent += 65_536


async def says_goodbye(_receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Closes the connection instead of answering."""
    writer.close()


async def babbles(_receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Answers in another protocol."""
    writer.write(b"220 mail.example.com ESMTP\r\n")
    await writer.drain()


async def continues(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Says "go on" before the answer, whose end is the end of the connection."""
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()


async def head_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """The first line of a request, and its headers."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    return start, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@asynccontextmanager
async def receiver(behave: Behaviour, context: ssl.SSLContext | None) -> AsyncIterator[Receiver]:
    """A running receiver; without a context it speaks no TLS."""
    found = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            kept = True
            while kept:
                start, headers = await head_of(reader)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                found.requests.append(Received(start, headers, body))
                await behave(found, writer)
                kept = headers.get("connection") != "close"

    async with listening(handle, found, context):
        yield found


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    found: Receiver,
    context: ssl.SSLContext | None,
    ports: Sequence[int] = (0,),
) -> AsyncIterator[None]:
    """A server on the first of these ports that is free; what connects is counted before TLS has its say.

    Whatever was accepted is closed at the end, at whichever point that finds it: what is left open is reported when it is
    collected, on some later test.
    """
    listener = listener_on(ports)
    found.port = listener.getsockname()[1]
    loop, under_way, accepted = asyncio.get_running_loop(), set[asyncio.Task[None]](), list[socket.socket]()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await handle(reader, writer)
        finally:
            under_way.discard(task)
            writer.transport.abort()

    async def serve(connection: socket.socket) -> None:
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), handled)
        with suppress(OSError):
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)

    def accept() -> None:
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = listener.accept()
            connection.settimeout(0)
            accepted.append(connection)
            found.connections += 1
            task = asyncio.create_task(serve(connection))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    loop.add_reader(listener, accept)
    try:
        yield
    finally:
        loop.remove_reader(listener)
        listener.close()
        await asyncio.sleep(0)  # so that what has just been accepted begins, and can be ended
        while under_way:
            ending = list(under_way)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        for connection in accepted:
            connection.close()


def listener_on(ports: Sequence[int]) -> socket.socket:
    """A listening socket on loopback."""
    for port in ports:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            listener.close()
            continue
        listener.settimeout(0)
        listener.listen()
        return listener
    raise AssertionError(f"none of the ports {ports} is free")


@asynccontextmanager
async def canary(*ports: int) -> AsyncIterator[Receiver]:
    """A listener on loopback that nobody may connect to."""
    found = Receiver()

    async def handle(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Nothing: who connects is hung up on."""

    async with listening(handle, found, None, ports or (0,)):
        yield found


@asynccontextmanager
async def proxy(lands: int, status: int = 200) -> AsyncIterator[Receiver]:
    """A proxy that answers CONNECT with a status, and whatever that says takes everybody to one port of loopback."""
    found = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.requests.append(Received(*(await head_of(reader)), b""))
        writer.write(f"HTTP/1.1 {status} Said\r\n\r\n".encode())
        there, back = await asyncio.open_connection(LOOPBACK, lands)
        try:
            with suppress(OSError):
                await asyncio.gather(copied(reader, back), copied(there, writer))
        finally:
            back.transport.abort()

    async with listening(handle, found, None):
        yield found


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


def leading(names: Mapping[str, Sequence[str]]) -> Resolve:
    """A resolver that knows these names."""

    async def resolve(host: str) -> Sequence[str]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return names[host]

    return resolve


def landing(port: int, dialled: list[tuple[str, int]] | None = None) -> Dial:
    """Connections that all end at one port of loopback, whichever address was asked for; it notes that one."""

    async def dial(address: str, to: int) -> socket.socket:
        if dialled is not None:
            dialled.append((address, to))
        return await direct(LOOPBACK, port)

    return dial
