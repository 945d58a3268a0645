"""A second factor beside the password: the code that an authenticator app shows (TOTP, RFC 6238, as every app has it: SHA-1, six
digits, 30 seconds), or one of ten recovery codes for whoever has lost the device.

A secret is shown, and asked for from the moment that its first code came. Each code is good once, within its 30 seconds or one
period before or after, as clocks differ. After twenty wrong ones in a row only a recovery code helps, or an admin: SP 800-63B
(5.2.2) allows a hundred.
"""

import hmac
from base64 import b32decode, b32encode
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from upshot.access.keys import digest_of
from upshot.clock import new_key

ISSUER = "Upshot"
DIGITS = 6
PERIOD = 30
SECRET_BYTES = 20
WRONG = 20
RECOVERY_CODES = 10
RECOVERY_BYTES = 15  # 120 bits: a plain digest may be kept from 112 on


@dataclass(frozen=True, slots=True)
class Factor:
    """A person's second factor.

    Attributes:
        secret: shared with the app, sealed.
        created_at: when it was shown.
        confirmed_at: when its first code came; it is asked for since.
        step: the last period of which a code was used, in half minutes since 1970.
        wrong: how many codes in a row were none of it.
        recovery: the digests of the recovery codes that are left.
    """

    secret: str
    created_at: datetime
    confirmed_at: datetime | None = None
    step: int = 0
    wrong: int = 0
    recovery: tuple[str, ...] = ()


def new_secret() -> str:
    """A secret, as apps take it by hand: base32."""
    return b32encode(new_key(SECRET_BYTES)).decode()


def new_recovery_codes() -> list[str]:
    """Ten recovery codes, in groups of four letters."""
    texts = [b32encode(new_key(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    return ["-".join(text[at : at + 4] for at in range(0, len(text), 4)) for text in texts]


def address_of(secret: str, email: str) -> str:
    """What a QR code says to an app: the secret, and whose it is (`otpauth:`)."""
    return _totp(secret).get_provisioning_uri(email, ISSUER)


def with_recovery(factor: Factor, codes: list[str]) -> Factor:
    """The factor with these recovery codes, and no others."""
    return replace(factor, recovery=tuple(digest_of(_plain(code)) for code in codes))


def used(factor: Factor, secret: str | None, code: str, now: datetime) -> Factor | None:
    """The factor when a code has been used, which makes it good no more; None of a code that is not good. Without the secret,
    which another key sealed, recovery codes are."""
    plain = _plain(code)
    if (digest := digest_of(plain)) in factor.recovery:
        return replace(factor, wrong=0, recovery=tuple(kept for kept in factor.recovery if kept != digest))
    if secret is None or factor.wrong >= WRONG:
        return None
    present = int(now.timestamp()) // PERIOD
    fitting = [step for step in (present - 1, present, present + 1) if _same(secret, step, plain)]
    step = max((step for step in fitting if step > factor.step), default=None)
    return None if step is None else replace(factor, step=step, wrong=0)


def _same(secret: str, step: int, code: str) -> bool:
    return hmac.compare_digest(_totp(secret).generate(step * PERIOD), code.encode())


def _totp(secret: str) -> TOTP:
    return TOTP(b32decode(secret), DIGITS, SHA1(), PERIOD)  # noqa: S303 - what apps take; HMAC asks no more of it


def _plain(code: str) -> str:
    """A code without what people put between its letters."""
    return "".join(code.split()).replace("-", "").lower()
