"""The commonest values of every attribute in the contexts of an experiment."""

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Connection, func

from upshot.eventstore import sql

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def values(connection: Connection, question: sql.Question, most: int) -> dict[str, list[str]]:
    """For each attribute its `most` commonest values as text, by users, then by value.

    Equal contexts are counted by the database: there are far fewer of them than users.
    """
    query = sql.contexts(question)
    counted = query.add_columns(func.count()).group_by(*query.selected_columns)
    users: dict[str, Counter[str]] = {}
    for context, number in connection.execute(counted):
        for name, value in _decode(context).items():
            if value is not None:
                users.setdefault(name, Counter())[_text(value)] += number
    ranked = {name: sorted(found.items(), key=lambda item: (-item[1], item[0])) for name, found in users.items()}
    return {name: [value for value, _ in found[:most]] for name, found in sorted(ranked.items())}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
