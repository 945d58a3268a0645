"""Failures in a form of their own: of paths that speak another tool's protocol, whose clients cannot read problems."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from upshot.errors import Invalid, UpshotError
from upshot.http import problems, securityevents


class FailureRoute(APIRoute, ABC):
    """A route that answers everything it raises in a form of its own. The logs have of it what they have of other routes."""

    @abstractmethod
    def failure(self, request: Request, error: UpshotError) -> Response:
        """The answer to an error. What nobody expected comes as a plain `UpshotError`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler, and an answer for everything that it raises."""
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except UpshotError as error:
                securityevents.refused(request, error)
                return self.failure(request, error)
            except RequestValidationError:
                return self.failure(request, Invalid("Arguments are missing or not valid."))
            except Exception as error:  # noqa: BLE001 - it is logged, and the client is to read the answer
                problems.log_unexpected(request, error)
                return self.failure(request, UpshotError(problems.LOGGED))

        return answered
