"""What SDKs ask: the configuration by which they decide, and where they tell what they have shown."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from fastapi import Request, Response

from upshot import events as rules
from upshot.access import Caller
from upshot.errors import Fault, Invalid, TooLarge
from upshot.events import Rejection
from upshot.http import body
from upshot.http.access import ConfigurationReader, Shower, charge
from upshot.http.etags import IfNoneMatch, is_known
from upshot.http.events import all_refused, content_of, sent_at_of
from upshot.http.intake import ExposuresIn
from upshot.http.openapi import json_body, problems
from upshot.http.outcomes import ConfigurationOut, ExposedOut
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, elsewhere, snapshots
from upshot.operations.assignments import MANY
from upshot.operations.elsewhere import Elsewhere, Exposed

router = Router(tags=["sdk"])


class DecodedExposure(msgspec.Struct, forbid_unknown_fields=True):
    """An exposure of a request's body, typed."""

    user_id: str
    experiment: str
    variant: str
    exposed_at: str | None = None
    context: dict[str, Any] | None = None


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Several exposures, undecoded, with the SDK's clock."""

    exposures: list[msgspec.Raw]
    sent_at: str | None = None


_one = msgspec.json.Decoder(DecodedExposure)
_envelope = msgspec.json.Decoder(Envelope)


@router.get(
    "/sdk/config",
    response_model=ConfigurationOut,
    responses=problems(403) | {304: {"description": "It is as the ETag says."}},
)
async def configuration(
    caller: ConfigurationReader,
    stores: StoresOf,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """All that an SDK needs to decide by itself: experiments and flags. Users in overrides are in it as hashes."""
    published = await snapshots.known(stores, caller.client)
    headers = {"ETag": published.etag, "Cache-Control": "private, no-cache"}
    if is_known(published.etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(published.document, media_type="application/json", headers=headers)


@router.post(
    "/exposures",
    status_code=201,
    response_model=ExposedOut,
    responses=problems(403, 413, 415),
    openapi_extra=json_body(ExposuresIn),
)
async def expose(caller: Shower, stores: StoresOf, request: Request) -> Response:
    """Tell which users were shown which variants, up to 1,000; good ones are stored, each bad one is answered with its index
    and a code. A user who was given another variant before is a conflict, and counts in that experiment no longer."""
    raw = await body.read(request, body.EVENT_BYTES)
    envelope = body.decoded(raw, _envelope)
    written = sum(body.keys_written(bytes(part)) for part in envelope.exposures)
    body.refuse_duplicate_keys(raw, 1 + (envelope.sent_at is not None) + written)
    if not envelope.exposures:
        raise Invalid.of(Fault("/exposures", "empty", "must hold at least one exposure"))
    found = await take(request, stores, caller, envelope.exposures, sent_at_of(envelope.sent_at))
    if found.rejected and not found.accepted + found.duplicates + found.conflicts:
        return all_refused(found.rejected, "No exposure could be taken.", "/exposures")
    return Response(
        msgspec.json.encode(content_of(found)), 201 if found.accepted else 200, media_type="application/json"
    )


async def take(
    request: Request, stores: Stores, caller: Caller, exposures: Sequence[msgspec.Raw], sent_at: datetime | None
) -> Exposed:
    """What became of undecoded exposures, after they were charged for.

    Raises:
        TooLarge: there are more than 1,000.
        QuotaExceeded: nothing is left.
    """
    if len(exposures) > MANY:
        raise TooLarge(f"A request may hold {MANY} exposures.")
    await charge(request, "assignments", caller, len(exposures))
    read = [_exposure(bytes(part), stores.clock.now()) for part in exposures]
    good = [(index, *row) for index, row in enumerate(read) if not isinstance(row, Rejection)]
    refused = [(index, row) for index, row in enumerate(read) if isinstance(row, Rejection)]
    found = await elsewhere.expose(stores, caller.client, good, sent_at)
    return found._replace(rejected=sorted([*found.rejected, *refused], key=lambda part: part[0]))


def _exposure(raw: bytes, now: datetime) -> tuple[str, Elsewhere] | Rejection:
    row = body.item(raw, _one, _keys)
    if isinstance(row, Rejection):
        return row
    moment = now if row.exposed_at is None else rules.moment_of(row.exposed_at)
    if moment is None:
        return Rejection("/exposed_at", "bad_timestamp", "must be ISO 8601 with an offset")
    return row.experiment, Elsewhere(row.user_id, row.variant, moment, row.context or {})


def _keys(row: DecodedExposure) -> int:
    return 3 + (row.exposed_at is not None) + (row.context is not None) + len(row.context or ())
