"""The result of one experiment: the answer at once, what takes longer as parts that the page loads."""

import json
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from upshot import notebook
from upshot.dashboard import results as shown
from upshot.dashboard.verdicts import method_of
from upshot.http.dashboard.visitors import Guest, Reader, ResultReader, Visitor, pages
from upshot.http.limits import Limits
from upshot.http.stores import StoresOf
from upshot.operations import Stores, experiments, metrics, results, shares
from upshot.operations.results import Asked
from upshot.report import Report

router = pages()

REFRESH = 30
"""Seconds after which the page of a running experiment asks again."""

_PATH = "/dashboard/experiments/{experiment_id}"
_SHARED = "/shared/{client}/{secret}"


@router.get(_PATH)
async def answer(
    visitor: ResultReader,
    stores: StoresOf,
    experiment_id: str,
    method: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """The answer, and every metric of every variant."""
    base = f"/dashboard/experiments/{experiment_id}"
    links = await shares.every(stores, visitor.client, experiment_id) if visitor.may_edit else []
    return await _answer(visitor, stores, experiment_id, base, method, links=links)


@router.get(_PATH + "/over-time")
async def over_time(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """How it came to be: by day, by hour while it is younger than two days."""
    return await _over_time(visitor, stores, experiment_id)


@router.get(_PATH + "/segments")
async def segments(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """The primary metric by what is known of users."""
    return await _segments(visitor, stores, experiment_id)


@router.get(_SHARED)
async def shared(
    guest: Guest, stores: StoresOf, request: Request, method: Annotated[str | None, Query(max_length=20)] = None
) -> Response:
    """The answer, for whoever has a link to it."""
    return await _answer(guest.visitor, stores, guest.experiment_id, request.url.path, method, shared=True)


@router.get(_SHARED + "/over-time")
async def shared_over_time(guest: Guest, stores: StoresOf) -> Response:
    """How it came to be, for whoever has a link to it."""
    return await _over_time(guest.visitor, stores, guest.experiment_id)


@router.get(_SHARED + "/segments")
async def shared_segments(guest: Guest, stores: StoresOf) -> Response:
    """The segments, for whoever has a link to the result."""
    return await _segments(guest.visitor, stores, guest.experiment_id)


@router.get(_PATH + "/notebook")
async def recomputed(visitor: Reader, stores: StoresOf, experiment_id: str) -> Response:
    """A notebook that recomputes the result from its rows, which stand beside it."""
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    built = notebook.build(experiment.name, "results.csv", "results.json")
    headers = {"Content-Disposition": f'attachment; filename="{experiment.key}.ipynb"', "Cache-Control": "no-store"}
    return Response(json.dumps(built, indent=1), media_type="application/x-ipynb+json", headers=headers)


async def _answer(
    visitor: Visitor, stores: Stores, experiment_id: str, base: str, method: str | None, **shown_too: Any
) -> Response:
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    found = await _asked(visitor, stores, experiment_id, Asked())
    known = await metrics.of_experiment(stores, visitor.client, experiment)
    context = shown.answer(found, experiment, known, method_of(found, method))
    refresh = REFRESH if experiment.is_running else None
    return visitor.page("result", **{"base": base, "refresh": refresh, "links": [], **context, **shown_too})


async def _over_time(visitor: Visitor, stores: Stores, experiment_id: str) -> Response:
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    young = experiment.started_at is not None and (stores.clock.now() - experiment.started_at).days < 2
    period = "hour" if young else "day"
    found = await _asked(visitor, stores, experiment_id, Asked(granularity=period, cumulative=True))
    return visitor.page("_over_time", **shown.over_time(found, experiment, period))


async def _segments(visitor: Visitor, stores: Stores, experiment_id: str) -> Response:
    found = await _asked(visitor, stores, experiment_id, Asked(all_segments=True))
    return visitor.page("_segments", **shown.segments(found))


async def _asked(visitor: Visitor, stores: Stores, experiment_id: str, asked: Asked) -> Report:
    limits: Limits = visitor.request.app.state.limits
    async with limits.under_way("results", visitor.client):
        return await results.report(stores, visitor.client, experiment_id, asked)
