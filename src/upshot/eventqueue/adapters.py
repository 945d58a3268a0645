"""What the adapters share: a QUEUE_URL taken apart and checked, calls that end in time, and the facts of a burial.

No message repeats a value of the URL: a password with a `?` or `/` in it may turn up in any part of it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, urlsplit

from upshot.clock import SystemClock
from upshot.errors import ConfigurationError, Unavailable

QUEUE = "upshot-events"
GROUP = "upshot"
ATTEMPTS = 5  # a message that was handed out so often and never acknowledged goes to the dead letters
EXHAUSTED = f"handed out more than {ATTEMPTS} times without being acknowledged"
SECONDS = 4.5  # the most a call takes; what the contract promises, less the time to say so

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,74}")  # what every broker takes, with room for ".dead"


@dataclass(frozen=True, slots=True)
class Address:
    """A QUEUE_URL: its parts, and the parameters of its query."""

    parts: SplitResult
    parameters: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, known: Sequence[str]) -> "Address":
        """Take a URL apart.

        Raises:
            ConfigurationError: it is no URL, it names no host, or a parameter is none of the known ones.
        """
        try:
            parts = urlsplit(url)
            parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            refuse("this is not a URL")
        if not parts.netloc.rpartition("@")[2]:
            refuse("the host is missing")
        if not parameters.keys() <= set(known):
            refuse(f"a parameter is not known; there is: {', '.join(known)}")
        return cls(parts, parameters)

    def check_port(self) -> None:
        """Refuse a port that is none."""
        try:
            _ = self.parts.port
        except ValueError:
            refuse("the port is not a number from 0 to 65535")

    def name(self, parameter: str, default: str) -> str:
        """A parameter that names something at the broker."""
        return checked_name(self.parameters.get(parameter, default), parameter)

    def number(self, parameter: str, default: int, least: int = 0) -> int:
        """A parameter that is a whole number."""
        text = self.parameters.get(parameter, str(default))
        if not (text.isascii() and text.isdigit() and least <= int(text) <= 1_000_000):
            refuse(f"{parameter} is not a whole number from {least} to 1000000")
        return int(text)


def checked_name(text: str, what: str) -> str:
    """A name that every broker takes."""
    if not _NAME.fullmatch(text):
        refuse(f"{what} is not a name of 1 to 75 letters, digits, dots, dashes and underscores")
    return text


def refuse(fault: str) -> NoReturn:
    """Say what is wrong with QUEUE_URL.

    Raises:
        ConfigurationError: always.
    """
    raise ConfigurationError(f"QUEUE_URL: {fault}") from None


@asynccontextmanager
async def bounded(*failures: type[Exception], longer: float = 0.0) -> AsyncIterator[None]:
    """End what takes longer than SECONDS, and `longer`; that, a network fault and any of `failures` are told as Unavailable."""
    try:
        async with asyncio.timeout(SECONDS + longer):
            yield
    except Exception as error:
        if isinstance(error, (*failures, OSError)):  # a TimeoutError is an OSError
            raise Unavailable("The event queue does not answer now.", retry_after=1) from error
        raise


def moment() -> str:
    """The present moment as a dead letter bears it."""
    return SystemClock().now().isoformat(timespec="milliseconds")
