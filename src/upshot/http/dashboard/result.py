"""The result of one experiment: the answer at once, what takes longer as parts that the page loads."""

import json
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from upshot import notebook
from upshot.dashboard import results as shown
from upshot.dashboard.verdicts import method_of
from upshot.http.dashboard.visitors import Reader, ResultReader, Visitor, pages
from upshot.http.limits import Limits
from upshot.http.stores import StoresOf
from upshot.operations import Stores, experiments, metrics, results
from upshot.operations.results import Asked
from upshot.report import Report

router = pages()

REFRESH = 30
"""Seconds after which the page of a running experiment asks again."""

_PATH = "/dashboard/experiments/{experiment_id}"


@router.get(_PATH)
async def answer(
    visitor: ResultReader,
    stores: StoresOf,
    experiment_id: str,
    method: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """The answer, and every metric of every variant."""
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    found = await _asked(visitor, stores, experiment_id, Asked())
    known = await metrics.of_experiment(stores, visitor.client, experiment)
    context = shown.answer(found, experiment, known, method_of(found, method))
    base = f"/dashboard/experiments/{experiment.key}"
    return visitor.page("result", base=base, refresh=REFRESH if experiment.is_running else None, **context)


@router.get(_PATH + "/over-time")
async def over_time(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """How it came to be: by day, by hour while it is younger than two days."""
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    young = experiment.started_at is not None and (stores.clock.now() - experiment.started_at).days < 2
    period = "hour" if young else "day"
    found = await _asked(visitor, stores, experiment_id, Asked(granularity=period, cumulative=True))
    return visitor.page("_over_time", **shown.over_time(found, experiment, period))


@router.get(_PATH + "/segments")
async def segments(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """The primary metric by what is known of users."""
    found = await _asked(visitor, stores, experiment_id, Asked(all_segments=True))
    return visitor.page("_segments", **shown.segments(found))


@router.get(_PATH + "/notebook")
async def recomputed(visitor: Reader, stores: StoresOf, experiment_id: str) -> Response:
    """A notebook that recomputes the result from its rows, which stand beside it."""
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    built = notebook.build(experiment.name, f"{experiment.key}.csv", f"{experiment.key}.json")
    headers = {"Content-Disposition": f'attachment; filename="{experiment.key}.ipynb"', "Cache-Control": "no-store"}
    return Response(json.dumps(built, indent=1), media_type="application/x-ipynb+json", headers=headers)


async def _asked(visitor: Visitor, stores: Stores, experiment_id: str, asked: Asked) -> Report:
    limits: Limits = visitor.request.app.state.limits
    async with limits.under_way("results", visitor.client):
        return await results.report(stores, visitor.client, experiment_id, asked)
