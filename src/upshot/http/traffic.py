"""Layers and holdouts over HTTP: how experiments divide the users among themselves, and whom they leave out."""

from decimal import Decimal
from typing import Annotated

from fastapi import Depends, Response

from upshot.http.access import Editor, Reader
from upshot.http.features import HoldoutIn, HoldoutOut, HoldoutsOut, LayerIn, LayerOut, LayersOut
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.wire import decimal_of
from upshot.operations import holdouts, layers

router = Router(tags=["traffic"], route_class=OnceRoute)


@router.post("/layers", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(LayerIn))
async def create_layer(
    caller: Editor, stores: StoresOf, wanted: Annotated[LayerIn, Depends(reader(LayerIn))]
) -> LayerOut:
    """Make a layer: experiments in it share no users."""
    return LayerOut.of(await layers.create(stores, caller, wanted.key, wanted.name or wanted.key))


@router.get("/layers", responses=problems(403))
async def every_layer(caller: Reader, stores: StoresOf) -> LayersOut:
    """All layers, by key, with the experiments that have a share of them."""
    return LayersOut(layers=[LayerOut.of(found) for found in await layers.browse(stores, caller.client)])


@router.delete("/layers/{layer_key}", status_code=204, responses=problems(403, 404, 409))
async def delete_layer(caller: Editor, stores: StoresOf, layer_key: str) -> None:
    """Remove a layer that no experiment is in."""
    await layers.delete(stores, caller, layer_key)


@router.post("/holdouts", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(HoldoutIn))
async def create_holdout(
    caller: Editor, stores: StoresOf, wanted: Annotated[HoldoutIn, Depends(reader(HoldoutIn))], response: Response
) -> HoldoutOut:
    """Make a holdout: a share of the users that gets no variant of experiments which start from now on."""
    share = decimal_of(wanted.percentage) or Decimal(0)
    holdout = await holdouts.create(stores, caller, wanted.key, wanted.name or wanted.key, share, wanted.tags)
    response.headers["Location"] = f"/holdouts/{holdout.key}"
    return HoldoutOut.of(holdout)


@router.get("/holdouts", responses=problems(403))
async def every_holdout(caller: Reader, stores: StoresOf) -> HoldoutsOut:
    """All holdouts, by key, those that ended, too."""
    return HoldoutsOut(holdouts=[HoldoutOut.of(holdout) for holdout in await holdouts.browse(stores, caller.client)])


@router.post("/holdouts/{holdout_key}/end", responses=problems(403, 404, 409))
async def end_holdout(caller: Editor, stores: StoresOf, holdout_key: str) -> HoldoutOut:
    """End a holdout: its users may enter the experiments that left them out."""
    return HoldoutOut.of(await holdouts.end(stores, caller, holdout_key))
