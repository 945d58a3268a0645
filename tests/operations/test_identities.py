"""Linked ids in one process and in many: what is remembered, what others linked, and what was given without the store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.callers import somebody
from tests.operations.stubs import Outage

from upshot import cache, control, worker
from upshot.clock import FixedClock
from upshot.errors import Invalid
from upshot.events import CROSSOVER, Rejection, Withdrawal
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, assignments, elsewhere, experiments, identities, results
from upshot.operations.copies import EXPERIMENT, IDENTITY
from upshot.operations.elsewhere import Elsewhere
from upshot.operations.pending import Pending
from upshot.operations.results import Asked
from upshot.variants import VariantDraft

HALVES = (VariantDraft("a"), VariantDraft("b"))


@pytest.fixture
async def other(stores: Stores, tmp_path: Path) -> AsyncIterator[Stores]:
    """Another server on the same database, with a cache of its own."""
    again = await control.connect(f"sqlite:///{tmp_path / 'control.db'}")
    yield replace(stores, control=again, cache=cache.connect("memory://"))
    await again.close()


async def created(stores: Stores, **draft: Any) -> Experiment:
    """A running experiment."""
    return await experiments.create(stores, somebody("one"), Draft("Test", HALVES, **draft))


def ids_of(experiment: Experiment, name: str) -> list[str]:
    """Ids that the hash gives a variant of that name."""
    ids = (f"id-{number}" for number in range(200))
    return [own for own in ids if (experiment.decide(own, {}).variant or HALVES[0]).name == name]


async def given(stores: Stores, experiment: Experiment, own: str) -> str | None:
    """The variant that an id gets."""
    found = await assignments.assign(stores, "one", experiment.id, own, {})
    assert found.user_id == own
    return found.variant.name if found.variant else None


async def test_a_server_learns_of_links_that_others_made(stores: Stores, other: Stores, clock: FixedClock) -> None:
    """An id that it gave a variant to gets the user's once it has looked; without looking it would go on as before."""
    experiment = await created(stores)
    visitor, user = ids_of(experiment, "a")[0], ids_of(experiment, "b")[0]
    assert [await given(other, experiment, own) for own in (visitor, user)] == ["a", "b"]
    since = clock.now()
    clock.advance(seconds=10)

    await identities.link(stores, "one", [(visitor, user)])

    assert await given(stores, experiment, visitor) == "b"
    assert await given(other, experiment, visitor) == "a"
    following = await identities.follow(other, since)
    assert await given(other, experiment, visitor) == "b"
    assert following == clock.now() - identities.OVERLAP
    assert await identities.follow(other, clock.now()) == following


