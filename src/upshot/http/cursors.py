"""Cursors: where the next page of a list begins, as a text that nobody needs to understand."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, TypeAlias

from fastapi import Query

from upshot.errors import Fault, Invalid

Cursor: TypeAlias = Annotated[str | None, Query(max_length=200)]
"""Where a page is asked to begin; None for the first one."""

Limit: TypeAlias = Annotated[int, Query(ge=1, le=200)]
"""How many things a page may have."""


def cursor_of(number: int | None) -> str | None:
    """The cursor of a place in a list; None at its end."""
    return None if number is None else urlsafe_b64encode(str(number).encode()).decode()


def number_of(cursor: str | None) -> int | None:
    """The place that a cursor stands for; None is the beginning.

    Raises:
        Invalid: no list gave that cursor.
    """
    if cursor is None:
        return None
    try:
        number = int(urlsafe_b64decode(cursor.encode("ascii")))
    except ValueError:
        raise Invalid.of(Fault("/query/cursor", "bad_cursor", "is not one that a list gave")) from None
    if not 0 < number < 2**53:
        raise Invalid.of(Fault("/query/cursor", "bad_cursor", "is not one that a list gave"))
    return number


def cursor_of_text(text: str) -> str:
    """The cursor of a place in a list that is ordered by a text."""
    return urlsafe_b64encode(text.encode()).decode()


def text_of(cursor: str | None) -> str:
    """The text that such a cursor stands for; empty, before all others, for none.

    Raises:
        Invalid: no list gave that cursor.
    """
    try:
        text = urlsafe_b64decode((cursor or "").encode("ascii")).decode()
    except ValueError:
        raise Invalid.of(Fault("/query/cursor", "bad_cursor", "is not one that a list gave")) from None
    if "\x00" in text:
        raise Invalid.of(Fault("/query/cursor", "bad_cursor", "is not one that a list gave"))
    return text


def cursor_of_place(place: tuple[int, int, int] | None) -> str | None:
    """The cursor of a place in the order in which events came."""
    return None if place is None else cursor_of_text(".".join(map(str, place)))


def place_of(cursor: str | None) -> tuple[int, int, int] | None:
    """The place that such a cursor stands for.

    Raises:
        Invalid: no answer gave that cursor.
    """
    if cursor is None:
        return None
    try:
        first, second, third = map(int, urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split("."))
    except ValueError:
        raise Invalid.of(Fault("/query/after", "bad_cursor", "is not one that an answer gave")) from None
    if any(not -(2**63) <= part < 2**63 for part in (first, second, third)):
        raise Invalid.of(Fault("/query/after", "bad_cursor", "is not one that an answer gave"))
    return first, second, third
