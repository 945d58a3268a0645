"""Assignments are lasting, first come first stored, and exposed only when they are read one at a time."""

import asyncio
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.callers import somebody

from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid, NotFound
from upshot.experiments import Draft, Experiment, Status
from upshot.operations import Stores, assignments, elsewhere, experiments, results
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT
from upshot.operations.elsewhere import Elsewhere
from upshot.operations.results import Asked
from upshot.overrides import OverrideDraft
from upshot.variants import VariantDraft

HALVES = (VariantDraft("a"), VariantDraft("b"))


async def created(stores: Stores, client: str = "one", name: str = "Test", **draft: Any) -> Experiment:
    """A new experiment with two equal variants."""
    return await experiments.create(stores, somebody(client), Draft(name, HALVES, **draft))


async def exposed(stores: Stores, experiment: Experiment, client: str = "one") -> int:
    """How many users the result counts."""
    return (await results.report(stores, client, experiment.id, Asked())).summary.total_users


async def test_an_assignment_is_returned_as_it_was_made_in_every_state(stores: Stores, clock: FixedClock) -> None:
    """Same variant and time while running with another allocation, paused, completed and archived."""
    experiment = await created(stores)
    first = await assignments.assign(stores, "one", experiment.id, "user", {})
    assert first.variant is not None
    clock.advance(hours=1)
    other = "b" if first.variant.name == "a" else "a"
    closed = [VariantDraft(first.variant.name, weight=Decimal(0)), VariantDraft(other, weight=Decimal(1))]

    await experiments.change(stores, somebody("one"), experiment.id, {"variants": closed}, None)
    seen = [await assignments.assign(stores, "one", experiment.key, "user", {"later": "context"})]
    for action in ("pause", "complete", "archive"):
        await experiments.move(stores, somebody("one"), experiment.id, action)
        seen.append(await assignments.assign(stores, "one", experiment.id, "user", {}))

    assert {(s.variant.name if s.variant else None, s.assigned_at, s.is_new) for s in seen} == {
        (first.variant.name, first.assigned_at, False)
    }
    assert first.is_new


async def test_who_is_remembered_is_answered_alike_whether_the_experiment_has_to_be_read_or_not(stores: Stores) -> None:
    """Even with a context that would be refused of somebody new: not now and then."""
    experiment, broken = await created(stores), {"country": "x" * 1_001}
    await assignments.assign(stores, "one", experiment.id, "user", {})

    seen = [await assignments.assign(stores, "one", experiment.id, "user", broken)]
    stores.cache.forget("one", EXPERIMENT, (experiment.id,))
    seen.append(await assignments.assign(stores, "one", experiment.id, "user", broken))

    assert seen[0] == seen[1]
    with pytest.raises(Invalid):
        await assignments.assign(stores, "one", experiment.id, "somebody new", broken)


async def test_it_outlives_the_cache(stores: Stores) -> None:
    """What is forgotten in memory is read from the store, also when the experiment no longer runs."""
    experiment = await created(stores)
    first = await assignments.assign(stores, "one", experiment.id, "user", {})
    await experiments.move(stores, somebody("one"), experiment.id, "pause")
    stores.cache.forget("one", ASSIGNMENT, ("user", experiment.id))

    again = await assignments.assign(stores, "one", experiment.id, "user", {})

    assert (again.variant, again.assigned_at, again.is_new) == (first.variant, first.assigned_at, False)


async def test_simultaneous_first_requests_get_one_row(stores: Stores) -> None:
    """Of a hundred first requests for one user one is new, and all get the same."""
    experiment = await created(stores)

    found = await asyncio.gather(
        *(assignments.assign(stores, "one", experiment.id, "user", {"n": n}) for n in range(100))
    )

    assert sum(assigned.is_new for assigned in found) == 1
    assert len({(assigned.variant_name, assigned.assigned_at) for assigned in map(Seen, found)}) == 1
    assert await exposed(stores, experiment) == 1


class Seen:
    """What a caller sees."""

    def __init__(self, assigned: assignments.Assigned) -> None:
        self.variant_name = assigned.variant.name if assigned.variant else None
        self.assigned_at = assigned.assigned_at


