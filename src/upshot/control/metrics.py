"""What a transaction knows of metric definitions: the contract, which `sqlmetrics.py` serves."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from upshot.control.lists import Definition, DefinitionPage
from upshot.metrics import Metric


class ReadMetrics(Protocol):
    """What can be read."""

    async def definitions(self, client: str, keys: Collection[str] | None = None) -> dict[str, Metric]:
        """What these keys, or all that the client has, mean now: the newest version of each that is not archived."""
        ...

    async def definition(self, client: str, key: str, version: int | None = None) -> Definition | None:
        """What a key means now, or that version of it, archived or not."""
        ...

    async def page(
        self, client: str, *, search: str | None = None, after: int | None = None, limit: int = 50
    ) -> DefinitionPage:
        """A page of what keys mean now, the last changed first, from below number `after`."""
        ...


class Metrics(ReadMetrics, Protocol):
    """What can be changed."""

    async def add(self, client: str, metric: Metric, now: datetime) -> Definition:
        """Store the definition of a key that has none; returns it with its version, which follows that of an archived one.

        Raises Conflict when the key has a definition.
        """
        ...

    async def save(self, client: str, metric: Metric, now: datetime) -> Definition:
        """Store the version that follows the one which the metric was made from; those before stay. Raises Conflict when it
        is there already."""
        ...

    async def archive(self, client: str, key: str, now: datetime) -> bool:
        """Let a key mean nothing from now on; False when it means nothing already."""
        ...
