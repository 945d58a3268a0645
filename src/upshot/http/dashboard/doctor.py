"""The doctor's page of an experiment."""

from starlette.responses import Response

from upshot.http.dashboard.visitors import ResultReader, pages
from upshot.http.doctor import DoctorOut
from upshot.http.limits import Limits
from upshot.http.stores import StoresOf
from upshot.operations import diagnosis, experiments

router = pages()

REFRESH = 10
"""Seconds after which the page asks again: whoever looks at it is sending something right now."""


@router.get("/dashboard/experiments/{experiment_id}/doctor")
async def diagnosed(visitor: ResultReader, stores: StoresOf, experiment_id: str) -> Response:
    """Why an experiment has the data that it has, and what comes in right now."""
    limits: Limits = visitor.request.app.state.limits
    async with limits.under_way("results", visitor.client):
        found = await diagnosis.diagnose(stores, visitor.client, experiment_id)
    experiment = await experiments.browse(stores, visitor.client, experiment_id)
    base = str(visitor.request.base_url).rstrip("/")
    return visitor.page(
        "doctor",
        found=DoctorOut.of(found, base),
        experiment=experiment,
        now=found.checked_at,
        refresh=REFRESH if experiment.is_running else None,
    )
