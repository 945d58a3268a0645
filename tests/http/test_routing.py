"""How routes are made: every one checks its target, and none waits for a thread."""

from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute

from upshot.http.app import create_app
from upshot.http.routing import Router, check_target
from upshot.settings import Settings


def done_before(route: APIRoute) -> Iterator[Callable[..., Any]]:
    """What is done before a route's own function."""
    waiting = list(route.dependant.dependencies)
    while waiting:
        found = waiting.pop()
        waiting += found.dependencies
        if found.call is not None:
            yield found.call


def faults(app: FastAPI) -> list[str]:
    """Routes that do not check their target; and what FastAPI does in another thread, as it is no coroutine: going there and back
    costs more than most of what is done."""
    found = []
    for route in app.routes:
        if isinstance(route, APIRoute):
            before = list(done_before(route))
            found += [f"{route.path}: not checked"] if check_target not in before else []
            # An object is called by its class's method: security schemes are.
            waiting = (each for each in (*before, route.endpoint) if not iscoroutinefunction(each))
            found += [
                f"{route.path}: {each.__name__}" for each in waiting if not iscoroutinefunction(type(each).__call__)
            ]
    return found


def test_every_route_checks_its_target_and_waits_for_no_thread() -> None:
    """All of them, pages and documents, too."""
    app = create_app(Settings(), {}).application

    assert len([route for route in app.routes if isinstance(route, APIRoute)]) > 100
    assert faults(app) == []


def test_routes_that_do_not_are_found() -> None:
    """The negative control."""

    def slow(_request: Request) -> None:
        """Does something in a thread."""

    app, router = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), Router()

    @app.get("/plain")
    async def plain() -> None:
        """Checks nothing."""

    @router.get("/waits", dependencies=[Depends(slow)])
    async def waits() -> None:
        """Waits for a thread."""

    router.join(app)

    assert faults(app) == ["/plain: not checked", "/waits: slow"]


async def test_a_joined_route_is_the_applications_own() -> None:
    """It answers, is documented with its tags, and refuses what every route refuses."""
    app, router = FastAPI(), Router(prefix="/things", tags=["things"])

    @router.get("/{name}")
    async def thing(name: str) -> str:
        """One."""
        return name

    router.join(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://upshot") as web:
        answer, document = await web.get("/things/a"), (await web.get("/openapi.json")).json()

    assert (answer.status_code, answer.json()) == (200, "a")
    assert document["paths"]["/things/{name}"]["get"]["tags"] == ["things"]
