"""The errors of the product, as one tree.

    UpshotError                500  internal
    ├── Malformed              400  malformed             the request cannot be read at all
    ├── Unauthenticated        401  unauthenticated       no valid credential
    │   ├── SecondFactorNeeded      second_factor_needed  the password is right; a code is to be sent along
    │   └── SecondFactorMissing     second_factor_missing the same; a second factor is to be set up first
    ├── Forbidden              403  forbidden             a valid credential that is not good for this
    ├── NotFound               404  not_found             absent, or another client's: the two look the same
    ├── Conflict               409  conflict              the present state forbids it; the detail names what is allowed
    │   └── UnderWay                under_way             the same request is being done
    ├── TooLarge               413  too_large             over a published limit
    ├── UnsupportedMediaType   415  unsupported_media_type
    ├── Invalid                422  invalid               readable, but breaks a rule; every fault has a JSON pointer
    ├── QuotaExceeded          429  quota_exceeded        asked too often; again after `retry_after` seconds
    ├── Unavailable            503  unavailable           try again after `retry_after` seconds
    ├── TimedOut               504  timed_out             the work was rolled back
    └── ConfigurationError     500  configuration         the process cannot start like this

The HTTP edge renders each as RFC 9457 problem details, the command line as one line and an exit code. A message never
repeats the value that was sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input: where (JSON pointer), which rule (stable code), and in words."""

    pointer: str
    code: str
    message: str

    def under(self, prefix: str) -> "Fault":
        """The same fault, seen from a document that holds this one at `prefix`."""
        return Fault(prefix + self.pointer, self.code, self.message)


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a place in a document, from the names and numbers on the way; empty for the whole of it."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class UpshotError(Exception):
    """Something went wrong in the product itself."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, *, faults: Sequence[Fault] = (), retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after = retry_after


class Malformed(UpshotError):
    """The request cannot be read."""

    status = 400
    code = "malformed"
    title = "The request cannot be read"


class Unauthenticated(UpshotError):
    """There is no valid credential."""

    status = 401
    code = "unauthenticated"
    title = "A valid token is needed"


class SecondFactorNeeded(Unauthenticated):
    """The password is right, and a code that is good is to be sent along."""

    code = "second_factor_needed"
    title = "A second factor is needed"


class SecondFactorMissing(Unauthenticated):
    """The password is right, and a second factor, which is required, is not set up yet."""

    code = "second_factor_missing"
    title = "A second factor must be set up"


class Forbidden(UpshotError):
    """The credential is valid and not good for this; the detail names what is missing."""

    status = 403
    code = "forbidden"
    title = "This credential may not do that"


class NotFound(UpshotError):
    """It does not exist for this client."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(UpshotError):
    """The present state forbids the request."""

    status = 409
    code = "conflict"
    title = "The present state does not allow this"


class UnderWay(Conflict):
    """The same request is being done; the client should ask again for what comes of it."""

    code = "under_way"
    title = "This is under way"


class TooLarge(UpshotError):
    """The request is larger than a published limit."""

    status = 413
    code = "too_large"
    title = "The request is too large"


class UnsupportedMediaType(UpshotError):
    """The body is of a kind that this path does not read."""

    status = 415
    code = "unsupported_media_type"
    title = "This media type is not read here"


class Invalid(UpshotError):
    """The request is readable and breaks a rule."""

    status = 422
    code = "invalid"
    title = "The request is not valid"

    @classmethod
    def of(cls, *faults: Fault) -> "Invalid":
        """An error that lists its faults."""
        count = len(faults)
        return cls(f"{count} field{'s need' if count > 1 else ' needs'} correction.", faults=faults)


class QuotaExceeded(UpshotError):
    """It was asked more often than is allowed, and not done.

    `retry_after`: seconds until the same would be allowed. `headers`: what the answer says of the quota, as an ASGI server
    takes them.
    """

    status = 429
    code = "quota_exceeded"
    title = "A quota is used up"
    retry_after: float

    def __init__(self, detail: str, *, retry_after: float, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.headers = tuple(headers)


class Unavailable(UpshotError):
    """It cannot be done now; the client should try again."""

    status = 503
    code = "unavailable"
    title = "Try again later"


class TimedOut(UpshotError):
    """It took longer than allowed and was rolled back."""

    status = 504
    code = "timed_out"
    title = "It took too long"


class ConfigurationError(UpshotError):
    """The process cannot start with these settings."""

    code = "configuration"
    title = "The configuration is not usable"
