"""Changes that are made once, however often they are asked for: the header `Idempotency-Key` of every POST that is no event.

    router = Router(prefix="/experiments", route_class=OnceRoute)

A POST with a key takes it before it does anything (operations/once.py). Its answer, of what was done or of what the present state
refuses (404, 409), is given again for a day to whoever asks the same with the same credential and key, and says so:
`Idempotency-Replayed: true`. What was not begun (400, 401, 403, 413, 415, 422, 429) or failed (5xx) is tried anew.
"""

import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Message

from upshot.access import Caller
from upshot.errors import Conflict, NotFound
from upshot.http.problems import of_error
from upshot.operations import Stores
from upshot.operations.once import Answer, Once, Settled

HEADER = "idempotency-key"
KEPT_HEADERS = ("content-type", "location")


async def _documented(
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern="^[A-Za-z0-9_-]{1,255}$",
            description="Whoever asks the same again with the same key within 24 hours is given the same answer.",
        ),
    ] = None,
) -> None:
    """What OpenAPI says of the header, and its form."""


class OnceRoute(APIRoute):
    """A route that does what a POST with a key asks for once."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        if how.get("methods") == {"POST"} or how.get("methods") == ["POST"]:
            how["dependencies"] = [*(how.get("dependencies") or ()), Depends(_documented)]
        super().__init__(path, endpoint, **how)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, and around it what keeps answers."""
        handle = super().get_route_handler()
        if self.methods != {"POST"}:
            return handle

        async def handle_once(request: Request) -> Response:
            return await (_once(request, handle) if HEADER in request.headers else handle(request))

        return handle_once


async def _once(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    asked = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())

    async def receive() -> Message:
        message = await request.receive()
        asked.update(message.get("body", b""))
        return message

    def caller() -> Caller:
        found: Caller = request.state.caller
        return found

    stores: Stores = request.app.state.stores
    request.state.once = once = Once(stores, caller, request.headers[HEADER], asked.hexdigest)
    try:
        try:
            answer = await handle(Request(request.scope, receive))
        except (NotFound, Conflict) as refusal:
            await once.keep(_answer_of(of_error(refusal)))
            raise
        await once.keep(_answer_of(answer))
    except Settled as settled:
        if isinstance(settled.outcome, Answer):
            return _response_of(settled.outcome)
        raise settled.outcome from None
    except (NotFound, Conflict):
        raise
    except BaseException as error:
        await once.give_up(error)
        raise
    return answer


def _answer_of(response: Response) -> Answer:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return Answer(response.status_code, headers, bytes(response.body).decode())


def _response_of(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, "Idempotency-Replayed": "true"})
