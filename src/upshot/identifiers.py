"""What a user id, an event type, an event id or a name may look like: one rule, one function, for every way in.

Identifiers are opaque: they are compared code point by code point, never case-folded and never normalised, so `User` and
`user`, and the composed and decomposed forms of one accented letter, are different users. What would make two ids look
alike or break a store is refused instead: empty text, white space at the ends, control characters, lone surrogates, and
the placeholders that broken clients send for "nobody".
"""

import re

from upshot.errors import Fault

USER_ID_LENGTH = 200
EVENT_TYPE_LENGTH = 200
EVENT_ID_LENGTH = 100
NAME_LENGTH = 120

# One giant "user" that a broken client made of all its visitors would drown an experiment (product analytics products
# publish the same kind of list).
PLACEHOLDERS = frozenset(
    {
        "null",
        "undefined",
        "none",
        "nil",
        "nan",
        "true",
        "false",
        "0",
        "-1",
        "anonymous",
        "guest",
        "distinct_id",
        "distinctid",
        "id",
        "user_id",
        "not_authenticated",
        "email",
        "void",
        "[object object]",
        "00000000-0000-0000-0000-000000000000",
    }
)

# C0, DEL and C1 controls, surrogates, and the two non-characters that some stores refuse.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Names are shown to people: marks that reorder or hide text could make one name look like another.
_INVISIBLE = re.compile("[\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_KEY = re.compile("[a-z0-9][a-z0-9_.-]*")


def fault_of_text(text: str, limit: int) -> tuple[str, str] | None:
    """Why `text` cannot be an identifier of at most `limit` characters: (code, message), or None when it can."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= limit and text[0] != " " != text[-1]:
        return None
    if not text:
        return "empty", "must not be empty"
    if len(text) > limit:
        return "too_long", f"must be at most {limit} characters long"
    if text[0].isspace() or text[-1].isspace():
        return "outer_white_space", "must not begin or end with white space"
    if _FORBIDDEN.search(text):
        return "control_character", "must not hold control characters or lone surrogates"
    return None


def fault_of_user_id(user_id: str) -> tuple[str, str] | None:
    """Why `user_id` cannot be a user's id, or None when it can."""
    fault = fault_of_text(user_id, USER_ID_LENGTH)
    if fault is None and user_id.lower() in PLACEHOLDERS:
        return "placeholder", "is what a broken client sends for nobody; send the user's own id"
    return fault


def check_user_id(user_id: str, pointer: str = "/user_id") -> Fault | None:
    """The fault of a user id at `pointer`, or None."""
    found = fault_of_user_id(user_id)
    return Fault(pointer, *found) if found else None


def check_name(name: str, pointer: str) -> Fault | None:
    """The fault of a name that people read (an experiment's, a variant's), or None."""
    found = fault_of_text(name, NAME_LENGTH)
    if found is None and _INVISIBLE.search(name):
        found = "invisible_character", "must not hold invisible or direction-changing characters"
    return Fault(pointer, *found) if found else None


def check_key(key: str, pointer: str = "/key") -> Fault | None:
    """The fault of an experiment's key, or None: lower-case letters, digits, `_`, `.` and `-`, at most 120."""
    if len(key) > NAME_LENGTH:
        return Fault(pointer, "too_long", f"must be at most {NAME_LENGTH} characters long")
    if not _KEY.fullmatch(key):
        return Fault(pointer, "bad_key", "must consist of a-z, 0-9, _, . and -, beginning with a letter or digit")
    return None


def key_of_name(name: str) -> str:
    """A key made from a name: "Homepage CTA Test" gives "homepage-cta-test"; without usable letters, "experiment"."""
    words = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    return words[:100].strip("-") or "experiment"
