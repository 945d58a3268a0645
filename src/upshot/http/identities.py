"""Identities over HTTP: an anonymous id and a known one become one user; one pair, or many with a verdict for each."""

from typing import Any

import msgspec
from fastapi import Request, Response

from upshot.errors import Fault, Invalid
from upshot.events import Rejection
from upshot.http import body
from upshot.http.access import Linker, charge
from upshot.http.events import rejection
from upshot.http.intake import IdentitiesIn, IdentityIn
from upshot.http.openapi import json_body, problems
from upshot.http.outcomes import LinkedOut
from upshot.http.problems import problem
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import identities
from upshot.operations.identities import Link, Linked

router = Router(tags=["assignments"])

BYTES = 1024 * 1024


@router.post(
    "/identities",
    status_code=201,
    response_model=LinkedOut,
    responses=problems(403, 413, 415) | {200: {"model": LinkedOut, "description": "Nothing was new."}},
    openapi_extra=json_body(IdentityIn, IdentitiesIn),
)
async def link(caller: Linker, stores: StoresOf, request: Request) -> Response:
    """Let an anonymous id and a known one be one user, for good: one pair, or `{"identities": […]}` with up to 1,000.

    Send it when somebody signs in. From then on the anonymous id gets the user's variants, and what was done under it counts as
    the user's. 201 means durably linked, 200 that all were known.
    """
    document = body.document(await body.read(request, BYTES))
    several = isinstance(document, dict) and "identities" in document
    items: list[Any] = list(body.validated(IdentitiesIn, document).identities) if several else [document]
    await charge(request, "assignments", caller, len(items))
    return _answer(await identities.link(stores, caller.client, [_read(item) for item in items]), several=several)


def _read(item: Any) -> Link | Rejection:
    """One pair; a rejection where its shape is wrong."""
    try:
        found = body.validated(IdentityIn, item)
    except Invalid as error:
        fault = error.faults[0]
        return Rejection(fault.pointer, fault.code, fault.message)
    return found.anonymous_id, found.user_id


def _answer(found: Linked, *, several: bool) -> Response:
    """201 when something was linked, 200 when all that could be taken was known, 422 when all was refused."""
    rejected = [rejection(index, refused) for index, refused in found.rejected]
    if not found.linked and not found.known:
        place = "/identities/{index}" if several else ""
        faults = [
            Fault(place.format(index=part["index"]) + part["pointer"], part["code"], part["message"])
            for part in rejected[:100]
        ]
        return problem(422, "invalid", "The request is not valid", "No identity could be linked.", faults)
    content = {
        "linked": found.linked,
        "known": found.known,
        "conflicts": found.conflicts,
        "rejected": rejected,
    }
    return Response(msgspec.json.encode(content), 201 if found.linked else 200, media_type="application/json")
