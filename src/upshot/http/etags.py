"""Entity tags: what an answer is known by, so that nothing is sent to who has it already."""

from typing import Annotated, TypeAlias

from fastapi import Header

IfNoneMatch: TypeAlias = Annotated[str | None, Header(max_length=1_000)]
"""The tags of answers that whoever asks has."""


def is_known(etag: str, having: str | None) -> bool:
    """Whether the tag is one of those that whoever asks has; proxies that compress answers make weak ones of them."""
    return having is not None and etag in {tag.strip().removeprefix("W/") for tag in having.split(",")}
