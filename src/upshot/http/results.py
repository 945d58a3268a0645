"""Results over HTTP: one endpoint for engineers, analysts, product managers and executives, and the rows for export."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from upshot.breakdowns import GRANULARITIES
from upshot.errors import Fault, Invalid
from upshot.export import FORMATS
from upshot.http.access import Exporter, ResultsReader
from upshot.http.limits import Limits
from upshot.http.openapi import problems
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import results
from upshot.operations.results import Asked
from upshot.report import Comparison, Point, Report, VariantReport

router = Router(prefix="/experiments/{experiment_id}/results", tags=["results"])

Text = Annotated[str | None, Query(max_length=2_000)]
Granularity = Literal["hour", "day", "week"]


class Format(StrEnum):
    """How much a result says."""

    SUMMARY = "summary"
    METRICS_ONLY = "metrics_only"
    FULL = "full"


@dataclass(frozen=True)
class Numbers:
    """The part of a result that is for programs."""

    variants: list[VariantReport]
    comparisons: list[Comparison]
    time_series: list[Point]


async def _asked(
    start_date: Annotated[str | None, Query(description="First day (2026-01-31) or moment (with an offset).")] = None,
    end_date: Annotated[
        str | None, Query(description="Last day, inclusive, or moment (with an offset), exclusive.")
    ] = None,
    timezone: Annotated[str, Query(max_length=64, description="IANA name; days begin at its midnight.")] = "UTC",
    metrics: Annotated[
        Text, Query(description="Metrics, separated by commas, such as conversion_rate,revenue.")
    ] = None,
    event_type: Annotated[Text, Query(description="Look at this event type.")] = None,
    event_types: Annotated[Text, Query(description="Look at these event types, separated by commas.")] = None,
    primary_event_type: Annotated[Text, Query(description="Take this as the primary metric.")] = None,
    variant_id: Annotated[Text, Query(description="Show this variant (id or name) and the control only.")] = None,
    group_by: Annotated[
        Text,
        Query(
            description="hour, day or week for a time series; variant; context attributes, or two as country*device."
        ),
    ] = None,
    granularity: Annotated[Granularity | None, Query(description="A time series of these periods.")] = None,
    confidence_level: Annotated[
        float | None, Query(gt=0.5, le=0.999, description="Of the plan where none is given, 0.95 by default.")
    ] = None,
    interaction_with: Annotated[
        Text, Query(description="Another experiment (id or key): do the effects depend on each other?")
    ] = None,
    include_time_series: Annotated[bool, Query(description="A daily time series.")] = False,  # noqa: FBT002
    cumulative: Annotated[  # noqa: FBT002
        bool, Query(description="The comparisons as they stood at the end of each period of the time series.")
    ] = False,
) -> Asked:
    """What a request asks for."""
    zone = _zone(timezone)
    groups = _names(group_by)
    span: str | None = granularity or next((name for name in groups if name in GRANULARITIES), None)
    return Asked(
        start=_moment(start_date, zone, "/query/start_date"),
        end=_moment(end_date, zone, "/query/end_date", after=timedelta(days=1)),
        zone=timezone,
        metrics=_names(metrics),
        event_types=(*_names(event_types), *((event_type,) if event_type else ())),
        primary=primary_event_type,
        variant=variant_id,
        confidence_level=confidence_level,
        granularity=span or ("day" if include_time_series or cumulative else None),
        beside=interaction_with,
        cumulative=cumulative,
        segments=tuple(name for name in groups if name not in GRANULARITIES and name != "variant"),
    )


AskedFor = Annotated[Asked, Depends(_asked)]


@router.get("", response_model=Report | Numbers, responses=problems(403, 404, 504))
async def report(
    caller: ResultsReader,
    stores: StoresOf,
    request: Request,
    experiment_id: str,
    asked: AskedFor,
    format: Format = Format.SUMMARY,  # noqa: A002
) -> Response:
    """The result: `summary` (who wins, by how much, how sure, what next), `metrics_only`, or `full` with time series,
    segments and sufficient statistics. Only events of a user at or after that user's exposure count."""
    if format is Format.FULL:
        asked = replace(
            asked, granularity=asked.granularity or "day", all_segments=True, sufficient=True, cumulative=True
        )
    limits: Limits = request.app.state.limits
    async with limits.under_way("results", caller.client):
        found = await results.report(stores, caller.client, experiment_id, asked)
    content: Any = found
    if format is Format.METRICS_ONLY:
        content = Numbers(found.variants, found.comparisons, found.time_series)
    return Response(msgspec.json.encode(content), media_type="application/json")


@router.get("/export", response_class=StreamingResponse, responses=problems(403, 404))
async def export(
    caller: Exporter,
    stores: StoresOf,
    request: Request,
    experiment_id: str,
    asked: AskedFor,
    format: Literal["csv", "ndjson", "parquet"] = "csv",  # noqa: A002
) -> StreamingResponse:
    """One row per assigned user, streamed: who, which variant, since when, with which context, and every metric's number."""
    columns, batches = await results.export(stores, caller.client, experiment_id, asked)
    write, media_type = FORMATS[format]
    headers = {"Content-Disposition": f'attachment; filename="results.{format}"'}
    chunks = _alone(request.app.state.limits, caller.client, write(columns, batches))
    # Taken before the answer begins: a second export is refused, not cut off.
    first = await anext(chunks, b"")
    return StreamingResponse(_following(first, chunks), media_type=media_type, headers=headers)


async def _alone(limits: Limits, client: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async with limits.under_way("export", client):
        async for chunk in chunks:
            yield chunk


async def _following(first: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(chunks):  # whoever goes away gives the place back at once
        yield first
        async for chunk in chunks:
            yield chunk


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid.of(Fault("/query/timezone", "unknown_timezone", "must be an IANA time zone")) from None


def _moment(text: str | None, zone: ZoneInfo, pointer: str, after: timedelta = timedelta()) -> datetime | None:
    """A moment, or the beginning of a day in a zone; `after` is added to a day."""
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text) + after
            moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        else:
            moment = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + in a query arrives as a space
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        raise Invalid.of(Fault(pointer, "bad_date", "must be a day such as 2026-01-31, or a moment")) from None
    if not 2000 <= moment.year < 2200:
        raise Invalid.of(Fault(pointer, "out_of_range", "must lie between 2000 and 2199"))
    return moment.astimezone(UTC)
