"""People and keys, the audit log, and what the server was told at its start: for admins. One's own account: for everybody."""

from typing import Annotated

import msgspec
from fastapi import Query
from starlette.responses import Response

from upshot import __version__
from upshot.access import Role, Scope
from upshot.access.trail import Sought
from upshot.http.cursors import Cursor, cursor_of, number_of
from upshot.http.dashboard.visitors import Admin, Reader, pages
from upshot.http.stores import StoresOf
from upshot.operations import approvals, audit, keys, sessions, webhooks
from upshot.operations import people as people_operations
from upshot.settings import Settings

router = pages()

_Word = Annotated[str | None, Query(max_length=200)]


@router.get("/dashboard/people")
async def people(visitor: Admin, stores: StoresOf) -> Response:
    """Who may come in: people, and keys of programs."""
    return visitor.page(
        "people",
        users=await people_operations.every(stores, visitor.client),
        keys=await keys.every(stores, visitor.client),
        roles=[str(role) for role in Role],
        scopes=[str(scope) for scope in Scope],
        now=stores.clock.now(),
    )


@router.get("/dashboard/account")
async def account(visitor: Reader, stores: StoresOf) -> Response:
    """One's own account: second factor, password, sessions."""
    return visitor.page(
        "account",
        user=await people_operations.read(stores, visitor.client, visitor.person),
        sessions=await sessions.every(stores, visitor.client, visitor.person),
        required=(await approvals.settings(stores, visitor.client))["second_factor"],
        now=stores.clock.now(),
    )


@router.get("/dashboard/audit")
async def trail(
    visitor: Admin,
    stores: StoresOf,
    action: _Word = None,
    object_id: _Word = None,
    cursor: Cursor = None,
) -> Response:
    """Who did what, the newest first."""
    sought = Sought(object_id or None, None, action or None)
    page = await audit.read(stores, visitor.client, sought, after=number_of(cursor), limit=50)
    shown = [
        {
            "entry": entry,
            "before": entry.before and msgspec.json.format(msgspec.json.encode(entry.before)).decode(),
            "after": entry.after and msgspec.json.format(msgspec.json.encode(entry.after)).decode(),
        }
        for entry in page.entries
    ]
    return visitor.page("audit", entries=shown, action=action, object_id=object_id, following=cursor_of(page.following))


@router.get("/dashboard/settings")
async def settings(visitor: Admin, stores: StoresOf) -> Response:
    """What the server was told, secrets masked; what the client chose; whom it tells."""
    chosen: Settings = visitor.request.app.state.settings
    described = {name: field.description or "" for name, field in Settings.model_fields.items()}
    return visitor.page(
        "settings",
        version=__version__,
        settings=[(name, shown, described.get(name, "")) for name, shown in sorted(chosen.masked().items())],
        chosen=await approvals.settings(stores, visitor.client),
        webhooks=await webhooks.every(stores, visitor.client),
    )
