"""Tickets: what lets a browser's EventSource, which can send no header, listen to a client's stream of changes.

A ticket stands in an address, which is logged: it says that something changed, no more, and it ends with the next day (UTC). It
is the same for the whole day, so that a stream's address does not change with every answer.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

PURPOSE = b"stream tickets"


def write(key: bytes, client: str, now: datetime) -> str:
    """A ticket for a client's stream."""
    last = now.astimezone(UTC).date() + timedelta(days=1)
    said = f"{last.isoformat()} {client}".encode()
    return f"{_text(said)}.{_text(_signature(key, said))}"


def read(key: bytes, ticket: str, now: datetime) -> str | None:
    """The client of a ticket that is good now; None of any other."""
    said, _, signature = ticket.partition(".")
    try:
        content, signed = _bytes(said), _bytes(signature)
        day, _, client = content.decode().partition(" ")
        last = datetime.fromisoformat(day).date()
    except ValueError:
        return None
    if not hmac.compare_digest(signed, _signature(key, content)) or now.astimezone(UTC).date() > last:
        return None
    return client


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, sha256)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
