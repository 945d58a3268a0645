"""Whether the process lives, whether it can serve, and its figures for Prometheus."""

import asyncio
from typing import Any

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from upshot import __version__
from upshot.errors import UpshotError
from upshot.http.access import Admin
from upshot.http.answers import HealthOut
from upshot.http.openapi import problems
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores

router = Router(tags=["health"])

PING_SECONDS = 1.5


@router.get("/livez", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def live() -> Response:
    """The process answers."""
    return Response("ok", media_type="text/plain")


@router.get("/health", response_model=HealthOut, responses={503: {"model": HealthOut}})
@router.get("/readyz", response_model=HealthOut, responses={503: {"model": HealthOut}})
async def ready(stores: StoresOf, response: Response, request: Request) -> HealthOut:
    """The state of each backend; 503 when one cannot serve, or the server is stopping. It can serve without the cache's."""
    parts: dict[str, Any] = {"control": stores.control, "events": stores.events, "cache": stores.cache}
    if stores.queue is not None:
        parts["queue"] = stores.queue
    found = await asyncio.gather(*(_state(stores, name, part) for name, part in parts.items()))
    states = dict(zip(parts, found, strict=True))
    if stores.pending:
        states["pending"] = f"{len(stores.pending)} assignments wait to be stored"
    if stores.spool is not None and stores.spool.waiting:
        states["spool"] = f"{stores.spool.waiting} bytes of events wait to be handed on"
    well = not any(state.startswith("unavailable") for state in states.values()) and not request.app.state.stopping
    response.status_code = 200 if well else 503
    return HealthOut(status="ok" if well else "degraded", version=__version__, backends=states)


@router.get("/metrics", response_class=Response, responses=problems(403) | {200: {"content": {"text/plain": {}}}})
async def figures(_caller: Admin) -> Response:
    """The process's figures, in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _state(stores: Stores, name: str, part: Any) -> str:
    # Shared: whoever asks needs no token, and must not take the connections of those who have one.
    try:
        state: str = await stores.reading.share(("ping", name), part.ping, PING_SECONDS)
    except UpshotError as error:
        return f"unavailable: {error}"
    return state
