"""Metric definitions: versions, and what a reference means in an experiment before and after its start."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.callers import somebody

from upshot import metrics as core
from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid, NotFound
from upshot.experiments import Draft, Experiment, Status
from upshot.metrics import Kind, Metric
from upshot.operations import Stores, experiments, metrics
from upshot.variants import VariantDraft

DRAFT: dict[str, Any] = {"status": Status.DRAFT}


async def defined(stores: Stores, key: str = "checkout", client: str = "one", **fields: Any) -> Metric:
    """A metric that a client has defined."""
    definition = {"key": key, "kind": "count", "event_type": "order"} | fields
    return (await metrics.create(stores, somebody(client), definition)).metric


async def experiment(stores: Stores, **draft: Any) -> Experiment:
    """A running experiment, unless it is said otherwise."""
    return await experiments.create(
        stores, somebody("one"), Draft("Test", [VariantDraft("a"), VariantDraft("b")], **draft)
    )


async def changed(stores: Stores, made: Experiment, **changes: Any) -> Experiment:
    """The experiment after a change."""
    return await experiments.change(stores, somebody("one"), made.id, changes, None)


async def meaning(stores: Stores, made: Experiment, *names: str) -> dict[str, Kind]:
    """What the experiment's references, and these names, stand for now."""
    stored = await experiments.browse(stores, "one", made.id)
    return {key: m.kind for key, m in (await metrics.definitions_for(stores, "one", stored, names)).items()}


def versions(made: Experiment) -> dict[str, int]:
    """The versions that are locked into a plan."""
    return {key: definition["version"] for key, definition in made.plan.definitions.items()}


class Counting:
    """A control store that counts the views that are asked for."""

    def __init__(self, stores: Stores) -> None:
        self._control = stores.control
        self.views = 0

    @asynccontextmanager
    async def browsing(self, client: str) -> AsyncIterator[Any]:
        """A view, counted."""
        self.views += 1
        async with self._control.browsing(client) as view:
            yield view


async def test_a_change_makes_a_version(stores: Stores, clock: FixedClock) -> None:
    """Fields are replaced as wholes, None takes one away, the rest stays; earlier versions can still be read."""
    await defined(stores, where={"attribute": "a", "operator": "eq", "value": 1}, name="Checkouts")
    clock.advance(days=1)

    second = await metrics.change(
        stores, somebody("one"), "checkout", {"where": {"attribute": "b", "operator": "exists", "value": True}}
    )
    third = await metrics.change(
        stores, somebody("one"), "checkout", {"where": None, "kind": "sum", "name": None}, version=2
    )

    assert second.metric.version == 2
    assert second.created_at == clock.now()
    assert core.describe(second.metric)["where"] == {"attribute": "b", "operator": "exists", "value": True}
    assert third.metric == Metric("checkout", Kind.SUM, ("order",), version=3)
    assert (await metrics.read(stores, "one", "checkout")) == third
    assert (await metrics.read(stores, "one", "checkout", 1)).metric.name == "Checkouts"


@pytest.mark.parametrize(
    ("changes", "types"),
    [
        ({"event_type": "b"}, ("b",)),
        ({"event_types": ["b", "c"]}, ("b", "c")),
        ({"event_types": ["b"], "event_type": None}, ("b",)),
    ],
)
@pytest.mark.parametrize("before", [{"event_type": "a"}, {"event_type": None, "event_types": ["a", "z"]}])
async def test_one_way_to_say_the_event_types_replaces_the_other(
    stores: Stores, before: dict[str, Any], changes: dict[str, Any], types: tuple[str, ...]
) -> None:
    """A definition never holds both."""
    said = {name: value for name, value in ({"key": "a", "kind": "count"} | before).items() if value is not None}
    await metrics.create(stores, somebody("one"), said)

    assert (await metrics.change(stores, somebody("one"), "a", changes)).metric.event_types == types


async def test_a_change_that_changes_nothing_makes_no_version(stores: Stores) -> None:
    """So that whoever sends the same twice does no harm."""
    await defined(stores)

    assert (await metrics.change(stores, somebody("one"), "checkout", {"event_type": "order"})).metric.version == 1
    with pytest.raises(NotFound):
        await metrics.read(stores, "one", "checkout", 2)


