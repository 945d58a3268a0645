"""Planning over HTTP: how many users, for how many days, for which effect."""

from typing import Annotated

from fastapi import Depends

from upshot.http.access import Reader
from upshot.http.openapi import json_body, problems, reader
from upshot.http.planning import PlanAnswer, PlanRequest
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import planner

router = Router(prefix="/planner", tags=["planner"])


@router.post("", responses=problems(403, 413, 415, 504), openapi_extra=json_body(PlanRequest))
async def plan(
    caller: Reader, stores: StoresOf, wanted: Annotated[PlanRequest, Depends(reader(PlanRequest))]
) -> PlanAnswer:
    """Plan an experiment: what users and days an effect needs, or what effect they can show. Nothing is stored."""
    return PlanAnswer.of(await planner.answer(stores, caller.client, wanted.asked()))
