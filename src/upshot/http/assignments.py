"""Assignments over HTTP, and the thin lane in front of FastAPI for the question that is asked most.

The lane answers `GET /experiments/{id}/assignment/{user_id}` with the same operation and the same bytes as the route; whatever is
out of the ordinary (no valid token, a bad user id, an unknown experiment) falls through to the route, which says why.
"""

from collections import OrderedDict
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec
from fastapi import Depends, Path, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from upshot import access
from upshot.access import Caller
from upshot.access.keys import PREFIX
from upshot.assignment import Assignment
from upshot.errors import QuotaExceeded, UpshotError
from upshot.http.access import Assigner, ManyAssigner, bearer_of, charge
from upshot.http.intake import AssignManyIn, UserIn
from upshot.http.limits import Headers, Limits
from upshot.http.openapi import json_body, problems, reader
from upshot.http.outcomes import AssignmentOut, AssignmentsOut, assignment_content
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, assignments
from upshot.operations.assignments import Assigned
from upshot.operations.credentials import Credentials

router = Router(tags=["assignments"])

REMEMBERED = 20_000
"""Answers in bytes that the lane remembers, of some 400 bytes each."""

_encode = msgspec.json.Encoder().encode


@router.get(
    "/experiments/{experiment_id}/assignment/{user_id:path}",
    response_model=AssignmentOut,
    responses=problems(403, 404),
    openapi_extra={
        "parameters": [
            {
                "name": "context",
                "in": "query",
                "description": "What is known of the user (device, country, app_version, …), one parameter each.",
                "style": "form",
                "explode": True,
                "schema": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 50},
                "example": {"country": "US", "app_version": "2.1.0"},
            }
        ]
    },
)
async def assign(
    caller: Assigner,
    stores: StoresOf,
    request: Request,
    experiment_id: str,
    user_id: Annotated[str, Path(max_length=800)],
) -> Response:
    """The user's variant: the stored one, or a new one for an eligible user. Reading it is an exposure.

    2xx means stored. A user without a variant gets `"variant": null` and a `reason`.
    """
    assigned = await assignments.assign(stores, caller.client, experiment_id, user_id, dict(request.query_params))
    return Response(content_of(assigned), media_type="application/json")


@router.post(
    "/experiments/{experiment_id}/assignments",
    response_model=AssignmentsOut,
    responses=problems(403, 404, 413, 415),
    openapi_extra=json_body(AssignManyIn),
)
async def assign_many(
    caller: ManyAssigner,
    stores: StoresOf,
    request: Request,
    experiment_id: str,
    wanted: Annotated[AssignManyIn, Depends(reader(AssignManyIn))],
) -> Response:
    """The variants of up to 1,000 users, ahead of time. Not an exposure."""
    await charge(request, "assignments", caller, len(wanted.users))
    return _several(await assignments.assign_many(stores, caller.client, experiment_id, wanted.pairs()))


@router.post(
    "/assignments",
    response_model=AssignmentsOut,
    responses=problems(403, 413, 415),
    openapi_extra=json_body(UserIn),
)
async def assign_everywhere(
    caller: Assigner, stores: StoresOf, wanted: Annotated[UserIn, Depends(reader(UserIn))]
) -> Response:
    """The variants of one user in all running experiments, ahead of time. Not an exposure."""
    return _several(await assignments.assign_everywhere(stores, caller.client, wanted.user_id, wanted.context))


def content_of(assigned: Assigned) -> bytes:
    """The JSON of an assignment."""
    return _encode(assignment_content(assigned))


def _several(found: list[Assigned]) -> Response:
    content = {"assignments": [assignment_content(assigned) for assigned in found]}
    return Response(_encode(content), media_type="application/json")


class _Told(NamedTuple):
    """An answer that was given, and all that it depends on."""

    secret: bytes
    caller: Caller
    reference: str
    user_id: str
    context: dict[str, str]
    version: int
    kept: Assignment
    content: bytes


