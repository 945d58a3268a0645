"""Carries requests with httpx, and says what came of it; nothing that the network raises leaves this module.

Loaded when a client is made, not with the package: httpx brings its command line along.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

import httpx

from upshot.sdk.exchange import Answer, Request
from upshot.sdk.settings import Settings, Store
from upshot.sdk.stream import PATH, SILENCE

FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, RuntimeError)
"""RuntimeError is that of a client which was closed meanwhile."""


def open_client(settings: Settings[Store], timeout: float) -> httpx.Client:
    """A client of the server; each step of a request may take `timeout` seconds."""
    return httpx.Client(base_url=settings.address, headers=dict(settings.headers), timeout=timeout)


def open_async_client(settings: Settings[Store], timeout: float) -> httpx.AsyncClient:
    """The same for an event loop."""
    return httpx.AsyncClient(base_url=settings.address, headers=dict(settings.headers), timeout=timeout)


def exchange(http: httpx.Client, request: Request) -> Answer | None:
    """The answer to a request; None where there was none in time."""
    try:
        response = http.request(
            request.method, request.path, headers=dict(request.headers), content=request.content or None
        )
    except FAILURES:
        return None
    return _answer(response)


async def exchange_async(http: httpx.AsyncClient, request: Request) -> Answer | None:
    """The same in an event loop."""
    try:
        response = await http.request(
            request.method, request.path, headers=dict(request.headers), content=request.content or None
        )
    except FAILURES:
        return None
    return _answer(response)


def follow(http: httpx.Client, opened: Callable[[Callable[[], None]], None], fed: Callable[[bytes], None]) -> None:
    """Read the stream of changes until it ends.

    Args:
        opened: is told that it began, with what ends it from another thread.
        fed: gets its bytes.
    """
    with suppress(*FAILURES), http.stream("GET", PATH, headers=_ACCEPT, timeout=_patience(http)) as response:
        if response.status_code == 200:
            opened(_ending(response))
            for chunk in response.iter_raw():
                fed(chunk)


async def follow_async(http: httpx.AsyncClient, opened: Callable[[], None], fed: Callable[[bytes], None]) -> None:
    """The same in an event loop, where cancelling ends it."""
    with suppress(*FAILURES):
        async with http.stream("GET", PATH, headers=_ACCEPT, timeout=_patience(http)) as response:
            if response.status_code == 200:
                opened()
                async for chunk in response.aiter_raw():
                    fed(chunk)


_ACCEPT = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}


def _patience(http: httpx.Client | httpx.AsyncClient) -> httpx.Timeout:
    return httpx.Timeout(http.timeout.connect, read=SILENCE)


def _ending(response: httpx.Response) -> Callable[[], None]:
    """Ends a response that another thread is reading: its read returns at once."""
    stream = response.extensions.get("network_stream")
    found = stream.get_extra_info("socket") if stream is not None else None

    def end() -> None:
        if isinstance(found, socket.socket):
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    return end


def _answer(response: httpx.Response) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )
