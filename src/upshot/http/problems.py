"""Every error as RFC 9457 problem details: one shape, one handler each, and never a value that was sent."""

import logging
import random
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from upshot.errors import Fault, Invalid, QuotaExceeded, UpshotError, pointer
from upshot.http import securityevents

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)

# What Starlette and FastAPI raise themselves: status → (code, title).
_OTHERS = {
    400: ("malformed", "The request cannot be read"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "This path does not take that method"),
}

# Problems that have a registered type: those of draft-ietf-httpapi-ratelimit-headers.
_REGISTERED = "https://iana.org/assignments/http-problem-types#"
_TYPES = {
    "quota_exceeded": f"{_REGISTERED}quota-exceeded",
    "overloaded": f"{_REGISTERED}temporary-reduced-capacity",
}
LOGGED = "It has been logged under this request's id."
_JITTER = 0.2  # of the Retry-After of a 429, either way: those who share a quota should not come back together


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem response; `faults` become `errors` with a JSON pointer each."""
    content: dict[str, Any] = {
        "type": _TYPES.get(code, f"/errors/{code}"),
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if faults:
        content["errors"] = list(faults)
    return Response(msgspec.json.encode(content), status, dict(headers or {}), MEDIA_TYPE)


def of_error(error: UpshotError) -> Response:
    """The problem of one of our own errors."""
    headers = {}
    if isinstance(error, QuotaExceeded):
        headers = {name.decode(): value.decode() for name, value in error.headers}
        headers["Retry-After"] = _spread(error.retry_after, 1 - _JITTER, 1 + _JITTER)
    elif error.retry_after is not None:
        headers["Retry-After"] = retry_after(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="upshot", error="invalid_token"'
    return problem(error.status, error.code, error.title, error.detail, error.faults, headers)


def retry_after(seconds: float) -> str:
    """So many seconds, or up to twice as many: clients that were turned away together should not come back together."""
    return _spread(seconds, 1, 2)


def _spread(seconds: float, least: float, most: float) -> str:
    return str(max(1, round(seconds * random.uniform(least, most))))  # noqa: S311 - no secret


def log_unexpected(request: Request, error: Exception) -> None:
    """Log an error that nobody expected, for those who look after the server and for those who look after its security."""
    securityevents.failed(request, error)
    place = getattr(request.scope.get("route"), "path", None)
    request_id = getattr(request.state, "request_id", None)
    log.error("unexpected error at %s %s, request %s", request.method, place, request_id, exc_info=error)


def install(app: FastAPI) -> None:
    """Answer every exception with a problem."""

    @app.exception_handler(UpshotError)
    async def ours(request: Request, error: UpshotError) -> Response:
        securityevents.refused(request, error)
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        securityevents.input_refused(request, Invalid.code)
        faults = [Fault(pointer(*part["loc"]), str(part["type"]), str(part["msg"])) for part in error.errors()]
        return problem(422, "invalid", "The request is not valid", "Some fields need correction.", faults)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        code, title = _OTHERS.get(error.status_code, ("refused", HTTPStatus(error.status_code).phrase))
        headers = {"Allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
        return problem(error.status_code, code, title, title + ".", headers=headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log_unexpected(request, error)
        return problem(500, "internal", "Something went wrong on our side", LOGGED)


def _allowed(request: Request) -> str:
    """The methods that a path takes; the framework would name those of the first route with that path only."""
    routes = request.app.routes
    asked = {method: {**request.scope, "method": method} for method in ("GET", "POST", "PATCH", "DELETE")}
    return ", ".join(m for m, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes))
