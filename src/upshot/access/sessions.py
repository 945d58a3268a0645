"""Sign-ins: what a person has after showing a password or coming from a provider, and how long it lasts.

A program gets a short access token and a refresh token, which is good once: each use brings the next one, and one that comes
twice was stolen from somebody, so that the whole session ends (RFC 9700, section 4.14.2). A browser gets a cookie.
"""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

REFRESH_PREFIX = "upr_"
COOKIE_PREFIX = "ups_"
SECRET_LETTERS = 43  # 256 random bits
REFRESH_LIFETIME = timedelta(days=30)
IDLE = timedelta(minutes=30)
ABSOLUTE = timedelta(hours=8)
INVITATION_LIFETIME = timedelta(hours=24)


class Means(StrEnum):
    """How a session is carried."""

    TOKENS = "tokens"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one person. It ends at `expires_at` at the latest, and when it is revoked.

    `digest` is that of the cookie or of the refresh token which is good now.
    """

    id: str
    user_id: str
    means: Means
    digest: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def active(self, now: datetime) -> bool:
        """Whether it is good at that moment; a cookie that was not used for half an hour is not."""
        idle = self.means is Means.COOKIE and now - self.used_at >= IDLE
        return self.revoked_at is None and now < self.expires_at and not idle


@dataclass(frozen=True, slots=True)
class Invitation:
    """A way in that is good once: for a new person with that role, or to give an existing one a new password."""

    digest: str
    role: str
    user_id: str | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None

    def open(self, now: datetime) -> bool:
        """Whether it can be taken up at that moment."""
        return self.used_at is None and now < self.expires_at


def csrf_token(cookie: str) -> str:
    """What a page must send in `X-CSRF-Token` with every change: it follows from the cookie, which no script can read."""
    return urlsafe_b64encode(hmac.digest(cookie.encode(), b"upshot csrf", sha256)).decode().rstrip("=")
