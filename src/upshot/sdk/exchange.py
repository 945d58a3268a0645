"""What is asked and what is answered, as values: the protocol makes requests and reads answers, a client carries them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from upshot.errors import Forbidden, Malformed, Unauthenticated, Unavailable, UpshotError

Jitter = Callable[[], float]
"""A random number of at least 0 and less than 1."""


JSON: Mapping[str, str] = {"Content-Type": "application/json"}


class Purpose(StrEnum):
    """What a request is for."""

    CONFIGURATION = "configuration"
    DELIVERY = "delivery"
    ASSIGNMENT = "assignment"


class Occasion(StrEnum):
    """What can happen to what a client knows."""

    READY = "ready"
    """There is a configuration, for the first time, or one that is up to date again."""
    CHANGED = "changed"
    """There is another configuration than before."""
    STALE = "stale"
    """The configuration could not be confirmed for several polls."""
    FAILED = "failed"
    """The server refuses the key, or sent what cannot be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the server; `path` begins with `/`."""

    purpose: Purpose
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def is_good(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def locks_out(self) -> bool:
        """Whether the server refuses the key."""
        return self.status in {401, 403}

    @property
    def says_later(self) -> bool:
        """Whether the same may be asked again: it is about the server's state, not about what was sent."""
        return self.status in {408, 429, 502, 503, 504} or 300 <= self.status < 400

    def document(self) -> Any:
        """The JSON value of the content; None where it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    @property
    def code(self) -> str:
        """The code of a problem, or the status."""
        found = self.document()
        code = found.get("code") if isinstance(found, dict) else None
        return code if isinstance(code, str) else f"status_{self.status}"


def error_of(answer: Answer | None) -> UpshotError:
    """What went wrong, as an error that an application can be told of."""
    if answer is None:
        return Unavailable("The server could not be reached in time.")
    if answer.status == 401:
        return Unauthenticated("The server does not know the key.")
    if answer.status == 403:
        return Forbidden("The server does not let this key do that.")
    if answer.is_good:
        return Malformed("The server's answer cannot be read; is the address that of Upshot?")
    return Unavailable(f"The server answered with the status {answer.status}: {answer.code}.")
