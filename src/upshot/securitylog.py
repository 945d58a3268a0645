"""The security log: one line per event that who defends the server wants to know, on the standard logger `upshot.security`.

A line is the event's name and fields, each value as JSON in ASCII and at most 200 characters long: whatever was sent, it stays
one line of printable letters. No field holds a password, a key, a token, a cookie or a query. What was changed, and by whom, is
in the audit log instead.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType

NAME = "upshot.security"
LONGEST = 200

log = logging.getLogger(NAME)


class Event(StrEnum):
    """What happened."""

    SIGNED_IN = "sign_in.succeeded"
    SIGN_IN_FAILED = "sign_in.failed"
    SIGN_IN_UNFINISHED = "sign_in.unfinished"
    PASSWORD_REFUSED = "password.refused"  # noqa: S105 - of who wants to change theirs
    INVITATION_REFUSED = "invitation.refused"
    REFRESH_REFUSED = "refresh.refused"
    REFRESH_REPLAYED = "refresh.replayed"
    CREDENTIAL_REFUSED = "credential.refused"
    CREDENTIAL_EXPOSED = "credential.exposed"
    SCOPE_MISSING = "scope.missing"
    ORIGIN_REFUSED = "origin.refused"
    ACTION_FORBIDDEN = "action.forbidden"
    QUOTA_EXCEEDED = "quota.exceeded"
    INPUT_REFUSED = "input.refused"
    DESTINATION_REFUSED = "destination.refused"
    UNEXPECTED_ERROR = "error.unexpected"


_LEVELS = MappingProxyType(
    {Event.SIGNED_IN: logging.INFO, Event.SIGN_IN_UNFINISHED: logging.INFO, Event.UNEXPECTED_ERROR: logging.ERROR}
)


def note(event: Event, **fields: str | int | None) -> None:
    """Write one line: a warning; a success, or half of one, is information, an unexpected error an error. None is left out."""
    known = {name: _bounded(value) for name, value in fields.items() if value is not None}
    line = " ".join([event, *(f"{name}={quoted(value)}" for name, value in known.items())])
    log.log(_LEVELS.get(event, logging.WARNING), "%s", line, extra={"fields": {"event": str(event)} | known})


@contextmanager
def silenced() -> Iterator[None]:
    """Without the log for a while: whoever runs the machine asks by a command, and is told what is wrong by that."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def quoted(value: object) -> str:
    """A value as JSON in printable ASCII: nothing in it ends a line, or tells a terminal what to do."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _bounded(value: str | int) -> str | int:
    return value if isinstance(value, int) or len(value) <= LONGEST else f"{value[:LONGEST]}…"
