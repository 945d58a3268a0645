"""Assignments while the database is away: answered as they will be stored, within bounds, and stored when it is back."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.callers import somebody
from tests.operations.stubs import Outage

from upshot import worker
from upshot.access import EVERYONE
from upshot.assignment import Assignment
from upshot.clock import FixedClock
from upshot.errors import Unavailable
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, assignments, experiments, results
from upshot.operations.pending import BATCH, Pending
from upshot.operations.results import Asked
from upshot.variants import VariantDraft

ARMS = (VariantDraft("a"), VariantDraft("b"))
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture
def outage(stores: Stores) -> Outage:
    """The control store, which a test takes away."""
    return Outage(stores.control)


@pytest.fixture
def shaky(stores: Stores, outage: Outage) -> Stores:
    """The stores of a process whose control store may be away; at most fifty users wait."""
    control: Any = outage
    events: Any = Outage(stores.events)
    return replace(stores, control=control, events=events, pending=Pending(50))


async def known(stores: Stores) -> Experiment:
    """A running experiment that this process has seen."""
    made = await experiments.create(stores, somebody("first"), Draft("Known", ARMS))
    return await experiments.read(stores, "first", made.key)


def waiting(user: str, experiment: int = 1, variant: int = 0) -> Assignment:
    """An assignment that nobody stored."""
    return Assignment(experiment, user, variant, 1, FixedClock().now(), None, "{}")


async def test_what_is_answered_without_the_database_is_what_is_stored_later(
    shaky: Stores, outage: Outage, clock: FixedClock
) -> None:
    """Each user has the same variant and time, asked again during the outage and after it; exposures count once."""
    experiment = await known(shaky)
    outage.away = True
    first = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]
    clock.advance(minutes=5)
    during = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]
    outage.away = False
    count = await worker.store_pending(shaky)
    after = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]

    assert {(assigned.persisted, assigned.is_new) for assigned in first + during} == {(False, True)}
    assert {(assigned.persisted, assigned.is_new) for assigned in after} == {(True, False)}
    for answers in (during, after):
        assert [(each.variant, each.assigned_at) for each in answers] == [
            (each.variant, each.assigned_at) for each in first
        ]
    assert len({assigned.variant for assigned in first}) == 2
    assert (count, len(shaky.pending), await worker.store_pending(shaky)) == (len(USERS), 0, 0)
    assert (await results.report(shaky, "first", experiment.id, Asked())).summary.total_users == len(USERS)


@pytest.mark.parametrize("exposed", [True, False])
async def test_a_user_who_is_known_here_keeps_the_variant(shaky: Stores, outage: Outage, *, exposed: bool) -> None:
    """Though the hash would give another one by now; it is stored, and says so."""
    experiment = await known(shaky)
    if exposed:
        before = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]
    else:
        before = await assignments.assign_many(shaky, "first", experiment.key, [(user, {}) for user in USERS])
    only_a = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(0))]
    await experiments.change(shaky, somebody("first"), experiment.id, {"variants": only_a}, None)
    outage.away = True

    during = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]
    unknown = await assignments.assign(shaky, "first", experiment.key, "somebody else", {})

    assert [(each.variant and each.variant.name, each.assigned_at, each.persisted) for each in during] == [
        (each.variant and each.variant.name, each.assigned_at, True) for each in before
    ]
    assert {each.variant.name for each in during if each.variant} == {"a", "b"}
    assert unknown.variant is not None
    assert (unknown.variant.name, unknown.persisted) == ("a", False)
    outage.away = False
    await worker.store_pending(shaky)
    assert (await results.report(shaky, "first", experiment.id, Asked())).summary.total_users == len(USERS) + 1


async def test_who_was_answered_during_the_outage_keeps_that_before_it_is_stored(shaky: Stores, outage: Outage) -> None:
    """The allocation is changed as soon as the database is back, and the users ask before what waits was stored."""
    experiment = await known(shaky)
    outage.away = True
    during = await assignments.assign_many(shaky, "first", experiment.key, [(user, {}) for user in USERS])
    outage.away = False
    only_a = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(0))]
    await experiments.change(shaky, somebody("first"), experiment.id, {"variants": only_a}, None)

    after = [await assignments.assign(shaky, "first", experiment.key, user, {}) for user in USERS]
    await worker.store_pending(shaky)

    assert [(each.variant and each.variant.name, each.assigned_at) for each in after] == [
        (each.variant and each.variant.name, each.assigned_at) for each in during
    ]
    assert (await results.report(shaky, "first", experiment.id, Asked())).summary.total_users == len(USERS)


async def test_many_at_once_and_everybody_without_a_variant_are_answered_too(shaky: Stores, outage: Outage) -> None:
    """Prefetch waits to be stored, and is no exposure; who gets no variant is told why, and nothing waits for that."""
    experiment = await known(shaky)
    draft = Draft("Targeted", ARMS, targeting={"countries": ["US"]})
    targeted = await experiments.create(shaky, somebody("first"), draft)
    await experiments.read(shaky, "first", targeted.key)
    outage.away = True

    many = await assignments.assign_many(shaky, "first", experiment.key, [(user, {}) for user in USERS])
    nothing = await assignments.assign(shaky, "first", targeted.key, "user", {"country": "DE"})
    outage.away = False
    await worker.store_pending(shaky)

    assert {(each.persisted, each.variant is None) for each in many} == {(False, False)}
    assert (nothing.variant, nothing.reason, nothing.persisted) == (None, "not_targeted", False)
    assert (await results.report(shaky, "first", experiment.id, Asked())).summary.total_users == 0


async def test_an_experiment_that_was_never_seen_here_is_unavailable(shaky: Stores, outage: Outage) -> None:
    """There is nothing to decide with; nor does an experiment take a change."""
    experiment = await experiments.create(shaky, somebody("first"), Draft("Unseen", ARMS))
    outage.away = True

    with pytest.raises(Unavailable):
        await assignments.assign(shaky, "first", experiment.id, "user", {})
    with pytest.raises(Unavailable):
        await experiments.move(shaky, somebody("first"), experiment.id, "pause")


async def test_too_many_users_are_turned_away_and_those_who_wait_are_not(shaky: Stores, outage: Outage) -> None:
    """The space is bounded; whoever was answered is answered the same again."""
    experiment = await known(shaky)
    outage.away = True
    answered = [await assignments.assign(shaky, "first", experiment.key, f"user-{n}", {}) for n in range(50)]

    with pytest.raises(Unavailable) as caught:
        await assignments.assign(shaky, "first", experiment.key, "one too many", {})
    again = await assignments.assign(shaky, "first", experiment.key, "user-7", {})

    assert caught.value.retry_after
    assert (again.variant, again.assigned_at) == (answered[7].variant, answered[7].assigned_at)
    assert len(shaky.pending) == 50


async def test_closing_stores_what_waits(shaky: Stores, outage: Outage) -> None:
    """A server that stops in order when the database is back leaves nothing behind; while it is away, one stops all the same."""
    experiment = await known(shaky)
    outage.away = True
    await assignments.assign(shaky, "first", experiment.key, "user", {})
    await shaky.close()
    outage.away = False
    await shaky.close()

    async with shaky.control.reading(EVERYONE) as transaction:
        found = await transaction.assignments("first", [(experiment.number, "user")])
    assert len([assignment for assignment in found if assignment]) == 1


# The waiting room itself


class Book:
    """A control store that takes a number of batches."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.taken: list[tuple[str, int]] = []

    async def assign(self, client: str, asked: list[Assignment]) -> list[tuple[Assignment, bool]]:
        """Take a batch."""
        if len(self.taken) == self.batches:
            raise Unavailable("The database is away.", retry_after=1)
        self.taken.append((client, len(asked)))
        return [(assignment, True) for assignment in asked]


