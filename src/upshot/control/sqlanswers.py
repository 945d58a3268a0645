"""Every query about answers that are given again, client first, on every dialect."""

from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update

from upshot.control.accesstables import answers
from upshot.control.answers import Asked, Question
from upshot.control.sqlpart import SqlPart
from upshot.database.inserting import insert_or_hold


class SqlAnswers(SqlPart):
    """What a transaction knows of answers that are given again."""

    async def take(self, client: str, question: Question, now: datetime, until: datetime) -> Asked | None:
        """Take a key, unless somebody has it."""
        taken = {"digest": question.digest, "holder": question.holder, "answer": None, "expires_at": until}
        same = answers.c.client_id == client, answers.c.key == question.key
        await insert_or_hold(self._connection, answers, {"client_id": client, "key": question.key, **taken})
        found = (await self._read(select(answers).where(*same))).one()
        if found.holder == question.holder:
            return None
        if found.expires_at <= now:
            await self._connection.execute(update(answers).where(*same).values(taken))
            return None
        return Asked(found.digest, found.answer)

    async def keep(self, client: str, question: Question, answer: str, until: datetime) -> bool:
        """Store the answer of whoever took the key."""
        kept = update(answers).where(*_own(client, question)).values(answer=answer, expires_at=until)
        return bool((await self._connection.execute(kept)).rowcount)

    async def give_back(self, client: str, question: Question) -> None:
        """Let a key be free."""
        await self._connection.execute(delete(answers).where(*_own(client, question), answers.c.answer.is_(None)))


def _own(client: str, question: Question) -> tuple[ColumnElement[bool], ...]:
    columns = answers.c
    return columns.client_id == client, columns.key == question.key, columns.holder == question.holder
