"""API keys over HTTP."""

from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Response

from upshot.access import Scope
from upshot.http.access import Admin, KeyMaker
from upshot.http.accounts import ApiKeyIn, ApiKeyOut, ApiKeysOut, NewApiKeyOut, RotationIn
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import keys

router = Router(prefix="/api-keys", tags=["API keys"], route_class=OnceRoute)


@router.post("", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(ApiKeyIn))
async def create(
    caller: KeyMaker, stores: StoresOf, wanted: Annotated[ApiKeyIn, Depends(reader(ApiKeyIn))], response: Response
) -> NewApiKeyOut:
    """Make a key. The answer is the only place where the whole of it is ever shown."""
    key, text = await keys.create(
        stores,
        caller,
        name=wanted.name,
        scopes=frozenset(map(Scope, wanted.scopes)),
        origins=tuple(wanted.origins),
        lifetime=keys.lifetime_of(wanted.expires_in_days),
    )
    response.headers["Location"] = f"/api-keys/{key.id}"
    return NewApiKeyOut(**ApiKeyOut.fields_of(key, stores.clock.now()), key=text)


@router.get("", responses=problems(403))
async def every(caller: Admin, stores: StoresOf) -> ApiKeysOut:
    """All keys of the client, the newest first, also those that have ended."""
    now = stores.clock.now()
    found = await keys.every(stores, caller.client)
    return ApiKeysOut(api_keys=[ApiKeyOut(**ApiKeyOut.fields_of(key, now)) for key in found])


@router.get("/{key_id}", responses=problems(403, 404))
async def read(caller: Admin, stores: StoresOf, key_id: str) -> ApiKeyOut:
    """One key."""
    key = await keys.read(stores, caller.client, key_id)
    return ApiKeyOut(**ApiKeyOut.fields_of(key, stores.clock.now()))


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    responses=problems(403, 404, 409, 413, 415),
    openapi_extra=json_body(RotationIn),
)
async def rotate(
    caller: KeyMaker, stores: StoresOf, key_id: str, wanted: Annotated[RotationIn, Depends(reader(RotationIn))]
) -> NewApiKeyOut:
    """A new key that is good for the same; the old one stays good for some hours, so that both can be in use."""
    key, text = await keys.rotate(stores, caller, key_id, timedelta(hours=wanted.overlap_hours))
    return NewApiKeyOut(**ApiKeyOut.fields_of(key, stores.clock.now()), key=text)


@router.delete("/{key_id}", status_code=204, responses=problems(403, 404))
async def revoke(caller: Admin, stores: StoresOf, key_id: str) -> None:
    """End a key: every process refuses it within 5 seconds."""
    await keys.revoke(stores, caller, key_id)