@pytest.mark.parametrize(
    ("draft", "context", "reason"),
    [
        ({"status": Status.DRAFT}, {}, "not_running"),
        ({"targeting": {"min_version": "2.0.0"}}, {"app_version": "1.9.9"}, "not_targeted"),
        ({"traffic_percentage": Decimal(0)}, {}, "not_in_traffic"),
    ],
)
async def test_a_user_without_a_variant_is_told_why(
    stores: Stores, draft: dict[str, Any], context: dict[str, Any], reason: str
) -> None:
    """Nothing is stored, and asking again under better conditions gives a variant."""
    experiment = await created(stores, **draft)

    found = await assignments.assign(stores, "one", experiment.id, "user", context)

    assert (found.variant, found.reason, found.persisted) == (None, reason, False)
    assert await exposed(stores, experiment) == 0


async def test_reading_ahead_of_time_is_no_exposure(stores: Stores, clock: FixedClock) -> None:
    """Prefetch stores the variant; the single read later exposes it, at its own time, once."""
    experiment = await created(stores)
    many = await assignments.assign_many(stores, "one", experiment.id, [(f"u{n}", {}) for n in range(10)])
    everywhere = await assignments.assign_everywhere(stores, "one", "u3", {})
    before = await exposed(stores, experiment)
    clock.advance(hours=1)

    single = await assignments.assign(stores, "one", experiment.id, "u3", {})
    await assignments.assign(stores, "one", experiment.id, "u3", {})

    assert before == 0
    assert (single.variant, single.assigned_at) == (many[3].variant, many[3].assigned_at)
    assert [assigned.variant for assigned in everywhere] == [many[3].variant]
    assert await exposed(stores, experiment) == 1
    window = (await results.report(stores, "one", experiment.id, Asked())).window
    assert window.start == clock.now()


async def test_imported_assignments_keep_their_times_and_yield_to_what_is_there(
    stores: Stores, clock: FixedClock
) -> None:
    """They move the start back, are known the second time, and never flip a user."""
    experiment = await created(stores)
    kept = await assignments.assign(stores, "one", experiment.id, "there", {})
    assert kept.variant is not None
    past = clock.now() - timedelta(days=5)
    other = "b" if kept.variant.name == "a" else "a"
    rows = [(n, Elsewhere(f"u{n}", "a" if n % 2 else "b", past + timedelta(hours=n), {"c": 1})) for n in range(4)]
    rows += [
        (4, Elsewhere("there", other, past, {})),
        (5, Elsewhere("u9", "c", past, {})),
        (6, Elsewhere("null", "a", past, {})),
        (7, Elsewhere("u8", "a", clock.now() + timedelta(days=1), {})),
    ]

    first = await elsewhere.import_assignments(stores, somebody("one"), experiment.id, rows)
    again = await elsewhere.import_assignments(stores, somebody("one"), experiment.id, rows[:4])

    assert (first.accepted, first.duplicates) == (4, 0)
    assert [(index, refused.code) for index, refused in first.rejected] == [
        (4, "other_variant"), (5, "unknown_variant"), (6, "placeholder"), (7, "in_the_future"),
    ]  # fmt: skip
    assert (again.accepted, again.duplicates) == (0, 4)
    assert (await experiments.read(stores, "one", experiment.id)).started_at == past
    assert await exposed(stores, experiment) == 5


async def test_a_draft_takes_no_imported_assignments(stores: Stores) -> None:
    """It has no phase yet that they could belong to."""
    experiment = await created(stores, status=Status.DRAFT)

    with pytest.raises(Conflict):
        await elsewhere.import_assignments(stores, somebody("one"), experiment.id, [])


@pytest.mark.parametrize(
    "context",
    [{"a": "x" * 1_001}, {"a": {"nested": 1}}, {"": 1}, {"a": "\x00"}, {str(n): n for n in range(51)}, {"a": 2**60}],
)
async def test_a_context_is_small_and_flat(stores: Stores, context: dict[str, Any]) -> None:
    """Anything else is refused, and no row is left."""
    experiment = await created(stores)

    with pytest.raises(Invalid):
        await assignments.assign(stores, "one", experiment.id, "user", context)

    assert await exposed(stores, experiment) == 0