async def test_the_server_looks_by_itself(stores: Stores, other: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few seconds, also after an outage."""
    monkeypatch.setattr(worker, "FOLLOWING", 0.01)
    experiment = await created(stores)
    visitor, user = ids_of(experiment, "a")[0], ids_of(experiment, "b")[0]
    for own in (visitor, user):
        await given(other, experiment, own)
    outage = Outage(other.control)
    outage.away = True
    shaky: Any = replace(other, control=outage)
    following = asyncio.create_task(worker.follow_links(shaky))
    await asyncio.sleep(0.05)
    outage.away = False

    await identities.link(stores, "one", [(visitor, user)])
    seen = []
    for _ in range(500):
        seen.append(await given(other, experiment, visitor))
        if seen[-1] == "b":
            break
        await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    assert seen[-1] == "b"


async def test_an_id_is_asked_for_under_its_users_name_in_every_state(stores: Stores, other: Stores) -> None:
    """Also when the user would get no variant now, and whichever server is asked; nothing is stored for the alias."""
    experiment = await created(stores)
    user, visitor = ids_of(experiment, "a")[0], ids_of(experiment, "b")[0]
    await given(stores, experiment, user)
    await identities.link(stores, "one", [(visitor, user)])
    await experiments.move(stores, somebody("one"), experiment.id, "pause")
    stores.cache.forget("one", EXPERIMENT, (experiment.id,))

    assert await given(other, experiment, visitor) == "a"
    assert await given(stores, experiment, visitor) == "a"
    assert await given(other, experiment, "nobody") is None
    async with stores.control.reading("one") as view:
        assert await view.assignments("one", [(experiment.number, visitor)]) == [None]


async def test_what_an_alias_got_during_an_outage_is_stored_for_its_user(
    stores: Stores, other: Stores, clock: FixedClock
) -> None:
    """What was seen is kept where the user has nothing yet; a server that knows the link answers for the user at once."""
    experiment = await created(stores)
    visitor, user, known = ids_of(experiment, "a")[0], ids_of(experiment, "b")[0], ids_of(experiment, "a")[1]
    for server in (stores, other):
        await experiments.read(server, "one", experiment.id)
    outage = Outage(other.control)
    shaky: Any = replace(other, control=outage, pending=Pending(50))
    await identities.link(stores, "one", [(visitor, user), (known, user)])
    outage.away = True
    assert await given(shaky, experiment, visitor) == "a"
    stores.cache.put("one", IDENTITY, (known,), user)
    away: Any = replace(stores, control=outage, pending=Pending(50))
    assert await given(away, experiment, known) == "b"
    outage.away = False

    assert await shaky.pending.store(shaky.control) == 1

    assert await given(stores, experiment, user) == "a"
    clock.advance(seconds=1)
    assert (await results.report(stores, "one", experiment.id, Asked())).summary.total_users == 1


async def test_imported_assignments_of_an_alias_are_the_users(stores: Stores, clock: FixedClock) -> None:
    """The first one is kept, another variant is refused."""
    experiment = await created(stores)
    await identities.link(stores, "one", [("visitor", "user"), ("tablet", "user")])
    rows = [(0, Elsewhere("visitor", "b", clock.now(), {})), (1, Elsewhere("tablet", "a", clock.now(), {})),
            (2, Elsewhere("other", "a", clock.now(), {}))]  # fmt: skip

    found = await elsewhere.import_assignments(stores, somebody("one"), experiment.id, rows)

    assert (found.accepted, [(index, refused.code) for index, refused in found.rejected]) == (2, [(1, "other_variant")])
    assert await given(stores, experiment, "user") == "b"
    clock.advance(seconds=1)
    assert (await results.report(stores, "one", experiment.id, Asked())).summary.total_users == 2


async def test_crossovers_of_more_than_one_percent_are_an_alarm(stores: Stores, clock: FixedClock) -> None:
    """Whoever had two variants counts, for whichever reason it is known; of a hundred and one users, one is not too many."""
    experiment = await created(stores)
    for number in range(101):
        await given(stores, experiment, f"user-{number}")

    async def recommended(user: str) -> tuple[str, int]:
        async with stores.control.transaction("one") as transaction:
            await transaction.withdraw("one", [Withdrawal(experiment.number, user, CROSSOVER)])
        clock.advance(seconds=1)
        report = await results.report(stores, "one", experiment.id, Asked())
        assert "crossovers" in {warning.code for warning in report.health.warnings}
        return report.summary.recommendation, report.health.crossovers

    assert await recommended("user-1") == ("keep_running", 1)
    assert await recommended("user-2") == ("do_not_trust", 2)


async def test_more_than_a_thousand_are_refused(stores: Stores) -> None:
    """Before any is looked at."""
    with pytest.raises(Invalid):
        await identities.link(stores, "one", [(f"a{n}", "u") for n in range(1_001)])
    assert (await identities.link(stores, "one", [Rejection("", "bad_shape", "is no pair")])).linked == 0


async def test_what_was_remembered_of_an_id_is_not_its_users(stores: Stores, other: Stores) -> None:
    """A server that learns of a link by one experiment answers with the user's variants in all that it was asked about."""
    both = [await created(stores, key="first"), await created(stores, key="second")]
    visitor = next(own for own in ids_of(both[0], "a") if own in ids_of(both[1], "a"))
    user = next(own for own in ids_of(both[0], "b") if own in ids_of(both[1], "b"))
    await assignments.assign_in(other, "one", both[:1], visitor, {})
    for experiment in both:
        await given(stores, experiment, user)
    await identities.link(stores, "one", [(visitor, user)])

    found = await assignments.assign_in(other, "one", both, visitor, {})

    assert [(each.user_id, each.variant and each.variant.name) for each in found] == [(visitor, "b"), (visitor, "b")]
