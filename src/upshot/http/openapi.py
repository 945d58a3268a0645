"""What the OpenAPI document needs beyond what FastAPI finds: bodies that we read ourselves, and the problems of every path."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from upshot.http import body
from upshot.http.answers import Problem

Model = TypeVar("Model", bound=BaseModel)

_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The request cannot be read.",
    401: "A valid token is needed.",
    403: "The credential is not good for this.",
    404: "It does not exist for this client.",
    405: "The path does not take this method.",
    409: "The present state does not allow it.",
    413: "The body is too large.",
    414: "The path and query are longer than 8 KiB, or there are more than 50 parameters.",
    415: "The body's media type is not read here.",
    422: "The request breaks a rule.",
    429: "It was asked too often.",
    503: "Try again later.",
    504: "It took too long.",
}

_models: set[type[BaseModel]] = {Problem}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these problems, and those that any request may meet."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {
        status: {"description": _PROBLEMS[status], "content": content}
        for status in sorted({400, 401, 414, 422, 429, 503, *statuses})
    }


def json_body(*models: type[BaseModel], many: type[BaseModel] | None = None, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route whose JSON body is one of the models, or a list of `many`."""
    _models.update(models)
    shapes: list[dict[str, Any]] = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    if many is not None:
        _models.add(many)
        shapes.append({"type": "array", "minItems": 1, "items": {"$ref": _REF.format(model=many.__name__)}})
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def optional_reader(model: type[Model]) -> Callable[[Request], Awaitable[Model | None]]:
    """The same where there need be no body."""
    read = reader(model)

    async def read_if_there(request: Request) -> Model | None:
        length = request.headers.get("content-length")
        return None if length in {None, "0"} and "transfer-encoding" not in request.headers else await read(request)

    return read_if_there


def reader(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that reads a management body strictly into a model."""

    async def read(request: Request) -> Model:
        return body.validated(model, body.document(await body.read(request, body.MANAGEMENT_BYTES)))

    return read


def install(app: FastAPI) -> None:
    """Make the application's OpenAPI document hold the models of the bodies that we read ourselves."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, definitions = models_json_schema(
                [(m, "validation") for m in sorted(_models, key=lambda m: m.__name__)], ref_template=_REF
            )
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
