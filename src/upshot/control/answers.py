"""What a transaction knows of answers that are given again: the contract, which `sqlanswers.py` serves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked with a key, and by which request.

    Attributes:
        key: the digest of the key and of whose it is.
        digest: of what is asked; another digest with the same key is another question.
        holder: the request, by an id of its own.
    """

    key: str
    digest: str
    holder: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked with a key before: the digest of the question, and the answer, sealed; None while it is under way."""

    digest: str
    answer: str | None


class Answers(Protocol):
    """What can be read and changed."""

    async def take(self, client: str, question: Question, now: datetime, until: datetime) -> Asked | None:
        """Take a key until then; None when it was free, or its time was over. Otherwise what it was taken for."""
        ...

    async def keep(self, client: str, question: Question, answer: str, until: datetime) -> bool:
        """Store the answer of whoever took the key; False when somebody else has taken it since."""
        ...

    async def give_back(self, client: str, question: Question) -> None:
        """Let a key that was taken be free, unless somebody else has taken it since."""
        ...
