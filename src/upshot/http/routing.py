"""The application's routes: how they are made and joined, and the rules of paths and queries that all of them share."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import APIRouter, Depends, FastAPI, Request

from upshot.access.keys import PREFIX, id_of
from upshot.errors import Fault, Invalid, Malformed, Unauthenticated
from upshot.http.securityevents import about
from upshot.securitylog import Event

REPEATING = frozenset({"/participate"})
"""Paths of other tools whose clients say a parameter several times."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


async def check_target(request: Request) -> None:
    """Refuse a path or query that means different things to different readers.

    Raises:
        Malformed: it is not UTF-8, which would be repaired; the path has control characters: routes ignore a last line feed; or
            the query has NUL, which some stores cannot compare with.
        Invalid: a query parameter is said twice.
        Unauthenticated: a parameter is an API key.
    """
    try:
        path = unquote_to_bytes(request.scope["raw_path"]).decode()
        query = request.scope["query_string"].decode()
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Malformed("The path and the query must be UTF-8.") from None
    if _CONTROL.search(path):
        raise Malformed("The path must not hold control characters.")
    if any("\0" in text for pair in pairs for text in pair):
        raise Malformed("The query must not hold NUL.")
    if exposed := next((text for _, text in pairs if text.startswith(PREFIX)), None):
        key_id = id_of(exposed)
        about(request, Event.CREDENTIAL_EXPOSED, credential=key_id and f"key:{key_id}")
        raise Unauthenticated("A key belongs into the Authorization header: addresses are logged. Revoke this one.")
    if len(pairs) != len({name for name, _ in pairs}) and path not in REPEATING:
        raise Invalid.of(Fault("/query", "repeated_parameter", "a query parameter must not be given twice"))


class Router(APIRouter):
    """A router whose routes check their target before anything else."""

    def __init__(self, **how: Any) -> None:
        super().__init__(dependencies=[Depends(check_target)], **how)

    def join(self, app: FastAPI) -> None:
        """Make the routes the application's own. FastAPI would prepare those of an included router once more, which holds up
        everybody at the first request, and look through one router after another for every request."""
        app.router.routes.extend(self.routes)
