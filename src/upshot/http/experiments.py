"""Experiments over HTTP."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from starlette.responses import JSONResponse

from upshot.access.trail import GUARDED, Approval
from upshot.experiments import Experiment, Status
from upshot.http.access import Editor, Reader
from upshot.http.accounts import ApprovalOut
from upshot.http.answers import ExperimentOut, ExperimentsOut
from upshot.http.cursors import Cursor, Limit, cursor_of, number_of
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, optional_reader, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.wire import CompletionIn, ExperimentIn, ExperimentPatch, StatusWord
from upshot.operations import experiments

router = Router(prefix="/experiments", tags=["experiments"], route_class=OnceRoute)

_WAITING: dict[int | str, dict[str, Any]] = {
    202: {"model": ApprovalOut, "description": "It waits for a second person."}
}

Action = Literal["start", "pause", "resume", "archive"]


@router.post("", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(ExperimentIn))
async def create(
    caller: Editor,
    stores: StoresOf,
    wanted: Annotated[ExperimentIn, Depends(reader(ExperimentIn))],
    response: Response,
) -> ExperimentOut:
    """Create an experiment with its variants. It runs at once unless its status is `draft`."""
    experiment = await experiments.create(stores, caller, wanted.draft())
    response.headers["Location"] = f"/experiments/{experiment.id}"
    return ExperimentOut.of(experiment)


@router.get("", responses=problems(403))
async def search(
    caller: Reader,
    stores: StoresOf,
    status: Annotated[StatusWord | None, Query()] = None,
    search: Annotated[str | None, Query(max_length=200, description="In name, key and description.")] = None,
    tag: Annotated[str | None, Query(max_length=120, description="With this tag.")] = None,
    owner: Annotated[str | None, Query(max_length=254, description="Of this owner.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ExperimentsOut:
    """List experiments, newest first."""
    page = await experiments.search(
        stores,
        caller.client,
        status=Status(status) if status else None,
        search=search,
        tag=tag,
        owner=owner,
        after=number_of(cursor),
        limit=limit,
    )
    found = [ExperimentOut.of(experiment) for experiment in page.experiments]
    return ExperimentsOut(experiments=found, next_cursor=cursor_of(page.following))


@router.get("/{experiment_id}", responses=problems(403, 404))
async def read(caller: Reader, stores: StoresOf, experiment_id: str) -> ExperimentOut:
    """One experiment, by id or key."""
    return ExperimentOut.of(await experiments.read(stores, caller.client, experiment_id))


@router.patch("/{experiment_id}", responses=problems(403, 404, 409, 413, 415), openapi_extra=json_body(ExperimentPatch))
async def change(
    caller: Editor,
    stores: StoresOf,
    experiment_id: str,
    wanted: Annotated[ExperimentPatch, Depends(reader(ExperimentPatch))],
) -> ExperimentOut:
    """Change what the state allows. An allocation change of a running experiment opens a new phase."""
    return ExperimentOut.of(await experiments.change(stores, caller, experiment_id, wanted.changes(), wanted.version))


@router.delete("/{experiment_id}", status_code=204, responses=problems(403, 404, 409))
async def delete(caller: Editor, stores: StoresOf, experiment_id: str) -> None:
    """Delete a draft. One that drives flags is kept; 409 names them."""
    await experiments.delete(stores, caller, experiment_id)


def _answer(found: Experiment | Approval) -> Any:
    if isinstance(found, Approval):
        return JSONResponse(ApprovalOut.of(found).model_dump(mode="json"), 202)
    return ExperimentOut.of(found)


def _move(action: Action) -> Any:
    async def move(caller: Editor, stores: StoresOf, experiment_id: str) -> Any:
        return _answer(await experiments.move(stores, caller, experiment_id, action))

    move.__name__ = action
    move.__doc__ = f"{action.capitalize()} the experiment; 409 names what its state allows."
    if action in GUARDED:
        move.__doc__ += " Where the client requires a second person, 202 and what waits for them."
    return move


@router.post(
    "/{experiment_id}/complete",
    response_model=ExperimentOut,
    responses=problems(403, 404, 409, 413, 415) | _WAITING,
    openapi_extra=json_body(CompletionIn, required=False),
)
async def complete(
    caller: Editor,
    stores: StoresOf,
    experiment_id: str,
    wanted: Annotated[CompletionIn | None, Depends(optional_reader(CompletionIn))],
) -> Any:
    """Complete the experiment; 409 names what its state allows. With a winner, the flags that it drives give that variant's value
    to everybody from now on. Where the client requires a second person, 202 and what waits for them."""
    return _answer(await experiments.move(stores, caller, experiment_id, "complete", wanted.winner if wanted else None))


for _action in ("start", "pause", "resume", "archive"):
    _answers = problems(403, 404, 409) | (_WAITING if _action in GUARDED else {})
    router.post("/{experiment_id}/" + _action, response_model=ExperimentOut, responses=_answers)(_move(_action))
