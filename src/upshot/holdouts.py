"""Holdouts: a share of the users gets no variant of any experiment that the holdout is attached to.

An experiment is attached at its start to every holdout that is in force and that is global or shares a tag with it. When a
holdout ends, it is taken off, and its users may enter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from upshot.assignment import Held
from upshot.errors import Conflict


@dataclass(frozen=True, slots=True)
class Holdout:
    """A holdout. Its id is the salt of its hash, `share` is in millionths; without tags it holds for every experiment."""

    id: str
    key: str
    name: str
    share: int
    tags: tuple[str, ...]
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def held(self) -> Held:
        """What an experiment keeps of it."""
        return Held(self.key, self.id, self.share)

    def concerns(self, tags: Iterable[str]) -> bool:
        """Whether an experiment with these tags is attached to it."""
        return self.ended_at is None and (not self.tags or not set(tags).isdisjoint(self.tags))


def attached(holdouts: Iterable[Holdout], tags: Iterable[str]) -> tuple[Held, ...]:
    """What an experiment with these tags is attached to, when it starts."""
    wanted = tuple(tags)
    return tuple(holdout.held for holdout in holdouts if holdout.concerns(wanted))


def ended(holdout: Holdout, now: datetime) -> Holdout:
    """The holdout after its end.

    Raises:
        Conflict: it has ended already.
    """
    if holdout.ended_at is not None:
        raise Conflict("The holdout has ended already.")
    return replace(holdout, ended_at=now)
