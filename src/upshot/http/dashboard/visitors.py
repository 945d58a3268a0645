"""Who looks at a page, and what every page is given. Errors are pages, too; who is not signed in is asked to, and comes back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from upshot import dashboard
from upshot.access import Caller, Kind, Scope
from upshot.access.sessions import csrf_token
from upshot.errors import Forbidden, NotFound, Unauthenticated, UpshotError
from upshot.http.access import address_of, charge, cookie_of, identify, tell
from upshot.http.failures import FailureRoute
from upshot.http.limits import Limits
from upshot.http.problems import of_error
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import shares

PLACES = (
    ("/", "Experiments", Scope.RESULTS),
    ("/dashboard/metrics", "Metrics", Scope.RESULTS),
    ("/dashboard/events", "Events", Scope.RESULTS),
    ("/dashboard/people", "People", Scope.ADMIN),
    ("/dashboard/audit", "Audit", Scope.ADMIN),
    ("/dashboard/settings", "Settings", Scope.ADMIN),
)

_PRIVATE = {"Cache-Control": "no-store", "Vary": "Cookie"}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who looks at a page about a client; who is signed in, if anybody is, and the request that they do it with."""

    request: Request
    client: str = ""
    caller: Caller | None = None

    @property
    def may_edit(self) -> bool:
        """Whether they may change experiments."""
        return self.caller is not None and self.caller.may(Scope.EXPERIMENTS)

    @property
    def person(self) -> str:
        """The id of the person who looks; keys and tokens are none.

        Raises:
            Forbidden: it is no person.
        """
        if self.caller is None or self.caller.kind is not Kind.USER:
            raise Forbidden("This is for people who signed in.")
        return self.caller.id

    def page(self, name: str, status_code: int = 200, /, **shown: Any) -> HTMLResponse:
        """A page, with what every page needs."""
        cookie, settings = cookie_of(self.request), self.request.app.state.settings
        given = {
            "caller": self.caller,
            "csrf": csrf_token(cookie) if self.caller and cookie else None,
            "places": [(path, title) for path, title, scope in PLACES if self.caller and self.caller.may(scope)],
            "here": self.request.url.path,
            "may_edit": self.may_edit,
            "passwords": settings.password_sign_in,
            "shared": False,
        }
        return HTMLResponse(dashboard.page(name, **given | shown), status_code, _PRIVATE)

    def part(self, html: Markup) -> HTMLResponse:
        """A part of a page that is ready as it is."""
        return HTMLResponse(str(html), headers=_PRIVATE)


class PageRoute(FailureRoute):
    """A route whose failures are pages; who is not signed in is led to where one can."""

    def failure(self, request: Request, error: UpshotError) -> Response:
        """The page of an error."""
        if isinstance(error, Unauthenticated):
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(target, safe='/')}", HTTPStatus.SEE_OTHER, _PRIVATE)
        caller: Caller | None = getattr(request.state, "visitor", None)
        shown = {"title": error.title, "detail": error.detail, "status": error.status}
        page = Visitor(request, caller=caller).page("problem", error.status, **shown)
        if wait := of_error(error).headers.get("retry-after"):
            page.headers["Retry-After"] = wait
        return page


def pages() -> Router:
    """A router of pages."""
    return Router(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


def visitor(*scopes: Scope, kind: str = "management") -> Callable[..., Awaitable[Visitor]]:
    """A dependency: somebody who is signed in and has one of these scopes, and something left of the kind."""

    async def found(request: Request) -> Visitor:
        caller = request.state.visitor = await identify(request)
        if not caller.may(*scopes):
            raise Forbidden("Your role does not allow that; ask an admin.")
        await charge(request, kind, caller)
        return Visitor(request, caller.client, caller)

    return found


Reader = Annotated[Visitor, Depends(visitor(Scope.RESULTS))]
ResultReader = Annotated[Visitor, Depends(visitor(Scope.RESULTS, kind="results"))]
Editor = Annotated[Visitor, Depends(visitor(Scope.EXPERIMENTS))]
Admin = Annotated[Visitor, Depends(visitor(Scope.ADMIN))]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a link shows to whoever has it: the result of one experiment."""

    visitor: Visitor
    experiment_id: str


async def _guest(request: Request, stores: StoresOf, client: str, secret: str) -> Shown:
    limits: Limits = request.app.state.limits
    tell(request, await limits.charge("results", f"@{address_of(request)}", "links"))
    share = await shares.follow(stores, client, secret)
    return Shown(Visitor(request, client), share.experiment_id)


Guest = Annotated[Shown, Depends(_guest)]


elsewhere = pages()


@elsewhere.get("/dashboard/{_rest:path}")
async def nowhere(_visitor: Reader) -> Response:
    """Where there is no page.

    Raises:
        NotFound: always.
    """
    raise NotFound("There is no such page.")


def own(path: str) -> str:
    """The path, if it is one of ours; the front page otherwise: nobody is sent to another site."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
