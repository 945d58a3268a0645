"""Sign-in, and the page on which somebody who was invited chooses a password."""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from upshot.http.dashboard.visitors import Visitor, own, pages

router = pages()


@router.get("/sign-in")
async def sign_in(request: Request, next: Annotated[str, Query(max_length=2_000)] = "/") -> Response:  # noqa: A002
    """The page to sign in on; afterwards the browser goes on to `next`, where that is a path of ours."""
    provider = request.app.state.sign_in is not None
    return Visitor(request).page("sign_in", next=own(next), provider=provider)


@router.get("/setup")
async def setup(request: Request) -> Response:
    """The page of an invitation, whose secret is in the fragment."""
    return Visitor(request).page("setup")
