"""Assignments that were answered while the database was away, to be stored when it is back.

Nothing is lost when the process dies first: the same user gets the same variant again, and it is stored then.
"""

from collections.abc import Iterator
from dataclasses import replace

from upshot.assignment import Assignment
from upshot.control import ControlStore
from upshot.errors import Unavailable
from upshot.operations import given

BATCH = 500
MOST = 100_000


class Pending:
    """What waits to be stored, the first answer of each user in each experiment; at most `most` of them."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: dict[tuple[str, int, str], Assignment] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, client: str, assignment: Assignment) -> Assignment:
        """Remember an answer; returns the one that this user got first, exposed now if it was not.

        Raises:
            Unavailable: too many wait already.
        """
        key = (client, assignment.experiment, assignment.user_id)
        if key not in self._waiting and len(self._waiting) >= self._most:
            raise Unavailable("The database has been away for too long.", retry_after=5)
        self._waiting[key] = self.earlier(client, assignment)
        return self._waiting[key]

    def earlier(self, client: str, assignment: Assignment) -> Assignment:
        """What waits of this user, exposed now if it was not; else the assignment itself."""
        waiting = self._waiting.get((client, assignment.experiment, assignment.user_id), assignment)
        if waiting.exposed_at is None and assignment.exposed_at is not None:
            return replace(waiting, exposed_at=assignment.exposed_at)
        return waiting

    async def store(self, control: ControlStore) -> int:
        """Store what waits; returns how many that were. Stops, raising Unavailable, when the database is still away."""
        stored = 0
        while self._waiting:
            client = next(iter(self._waiting))[0]
            keys = list(self._of(client))[:BATCH]
            taken = [self._waiting[key] for key in keys]
            await given.assign(control, client, taken)
            for key, assignment in zip(keys, taken, strict=True):
                if self._waiting[key] is assignment:  # else the user was exposed meanwhile, which is to be stored, too
                    del self._waiting[key]
            stored += len(keys)
        return stored

    def _of(self, client: str) -> Iterator[tuple[str, int, str]]:
        return (key for key in self._waiting if key[0] == client)
