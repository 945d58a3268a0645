"""What the parts of a transaction have in common: the connection, and that who may write locks what it reads to change it."""

from typing import Any

from sqlalchemy import CursorResult, Executable, Select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from upshot.errors import Conflict


class SqlPart:
    """A part of a transaction on one connection."""

    def __init__(self, connection: AsyncConnection, *, writing: bool = False) -> None:
        self._connection = connection
        self._writing = writing

    async def _read(self, query: Select[Any]) -> CursorResult[Any]:
        """The rows, locked until the end of a transaction that may write: of two changes the second sees the first."""
        found: CursorResult[Any] = await self._connection.execute(query.with_for_update() if self._writing else query)
        return found

    async def _unique(self, statement: Executable, refusal: str) -> Any:
        """What a statement does that may meet another row with its key: then Conflict, in these words."""
        try:
            return await self._connection.execute(statement)
        except IntegrityError:
            raise Conflict(refusal) from None
