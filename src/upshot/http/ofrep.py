"""OpenFeature Remote Evaluation Protocol (OFREP 0.3): flags for every OpenFeature SDK.

    POST /ofrep/v1/evaluate/flags/{flag_key}    one flag, for a server's provider; an exposure, where the settings say so
    POST /ofrep/v1/evaluate/flags          all flags, for a browser's provider; never an exposure; ETag, address of a stream

What published providers demand beyond the specification holds here: `variant`, `reason` and `metadata` are always there, numbers
are of the flag's type, errors have `key`, `errorCode` and `errorDetails` as texts, what a request breaks is 400 and never 422,
the ETag is that of the answer, so that it depends on the whole context.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec
from fastapi import Request
from starlette.responses import Response

from upshot.contexts import ATTRIBUTES, LENGTH
from upshot.errors import Invalid, Malformed, NotFound, TooLarge, UnsupportedMediaType, UpshotError
from upshot.http import body, problems
from upshot.http.access import Evaluator
from upshot.http.etags import IfNoneMatch, is_known
from upshot.http.failures import FailureRoute
from upshot.http.intake import EvaluationIn
from upshot.http.openapi import json_body
from upshot.http.outcomes import EvaluationFailureOut, EvaluationOut, EvaluationsOut
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.streams import ticket_of
from upshot.operations import flags
from upshot.operations.flags import Evaluated

PATH = "/ofrep/v1/evaluate/flags"

_encode = msgspec.json.Encoder().encode
_PARSE = (Malformed, TooLarge, UnsupportedMediaType)


class _Refused(UpshotError):
    """The context cannot be used; `code` is one of OpenFeature's."""

    status = 400

    def __init__(self, error_code: str, detail: str) -> None:
        super().__init__(detail)
        self.error_code = error_code


class EvaluationRoute(FailureRoute):
    """A route whose errors have OFREP's form."""

    def failure(self, request: Request, error: UpshotError) -> Response:
        """An error as every provider can read it."""
        status, code = _coded(error)
        content: Mapping[str, Any] = {
            "key": request.path_params.get("flag_key", ""),
            "errorCode": code,
            "errorDetails": error.detail,
            "metadata": {},
        }
        said = problems.of_error(error).headers.items()
        headers = {name: value for name, value in said if name not in {"content-length", "content-type"}}
        return Response(_encode(content), status, headers, "application/json")


router = Router(tags=["openfeature"], route_class=EvaluationRoute)

_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {
        "model": EvaluationFailureOut,
        "description": description,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },  # before the route
    }
    for status, description in {
        400: "The body or the context cannot be used.",
        401: "A valid token or key is needed.",
        403: "The credential is not good for this.",
        404: "There is no such flag.",
        429: "It was asked too often.",
        500: "Something went wrong on our side.",
        503: "Try again later.",
    }.items()
}


@router.post(
    PATH + "/{flag_key:path}", response_model=EvaluationOut, responses=_FAILURES, openapi_extra=json_body(EvaluationIn)
)
async def evaluate(caller: Evaluator, stores: StoresOf, request: Request, flag_key: str) -> Response:
    """The value of one flag for the context. For a flag that a running experiment drives this is an exposure, unless the settings
    say otherwise."""
    user_id, context = await _context(request)
    exposed: bool = request.app.state.settings.ofrep_exposes
    found = await flags.evaluate(stores, caller.client, flag_key, user_id, context, exposed=exposed)
    return Response(_encode(_content(found, user_id)), media_type="application/json")


@router.post(
    PATH,
    response_model=EvaluationsOut,
    responses=_FAILURES | {304: {"description": "It is as the ETag says."}},
    openapi_extra=json_body(EvaluationIn),
)
async def evaluate_all(
    caller: Evaluator,
    stores: StoresOf,
    request: Request,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The values of all flags for the context: no exposure. `eventStreams` has the address that tells of changes."""
    user_id, context = await _context(request)
    evaluated = await flags.evaluate_all(stores, caller.client, user_id, context)
    content: dict[str, Any] = {"flags": [_content(found, user_id) for found in evaluated]}
    etag = f'"{sha256(_encode(content)).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_known(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    stream = request.url_for("changes").include_query_params(ticket=ticket_of(stores, caller.client))
    content["metadata"] = {"eventsUrl": str(request.url_for("record")), "exposuresUrl": str(request.url_for("expose"))}
    content["eventStreams"] = [{"type": "sse", "url": str(stream)}]
    return Response(_encode(content), media_type="application/json", headers=headers)


async def _context(request: Request) -> tuple[str, dict[str, Any]]:
    """The user and what is known of the user. Attributes that are no scalars decide nothing and are left out."""
    document = body.document(await body.read(request, body.MANAGEMENT_BYTES))
    if not isinstance(document, dict):
        raise _Refused("PARSE_ERROR", "The body must be an object.")
    context = document.get("context", {})
    if not isinstance(context, dict):
        raise _Refused("INVALID_CONTEXT", "The context must be an object.")
    user_id = context.get("targetingKey")
    if user_id is None or user_id == "":
        raise _Refused("TARGETING_KEY_MISSING", "The context must have a targetingKey: the user's id.")
    if not isinstance(user_id, str):
        raise _Refused("INVALID_CONTEXT", "The targetingKey must be a text.")
    usable = {name: value for name, value in context.items() if name != "targetingKey" and _is_usable(value)}
    if len(usable) > ATTRIBUTES:
        raise _Refused("INVALID_CONTEXT", f"A context has at most {ATTRIBUTES} attributes.")
    return user_id, usable


def _is_usable(value: Any) -> bool:
    return isinstance(value, str | int | float) and not (isinstance(value, str) and len(value) > LENGTH)


def _content(found: Evaluated, user_id: str) -> dict[str, Any]:
    evaluation, flag = found.evaluation, found.flag
    metadata: dict[str, str | int | bool] = {"contextId": user_id, "flagSetId": "upshot", "version": str(flag.version)}
    if found.experiment is not None:
        variant = found.experiment.variant_called(evaluation.variant or "")
        metadata |= {"experimentKey": found.experiment.key, "experimentId": found.experiment.id}
        metadata |= {} if variant is None else {"variantId": variant.id}
    return {
        "key": flag.key,
        "value": evaluation.value,
        "reason": str(evaluation.reason),
        "variant": evaluation.variant,
        "metadata": metadata,
    }


def _coded(error: UpshotError) -> tuple[int, str]:
    match error:
        case _Refused():
            return 400, error.error_code
        case NotFound():
            return 404, "FLAG_NOT_FOUND"
        case Invalid():
            return 400, "INVALID_CONTEXT"
        case _ if isinstance(error, _PARSE):
            return 400, "PARSE_ERROR"
        case _:
            return error.status, "GENERAL"
