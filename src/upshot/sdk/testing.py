"""A client for tests of applications: what everybody gets is said beforehand, and what was recorded can be looked at.

    client = FakeClient(variants={"checkout": "blue", ("checkout", "user-7"): "control"}, flags={"banner": True})
    page(client)
    assert client.events[0].event_type == "purchase"

It needs no server, begins no thread, and satisfies the same protocols as the clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from upshot.flags import Reason
from upshot.sdk import contract
from upshot.sdk.contract import ERROR, NOTHING, Choice, Evaluation, Stats, T


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """An event that the application recorded."""

    user_id: str
    event_type: str
    properties: Mapping[str, Any]
    timestamp: datetime | None
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """That a user was shown a variant."""

    key: str
    user_id: str
    variant: str


@dataclass
class FakeClient:
    """A client whose answers are fixed.

    Args:
        variants: the variant of an experiment (its key) or of one user in it (key and user); None for no variant.
        flags: the value of a flag (its key) or for one user (key and user).
        configs: the configuration of a variant (key and variant).
        control: the name by which a variant is the control.
    """

    variants: Mapping[str | tuple[str, str], str | None] = field(default_factory=dict)
    flags: Mapping[str | tuple[str, str], Any] = field(default_factory=dict)
    configs: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    control: str = "control"
    events: list[TrackedEvent] = field(default_factory=list)
    """What was tracked, in order."""
    exposures: list[Exposure] = field(default_factory=list)
    """What was exposed, each once."""

    def variant(self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True) -> Choice:  # noqa: ARG002
        """The variant that was said; `unknown_experiment` where nothing was."""
        name = self.variants.get((key, user_id), self.variants.get(key))
        if name is None:
            known = key in self.variants or (key, user_id) in self.variants
            return Choice(key, None, None, "not_targeted" if known else contract.UNKNOWN_EXPERIMENT, is_control=False)
        if expose:
            self.expose(key, user_id, name)
        return Choice(key, name, self.configs.get((key, name)), "assigned", is_control=name == self.control)

    def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """The variants of every experiment that was named."""
        keys = {name if isinstance(name, str) else name[0] for name in self.variants}
        return {key: self.variant(key, user_id, context, expose=False) for key in sorted(keys)}

    def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The value that was said; `default` where none of its type was."""
        return self.flag_details(key, user_id, default, context, expose=expose).value

    def flag_details(
        self,
        key: str,
        user_id: str,
        default: T,
        context: Mapping[str, Any] = NOTHING,  # noqa: ARG002
        *,
        expose: bool = True,  # noqa: ARG002
    ) -> Evaluation[T]:
        """The same, with the reason."""
        if (key, user_id) not in self.flags and key not in self.flags:
            return Evaluation(key, default, ERROR, error_code=contract.FLAG_NOT_FOUND)
        value = self.flags.get((key, user_id), self.flags.get(key))
        if type(value) is not type(default):
            return Evaluation(key, default, ERROR, error_code=contract.TYPE_MISMATCH)
        return Evaluation(key, value, str(Reason.STATIC))

    def track(
        self,
        user_id: str,
        event_type: str,
        properties: Mapping[str, Any] = NOTHING,
        *,
        timestamp: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Keep the event in `events`."""
        self.events.append(TrackedEvent(user_id, event_type, dict(properties), timestamp, event_id))

    def expose(self, key: str, user_id: str, variant: str, context: Mapping[str, Any] = NOTHING) -> None:  # noqa: ARG002
        """Keep the exposure in `exposures`."""
        exposure = Exposure(key, user_id, variant)
        if exposure not in self.exposures:
            self.exposures.append(exposure)

    def ready(self, timeout: float = 5.0) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def flush(self, timeout: float = 5.0) -> bool:  # noqa: ARG002
        """There is nothing to wait for."""
        return True

    def close(self, timeout: float = 2.0) -> None:
        """There is nothing to end."""

    @property
    def stats(self) -> Stats:
        """As if all was sent."""
        sent = len(self.events) + len(self.exposures)
        return Stats(0, sent, 0, 0, 0, 0, None, "fake", 0.0)


class AsyncFakeClient:
    """The same for code that awaits; `fake` holds what was said and what was recorded."""

    def __init__(self, fake: FakeClient | None = None) -> None:
        self.fake = fake or FakeClient()

    async def variant(
        self, key: str, user_id: str, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Choice:
        """The variant that was said."""
        return self.fake.variant(key, user_id, context, expose=expose)

    async def choices(self, user_id: str, context: Mapping[str, Any] = NOTHING) -> dict[str, Choice]:
        """The variants of every experiment that was named."""
        return self.fake.choices(user_id, context)

    async def flag(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> T:
        """The value that was said."""
        return self.fake.flag(key, user_id, default, context, expose=expose)

    async def flag_details(
        self, key: str, user_id: str, default: T, context: Mapping[str, Any] = NOTHING, *, expose: bool = True
    ) -> Evaluation[T]:
        """The same, with the reason."""
        return self.fake.flag_details(key, user_id, default, context, expose=expose)

    def track(
        self,
        user_id: str,
        event_type: str,
        properties: Mapping[str, Any] = NOTHING,
        *,
        timestamp: datetime | None = None,
        event_id: str | None = None,
    ) -> None:
        """Keep the event in `fake.events`."""
        self.fake.track(user_id, event_type, properties, timestamp=timestamp, event_id=event_id)

    def expose(self, key: str, user_id: str, variant: str, context: Mapping[str, Any] = NOTHING) -> None:
        """Keep the exposure in `fake.exposures`."""
        self.fake.expose(key, user_id, variant, context)

    async def ready(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """Always."""
        return self.fake.ready(timeout)

    async def flush(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """There is nothing to wait for."""
        return self.fake.flush(timeout)

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109
        """There is nothing to end."""
        self.fake.close(timeout)

    @property
    def stats(self) -> Stats:
        """As if all was sent."""
        return self.fake.stats