def test_the_first_answer_stays() -> None:
    """A later proposal does not replace it; another experiment, client or user has one of its own."""
    pending = Pending()
    first = pending.add("first", waiting("user"))

    assert pending.add("first", waiting("user", variant=1)) is first
    assert pending.add("first", waiting("user", experiment=2, variant=1)).variant == 1
    assert pending.add("second", waiting("user", variant=1)).variant == 1
    assert len(pending) == 3


async def test_an_exposure_during_the_outage_is_stored_though_the_user_waited_already() -> None:
    """Read ahead of time, then read: also when that happens while the first is being stored."""
    pending, moment = Pending(), FixedClock().now()
    pending.add("first", waiting("user"))
    stored: list[Assignment] = []

    class Slow(Book):
        async def assign(self, client: str, asked: list[Assignment]) -> list[tuple[Assignment, bool]]:
            stored.extend(asked)
            pending.add(client, replace(waiting("user", variant=1), exposed_at=moment))
            return [(assignment, True) for assignment in asked]

    slow: Any = Slow(2)
    await pending.store(slow)

    assert [(each.variant, each.exposed_at) for each in stored] == [(0, None), (0, moment)]
    assert len(pending) == 0


async def test_a_database_that_goes_away_again_keeps_the_rest_waiting() -> None:
    """Batches that were stored are not stored again; clients do not mix."""
    pending, some = Pending(), range(BATCH + 10)
    for number in some:
        pending.add("first", waiting(f"user-{number}"))
        pending.add("second", waiting(f"user-{number}"))
    failing: Any = Book(1)
    sound: Any = Book(100)

    with pytest.raises(Unavailable):
        await pending.store(failing)
    left = len(pending)

    assert left == 2 * len(some) - BATCH
    assert await pending.store(sound) == left
    assert sorted(sound.taken) == [("first", 10), ("second", 10), ("second", BATCH)]
    assert len(pending) == 0
