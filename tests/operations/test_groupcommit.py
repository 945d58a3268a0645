"""Group commit: shared commits, answers after them, failures for everybody concerned, and a bound on what waits."""

import asyncio
from collections.abc import Sequence

import pytest

from upshot.errors import Unavailable
from upshot.groupcommit import GroupCommit


class Journal:
    """Remembers groups; each commit lasts until it is let go, or fails."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def commit(self, items: Sequence[int]) -> list[int]:
        """Take a group, wait, answer ten times each item."""
        self.groups.append(list(items))
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return [item * 10 for item in items]


def committer(journal: Journal, group: int = 100, waiting: int = 1_000) -> GroupCommit[int, int]:
    """A committer that writes to the journal."""
    return GroupCommit(journal.commit, group_weight=group, waiting_weight=waiting)


async def test_callers_that_wait_share_a_commit() -> None:
    """While the first commit is under way the others gather, and go together."""
    journal = Journal()
    group = committer(journal)
    calls = [asyncio.create_task(group.submit(number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls += [asyncio.create_task(group.submit(number)) for number in range(5, 9)]
    journal.go.set()

    answers = await asyncio.gather(*calls)

    assert answers == [number * 10 for number in range(9)]
    assert journal.groups == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


async def test_nobody_is_answered_before_the_commit() -> None:
    """An answer is a promise."""
    journal = Journal()
    call = asyncio.create_task(committer(journal).submit(1))
    for _ in range(10):
        await asyncio.sleep(0)

    assert not call.done()
    journal.go.set()
    assert await call == 10


async def test_a_failed_commit_fails_all_its_callers_and_no_others() -> None:
    """Everybody in the group learns why; the next group is a new attempt."""
    journal = Journal()
    group = committer(journal)
    journal.failure = Unavailable("disk full")
    journal.go.set()
    calls = [asyncio.create_task(group.submit(number)) for number in range(3)]

    found = await asyncio.gather(*calls, return_exceptions=True)
    journal.failure = None

    assert [str(error) for error in found] == ["disk full"] * 3
    assert await group.submit(7) == 70


async def test_a_caller_that_goes_away_does_not_disturb_the_others() -> None:
    """Its item is committed all the same: it may have been sent for good."""
    journal = Journal()
    group = committer(journal)
    calls = [asyncio.create_task(group.submit(number)) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    journal.go.set()

    assert await calls[0] == 0
    assert await calls[2] == 20
    assert journal.groups == [[0, 1, 2]]


async def test_what_waits_is_bounded() -> None:
    """Past the bound a caller is told to come back, and nothing of it is stored."""
    journal = Journal()
    group = committer(journal, group=1, waiting=2)
    calls = [asyncio.create_task(group.submit(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls += [asyncio.create_task(group.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)

    with pytest.raises(Unavailable) as error:
        await group.submit(4)
    journal.go.set()
    await asyncio.gather(*calls)
    await group.drain()

    assert error.value.retry_after == 1
    assert journal.groups == [[1], [2], [3]]
