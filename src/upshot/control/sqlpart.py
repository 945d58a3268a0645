"""What the parts of a transaction have in common: the connection, and that who may write locks what it reads to change it."""

from typing import Any

from sqlalchemy import CursorResult, Select
from sqlalchemy.ext.asyncio import AsyncConnection


class SqlPart:
    """A part of a transaction on one connection."""

    def __init__(self, connection: AsyncConnection, *, writing: bool) -> None:
        self._connection = connection
        self._writing = writing

    async def _read(self, query: Select[Any]) -> CursorResult[Any]:
        """The rows, locked until the end of a transaction that may write: of two changes the second sees the first."""
        found: CursorResult[Any] = await self._connection.execute(query.with_for_update() if self._writing else query)
        return found
