"""Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body` under a secret that both sides know.

The timestamp is that of the attempt, so that what was recorded on the way cannot be sent again later. While a secret is changed
the message is signed with the new and the former one, and the receiver takes whichever it knows.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from upshot.errors import Fault

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)
TOLERANCE = timedelta(minutes=5)
_VERSION = "v1"


def secret_of(key: bytes) -> str:
    """The secret that people see of a key of 24 to 64 random bytes."""
    return PREFIX + base64.b64encode(key).decode()


def check_secret(secret: str, pointer: str = "/secret") -> Fault | None:
    """The fault of a secret, or None: `whsec_` and the base64 of 24 to 64 bytes."""
    try:
        usable = len(_key_of(secret)) in KEY_BYTES
    except ValueError:
        usable = False
    return None if usable else Fault(pointer, "bad_secret", "must be whsec_ and the base64 of 24 to 64 random bytes")


def signed_headers(message_id: str, sent_at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of one attempt: `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`.

    A full stop in the id would let one message pass for another, so there must be none.
    """
    timestamp = str(int(sent_at.timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, message_id, timestamp, body) for secret in secrets),
    }


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> bool:
    """Whether a message was signed with one of the secrets within the tolerance of now, as a receiver asks.

    The time that this takes says nothing about how much of a signature is right: all are compared, each in constant time.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not _is_recent(timestamp, now, tolerance):
        return False
    expected = [_signature(secret, message_id, timestamp, body).encode() for secret in secrets]
    sent = [signature.encode() for signature in given.get("webhook-signature", "").split(" ")]
    return sum(hmac.compare_digest(ours, theirs) for ours in expected for theirs in sent) > 0


def _is_recent(timestamp: str, now: datetime, tolerance: timedelta) -> bool:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(now.timestamp() - int(timestamp)) <= tolerance.total_seconds()


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key_of(secret), content, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def _key_of(secret: str) -> bytes:
    """The bytes behind a secret. Raises ValueError where it is none."""
    if not secret.startswith(PREFIX):
        raise ValueError("a secret begins with whsec_")
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
