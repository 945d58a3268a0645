"""Links to results over HTTP."""

from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Response
from pydantic import BaseModel, BeforeValidator, Field

from upshot.access.shares import LONGEST_DAYS, Share
from upshot.http.access import Editor
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.wire import In, whole
from upshot.operations import shares

router = Router(prefix="/experiments/{experiment_id}/shares", tags=["shares"], route_class=OnceRoute)


class ShareIn(In):
    """A link by which whoever has it can read the result of the experiment, and nothing else."""

    expires_in_days: Annotated[int, Field(ge=1, le=LONGEST_DAYS), BeforeValidator(whole)] | None = Field(
        30, description="null: never."
    )


class ShareOut(BaseModel):
    """A link to a result, without its secret."""

    id: str
    created_by_name: str
    created_at: datetime
    expires_at: datetime | None
    active: bool

    @classmethod
    def fields_of(cls, share: Share, now: datetime) -> dict[str, object]:
        """The fields of the wire form."""
        own = {name: getattr(share, name) for name in cls.model_fields if name != "active"}
        return own | {"active": share.active(now)}


class NewShareOut(ShareOut):
    """A link that was just made: `path` is the whole of it, shown once."""

    path: str


class SharesOut(BaseModel):
    """The links to the result of an experiment, the newest first."""

    shares: list[ShareOut]


@router.post("", status_code=201, responses=problems(403, 404, 413, 415), openapi_extra=json_body(ShareIn))
async def create(
    caller: Editor,
    stores: StoresOf,
    experiment_id: str,
    wanted: Annotated[ShareIn, Depends(reader(ShareIn))],
    response: Response,
) -> NewShareOut:
    """Share the result by a link. The answer is the only place where the whole of it is ever shown."""
    share, secret = await shares.create(stores, caller, experiment_id, wanted.expires_in_days)
    response.headers["Location"] = f"/experiments/{share.experiment_id}/shares/{share.id}"
    path = f"/shared/{quote(caller.client, safe='')}/{secret}"
    return NewShareOut.model_validate({**ShareOut.fields_of(share, stores.clock.now()), "path": path})


@router.get("", responses=problems(403, 404))
async def every(caller: Editor, stores: StoresOf, experiment_id: str) -> SharesOut:
    """The links to the result of the experiment."""
    found, now = await shares.every(stores, caller.client, experiment_id), stores.clock.now()
    return SharesOut.model_validate({"shares": [ShareOut.fields_of(share, now) for share in found]})


@router.delete("/{share_id}", status_code=204, responses=problems(403, 404))
async def revoke(caller: Editor, stores: StoresOf, experiment_id: str, share_id: str) -> None:
    """Take a link back."""
    await shares.revoke(stores, caller, experiment_id, share_id)