async def test_a_change_is_refused_whole(stores: Stores) -> None:
    """Where it was seen in another version, where the result is no metric, where there is no such key."""
    await defined(stores)

    with pytest.raises(Conflict, match="version 1"):
        await metrics.change(stores, somebody("one"), "checkout", {"kind": "sum"}, version=2)
    with pytest.raises(Invalid) as error:
        await metrics.change(stores, somebody("one"), "checkout", {"kind": "quantile"})
    with pytest.raises(NotFound):
        await metrics.change(stores, somebody("one"), "other", {"kind": "sum"})

    assert [fault.pointer for fault in error.value.faults] == ["/level"]
    assert (await metrics.read(stores, "one", "checkout")).metric.version == 1


@pytest.mark.parametrize("key", ["a/b", "a,b", ".", "..", "/", ","])
async def test_a_key_that_no_path_or_list_can_hold_is_refused(stores: Stores, key: str) -> None:
    """Paths are divided by / and lists by commas."""
    with pytest.raises(Invalid) as error:
        await defined(stores, key)

    assert [(fault.pointer, fault.code) for fault in error.value.faults] == [("/key", "bad_key")]


async def test_an_archived_key_is_free(stores: Stores) -> None:
    """It is gone from lists, its versions are not, and a new definition goes on counting them."""
    await defined(stores)
    with pytest.raises(Conflict):
        await defined(stores)

    await metrics.archive(stores, somebody("one"), "checkout")

    with pytest.raises(NotFound):
        await metrics.read(stores, "one", "checkout")
    with pytest.raises(NotFound):
        await metrics.archive(stores, somebody("one"), "checkout")
    assert (await metrics.read(stores, "one", "checkout", 1)).archived_at == stores.clock.now()
    assert (await metrics.search(stores, "one", search=None, after=None, limit=50)).definitions == ()
    assert (await defined(stores)).version == 2


async def test_a_reference_goes_before_an_event_type(stores: Stores) -> None:
    """While a draft is made up it means what the key means at the moment; without a definition it is an event type."""
    made = await experiment(stores, metrics=["checkout"], **DRAFT)
    assert await meaning(stores, made) == {}

    await defined(stores)
    assert await meaning(stores, made) == {"checkout": Kind.COUNT}
    await metrics.change(stores, somebody("one"), "checkout", {"kind": "sum"})
    assert await meaning(stores, made) == {"checkout": Kind.SUM}
    await metrics.archive(stores, somebody("one"), "checkout")
    assert await meaning(stores, made) == {}
    assert made.plan.definitions == {}


