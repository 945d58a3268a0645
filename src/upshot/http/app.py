"""The application: what opens at the start, what closes at the end, and in which order a request passes through."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import Depends, FastAPI

from upshot import __version__, ratelimits, worker
from upshot.backends import open_stores
from upshot.clock import SystemClock
from upshot.http import (
    apikeys,
    assignments,
    beacon,
    dashboard,
    doctor,
    events,
    experiments,
    flags,
    growthbook,
    health,
    identities,
    imports,
    metricdefinitions,
    ofrep,
    oidc,
    openapi,
    origins,
    pages,
    people,
    planner,
    problems,
    results,
    sdk,
    shares,
    signin,
    sixpack,
    streams,
    traffic,
    trail,
    webhooks,
)
from upshot.http.envelope import Envelope
from upshot.http.limits import Limits, quotas
from upshot.http.routing import check_target
from upshot.http.securityevents import Repeats
from upshot.operations.credentials import Credentials
from upshot.settings import Settings

_DESCRIPTION = "Create experiments, give users lasting variants, record events, and read results that can be trusted."


def create_app(settings: Settings, clients: dict[str, str]) -> Envelope:
    """The ASGI application; `clients` says which client each bearer token stands for."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            app.state.sign_in = oidc.configured(settings, SystemClock())
            limiter = ratelimits.connect(settings.limits_url)
            opened.push_async_callback(limiter.close)
            app.state.limits = Limits(limiter, quotas(settings))
            app.state.stores = stores = await open_stores(settings)
            opened.push_async_callback(stores.close)
            app.state.credentials = Credentials(stores, clients)
            try:
                async with worker.beside_requests(stores, settings, app.state.credentials):
                    yield
                    app.state.stopping = True
            finally:
                app.state.stopping = True

    app = FastAPI(
        title="Upshot", version=__version__, description=_DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False, dependencies=[Depends(check_target)],
    )  # fmt: skip
    app.state.stopping = False
    app.state.settings = settings
    app.state.repeats = Repeats()
    for part in (experiments, flags, traffic, metricdefinitions, assignments, identities, sdk, streams, ofrep, beacon,
                 growthbook, sixpack, events, doctor, imports, results, shares, planner, signin, oidc, people, apikeys, trail,
                 webhooks, health):  # fmt: skip
        part.router.join(app)
    people.codes.join(app)
    problems.install(app)
    openapi.install(app)
    origins.install(app)
    pages.install(app)
    dashboard.install(app)
    lane = assignments.AssignmentLane(app, app.state)
    return Envelope(lane, app, settings.concurrent_requests, lane.at_once)
