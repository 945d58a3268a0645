"""Create, read, change and archive metric definitions; and what a text stands for in an experiment.

Before it starts, an experiment's references mean what they mean now. At the start the definitions behind them are locked into
its plan, and from then on nothing that is defined, changed or archived changes what the experiment is judged by: a reference that
was no definition then goes on being an event type. Names that only a request says mean what they mean now.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from upshot import identifiers, metrics
from upshot.access import Caller
from upshot.control import Definition, DefinitionPage, Transaction
from upshot.errors import Conflict, Fault, Invalid, NotFound
from upshot.experiments import Experiment
from upshot.metrics import Definitions, Metric
from upshot.operations import Stores, audit

# A key stands in paths and in comma-separated lists; a path segment of dots means another place.
_UNUSABLE = re.compile(r"\.\.?|.*[/,].*")
_EITHER = frozenset({"event_type", "event_types"})


async def create(stores: Stores, caller: Caller, definition: Mapping[str, Any]) -> Definition:
    """A new metric definition.

    Raises:
        Invalid: it cannot be a metric, or its key cannot be one.
        Conflict: the client has a definition of that key.
    """
    metric = metrics.define(definition)
    if _UNUSABLE.fullmatch(metric.key):
        raise Invalid.of(Fault("/key", "bad_key", "must hold neither / nor a comma, and be more than dots"))
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        added = await transaction.metrics.add(caller.client, metric, now)
        await _note(transaction, caller, "metric.created", now, None, added.metric)
    return added


async def read(stores: Stores, client: str, key: str, version: int | None = None) -> Definition:
    """What a key means now, or that version of it, which stays even when the key is archived.

    Raises:
        NotFound: there is none, or it is another client's.
    """
    async with stores.control.reading(client) as transaction:
        return _found(await transaction.metrics.definition(client, key, version))


async def search(stores: Stores, client: str, *, search: str | None, after: int | None, limit: int) -> DefinitionPage:
    """A page of definitions, the last changed first."""
    async with stores.control.browsing(client) as transaction:
        return await transaction.metrics.page(client, search=search, after=after, limit=limit)


async def of_experiment(stores: Stores, client: str, experiment: Experiment) -> tuple[Metric, ...]:
    """The metrics of an experiment, the primary one first."""
    return metrics.of_experiment(experiment, await definitions_for(stores, client, experiment, ()))


async def change(
    stores: Stores, caller: Caller, key: str, changes: Mapping[str, Any], version: int | None = None
) -> Definition:
    """A new version with some fields changed, None taking one away; `version` is the one that the caller has seen.

    Where nothing changes there is no new version.
    """
    client, now = caller.client, stores.clock.now()
    async with stores.control.transaction(client) as transaction:
        definition = _found(await transaction.metrics.definition(client, key))
        metric = definition.metric
        if version is not None and version != metric.version:
            raise Conflict(f"The metric is at version {metric.version} by now; read it again.")
        changed = replace(metrics.define(_merged(metrics.describe(metric), changes)), version=metric.version)
        if changed == metric:
            return definition
        saved = await transaction.metrics.save(client, changed, now)
        await _note(transaction, caller, "metric.changed", now, metric, saved.metric)
    return saved


async def archive(stores: Stores, caller: Caller, key: str) -> None:
    """Let a key mean nothing from now on; its versions stay, for the experiments that have them in their plan."""
    client, now = caller.client, stores.clock.now()
    async with stores.control.transaction(client) as transaction:
        definition = _found(await transaction.metrics.definition(client, key))
        if not await transaction.metrics.archive(client, key, now):
            raise NotFound("There is no such metric.")
        await _note(transaction, caller, "metric.archived", now, definition.metric, None)


async def definitions_for(
    stores: Stores, client: str, experiment: Experiment, names: Collection[str] = ()
) -> Definitions:
    """What the experiment's references, and the names that a request says besides, stand for where they are definitions."""
    references = _references(experiment)
    settled = experiment.plan.locked_at is not None
    wanted = _possible(names) - references if settled else _possible(names) | references
    if not wanted:
        return _locked(experiment)
    async with stores.control.browsing(client) as transaction:
        return await transaction.metrics.definitions(client, wanted) | _locked(experiment)


async def checked(
    transaction: Transaction, client: str, experiment: Experiment, before: Experiment | None = None
) -> Experiment:
    """An experiment that is about to be stored, with its metrics checked, and locked once it has started.

    `before` is the experiment as it was: when it had started already, only references that are new may become locked.

    Raises:
        Invalid: one of the references is not usable.
    """
    known = _references(before) if before is not None and before.plan.locked_at is not None else frozenset()
    wanted = _references(experiment) - known - set(experiment.plan.definitions)
    definitions = await transaction.metrics.definitions(client, wanted) if wanted else {}
    metrics.of_experiment(experiment, definitions | _locked(experiment))
    if experiment.plan.locked_at is None or not definitions:
        return experiment
    locked = {key: metrics.describe(metric) | {"version": metric.version} for key, metric in definitions.items()}
    return replace(experiment, plan=replace(experiment.plan, definitions=locked | dict(experiment.plan.definitions)))


async def _note(
    transaction: Transaction, caller: Caller, action: str, now: datetime, before: Metric | None, after: Metric | None
) -> None:
    earlier, later = (None if part is None else metrics.describe(part) for part in (before, after))
    thing = ("metric", (after or before).key)  # type: ignore[union-attr]  # one of the two is there
    await audit.note(transaction, caller, action, thing, now, before=earlier, after=later)


def _locked(experiment: Experiment) -> dict[str, Metric]:
    """The metrics that are locked into an experiment's plan."""
    found = {}
    for key, document in experiment.plan.definitions.items():
        fields = dict(document)
        version = fields.pop("version")
        found[key] = replace(metrics.define(fields), version=version)
    return found


def _references(experiment: Experiment) -> frozenset[str]:
    """The texts by which an experiment refers to metrics, and which could be keys."""
    return _possible([experiment.primary_metric, *experiment.metrics, *experiment.guardrails])


def _possible(names: Collection[Any]) -> frozenset[str]:
    """Those of the names that could be keys; a store is not asked for others, which may hold what it cannot compare."""
    texts = (name for name in names if isinstance(name, str))
    return frozenset(text for text in texts if not identifiers.fault_of_text(text, identifiers.EVENT_TYPE_LENGTH))


def _merged(definition: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with fields replaced as wholes; `event_type` and `event_types` are two ways to say one thing."""
    said = {name for name, value in changes.items() if value is not None}
    kept = {name: value for name, value in definition.items() if not (name in _EITHER and said & _EITHER)}
    return {name: value for name, value in (kept | dict(changes)).items() if value is not None}


def _found(definition: Definition | None) -> Definition:
    if definition is None:
        raise NotFound("There is no such metric.")
    return definition
