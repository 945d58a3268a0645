"""What the security log says of requests: which one, from where, by whom as far as that is known; one line at most for each.

Who looks at a request closer tells what it learned with `about`; whether there is a line is decided where the request is refused
(`problems.py`), so that no refusal is forgotten.
"""

import hmac
from collections.abc import Hashable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from fastapi import Request

from upshot.access.users import email_of
from upshot.errors import (
    Forbidden,
    Invalid,
    Malformed,
    QuotaExceeded,
    SecondFactorMissing,
    SecondFactorNeeded,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    UpshotError,
)
from upshot.operations import Stores
from upshot.operations.signin import Signed
from upshot.securitylog import Event, note

AGAIN = timedelta(minutes=1)
REMEMBERED = 1_000
_INPUT = (Malformed, TooLarge, UnsupportedMediaType, Invalid)
_INSIDE = frozenset({"address", "inside_name"})  # codes of faults of a webhook's URL that leads inside
_PURPOSE = b"names in the security log"


class Repeats:
    """What was said, so that a program which sends the same nonsense all day is a line a minute, with how often it was."""

    def __init__(self) -> None:
        self._said: dict[Hashable, tuple[datetime, int]] = {}

    def due(self, what: Hashable, now: datetime) -> int:
        """How often it was since the last line, this time included; 0 within a minute of that line."""
        said, count = self._said.pop(what, (now - AGAIN, 0))
        due = now - said >= AGAIN
        self._said[what] = (now, 0) if due else (said, count + 1)
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        return count + 1 if due else 0


def about(request: Request, event: Event | None = None, **facts: str | int | None) -> None:
    """Remember for the line of this request who asks; and what a refusal with 401 or 403 is from now on, when it is one."""
    known = _known(request)
    known.update(facts)
    if event is not None:
        known["event"] = event


def account_of(request: Request, client: str, email: str) -> str:
    """A name for an account of which the log holds no address: the same for every attempt, told by our key alone.

    A digest without a key could be searched for addresses, and for passwords that were typed into the wrong field.
    """
    stores: Stores = request.app.state.stores
    named = f"{client}\n{email_of(email)}".encode()
    return hmac.digest(stores.keyring.key_for(_PURPOSE), named, sha256).hex()[:16]


def signed_in(request: Request, signed: Signed, how: str) -> None:
    """Log a sign-in."""
    account = account_of(request, signed.client, signed.user.email)
    about(request, client=signed.client, user=signed.user.id, account=account, how=how, means=str(signed.session.means))
    _write(request, Event.SIGNED_IN)


def refused(request: Request, error: UpshotError) -> None:
    """Log a refusal, when it is one that concerns security: 401 of who showed something, 403, 429, a URL that leads inside, input
    that breaks a rule."""
    event: Event | None = _known(request).pop("event", None)
    match error:
        case QuotaExceeded():
            about(request, policy=dict(error.headers).get(b"ratelimit-policy", b"").decode() or None)
            event = Event.QUOTA_EXCEEDED
        case Forbidden():
            event = event or Event.ACTION_FORBIDDEN
        case Invalid() if any(fault.code in _INSIDE for fault in error.faults):
            event = Event.DESTINATION_REFUSED
        case _ if isinstance(error, _INPUT):
            input_refused(request, error.code)
            return
        case SecondFactorNeeded() | SecondFactorMissing() if _known(request)["how"] == "password":
            event = Event.SIGN_IN_UNFINISHED
        case Unauthenticated():
            pass
        case _:
            event = None
    if event is not None:
        _write(request, event)


def input_refused(request: Request, code: str) -> None:
    """Log that input breaks a rule, once a minute of the same client, address and path."""
    known, stores = _known(request), request.app.state.stores
    who = known.get("client"), known.get("credential"), _address(request)
    count = request.app.state.repeats.due((*who, _path(request), code), stores.clock.now())
    if count:
        about(request, code=code, count=count)
        _write(request, Event.INPUT_REFUSED)


def failed(request: Request, error: Exception) -> None:
    """Log an error that nobody expected: its kind, not its text; that one is in the process's log under the request's id."""
    about(request, error=type(error).__name__)
    _write(request, Event.UNEXPECTED_ERROR)


def _known(request: Request) -> dict[str, Any]:
    known: dict[str, Any] = request.scope.setdefault("state", {}).setdefault("security", {})
    return known


def _write(request: Request, event: Event) -> None:
    """One line. The path is the route's: what stands in its braces, and a query, are none of the log's."""
    known = {name: value for name, value in _known(request).items() if name != "event"}
    note(
        event,
        request_id=getattr(request.state, "request_id", None),
        address=_address(request),
        method=request.method,
        path=_path(request),
        **known,
    )


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


def _path(request: Request) -> str | None:
    path: str | None = getattr(request.scope.get("route"), "path", None)
    return path
