"""The audit log, approvals, and what holds for the whole client, over HTTP."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Query
from starlette.responses import StreamingResponse

from upshot.access import Caller
from upshot.access.trail import Sought, State
from upshot.export import to_csv
from upshot.http.access import Admin, Editor, Reader
from upshot.http.accounts import ApprovalOut, ApprovalsOut, AuditOut, ClientOut, ClientPatch, EntryOut
from upshot.http.answers import ExperimentOut
from upshot.http.cursors import Cursor, Limit, cursor_of, number_of
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, approvals, audit, experiments

router = Router(route_class=OnceRoute)

PAGE = 200

_encode_lines = msgspec.json.Encoder().encode_lines

Words = Annotated[str | None, Query(max_length=200)]


@router.get("/audit", tags=["audit"], responses=problems(403))
async def entries(
    caller: Admin,
    stores: StoresOf,
    object_id: Words = None,
    actor_id: Words = None,
    action: Annotated[str | None, Query(max_length=60, examples=["experiment.started"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> AuditOut:
    """Who did what, the newest first: of one object, one actor, one action, or all."""
    sought = Sought(object_id, actor_id, action)
    page = await audit.read(stores, caller.client, sought, after=number_of(cursor), limit=limit)
    return AuditOut(entries=[EntryOut.of(entry) for entry in page.entries], next_cursor=cursor_of(page.following))


@router.get(
    "/audit/export",
    tags=["audit"],
    response_class=StreamingResponse,
    responses=problems(403) | {200: {"content": {"text/csv": {}, "application/x-ndjson": {}}}},
)
async def export(
    caller: Admin,
    stores: StoresOf,
    format: Annotated[Literal["csv", "ndjson"], Query()] = "ndjson",  # noqa: A002
) -> StreamingResponse:
    """The whole audit log as a file, the newest first."""
    pages = _pages(stores, caller)
    chunks, media = (
        (_csv(pages), "text/csv; charset=utf-8") if format == "csv" else (_ndjson(pages), "application/x-ndjson")
    )
    headers = {"Content-Disposition": f'attachment; filename="audit.{format}"'}
    return StreamingResponse(chunks, media_type=media, headers=headers)


@router.get("/approvals", tags=["approvals"], responses=problems(403))
async def every(
    caller: Reader,
    stores: StoresOf,
    state: Annotated[Literal["pending", "approved", "rejected", "withdrawn"] | None, Query()] = None,
    experiment_id: Annotated[str | None, Query(max_length=36)] = None,
) -> ApprovalsOut:
    """What waits, or waited, for a second person; the last 200, the newest first."""
    found = await approvals.every(stores, caller.client, State(state) if state else None, experiment_id)
    return ApprovalsOut(approvals=[ApprovalOut.of(approval) for approval in found])


@router.post("/approvals/{approval_id}/approve", tags=["approvals"], responses=problems(403, 404, 409))
async def approve(caller: Editor, stores: StoresOf, approval_id: str) -> ExperimentOut:
    """Agree to what somebody else asked for; it is done at once."""
    return ExperimentOut.of(await experiments.approve(stores, caller, approval_id))


@router.post("/approvals/{approval_id}/reject", tags=["approvals"], responses=problems(403, 404, 409))
async def reject(caller: Editor, stores: StoresOf, approval_id: str) -> ApprovalOut:
    """Say no to what somebody asked for, or withdraw what one asked for oneself."""
    return ApprovalOut.of(await approvals.reject(stores, caller, approval_id))


@router.get("/client", tags=["client"], responses=problems(403))
async def settings(caller: Reader, stores: StoresOf) -> ClientOut:
    """What holds for the whole client."""
    return ClientOut(client=caller.client, **await approvals.settings(stores, caller.client))


@router.patch("/client", tags=["client"], responses=problems(403, 413, 415), openapi_extra=json_body(ClientPatch))
async def choose(
    caller: Admin, stores: StoresOf, wanted: Annotated[ClientPatch, Depends(reader(ClientPatch))]
) -> ClientOut:
    """Change what holds for the whole client."""
    choices = wanted.model_dump(exclude_none=True)
    return ClientOut(client=caller.client, **await approvals.choose(stores, caller, choices))


async def _pages(stores: Stores, caller: Caller) -> AsyncIterator[list[EntryOut]]:
    after: int | None = None
    while True:
        page = await audit.read(stores, caller.client, after=after, limit=PAGE)
        yield [EntryOut.of(entry) for entry in page.entries]
        after = page.following
        if after is None:
            return


async def _ndjson(pages: AsyncIterator[list[EntryOut]]) -> AsyncIterator[bytes]:
    async for page in pages:
        yield _encode_lines([entry.model_dump() for entry in page])


def _csv(pages: AsyncIterator[list[EntryOut]]) -> AsyncIterator[bytes]:
    async def rows() -> AsyncIterator[list[tuple[Any, ...]]]:
        async for page in pages:
            yield [tuple(map(_cell, entry.model_dump().values())) for entry in page]

    return to_csv(list(EntryOut.model_fields), rows())


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value
