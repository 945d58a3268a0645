"""Beacons: what a page hands over when it goes away.

`navigator.sendBeacon` can send no header, and without a preflight a body of plain text only. So the key is in the body, and
`POST /beacon` takes keys of browsers only, from pages of their origins: what such a key may do, everybody may who sees the page.

    {"key": "upk_…", "events": […], "exposures": […], "sent_at": "2026-01-31T12:00:00Z"}
"""

from typing import Any

import msgspec
from fastapi import Request

from upshot.access import Caller, Scope
from upshot.errors import Fault, Forbidden, Invalid, Unauthenticated
from upshot.http import body, sdk
from upshot.http.access import charge, check_origin
from upshot.http.events import content_of, decode_item, sent_at_of
from upshot.http.routing import Router
from upshot.http.securityevents import about
from upshot.http.stores import StoresOf
from upshot.operations import events
from upshot.operations.credentials import Credentials
from upshot.securitylog import Event

router = Router(tags=["sdk"])

BYTES = 64 * 1024
"""What browsers let a page's beacons have together."""


class Beacon(msgspec.Struct, forbid_unknown_fields=True):
    """A beacon, its items undecoded."""

    key: str
    events: list[msgspec.Raw] = []
    exposures: list[msgspec.Raw] = []
    sent_at: str | None = None


_beacon = msgspec.json.Decoder(Beacon)


@router.post("/beacon", include_in_schema=False)  # a document of JSON has no words for JSON that says it is text
async def receive(request: Request, stores: StoresOf) -> dict[str, Any]:
    """Take events and exposures of a page that goes away. The body is JSON and says that it is plain text; a browser's key is in
    it."""
    raw = await body.read(request, BYTES, ("text/plain", "application/json"))
    beacon = body.decoded(raw, _beacon)
    parts = [*map(bytes, beacon.events), *map(bytes, beacon.exposures)]
    fields = [beacon.events, beacon.exposures, beacon.sent_at]
    body.refuse_duplicate_keys(raw, 1 + sum(bool(field) for field in fields) + sum(map(body.keys_written, parts)))
    caller = await _caller(request, beacon.key)
    sent_at = sent_at_of(beacon.sent_at)
    answer: dict[str, Any] = {"events": None, "exposures": None}
    if beacon.exposures:  # before the events: only what comes after an exposure counts
        _check_scope(request, caller, Scope.EVENTS, Scope.ASSIGN)
        shown = await sdk.take(request, stores, caller, beacon.exposures, sent_at)
        answer["exposures"] = content_of(shown)
    if beacon.events:
        _check_scope(request, caller, Scope.EVENTS)
        await charge(request, "events", caller, len(beacon.events))
        items = [decode_item(bytes(part)) for part in beacon.events]
        found = await events.ingest(stores, caller.client, items, sent_at=sent_at)
        answer["events"] = content_of(found)
    if not parts:
        raise Invalid.of(Fault("", "empty", "must hold events or exposures"))
    return answer


async def _caller(request: Request, key: str) -> Caller:
    """Who is asking, by a browser's key from a page of its origins.

    Raises:
        Unauthenticated: the key is none, or not a browser's: one that is secret must not be in a page.
        Forbidden: the page is of another origin.
    """
    credentials: Credentials = request.app.state.credentials
    caller = await credentials.find(key.encode("utf-8", "replace"))
    if caller is None or not caller.origins:
        about(request, Event.CREDENTIAL_REFUSED, credential="token")
        raise Unauthenticated("A beacon needs the key of a browser.")
    about(request, client=caller.client, credential=caller.credential)
    check_origin(request, caller)
    return caller


def _check_scope(request: Request, caller: Caller, *scopes: Scope) -> None:
    if not caller.may(*scopes):
        about(request, Event.SCOPE_MISSING)
        raise Forbidden(f"This needs the scope {' or '.join(scopes)}.")
