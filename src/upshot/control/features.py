"""What a transaction knows of layers, holdouts and flags: the contract, which `sqlfeatures.py` serves."""

from collections.abc import Sequence
from typing import Protocol

from upshot.flags import Flag
from upshot.holdouts import Holdout
from upshot.layers import Layer


class ReadFeatures(Protocol):
    """What can be read."""

    async def layers(self, client: str) -> list[Layer]:
        """All layers, by key."""
        ...

    async def layer(self, client: str, key: str) -> Layer | None:
        """The layer with that key."""
        ...

    async def holdouts(self, client: str) -> list[Holdout]:
        """All holdouts, by key, those that ended, too. A transaction that may write keeps others from changing them until its
        end."""
        ...

    async def holdout(self, client: str, key: str) -> Holdout | None:
        """The holdout with that key."""
        ...

    async def flags(self, client: str, *, after: str = "", limit: int | None = None) -> list[Flag]:
        """Flags, by key, from behind the key `after`; all of them without a limit."""
        ...

    async def flag(self, client: str, key: str) -> Flag | None:
        """The flag with that key."""
        ...

    async def driven_by(self, client: str, experiment_id: str) -> Sequence[str]:
        """The keys of the flags that an experiment drives."""
        ...

    async def revision(self, client: str) -> int:
        """How often what decides (experiments, layers, holdouts, flags) was changed; 0 at first."""
        ...


class Features(ReadFeatures, Protocol):
    """What can be changed; each change makes a new revision."""

    async def touch(self, client: str) -> None:
        """Make a new revision."""
        ...

    async def add_layer(self, client: str, layer: Layer) -> None:
        """Store a new layer. Raises Conflict when the client has that key."""
        ...

    async def delete_layer(self, client: str, layer: Layer) -> None:
        """Remove a layer."""
        ...

    async def add_holdout(self, client: str, holdout: Holdout) -> None:
        """Store a new holdout. Raises Conflict when the client has that key."""
        ...

    async def save_holdout(self, client: str, holdout: Holdout) -> None:
        """Store a changed holdout."""
        ...

    async def add_flag(self, client: str, flag: Flag) -> None:
        """Store a new flag. Raises Conflict when the client has that key."""
        ...

    async def save_flag(self, client: str, flag: Flag) -> None:
        """Store a changed flag."""
        ...

    async def delete_flag(self, client: str, flag: Flag) -> None:
        """Remove a flag."""
        ...
