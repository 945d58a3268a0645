"""How the command line reaches the API: a given server, the one that runs on the data folder, or none (in this process)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from upshot import datafolder, securitylog, settings
from upshot.access import DEFAULT_CLIENT
from upshot.clock import new_token
from upshot.errors import ConfigurationError, Fault, UpshotError
from upshot.settings import Settings

SECONDS = 120.0

Answer = TypeVar("Answer")


@asynccontextmanager
async def connected(
    chosen: Settings, url: str | None, token: str | None, client: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with a token; without one, with one of that client, by default the first that there is.

    Raises:
        ConfigurationError: a server runs, and no token of that client is configured here.
    """
    address = url or datafolder.running(chosen)
    tokens = datafolder.clients(chosen)
    shown = token or next((text for text, owner in tokens.items() if client in {None, owner}), None)
    if shown is None and address is not None:
        raise ConfigurationError("the running server has no token of this client here: give --token, or stop it first")
    if shown is None:
        shown = new_token()  # in this process whoever runs it may speak for every client
        tokens |= {shown: client or DEFAULT_CLIENT}
    async with AsyncExitStack() as stack:
        transport: httpx.AsyncBaseTransport | None = None
        if address is None:
            from upshot.http.app import create_app  # noqa: PLC0415 - who asks a server waits for none of it

            stack.enter_context(securitylog.silenced())
            app = create_app(chosen, tokens)
            await stack.enter_async_context(app.lifespan())
            transport = httpx.ASGITransport(app)
        yield await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=address or chosen.public_url or "http://upshot", transport=transport, timeout=SECONDS,
                headers={"Authorization": f"Bearer {shown}"},
            )
        )  # fmt: skip


def asked(
    question: Callable[[httpx.AsyncClient], Awaitable[Answer]],
    data_dir: Path | None,
    url: str | None,
    token: str | None,
    client: str | None = None,
) -> Answer:
    """What the API answers to a question of a command."""
    chosen = settings.load(data_dir=data_dir)

    async def ask() -> Answer:
        async with connected(chosen, url, token, client) as api:
            return await question(api)

    return asyncio.run(ask())


async def request(client: httpx.AsyncClient, method: str, path: str, **parts: Any) -> httpx.Response:
    """The response to a request.

    Raises:
        UpshotError: the server refused it; the message says why.
    """
    return checked(await client.request(method, quote(path), **parts))


def checked(response: httpx.Response) -> httpx.Response:
    """A response that is no refusal.

    Raises:
        UpshotError: the server refused the request; the message says why.
    """
    if response.is_error:
        content = response.json() if "json" in response.headers.get("content-type", "") else {}
        faults = [Fault(**fault) for fault in content.get("errors", [])]
        raise UpshotError(content.get("detail", f"the server answered {response.status_code}"), faults=faults)
    return response
