"""The application: what opens at the start, what closes at the end, and in which order a request passes through."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import Depends, FastAPI, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.staticfiles import StaticFiles

from upshot import __version__, worker
from upshot.backends import open_stores
from upshot.http import (
    assignments,
    events,
    experiments,
    health,
    imports,
    metricdefinitions,
    openapi,
    planner,
    problems,
    results,
)
from upshot.http.access import Tokens
from upshot.http.envelope import Envelope
from upshot.http.stores import check_target
from upshot.settings import Settings

_DESCRIPTION = "Create experiments, give users lasting variants, record events, and read results that can be trusted."
_ASSETS = "/assets/docs"
_PAGES = ("/docs", "/redoc", _ASSETS)


def create_app(settings: Settings, clients: dict[str, str]) -> Envelope:
    """The ASGI application; `clients` says which client each bearer token stands for."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stores = await open_stores(settings)
        app.state.stores = stores
        try:
            async with worker.beside_requests(stores, settings):
                yield
                app.state.stopping = True
        finally:
            app.state.stopping = True
            await stores.close()

    app = FastAPI(
        title="Upshot", version=__version__, description=_DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False, dependencies=[Depends(check_target)],
    )  # fmt: skip
    app.state.tokens = Tokens(clients)
    app.state.stopping = False
    for part in (experiments, metricdefinitions, assignments, events, imports, results, planner, health):
        app.include_router(part.router)
    problems.install(app)
    openapi.install(app)
    _install_pages(app)
    return Envelope(assignments.AssignmentLane(app, app.state), app, _PAGES, settings.concurrent_requests)


def _install_pages(app: FastAPI) -> None:
    """Swagger UI and ReDoc, with scripts from an installed package: they work without internet."""
    assets = Path(str(files("fastapi_offline"))) / "static"
    app.mount(_ASSETS, StaticFiles(directory=assets), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def swagger() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Upshot",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon.png",
        )

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> Response:
        return get_redoc_html(
            openapi_url="/openapi.json",
            title="Upshot",
            redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{_ASSETS}/favicon.png",
            with_google_fonts=False,
        )
