"""Make, list and remove layers, and find an experiment its place in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from upshot import identifiers, layers
from upshot.access import Caller
from upshot.assignment import WHOLE, Slot
from upshot.control import ReadTransaction, Transaction
from upshot.errors import Conflict, Fault, Invalid, NotFound
from upshot.experiments import Experiment, Status
from upshot.layers import Claim, Layer
from upshot.operations import Stores, audit

HOLDING = frozenset({Status.DRAFT, Status.RUNNING, Status.PAUSED})


@dataclass(frozen=True, slots=True)
class Occupied:
    """A layer, the experiments that have slices of it, and how many of its million slices nobody has."""

    layer: Layer
    experiments: tuple[Experiment, ...]
    free: int


async def create(stores: Stores, caller: Caller, key: str, name: str) -> Occupied:
    """A new layer.

    Raises:
        Invalid: the key or the name breaks a rule.
        Conflict: the client has that key.
    """
    faults = [fault for fault in (identifiers.check_key(key), identifiers.check_name(name, "/name")) if fault]
    if faults:
        raise Invalid.of(*faults)
    now = stores.clock.now()
    layer = Layer(stores.clock.new_id(), key, name, now)
    async with stores.control.transaction(caller.client) as transaction:
        await transaction.features.add_layer(caller.client, layer)
        await audit.note(
            transaction, caller, "layer.created", ("layer", layer.id), now, after={"key": key, "name": name}
        )
    return Occupied(layer, (), WHOLE)


async def browse(stores: Stores, client: str) -> list[Occupied]:
    """All layers, by key, with those who have slices of them."""
    async with stores.control.browsing(client) as transaction:
        found = await transaction.features.layers(client)
        holding = await _holding(transaction, client)
    return [_occupied(layer, holding) for layer in found]


async def delete(stores: Stores, caller: Caller, key: str) -> None:
    """Remove a layer that no experiment is in.

    Raises:
        NotFound: there is none with that key.
        Conflict: an experiment is in it.
    """
    client = caller.client
    async with stores.control.transaction(client) as transaction:
        layer = await transaction.features.layer(client, key)
        if layer is None:
            raise NotFound("There is no such layer.")
        if _occupied(layer, await _holding(transaction, client)).experiments:
            raise Conflict("An experiment is in this layer; complete or delete it first.")
        await transaction.features.delete_layer(client, layer)
        before = {"key": layer.key, "name": layer.name}
        await audit.note(transaction, caller, "layer.deleted", ("layer", layer.id), stores.clock.now(), before=before)


async def placed(
    transaction: Transaction, client: str, experiment: Experiment, claims: Sequence[Claim]
) -> tuple[Slot, ...]:
    """The slices of an experiment in each layer that it names; what it has there already is free to itself.

    Raises:
        Invalid: there is no such layer.
        Conflict: so much of one is not free.
    """
    slots = []
    holding: tuple[Experiment, ...] | None = None
    for place, claim in enumerate(claims):
        layer = await transaction.features.layer(client, claim.layer)
        if layer is None:
            raise Invalid.of(Fault(f"/layers/{place}/layer", "unknown_layer", "there is no such layer; make it first"))
        if holding is None:  # after the layer is locked, so that of two experiments the second sees the first
            holding = await _holding(transaction, client)
        others = [slot for other in holding if other.id != experiment.id for slot in other.layers]
        taken = [each for slot in others if slot.salt == layer.id for each in slot.ranges]
        slots.append(layers.place(layer, claim, taken))
    return tuple(slots)


async def _holding(transaction: ReadTransaction, client: str) -> tuple[Experiment, ...]:
    return (await transaction.experiments(client, status=HOLDING, limit=None)).experiments


def _occupied(layer: Layer, holding: Sequence[Experiment]) -> Occupied:
    inside = [(each, slot) for each in holding for slot in each.layers if slot.salt == layer.id]
    taken = sum(layers.share_of(slot) for _, slot in inside)
    return Occupied(layer, tuple(each for each, _ in inside), WHOLE - taken)
