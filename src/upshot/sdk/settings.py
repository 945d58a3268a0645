"""What a client can be told at its start, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Generic, Literal, TypeVar

from upshot.errors import ConfigurationError
from upshot.sdk.reports import OnError

Store = TypeVar("Store")


@dataclass(frozen=True, slots=True)
class Settings(Generic[Store]):
    """The settings of a client; `ExperimentClient` says what each means.

    Raises:
        ConfigurationError: one cannot be.
    """

    url: str
    key: str = field(repr=False)
    poll_seconds: float
    stream: bool
    snapshot_file: str | PathLike[str] | None
    sticky: Store | Literal["server"] | None
    sticky_timeout: float
    exposures: bool
    on_error: OnError | None
    timeout: float
    queue_size: int

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigurationError("The url is that of an Upshot server: http://… or https://….")
        if not self.key or not self.key.isascii() or not self.key.isprintable():
            raise ConfigurationError("The key is an API key or a token of Upshot.")
        if not min(self.poll_seconds, self.timeout, self.sticky_timeout) > 0 or self.queue_size < 1:
            raise ConfigurationError("poll_seconds, timeout, sticky_timeout and queue_size are more than 0.")

    @property
    def store(self) -> Store | None:
        """The application's own store of variants, if there is one."""
        return None if self.sticky is None or isinstance(self.sticky, str) else self.sticky

    @property
    def asks_server(self) -> bool:
        """Whether the server is asked for what it has stored."""
        return self.sticky == "server"

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}", "User-Agent": "upshot-python"}

    @property
    def address(self) -> str:
        """The URL before a path."""
        return self.url.rstrip("/")
