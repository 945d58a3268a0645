"""What an application sees: choices, evaluations, counts, and the interface that clients and their fakes share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""The context, or the properties, of which nothing is known."""

NO_CONFIGURATION = "no_configuration"
UNKNOWN_EXPERIMENT = "unknown_experiment"
INVALID_USER_ID = "invalid_user_id"
INVALID_CONTEXT = "invalid_context"

ERROR = "ERROR"
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
TYPE_MISMATCH = "TYPE_MISMATCH"
NOT_READY = "PROVIDER_NOT_READY"
PARSE_ERROR = "PARSE_ERROR"
INVALID = "INVALID_CONTEXT"
KEY_MISSING = "TARGETING_KEY_MISSING"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user gets in an experiment: a variant, or None with the reason.

    `reason`: `assigned` or `overridden` with a variant; else `not_running`, `not_targeted`, `not_in_traffic`, `held_out`,
    `unknown_experiment`, `no_configuration`, `invalid_user_id` or `invalid_context`. `config` is the variant's, shared by all who
    get it: not to be changed. Without a variant show what you would show without the experiment; `is_control` is then false.
    """

    key: str
    variant: str | None
    config: Any
    reason: str
    is_control: bool

    def or_else(self, name: str) -> str:
        """The variant's name, or `name` without one."""
        return name if self.variant is None else self.variant


@dataclass(frozen=True, slots=True)
class Evaluation(Generic[T]):
    """The value of a flag for a user, and why.

    `reason` is one of OpenFeature's: `STATIC`, `DEFAULT`, `TARGETING_MATCH`, `SPLIT`, `DISABLED`; or `ERROR`, with the default of
    the call and an `error_code`: `FLAG_NOT_FOUND`, `TYPE_MISMATCH`, `PROVIDER_NOT_READY` (no configuration), `PARSE_ERROR` (none
    that can be read), `TARGETING_KEY_MISSING` (an empty user id, where the value depends on the user), `INVALID_CONTEXT`.
    `experiment` is the key of the experiment whose variant gave the value.
    """

    key: str
    value: T
    reason: str
    variant: str | None = None
    experiment: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of exposures and events since the start of the process, and how old the configuration is.

    queued        wait, or are on their way
    sent          taken by the server
    dropped       not taken in: the queue was full, or the client closed
    refused       the server will not have them, or they could not be sent at all (a bad user id, say)
    failed        given up after five tries, or left over at the end
    conflicts     exposures of users to whom the server had given another variant
    last_error    the code of the last thing that went wrong
    configuration the ETag of the configuration, None without one
    age           seconds since the server confirmed it
    """

    queued: int
    sent: int
    dropped: int
    refused: int
    failed: int
    conflicts: int
    last_error: str | None
    configuration: str | None
    age: float | None


class Recording(Protocol):
    """What never waits, and so is the same for threads and for event loops: to say what was shown and what users did."""

    def track(
        self,
        user_id: str,
        event_type: str,
        properties: Mapping[str, Any] = NOTHING,
        *,
        timestamp: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Record that the user did something. Never raises, never waits."""
        ...

    def expose(self, key: str, user_id: str, variant: str, context: Mapping[str, Any] = NOTHING) -> None:
        """Record that the user is shown the variant. Never raises, never waits."""
        ...

    @property
    def stats(self) -> Stats:
        """What became of exposures and events."""
        ...


class Experiments(Recording, Protocol):
    """What an application needs of a client: `ExperimentClient` is one, and `upshot.sdk.testing.FakeClient`."""

    def variant(self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True) -> Choice:
        """What the user gets in the experiment. Never raises."""
        ...

    def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """What the user gets in every running experiment, by its key; no exposure."""
        ...

    def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The flag's value for the user, of the type of `default`, which is given where there is none. Never raises."""
        ...

    def flag_details(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Evaluation[T]:
        """The same, with the reason."""
        ...

    def ready(self, timeout: float = 5.0) -> bool:
        """Wait until the server was asked, at most so many seconds; whether there is a configuration."""
        ...

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all is sent, at most so many seconds; whether it is."""
        ...

    def close(self, timeout: float = 2.0) -> None:
        """Flush, and end."""
        ...


class AsyncExperiments(Recording, Protocol):
    """The same for `AsyncExperimentClient` and `upshot.sdk.testing.AsyncFakeClient`."""

    async def variant(
        self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Choice:
        """What the user gets in the experiment. Never raises."""
        ...

    async def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """What the user gets in every running experiment, by its key; no exposure."""
        ...

    async def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The flag's value for the user, of the type of `default`, which is given where there is none. Never raises."""
        ...

    async def flag_details(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Evaluation[T]:
        """The same, with the reason."""
        ...

    async def ready(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109 - the caller's patience, not a cancellation
        """Wait until the server was asked, at most so many seconds; whether there is a configuration."""
        ...

    async def flush(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109 - the caller's patience, not a cancellation
        """Wait until all is sent, at most so many seconds; whether it is."""
        ...

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109
        """Flush, and end."""
        ...
