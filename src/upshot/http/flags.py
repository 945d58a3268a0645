"""Flags over HTTP."""

from typing import Annotated

from fastapi import Depends, Response

from upshot.http.access import Editor, Reader
from upshot.http.cursors import Cursor, Limit, cursor_of_text, text_of
from upshot.http.features import FlagIn, FlagOut, FlagPatch, FlagsOut
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import flags

router = Router(prefix="/flags", tags=["flags"], route_class=OnceRoute)


@router.post("", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(FlagIn))
async def create(
    caller: Editor, stores: StoresOf, wanted: Annotated[FlagIn, Depends(reader(FlagIn))], response: Response
) -> FlagOut:
    """Make a flag."""
    flag = await flags.create(stores, caller, wanted.draft())
    response.headers["Location"] = f"/flags/{flag.key}"
    return FlagOut.of(flag)


@router.get("", responses=problems(403))
async def search(
    caller: Reader,
    stores: StoresOf,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> FlagsOut:
    """List flags, by key."""
    found = await flags.search(stores, caller.client, after=text_of(cursor), limit=limit + 1)
    more = cursor_of_text(found[limit - 1].key) if len(found) > limit else None
    return FlagsOut(flags=[FlagOut.of(flag) for flag in found[:limit]], next_cursor=more)


@router.get("/{flag_key}", responses=problems(403, 404))
async def read(caller: Reader, stores: StoresOf, flag_key: str) -> FlagOut:
    """One flag."""
    return FlagOut.of(await flags.read(stores, caller.client, flag_key))


@router.patch("/{flag_key}", responses=problems(403, 404, 409, 413, 415), openapi_extra=json_body(FlagPatch))
async def change(
    caller: Editor, stores: StoresOf, flag_key: str, wanted: Annotated[FlagPatch, Depends(reader(FlagPatch))]
) -> FlagOut:
    """Change a flag; `{"enabled": false}` is the kill switch: everybody gets the default within two seconds."""
    return FlagOut.of(await flags.change(stores, caller, flag_key, wanted.changes(), wanted.version))


@router.delete("/{flag_key}", status_code=204, responses=problems(403, 404))
async def delete(caller: Editor, stores: StoresOf, flag_key: str) -> None:
    """Delete a flag: whoever asks for it from now on gets the default of their own code."""
    await flags.delete(stores, caller, flag_key)
