"""Assignments that were answered while the database was away, to be stored when it is back.

Nothing is lost when the process dies first: the same user gets the same variant again, and it is stored then.
"""

from collections.abc import Iterator

from upshot.assignment import Assignment
from upshot.control import ControlStore
from upshot.errors import Unavailable

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
        """Remember an answer; returns the one that this user got first.

        Raises:
            Unavailable: too many wait already.
        """
        key = (client, assignment.experiment, assignment.user_id)
        if key not in self._waiting and len(self._waiting) >= self._most:
            raise Unavailable("The database has been away for too long.", retry_after=5)
        return self._waiting.setdefault(key, assignment)

    async def store(self, control: ControlStore) -> int:
        """Store what waits; returns how many that were. Stops, raising Unavailable, when the database is still away."""
        stored = 0
        while self._waiting:
            client = next(iter(self._waiting))[0]
            keys = list(self._of(client))[:BATCH]
            await control.assign(client, [self._waiting[key] for key in keys])
            for key in keys:
                del self._waiting[key]
            stored += len(keys)
        return stored

    def _of(self, client: str) -> Iterator[tuple[str, int, str]]:
        return (key for key in self._waiting if key[0] == client)
