"""What a transaction knows of linked ids: the contract, which `sqlidentities.py` serves."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol


class Verdict(Enum):
    """What became of a link that was asked for."""

    LINKED = auto()
    KNOWN = auto()  # it was linked so already
    LINKED_ELSEWHERE = auto()  # the anonymous id is another user's
    USER_IS_LINKED = auto()  # the user's id is itself an anonymous one
    ID_IS_A_USER = auto()  # the anonymous id is a user's, whom others are linked to


@dataclass(frozen=True, slots=True)
class Linking:
    """What became of a link; and in how many experiments the two ids had different variants."""

    verdict: Verdict
    conflicts: int = 0


class ReadIdentities(Protocol):
    """What can be read."""

    async def users_of(self, client: str, ids: Collection[str]) -> dict[str, str]:
        """The users whom these ids are linked to; ids that stand for themselves are left out."""
        ...
