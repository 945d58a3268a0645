"""API keys: `upk_<id, 10 characters>_<secret, 32 characters><checksum, 6 characters>`, all of letters and digits.

The prefix and the checksum let a scanner tell a leaked key from a random text without asking anybody; the id finds the key, and
of the whole only the SHA-256 is kept: 190 random bits need no slow hash.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit
from zlib import crc32

from upshot.access import Scope
from upshot.errors import Fault

PREFIX = "upk_"
ID_LENGTH = 10
SECRET_LENGTH = 32
LIFETIME = timedelta(days=365)
OVERLAP = timedelta(hours=24)
ACTIVE_AT_ONCE = 2
NAME_LENGTH = 120
ORIGINS = 50
BROWSER_SCOPES = frozenset({Scope.EVENTS, Scope.ASSIGN})

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32
_FORM = re.compile(rf"upk_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: never its secret, only the digest of the whole, and its last four characters to know it by.

    A browser key has `origins`: it writes only, and only from pages of these origins.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    origins: tuple[str, ...]
    digest: str
    ending: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def active(self, now: datetime) -> bool:
        """Whether it is good for anything at that moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def matches(self, text: str) -> bool:
        """Whether that is the key: how long it takes to say no tells nothing of how much of it was right."""
        return hmac.compare_digest(self.digest, digest_of(text))


def written(key_id: str, secret: str) -> str:
    """The text of a key, from 10 and 32 random letters or digits."""
    body = f"{PREFIX}{key_id}_{secret}"
    return body + _checksum(body)


def id_of(text: str) -> str | None:
    """The id of a well-written key, or None: no question to a store for what is none."""
    found = _FORM.fullmatch(text)
    return found[1] if found and text[-_CHECKSUM_LENGTH:] == _checksum(text[:-_CHECKSUM_LENGTH]) else None


def digest_of(text: str) -> str:
    """What is kept of a secret of at least 128 random bits: its SHA-256 in hexadecimal digits."""
    return sha256(text.encode()).hexdigest()


def faults_of(name: str, scopes: frozenset[Scope], origins: tuple[str, ...]) -> list[Fault]:
    """What is wrong with a key that is wanted."""
    faults = []
    if not scopes:
        faults.append(Fault("/scopes", "empty", "a key is good for at least one thing"))
    if not name.strip() or len(name) > NAME_LENGTH:
        faults.append(Fault("/name", "bad_length", f"a name has 1 to {NAME_LENGTH} characters"))
    if origins and not scopes <= BROWSER_SCOPES:
        faults.append(
            Fault("/scopes", "not_for_browsers", "a key with origins is public: events:write and assign only")
        )
    if len(origins) > ORIGINS:
        faults.append(Fault("/origins", "too_many", f"at most {ORIGINS} origins"))
    faults += [
        Fault(
            f"/origins/{index}", "bad_origin", "an origin is a scheme, a host and perhaps a port, as browsers send it"
        )
        for index, origin in enumerate(origins[:ORIGINS])
        if not _is_origin(origin)
    ]
    return faults


def _is_origin(text: str) -> bool:
    """Whether a browser could send this text as its Origin."""
    if len(text) > 300 or not text.isascii() or text != text.lower():
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    shown = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port is not None else "")
    standard = {"http": 80, "https": 443}
    named = re.fullmatch(r"[a-z0-9.-]+", parts.hostname or "")
    return parts.scheme in standard and bool(named) and shown == text and port != standard[parts.scheme]


def _checksum(body: str) -> str:
    number, digits = crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_LETTERS))
        digits = _LETTERS[digit] + digits
    return digits
