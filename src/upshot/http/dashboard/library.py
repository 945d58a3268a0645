"""What experiments are judged by: metrics, and the events behind them."""

from typing import Annotated

import msgspec
from fastapi import Query
from starlette.responses import Response

from upshot.dashboard.definitions import in_words
from upshot.dashboard.volumes import events_of_days
from upshot.http.cursors import Cursor, cursor_of, number_of
from upshot.http.dashboard.visitors import Reader, pages
from upshot.http.stores import StoresOf
from upshot.metrics import Kind, Metric, describe
from upshot.operations import events, metrics

router = pages()

DAYS = 30
NEWEST = 200
"""Events among which the last of each type is looked for."""


@router.get("/dashboard/metrics")
async def definitions(
    visitor: Reader,
    stores: StoresOf,
    search: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Cursor = None,
) -> Response:
    """The metric definitions of the client, and the page to make one on."""
    page = await metrics.search(stores, visitor.client, search=search, after=number_of(cursor), limit=50)
    types = await events.types_seen(stores, visitor.client)
    shown = [
        {
            "metric": definition.metric,
            "words": in_words(definition.metric),
            "document": _changeable(definition.metric),
            "created_at": definition.created_at,
        }
        for definition in page.definitions
    ]
    return visitor.page(
        "metrics",
        definitions=shown,
        kinds=[str(kind) for kind in Kind],
        types=types,
        search=search,
        following=cursor_of(page.following),
    )


@router.get("/dashboard/events")
async def seen(visitor: Reader, stores: StoresOf) -> Response:
    """The event types that were seen, how many came on each day, and the last ones as they are stored."""
    types = await events.types_seen(stores, visitor.client)
    volumes = await events.volumes(stores, visitor.client, DAYS) if types else []
    newest = await events.recent(stores, visitor.client, NEWEST) if types else []
    last = {event.event_type: event for event in newest}
    base = str(visitor.request.base_url).rstrip("/")
    drawn = events_of_days([each.event_type for each in types], volumes, stores.clock.now(), DAYS)
    return visitor.page("events", types=types, last=last, now=stores.clock.now(), base=base, days=DAYS, **drawn)


def _changeable(metric: Metric) -> str:
    """The definition as JSON, without the key, which stays."""
    said = describe(metric)
    del said["key"]
    return msgspec.json.format(msgspec.json.encode(said)).decode()
