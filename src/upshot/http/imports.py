"""Import over HTTP: assignments made elsewhere and past events with their own times, as one document or as NDJSON lines.

NDJSON is read as a stream, so that millions of rows pass through a few megabytes of memory: a line with `variant` is an
assignment, one with `event_type` or `type` an event. Lines are stored in chunks; what was stored stays when a later line is
bad, and sending the same body again with the same `Idempotency-Key` stores nothing twice.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from fastapi import Request, Response

from upshot import events as rules
from upshot.access import Caller
from upshot.errors import TooLarge
from upshot.events import RawEvent, Rejection
from upshot.http import body
from upshot.http.access import Editor
from upshot.http.events import IdempotencyKey, decode_item, rejection
from upshot.http.intake import ImportIn
from upshot.http.openapi import json_body, problems
from upshot.http.outcomes import ImportedOut
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, elsewhere, events
from upshot.operations.elsewhere import Elsewhere

router = Router(tags=["import"])

CHUNK = 5_000
LINE_BYTES = 64 * 1024
LISTED = 100
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")


class DecodedAssignment(msgspec.Struct, forbid_unknown_fields=True):
    """An assignment row of a request's body, typed."""

    user_id: str
    variant: str
    assigned_at: str
    context: dict[str, str | int | float | bool | None] | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A whole import in one document, its rows undecoded."""

    assignments: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []


_assignment = msgspec.json.Decoder(DecodedAssignment)
_document = msgspec.json.Decoder(Document)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass
class _Tally:
    """What became of the rows of one kind."""

    accepted: int = 0
    duplicates: int = 0
    rejected_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def add(self, accepted: int, duplicates: int, rejected: Sequence[tuple[int, Rejection]]) -> None:
        self.accepted += accepted
        self.duplicates += duplicates
        self.rejected_count += len(rejected)
        self.rejected += [rejection(*refused) for refused in rejected[: LISTED - len(self.rejected)]]


class _Import:
    """One import under way: rows gather into chunks, chunks are stored."""

    def __init__(self, stores: Stores, caller: Caller, reference: str, key: str | None) -> None:
        self._stores, self._caller, self._reference = stores, caller, reference
        self._key = key or stores.clock.new_id()
        self._assignments: list[tuple[int, Elsewhere | Rejection]] = []
        self._events: list[RawEvent | Rejection] = []
        self._taken = {"assignments": 0, "events": 0}
        self.tallies = {"assignments": _Tally(), "events": _Tally()}

    async def assignment(self, raw: bytes) -> None:
        """Take an assignment row."""
        self._assignments.append((self._taken["assignments"], _elsewhere(raw)))
        self._taken["assignments"] += 1
        if len(self._assignments) == CHUNK:
            await self._store_assignments()

    async def event(self, raw: bytes) -> None:
        """Take an event row."""
        self._events.append(decode_item(raw))
        if len(self._events) == CHUNK:
            await self._store_events()

    async def finish(self) -> None:
        """Store what has gathered."""
        await self._store_assignments()
        await self._store_events()

    async def _store_assignments(self) -> None:
        good = [(index, row) for index, row in self._assignments if isinstance(row, Elsewhere)]
        bad = [(index, row) for index, row in self._assignments if isinstance(row, Rejection)]
        self._assignments = []
        found = await elsewhere.import_assignments(self._stores, self._caller, self._reference, good)
        self.tallies["assignments"].add(found.accepted, found.duplicates, sorted(bad + found.rejected))

    async def _store_events(self) -> None:
        first, items = self._taken["events"], self._events
        self._taken["events"] += len(items)
        self._events = []
        found = await events.ingest(self._stores, self._caller.client, items, key=self._key, imported=True, first=first)
        self.tallies["events"].add(found.accepted, found.duplicates, found.rejected)


@router.post(
    "/experiments/{experiment_id}/import",
    response_model=ImportedOut,
    responses=problems(403, 404, 409, 413, 415),
    openapi_extra=json_body(ImportIn),
)
async def import_rows(
    caller: Editor,
    stores: StoresOf,
    request: Request,
    experiment_id: str,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Import assignments made elsewhere, and past events. JSON up to 10 MiB, or NDJSON of any length."""
    under_way = _Import(stores, caller, experiment_id, idempotency_key)
    if body.check_media_type(request, ("application/json", *NDJSON)) == "application/json":
        await _take_document(under_way, await body.read(request, body.EVENT_BYTES))
    else:
        async for line in _lines(request):
            await _take_line(under_way, line)
    await under_way.finish()
    return Response(msgspec.json.encode(under_way.tallies), media_type="application/json")


async def _take_document(under_way: _Import, raw: bytes) -> None:
    document = body.decoded(raw, _document)
    rows = map(bytes, (*document.assignments, *document.events))
    body.refuse_duplicate_keys(raw, len(body.decoded(raw, _fields)) + sum(map(body.keys_written, rows)))
    for row in document.assignments:
        await under_way.assignment(bytes(row))
    for row in document.events:
        await under_way.event(bytes(row))


async def _take_line(under_way: _Import, line: bytes) -> None:
    try:
        is_assignment = "variant" in _fields.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        is_assignment = False  # the event's decoder will say what is wrong
    await (under_way.assignment(line) if is_assignment else under_way.event(line))


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The lines of a streamed body, without empty ones.

    Raises:
        TooLarge: a line has more than 64 KiB.
    """
    rest = b""
    async for chunk in body.stream(request):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > LINE_BYTES:
            raise TooLarge(f"A line may have {LINE_BYTES} bytes.")
    if rest.strip():
        yield rest


def _elsewhere(raw: bytes) -> Elsewhere | Rejection:
    row = body.item(raw, _assignment, lambda row: 3 + (row.context is not None) + len(row.context or ()))
    if isinstance(row, Rejection):
        return row
    moment: datetime | None = rules.moment_of(row.assigned_at)
    if moment is None:
        return Rejection("/assigned_at", "bad_timestamp", "must be ISO 8601 with an offset")
    if rules.micros(moment) < rules.EARLIEST:
        return Rejection("/assigned_at", "too_early", "must not lie before the year 2000")
    return Elsewhere(row.user_id, row.variant, moment, row.context or {})
