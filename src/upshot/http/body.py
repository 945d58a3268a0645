"""Reading request bodies: bounded in size, and in a JSON that means the same to every reader.

JSON is refused (never repaired) when it is not UTF-8, has a duplicate key, a number that is not finite or beyond 2^53 − 1, a lone
surrogate, a NUL, or nests too deep. Duplicate keys are found cheaply: a decoded document with as many keys as the text has
`":` has none; only where the counts differ is the text read a second time.
"""

import json
import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from upshot.errors import Fault, Invalid, Malformed, TooLarge, UnsupportedMediaType, pointer
from upshot.events import Rejection

MANAGEMENT_BYTES = 64 * 1024
EVENT_BYTES = 10 * 1024 * 1024
NESTING = 20
INTEGER = 2**53 - 1
ALTERNATIVE = "\x00"
"""Begins the names of alternatives in models (wire.py), which no key of a document does: `document` refuses NUL."""

_KEY = re.compile(rb'"[ \t\r\n]*:')
_any = msgspec.json.Decoder()

Model = TypeVar("Model", bound=BaseModel)
Decoded = TypeVar("Decoded")


async def read(request: Request, limit: int, media_types: tuple[str, ...] = ("application/json",)) -> bytes:
    """The whole body.

    Raises:
        UnsupportedMediaType: the content type is another, or the body is compressed.
        TooLarge: the body has more than `limit` bytes, counted as they come.
    """
    check_media_type(request, media_types)
    if int(request.headers.get("content-length", "0")) > limit:
        raise TooLarge(f"The body may have {limit} bytes.")
    chunks, size = [], 0
    async for chunk in stream(request):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body may have {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def stream(request: Request) -> AsyncIterator[bytes]:
    """The body in chunks, as they come."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Malformed("The request ended before its body was complete.") from None


def check_media_type(request: Request, media_types: tuple[str, ...]) -> str:
    """The media type of the body, which must be one of these.

    Raises:
        UnsupportedMediaType: it is not, or the body is compressed.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in media_types:
        raise UnsupportedMediaType(f"The Content-Type must be {' or '.join(media_types)}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    return given


def document(raw: bytes) -> Any:
    """The JSON value of a body, strictly read.

    Raises:
        Malformed: it is not JSON.
        Invalid: it is JSON that we refuse.
    """
    value = decoded(raw, _any)
    keys, fault = _inspect(value)
    if fault:
        raise Invalid.of(fault)
    refuse_duplicate_keys(raw, keys)
    return value


def decoded(raw: bytes, decoder: "msgspec.json.Decoder[Decoded]") -> Decoded:
    """What `decoder` makes of a body.

    Raises:
        Malformed: it is not JSON.
        Invalid: it is JSON of another shape.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise Invalid.of(Fault(pointer_of(place.rstrip("`")), "bad_type", message)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("The body is not valid JSON.") from None
    except RecursionError:
        raise Invalid.of(Fault("", "too_deep", "the document nests too deep")) from None


def refuse_duplicate_keys(raw: bytes, keys: int) -> None:
    """Check that a document with `keys` decoded keys had no key twice in one object.

    Raises:
        Invalid: some object says one key twice.
        Malformed: a part that was not decoded is not JSON.
    """
    if keys_written(raw) == keys:
        return  # every key of the text is counted at least once, so none was lost
    try:
        json.loads(raw, object_pairs_hook=_unique, parse_int=len)  # no conversion, however many digits
    except ValueError:
        raise Malformed("The body is not valid JSON.") from None
    except RecursionError:
        raise Invalid.of(Fault("", "too_deep", "the document nests too deep")) from None


def keys_written(raw: bytes) -> int:
    """How many keys the JSON text has, and perhaps some texts that look like one."""
    return raw.translate(None, b" \t\r\n").count(b'":')


def validated(model: type[Model], value: Any) -> Model:
    """The value as a model.

    Raises:
        Invalid: it does not fit; every fault has its pointer, and no value is repeated.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [
            Fault(pointer(*filter(_was_sent, found["loc"])), str(found["type"]), str(found["msg"]))
            for found in error.errors(include_input=False, include_context=False, include_url=False)
        ]
        raise Invalid.of(*faults[:100]) from None


def _was_sent(part: str | int) -> bool:
    """Whether a part of the place of a fault is one of the document; the alternatives of a model have names, too."""
    return not str(part).startswith(ALTERNATIVE)


def pointer_of(path: str) -> str:
    """The JSON pointer of a msgspec path such as `[0].properties[...]`."""
    return re.sub(r"\[([^\]]*)\]|\.", lambda found: "/" + (found[1] or ""), path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid.of(Fault("", "duplicate_key", "an object must not say one key twice"))
    return found


def _inspect(value: Any) -> tuple[int, Fault | None]:
    """How many keys the document has, and the first thing in it that we refuse; without recursion."""
    keys, waiting = 0, [("", value, 0)]
    while waiting:
        place, part, depth = waiting.pop()
        if fault := _fault_of(part, depth):
            return keys, Fault(place, *fault)
        if isinstance(part, dict):
            keys += len(part)
            if any("\x00" in key for key in part):
                return keys, Fault(place, "control_character", "a key must not hold NUL")
            waiting += [(place + pointer(name), inner, depth + 1) for name, inner in part.items()]
        elif isinstance(part, list):
            waiting += [(place + pointer(index), inner, depth + 1) for index, inner in enumerate(part)]
    return keys, None


def _fault_of(part: Any, depth: int) -> tuple[str, str] | None:
    if depth > NESTING:
        return "too_deep", f"the document may nest {NESTING} levels"
    if isinstance(part, str) and "\x00" in part:
        return "control_character", "must not hold NUL"
    if isinstance(part, float) and not math.isfinite(part):
        return "not_finite", "must be a finite number"
    if isinstance(part, int) and not -INTEGER <= part <= INTEGER:
        return "too_large", "an integer must lie within ±(2^53 − 1)"
    return None


def item(raw: bytes, decoder: msgspec.json.Decoder[Decoded], keys: Callable[[Decoded], int]) -> Decoded | Rejection:
    """One item of several, decoded on its own; a rejection where its shape is wrong or it says a key twice. `keys` are how many
    keys its text must have."""
    try:
        found = decoder.decode(raw)
        refuse_duplicate_keys(raw, keys(found))
    except Invalid as error:
        fault = error.faults[0]
        return Rejection(fault.pointer, fault.code, fault.message)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        return Rejection(pointer_of(place.rstrip("`")), "bad_shape", message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Rejection("", "malformed", "is not valid JSON")
    except RecursionError:
        return Rejection("", "too_deep", "nests too deep")
    return found
