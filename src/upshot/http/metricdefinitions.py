"""Metric definitions over HTTP."""

from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Query, Response

from upshot.http.access import Editor, Reader
from upshot.http.cursors import Cursor, Limit, cursor_of, number_of
from upshot.http.definitions import (
    MetricDefinitionIn,
    MetricDefinitionOut,
    MetricDefinitionPatch,
    MetricDefinitionsOut,
)
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import metrics

router = Router(prefix="/metric-definitions", tags=["metric definitions"], route_class=OnceRoute)


@router.post(
    "",
    status_code=201,
    response_model_exclude_unset=True,
    responses=problems(403, 409, 413, 415),
    openapi_extra=json_body(MetricDefinitionIn),
)
async def create(
    caller: Editor,
    stores: StoresOf,
    wanted: Annotated[MetricDefinitionIn, Depends(reader(MetricDefinitionIn))],
    response: Response,
) -> MetricDefinitionOut:
    """Define a metric, to which experiments and results refer by its key. It goes before an event type of that name."""
    definition = await metrics.create(stores, caller, wanted.definition())
    response.headers["Location"] = f"/metric-definitions/{quote(definition.metric.key)}"
    return MetricDefinitionOut.showing(definition)


@router.get("", response_model_exclude_unset=True, responses=problems(403))
async def search(
    caller: Reader,
    stores: StoresOf,
    search: Annotated[str | None, Query(max_length=200, description="In key, name and description.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> MetricDefinitionsOut:
    """List metric definitions, the last changed first."""
    page = await metrics.search(stores, caller.client, search=search, after=number_of(cursor), limit=limit)
    found = [MetricDefinitionOut.showing(definition) for definition in page.definitions]
    return MetricDefinitionsOut(metric_definitions=found, next_cursor=cursor_of(page.following))


@router.get("/{key}", response_model_exclude_unset=True, responses=problems(403, 404))
async def read(
    caller: Reader,
    stores: StoresOf,
    key: str,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="That version, also of a key that is archived.")
    ] = None,
) -> MetricDefinitionOut:
    """One metric definition."""
    return MetricDefinitionOut.showing(await metrics.read(stores, caller.client, key, version))


@router.patch(
    "/{key}",
    response_model_exclude_unset=True,
    responses=problems(403, 404, 409, 413, 415),
    openapi_extra=json_body(MetricDefinitionPatch),
)
async def change(
    caller: Editor,
    stores: StoresOf,
    key: str,
    wanted: Annotated[MetricDefinitionPatch, Depends(reader(MetricDefinitionPatch))],
) -> MetricDefinitionOut:
    """Change some fields, which makes a new version. Experiments that have started keep the version that they started with."""
    return MetricDefinitionOut.showing(await metrics.change(stores, caller, key, wanted.changes(), wanted.version))


@router.delete("/{key}", status_code=204, responses=problems(403, 404))
async def archive(caller: Editor, stores: StoresOf, key: str) -> None:
    """Archive a metric definition: its key is free, its versions stay for the experiments that started with them."""
    await metrics.archive(stores, caller, key)
