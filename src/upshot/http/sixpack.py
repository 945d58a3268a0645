"""Sixpack's door: `/participate` and `/convert` as Sixpack's clients ask them, in every language that has one.

Sixpack knows no credentials; the door is closed until `UPSHOT_SIXPACK_CLIENT` names the client that it leads to. An experiment
that is not there yet is made, as Sixpack does: the first alternative is its control. A conversion is an event of the type of its
`kpi`, or else "<experiment>:convert", which is the primary metric of an experiment that was made here; counted once per user.
"""

import re
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Query, Request
from starlette.responses import Response

from upshot import contexts
from upshot.access import Caller, system
from upshot.errors import Conflict, NotFound, UpshotError
from upshot.experiments import Draft, Experiment
from upshot.http.access import charge
from upshot.http.events import DecodedEvent
from upshot.http.failures import FailureRoute
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import Stores, assignments, events, experiments
from upshot.variants import Variant, VariantDraft

_NAME = re.compile("[a-z0-9][a-z0-9_ -]*")

Text = Annotated[str, Query(max_length=200)]


class _Failed(UpshotError):
    """What Sixpack's clients read as a failure."""

    status = 400


class SixpackRoute(FailureRoute):
    """A route whose errors have Sixpack's form."""

    def failure(self, request: Request, error: UpshotError) -> Response:  # noqa: ARG002
        """An error as Sixpack's clients read it."""
        status = 400 if error.status < 500 else error.status
        message = error.faults[0].message if error.faults else error.detail
        return _answer({"status": "failed", "message": message}, status)


router = Router(tags=["sixpack"], route_class=SixpackRoute, include_in_schema=False)


async def _door(request: Request) -> Caller:
    """The client that the door leads to."""
    client: str | None = request.app.state.settings.sixpack_client
    if client is None:
        raise NotFound("This door is closed; UPSHOT_SIXPACK_CLIENT opens it.")
    caller = system(client, "sixpack")
    await charge(request, "assignments", caller)
    return caller


Door = Annotated[Caller, Depends(_door)]


@router.get("/participate")
async def participate(
    caller: Door,
    stores: StoresOf,
    experiment: Text,
    client_id: Text,
    alternatives: Annotated[list[str], Query(min_length=2, max_length=20)],
    force: Text | None = None,
    traffic_fraction: Annotated[float, Query(gt=0, le=1)] = 1.0,
) -> Response:
    """The alternative of a client; a forced one is shown without taking part."""
    contexts.check([(client_id, {})])
    found = await _experiment(stores, caller, experiment, alternatives, traffic_fraction)
    if force is not None:
        variant = found.variant_called(force)
        if variant is None:
            raise _Failed("the forced alternative is none of the experiment's")
        return _told(found, client_id, variant)
    assigned = await assignments.assign(stores, caller.client, found.id, client_id, {})
    return _told(found, client_id, assigned.variant or _shipped(found))


@router.get("/convert")
async def convert(
    caller: Door, stores: StoresOf, experiment: Text, client_id: Text, kpi: Text | None = None
) -> Response:
    """Note that a client of an experiment did what it is about."""
    found = await experiments.known(stores, caller.client, _key(experiment))
    kept = await assignments.assigned(stores, caller.client, found, client_id)
    if kept is None:
        raise _Failed("this client was not participating")
    event_type = kpi or _conversion(found)
    event_id = "sixpack:" + sha256(msgspec.json.encode([found.id, event_type, client_id])).hexdigest()
    taken = await events.ingest(
        stores,
        caller.client,
        [DecodedEvent(user_id=client_id, event_type=event_type, event_id=event_id, experiment_id=found.id)],
    )
    if taken.rejected:
        raise _Failed(taken.rejected[0][1].message)
    return _told(found, client_id, kept, conversion={"value": None, "kpi": kpi})


async def _experiment(
    stores: Stores, caller: Caller, name: str, alternatives: list[str], fraction: float
) -> Experiment:
    key = _key(name)
    try:
        found = await experiments.known(stores, caller.client, key)
    except NotFound:
        draft = Draft(
            name=name,
            key=key,
            variants=[VariantDraft(alternative) for alternative in alternatives],
            primary_metric=f"{key}:convert",
            traffic_percentage=round(Decimal(str(fraction)) * 100, 4),
        )
        try:
            return await experiments.create(stores, caller, draft)
        except Conflict:  # another request made it at this moment
            found = await experiments.read(stores, caller.client, key)
    if {variant.name for variant in found.variants} != set(alternatives):
        raise _Failed("the experiment has other alternatives")
    return found


def _key(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _Failed("experiment names consist of a-z, 0-9, _, - and spaces")
    return name.replace(" ", "-")


def _conversion(experiment: Experiment) -> str:
    return experiment.primary_metric or f"{experiment.key}:convert"


def _shipped(experiment: Experiment) -> Variant:
    """What those get who take no part: the winner, or else the control."""
    return next(
        (variant for variant in experiment.variants if variant.position == experiment.winner), experiment.control
    )


def _told(experiment: Experiment, client_id: str, variant: Variant, **more: Any) -> Response:
    content = {
        "status": "ok",
        "alternative": {"name": variant.name},
        "experiment": {"name": experiment.name},
        "client_id": client_id,
    }
    return _answer(content | more, 200)


def _answer(content: dict[str, Any], status: int) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