class AssignmentLane:
    """In front of the application: answers the ordinary assignment, lets everything else pass.

    What it told somebody twice it remembers in bytes, and tells again while the caller, the experiment and the stored assignment
    are the same: at once, where this process has all of that.
    """

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app = app
        self._state = state
        self._told: OrderedDict[tuple[bytes, bytes, bytes], _Told] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        content = None
        if scope["type"] == "http" and scope["method"] == "GET" and b"/assignment/" in scope["raw_path"]:
            content = await self._answer(scope)
        if content is None:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope) -> bytes | None:
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
                break
        key = scope["raw_path"], scope["query_string"], authorization
        told = self._told_before(key)
        try:
            if told is not None:
                scope["state"]["headers"] = await self._charge(told.caller)
                return told.content
            return await self._ask(scope, key)
        except (UnicodeDecodeError, UpshotError):
            return None  # the route will say what is wrong

    def at_once(self, path: bytes, query: bytes, authorization: bytes) -> tuple[bytes, Headers] | None:
        """What was told before and is true still, and the header fields of the quota; None where that takes more."""
        told = self._told_before((path, query, authorization))
        if told is None:
            return None
        limits: Limits = self._state.limits
        try:
            headers = limits.charge_at_once("assignments", told.caller.client, told.caller.credential)
        except QuotaExceeded:
            return None  # the route will say so
        return None if headers is None else (told.content, headers)

    def _told_before(self, key: tuple[bytes, bytes, bytes]) -> _Told | None:
        told = self._told.get(key)
        if told is None or not self._holds(told):
            return None
        self._told.move_to_end(key)
        return told

    def _holds(self, told: _Told) -> bool:
        """Whether it would be told again."""
        credentials: Credentials = self._state.credentials
        if credentials.known(told.secret) is not told.caller:
            return False
        found = assignments.remembered(
            self._state.stores, told.caller.client, told.reference, told.user_id, told.context
        )
        return found is not None and found[1] is told.kept and found[0].version == told.version

    async def _ask(self, scope: Scope, key: tuple[bytes, bytes, bytes]) -> bytes | None:
        """The operation's answer, remembered where it is an old one; None where the route has to look closer."""
        raw_path, query, authorization = key
        parts = raw_path.split(b"/")
        if len(parts) != 5 or parts[1] != b"experiments" or parts[3] != b"assignment":
            return None
        stores: Stores = self._state.stores
        credentials: Credentials = self._state.credentials
        secret = bearer_of(authorization)
        caller = credentials.known(secret) if secret else None
        # A browser's key is good from some pages only, a person's token for some: the route looks closer.
        if secret is None or caller is None or caller.origins or not caller.may(access.Scope.ASSIGN):
            return None
        context = _context(query)
        if context is None:
            return None
        reference, user_id = (unquote(part.decode(), errors="strict") for part in (parts[2], parts[4]))
        headers = await self._charge(caller)
        found = await assignments.assign(stores, caller.client, reference, user_id, context)
        content = content_of(found)
        if found.persisted and not found.is_new:
            known = assignments.remembered(stores, caller.client, reference, user_id, context)
            version = found.experiment.version
            if known is not None and known[0].version == version:
                self._told[key] = _Told(secret, caller, reference, user_id, context, version, known[1], content)
                if len(self._told) > REMEMBERED:
                    self._told.popitem(last=False)
        scope["state"]["headers"] = headers
        return content

    async def _charge(self, caller: Caller) -> Headers:
        limits: Limits = self._state.limits
        return await limits.charge("assignments", caller.client, caller.credential)


def _context(query: bytes) -> dict[str, str] | None:
    """The context that a query string tells; None when it tells something twice."""
    if not query:
        return {}
    if PREFIX.encode() in query:
        return None  # a key in an address is refused by the route
    pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    context = dict(pairs)
    return context if len(context) == len(pairs) else None
