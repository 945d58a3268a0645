"""What pages of other origins may ask for: events, assignments and links, with a browser key, never with cookies.

A browser asks first, without the key. The answer is the same for every origin: what is allowed is decided where the key is known
(`access.py`), and only an answer to one of its own origins can be read there.
"""

from fastapi import FastAPI, Response

PATHS = (
    "/events",
    "/events/batch",
    "/assignments",
    "/exposures",
    "/sdk/config",
    "/sdk/stream",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{flag_key:path}",
    "/identities",
    "/experiments/{experiment_id}/assignments",
    "/experiments/{experiment_id}/assignment/{user_id:path}",
)
_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, idempotency-key, if-none-match, x-api-key",
    "Access-Control-Max-Age": "600",
}


def install(app: FastAPI) -> None:
    """Answer what browsers ask before they send."""

    async def preflight() -> Response:
        return Response(status_code=204, headers=_HEADERS)

    for path in PATHS:
        app.add_api_route(path, preflight, methods=["OPTIONS"], include_in_schema=False)