@pytest.mark.parametrize("field", ["primary_metric", "metrics", "guardrails"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_start_locks_what_is_referred_to(stores: Stores, field: str, *, at_once: bool) -> None:
    """Its newest version; what is changed or archived afterwards changes nothing in the experiment."""
    await defined(stores)
    await defined(stores, "unrelated")
    await metrics.change(stores, somebody("one"), "checkout", {"kind": "sum"})
    value: Any = "checkout" if field == "primary_metric" else ["visit", "checkout"]
    made = await experiment(stores, **{field: value}, **({} if at_once else DRAFT))
    started = made if at_once else await experiments.move(stores, somebody("one"), made.id, "start")

    assert isinstance(started, Experiment)
    assert versions(started) == {"checkout": 2}
    assert started.plan.definitions["checkout"] == {
        "key": "checkout", "kind": "sum", "event_type": "order", "version": 2,
    }  # fmt: skip
    for _ in range(2):
        assert await meaning(stores, started) == {"checkout": Kind.SUM}
        await metrics.change(stores, somebody("one"), "checkout", {"kind": "mean"})
    await metrics.archive(stores, somebody("one"), "checkout")
    assert await meaning(stores, started) == {"checkout": Kind.SUM}
    assert await meaning(stores, started, "checkout") == {"checkout": Kind.SUM}
    assert await experiments.read(stores, "one", started.id) == started


async def test_what_was_an_event_type_at_the_start_stays_one(stores: Stores) -> None:
    """A definition of that key, made later, must not change under the eyes of whoever watches the experiment."""
    made = await experiment(stores, primary_metric="checkout", metrics=["visit"])
    await defined(stores)

    renamed = await changed(stores, made, name="Other", metrics=["visit", "checkout"])

    assert renamed.plan.definitions == {}
    assert await meaning(stores, renamed, "checkout") == {}


async def test_a_new_reference_of_a_running_experiment_is_locked(stores: Stores, clock: FixedClock) -> None:
    """What is locked stays as it is, also when the reference goes and comes back; the change is recorded."""
    await defined(stores)
    await defined(stores, "second", kind="sum")
    made = await experiment(stores, metrics=["checkout"])
    for key in ("checkout", "second"):
        await metrics.change(stores, somebody("one"), key, {"value": "total"})
    clock.advance(hours=1)

    more = await changed(stores, made, metrics=["checkout", "second"])
    less = await changed(stores, made, metrics=[])
    again = await changed(stores, made, guardrails=["checkout"])

    assert versions(more) == versions(less) == versions(again) == {"checkout": 1, "second": 2}
    assert [change.field for change in again.plan.changes] == ["metrics", "metrics", "guardrails"]
    assert again.plan.locked_at == made.started_at == clock.now() - timedelta(hours=1)


async def test_a_text_change_of_a_draft_locks_nothing(stores: Stores) -> None:
    """Only the start does."""
    await defined(stores)
    made = await experiment(stores, metrics=["checkout"], **DRAFT)

    assert (await changed(stores, made, name="Other")).plan.definitions == {}


async def test_references_are_checked_with_what_they_mean(stores: Stores) -> None:
    """At creation, at a change and at the start: two metrics of one key with two meanings are refused."""
    other = {"key": "checkout", "event_type": "pay"}
    with_both: dict[str, Any] = {"metrics": ["checkout", other]}
    early = await experiment(stores, **DRAFT | {"metrics": [other]})
    await defined(stores)

    with pytest.raises(Invalid, match="1 field"):
        await experiment(stores, **with_both)
    with pytest.raises(Invalid):
        await changed(stores, early, **with_both)
    assert (await changed(stores, early, metrics=["checkout"])).metrics == ("checkout",)

    late = await experiment(stores, **DRAFT, metrics=["soon", {"key": "soon", "event_type": "soon"}])
    await defined(stores, "soon")
    with pytest.raises(Invalid):
        await experiments.move(stores, somebody("one"), late.id, "start")
    assert (await experiments.read(stores, "one", late.id)).status is Status.DRAFT


async def test_names_of_a_request_mean_what_they_mean_now(stores: Stores) -> None:
    """A metric can be defined after the fact and asked for at once; the plan stays as it is."""
    made = await experiment(stores, metrics=["visit"])
    await defined(stores)

    assert await meaning(stores, made) == {}
    assert await meaning(stores, made, "checkout", "visit", "unheard-of") == {"checkout": Kind.COUNT}
    await metrics.change(stores, somebody("one"), "checkout", {"kind": "sum"})
    assert await meaning(stores, made, "checkout") == {"checkout": Kind.SUM}


@pytest.mark.parametrize(
    ("draft", "names", "views"),
    [
        ({"metrics": ["visit"]}, [], 0),
        ({"metrics": ["visit"]}, ["visit"], 0),
        ({"metrics": ["visit"]}, ["other"], 1),
        ({"metrics": ["visit"]}, ["", "a\0b", " a", "x" * 201], 0),
        ({"metrics": [{"event_type": "visit"}]} | DRAFT, [], 0),
        ({"metrics": ["visit", "buy"], "primary_metric": "buy", "guardrails": ["errors"]} | DRAFT, ["other"], 1),
    ],
)
async def test_the_store_is_asked_once_at_most(
    stores: Stores, draft: dict[str, Any], names: Collection[str], views: int
) -> None:
    """And not at all where nothing could be a definition whose meaning is open."""
    made = await experiment(stores, **draft)
    counting: Any = Counting(stores)

    await metrics.definitions_for(replace(stores, control=counting), "one", made, names)

    assert counting.views == views


async def test_definitions_of_another_client_mean_nothing(stores: Stores) -> None:
    """Neither at the start nor in a request."""
    await defined(stores, client="two")

    made = await experiment(stores, metrics=["checkout"])

    assert made.plan.definitions == {}
    assert await meaning(stores, made, "checkout", "other") == {}
