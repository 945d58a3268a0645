"""People: one account per client and address, with one role; and the rules of addresses and passwords.

A person who works for two clients has two accounts, so that nothing of one client, not even that it knows somebody, can be seen
from the other.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from upshot.access import Role
from upshot.access.factors import Factor
from upshot.errors import Fault

EMAIL_LENGTH = 254
NAME_LENGTH = 120
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1_000

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f-\x9f]{1,64}@[^@\s\x00-\x1f\x7f-\x9f]{1,189}")


@dataclass(frozen=True, slots=True)
class User:
    """A person's account. `password` is an argon2id hash, None for who signs in by a provider or has not begun yet.

    `subject` is who the provider says it is, `factor` what is asked for beside the password. Credentials that were issued before
    `not_before` are no longer good.
    """

    id: str
    email: str
    name: str
    role: Role
    password: str | None
    subject: str | None
    created_at: datetime
    updated_at: datetime
    not_before: datetime
    signed_in_at: datetime | None = None
    disabled_at: datetime | None = None
    factor: Factor | None = None

    @property
    def second_factor(self) -> bool:
        """Whether a sign-in by password asks for a code."""
        return self.factor is not None and self.factor.confirmed_at is not None


def email_of(text: str) -> str:
    """The form in which an address is kept and compared: composed (NFC) and in small letters."""
    return unicodedata.normalize("NFC", text).lower()


def faults_of(email: str, name: str) -> list[Fault]:
    """What is wrong with the address or name of a person."""
    faults = []
    if len(email) > EMAIL_LENGTH or not _EMAIL.fullmatch(email):
        faults.append(Fault("/email", "bad_email", "must be an e-mail address"))
    if len(name) > NAME_LENGTH or any(unicodedata.category(letter) == "Cc" for letter in name):
        faults.append(Fault("/name", "bad_name", f"a name has at most {NAME_LENGTH} printable characters"))
    return faults


def fault_of_length(password: str) -> tuple[str, str] | None:
    """Whether a password is too short or too long; nothing is asked of its letters."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        return (
            "bad_length",
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; 15 or more are better",
        )
    return None
