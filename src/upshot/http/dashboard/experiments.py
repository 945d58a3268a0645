"""The list of experiments, and what it loads for each of them."""

from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Query
from starlette.responses import Response

from upshot.dashboard import results as shown
from upshot.dashboard.verdicts import method_of
from upshot.experiments import Status
from upshot.http.cursors import Cursor, cursor_of, number_of
from upshot.http.dashboard.visitors import Reader, ResultReader, pages
from upshot.http.limits import Limits
from upshot.http.stores import StoresOf
from upshot.http.wire import StatusWord
from upshot.operations import experiments, results
from upshot.operations.results import Asked

router = pages()

_Word = Annotated[str | None, Query(max_length=254)]


@router.get("/")
async def browse(
    visitor: Reader,
    stores: StoresOf,
    status: Annotated[StatusWord | Literal[""] | None, Query()] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    tag: _Word = None,
    owner: _Word = None,
    cursor: Cursor = None,
) -> Response:
    """The experiments, newest first."""
    wanted: dict[str, Any] = {"status": status, "search": search, "tag": tag, "owner": owner}
    page = await experiments.search(
        stores,
        visitor.client,
        status=Status(status) if status else None,
        search=search,
        tag=tag,
        owner=owner,
        after=number_of(cursor),
        limit=50,
    )
    now = stores.clock.now()
    known = await experiments.labels(stores, visitor.client)
    following = {**{name: value for name, value in wanted.items() if value}, "cursor": cursor_of(page.following)}
    return visitor.page(
        "experiments",
        experiments=page.experiments,
        running={
            each.id: ((each.ended_at or now) - each.started_at) / timedelta(days=1)
            for each in page.experiments
            if each.started_at
        },
        following=urlencode(following) if page.following else None,
        statuses=[str(word) for word in Status],
        owners=known.owners,
        tags=known.tags,
        filtered=any(wanted.values()),
        **wanted,
    )


@router.get("/dashboard/experiments/{experiment_id}/lift")
async def lift(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """What the list shows of a result."""
    limits: Limits = visitor.request.app.state.limits
    async with limits.under_way("results", visitor.client):
        found = await results.report(stores, visitor.client, experiment_id, Asked())
    return visitor.page("_lift", **shown.lift(found, method_of(found, None)))
