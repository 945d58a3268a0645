"""How the command line reaches the API: a given server, the one that runs on the data folder, or none (in this process)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from upshot.cli import server
from upshot.errors import Fault, UpshotError
from upshot.http.app import create_app
from upshot.settings import Settings

SECONDS = 120.0


@asynccontextmanager
async def connected(settings: Settings, url: str | None, token: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with a token."""
    chosen = token or server.own_token(settings)
    address = url or server.running(settings)
    async with AsyncExitStack() as stack:
        transport: httpx.AsyncBaseTransport | None = None
        if address is None:
            app = create_app(settings, server.clients(settings))
            await stack.enter_async_context(app.lifespan())
            transport = httpx.ASGITransport(app)
        yield await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=address or "http://upshot", transport=transport, timeout=SECONDS,
                headers={"Authorization": f"Bearer {chosen}"},
            )
        )  # fmt: skip


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
