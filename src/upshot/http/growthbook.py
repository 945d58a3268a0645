"""GrowthBook's door: its payload of features for its SDKs, and one taken over.

GrowthBook's SDKs name a client key in the address. Here that is the id of a browser's key, which is public as theirs is; a secret
key never stands in an address.
"""

from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from upshot.access import Caller, Scope
from upshot.errors import Forbidden, NotFound
from upshot.http.access import EXPOSED, Editor, charge, tell
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.streams import stream
from upshot.http.wire import In
from upshot.operations import growthbook
from upshot.operations.credentials import Credentials
from upshot.operations.snapshots import Published

router = Router(tags=["growthbook"])


class FeaturesOut(BaseModel):
    """GrowthBook's payload."""

    status: int
    features: dict[str, Any]
    dateUpdated: str  # noqa: N815 - GrowthBook's name


class FeaturesIn(In):
    """A payload of GrowthBook's, as its API or an SDK's cache has it; what is not about features is ignored."""

    model_config = In.model_config | {"extra": "ignore"}

    features: dict[str, dict[str, Any]] = Field(min_length=1, max_length=growthbook.FEATURES)


class LeftOut(BaseModel):
    """What could not be taken over: of which feature which rule (−1: the feature itself), and why."""

    feature: str
    rule: int
    reason: str


class TakenOverOut(BaseModel):
    """The keys of flags and the ids of experiments, drafts, that were made, and what was left."""

    flags: list[str]
    experiments: list[str]
    left: list[LeftOut]


@router.get("/api/features/{public_key}", response_model=FeaturesOut, responses=problems(403, 404))
async def features(request: Request, stores: StoresOf, public_key: str) -> Response:
    """What GrowthBook's SDKs decide by. `public_key` is the id of a browser's key with the scope `assign`."""
    caller = await _public(request, public_key)
    content = await growthbook.payload(stores, caller.client)
    headers = {"Cache-Control": "public, max-age=30, stale-while-revalidate=3600", "X-SSE-Support": "enabled"}
    return Response(msgspec.json.encode(content), media_type="application/json", headers=headers)


@router.get("/sub/{public_key}", include_in_schema=False)  # never ends
async def changes(request: Request, stores: StoresOf, public_key: str) -> StreamingResponse:
    """The payload whenever it has changed, as server-sent events that GrowthBook's SDKs listen to."""
    caller = await _public(request, public_key)

    async def event(_published: Published) -> bytes:
        return b"event: features\ndata: %s\n\n" % msgspec.json.encode(await growthbook.payload(stores, caller.client))

    return await stream(request, stores, caller.client, event)


@router.post("/import/growthbook", responses=problems(403, 413, 415), openapi_extra=json_body(FeaturesIn))
async def take_over(
    caller: Editor, stores: StoresOf, wanted: Annotated[FeaturesIn, Depends(reader(FeaturesIn))]
) -> TakenOverOut:
    """Make flags, and drafts of experiments, of a payload of GrowthBook's. What it says that we cannot is told, not guessed."""
    found = await growthbook.take_over(stores, caller, wanted.features)
    left = [LeftOut(feature=part.feature, rule=part.rule, reason=part.reason) for part in found.left]
    return TakenOverOut(flags=found.flags, experiments=found.experiments, left=left)


async def _public(request: Request, public_key: str) -> Caller:
    """The caller that the id of a browser's key stands for.

    Raises:
        NotFound: there is no such key, or it is not a browser's, or it may not assign.
        Forbidden: a page of another origin asks.
    """
    credentials: Credentials = request.app.state.credentials
    caller = await credentials.public(public_key)
    if caller is None or not caller.may(Scope.ASSIGN):
        raise NotFound("There is no such key of a browser.")
    origin = request.headers.get("origin")
    if origin is not None and origin not in caller.origins:
        raise Forbidden("This key is for browsers, on pages of its origins only.")
    if origin is not None:
        tell(request, [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), EXPOSED])
    await charge(request, "assignments", caller)
    return caller
