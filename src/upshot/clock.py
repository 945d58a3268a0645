"""Time, identifiers and secrets: the only place that reads them from the machine.

The core takes them as arguments; operations get a `Clock`, tests a `FixedClock`.
"""

import random
import secrets
import string
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

_LETTERS = string.digits + string.ascii_letters


class Clock(Protocol):
    """The source of the present moment and of new identifiers."""

    def now(self) -> datetime:
        """The present moment, in UTC, with microseconds."""
        ...

    def new_id(self) -> str:
        """A new random UUID, as text."""
        ...


class SystemClock:
    """The machine's clock and random numbers."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def new_id(self) -> str:
        """A random UUID (version 4)."""
        return str(uuid.uuid4())


@dataclass(slots=True)
class FixedClock:
    """A clock that stands still until it is moved, and counts its identifiers."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    issued: int = 0

    def now(self) -> datetime:
        """The moment it was set to."""
        return self.moment

    def new_id(self) -> str:
        """The next identifier of a fixed sequence."""
        self.issued += 1
        return str(uuid.UUID(int=self.issued))

    def advance(self, **parts: float) -> None:
        """Move on by a `timedelta(**parts)`."""
        self.moment += timedelta(**parts)


def new_letters(count: int) -> str:
    """So many random letters and digits, of 62 kinds."""
    return "".join(secrets.choice(_LETTERS) for _ in range(count))


def new_key(size: int) -> bytes:
    """So many random bytes."""
    return secrets.token_bytes(size)


def jitter() -> float:
    """A random part of one, so that what failed together is not tried again together."""
    return random.random()  # noqa: S311 - no secret


def new_token() -> str:
    """A new bearer token: 256 random bits behind a prefix that secret scanners can find."""
    return f"xp_{secrets.token_urlsafe(32)}"


def new_secret(size: int) -> str:
    """A new secret: so many random bytes, as text that is safe in a URL."""
    return secrets.token_urlsafe(size)