async def test_two_clients_share_nothing(stores: Stores) -> None:
    """Equal keys and user ids of two clients are two experiments and two assignments; a foreign id does not exist."""
    mine, theirs = await created(stores, "one"), await created(stores, "two")
    await assignments.assign(stores, "one", mine.key, "user", {})

    assert mine.key == theirs.key
    assert await exposed(stores, theirs, "two") == 0
    for client, foreign in (("one", theirs), ("two", mine)):
        calls = [
            experiments.read(stores, client, foreign.id),
            experiments.change(stores, somebody(client), foreign.id, {"name": "stolen"}, None),
            experiments.move(stores, somebody(client), foreign.id, "pause"),
            experiments.delete(stores, somebody(client), foreign.id),
            assignments.assign(stores, client, foreign.id, "user", {}),
            assignments.assign_many(stores, client, foreign.id, [("user", {})]),
            elsewhere.import_assignments(stores, somebody(client), foreign.id, []),
            results.report(stores, client, foreign.id, Asked()),
            results.export(stores, client, foreign.id, Asked()),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                await call
    assert {e.id for e in await assignments_everywhere(stores, "two")} == {theirs.id}


async def assignments_everywhere(stores: Stores, client: str) -> list[Experiment]:
    """The experiments in which a user of this client is assigned."""
    return [assigned.experiment for assigned in await assignments.assign_everywhere(stores, client, "user", {})]


async def test_one_user_in_many_experiments_is_one_statement_each_way(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many experiments run: one group of insert-or-nothing, one reading of those who would get nothing now."""
    for number in range(30):
        await created(stores, name=f"Experiment {number}", traffic_percentage=Decimal(0 if number % 3 == 0 else 100))
    asked: Counter[str] = Counter()
    for name in ("assign", "reading"):
        honest = getattr(stores.control, name)

        def counting(*given: Any, name: str = name, honest: Any = honest) -> Any:
            asked[name] += 1
            return honest(*given)

        monkeypatch.setattr(stores.control, name, counting)

    found = await assignments.assign_everywhere(stores, "one", "somebody", {})

    assert Counter(each.reason for each in found) == {"assigned": 20, "not_in_traffic": 10}
    assert asked == {"assign": 1, "reading": 2}  # the second one is that of what runs


async def test_only_what_is_not_remembered_is_asked_of_the_store(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new user among known ones, one new experiment, a user of an override; answers come in the order of the questions."""
    shown = [OverrideDraft("b", users=["tester"])]
    experiment = await created(stores, overrides=shown)
    before = await assignments.assign_many(stores, "one", experiment.id, [(f"u{n}", {}) for n in range(5)])
    known = {each.user_id: each.variant for each in before}
    asked: list[list[tuple[int, str]]] = []
    honest = stores.control.assign

    async def noted(client: str, proposals: Any, *patience: float) -> Any:
        asked.append([(each.experiment, each.user_id) for each in proposals])
        return await honest(client, proposals, *patience)

    monkeypatch.setattr(stores.control, "assign", noted)
    users = ["u3", "new", "tester", "u0", "newer", "u4"]

    found = await assignments.assign_many(stores, "one", experiment.id, [(user, {}) for user in users])
    again = await assignments.assign_many(stores, "one", experiment.id, [(user, {}) for user in users])
    other = await created(stores, name="Other")
    everywhere = await assignments.assign_everywhere(stores, "one", "u0", {})

    assert asked == [[(experiment.number, "new"), (experiment.number, "newer")], [(other.number, "u0")]]
    assert [each.user_id for each in found] == users
    assert [each.variant for each in found if each.user_id in known] == [known[user] for user in ("u3", "u0", "u4")]
    assert [each.is_new for each in found] == [False, True, False, False, True, False]
    assert [each.reason for each in found].count("overridden") == 1
    assert [each.variant for each in again] == [each.variant for each in found]
    assert {each.experiment.id: each.variant for each in everywhere}[experiment.id] == known["u0"]


async def test_a_stored_variant_may_be_newer_than_what_is_known_of_the_experiment(stores: Stores) -> None:
    """Another process added it: the experiment is read again."""
    known = await created(stores)
    arms = [VariantDraft(name, weight=Decimal(name == "c")) for name in ("a", "b", "c")]
    await experiments.change(stores, somebody("one"), known.id, {"variants": arms}, None)
    await assignments.assign(stores, "one", known.id, "user", {})

    found = await assignments.assigned(stores, "one", known, "user")

    assert found is not None
    assert found.name == "c"
    assert await assignments.assigned(stores, "one", known, "stranger") is None
