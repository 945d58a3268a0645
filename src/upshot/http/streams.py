"""Streams of changes: server-sent events that say that what decides is another one now, to whoever then asks for it.

`GET /sdk/stream` takes a key, or for a browser's EventSource, which cannot send one, the ticket of an address that was given out.
An event of OpenFeature's form (OFREP, ADR 0008):

    id: <etag>
    event: message
    data: {"type": "refetchEvaluation", "etag": "\"…\"", "lastModified": 1771622898}

The first one comes at once, so that nothing is missed between an answer and the stream. A stream is a notice and carries no data.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from upshot.access import Scope, tickets
from upshot.errors import Unauthenticated
from upshot.http.access import requires, tell
from upshot.http.limits import Limits
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, snapshots
from upshot.operations.snapshots import Published

router = Router(tags=["sdk"])

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = 15
"""Seconds after which a stream says that it is still there."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_by_key = requires(Scope.ASSIGN, kind="assignments")


@router.get(
    "/sdk/stream", include_in_schema=False
)  # a document of requests and answers has no words for what never ends
async def changes(
    request: Request, stores: StoresOf, ticket: Annotated[str | None, Query(max_length=500)] = None
) -> StreamingResponse:
    """Be told when the configuration has changed: ask for it again then. Comes within two seconds of the change."""
    if ticket is None:
        client = (await _by_key(request, None, None)).client
    else:
        client = _client_of(stores, ticket)
        tell(request, [(b"access-control-allow-origin", b"*")])  # a notice without content, and no cookie opens it
    return await stream(request, stores, client, _notice)


async def stream(
    request: Request, stores: Stores, client: str, event: Callable[[Published], Awaitable[bytes]]
) -> StreamingResponse:
    """A response that goes on, an event for every change.

    Raises:
        QuotaExceeded: the client has too many streams open here.
    """
    limits: Limits = request.app.state.limits
    place = AsyncExitStack()
    await place.enter_async_context(limits.under_way("streams", client))

    async def events() -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        quiet = 0
        async for published in snapshots.changes(stores, client):
            if request.app.state.stopping:
                return
            quiet = 0 if published else quiet + 1
            if published is not None:
                yield await event(published)
            elif quiet % HEARTBEAT == 0:
                yield b": still here\n\n"

    return _Changes(events(), place)


class _Changes(StreamingResponse):
    """A stream that gives its place back when it is over, also where its client left before the first event.

    The place is taken before there is a response, so that a refusal is still one.
    """

    def __init__(self, events: AsyncIterator[bytes], place: AsyncExitStack) -> None:
        super().__init__(events, media_type=MEDIA_TYPE, headers=HEADERS)
        self._place = place

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        async with self._place:
            await super().__call__(scope, receive, send)


def ticket_of(stores: Stores, client: str) -> str:
    """What opens a client's stream without a key."""
    return tickets.write(stores.keyring.key_for(tickets.PURPOSE), client, stores.clock.now())


def _client_of(stores: Stores, ticket: str) -> str:
    client = tickets.read(stores.keyring.key_for(tickets.PURPOSE), ticket, stores.clock.now())
    if client is None:
        raise Unauthenticated("The ticket is not good any more: ask again for the address of the stream.")
    return client


async def _notice(published: Published) -> bytes:
    data: dict[str, Any] = {
        "type": "refetchEvaluation",
        "etag": published.etag,
        "lastModified": int(published.composed_at.timestamp()),
    }
    return b"id: %s\nevent: message\ndata: %s\n\n" % (published.etag.strip('"').encode(), msgspec.json.encode(data))
