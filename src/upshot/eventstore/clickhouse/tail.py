"""The newest events in ClickHouse, in the order in which the server stored them.

Rows lie by type and user, so that nothing but an index of skipped granules knows which parts are new: stretches of time that end
now are tried until there is enough. That is done without FINAL, which takes four times as long; the few rows that are found are
looked up with it, so that what a retry stored a second time is told once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from upshot.diagnosis import Arrival
from upshot.eventstore import Place, StoredEvent
from upshot.eventstore.arrivals import LOOKED_AT
from upshot.eventstore.clickhouse import dialect
from upshot.eventstore.clickhouse.connection import Connection

LATELY = (60, 3_600, 86_400)  # seconds

_KEY = ("type_key", "user_key", "id_high", "id_low")
_NEWEST = "seq, received_at DESC, id_high DESC"  # `seq` is the clock, negated
_OLDEST = "seq DESC, received_at, id_high"

Row = Sequence[Any]


async def recent(
    connection: Connection, types: Mapping[str, int], limit: int, after: Place | None
) -> list[StoredEvent]:
    """The newest events, the newest one last, or the first ones after a place; `types` are the keys of the client's types."""
    if not types:
        return []
    names = {key: name for name, key in types.items()}
    columns = ("seq", *_KEY)
    if after is None:
        return await _looked_up(connection, names, await _newest(connection, names, columns, limit))
    while True:
        following = f"seq <= {-after[0]} AND (-seq, received_at, id_high) > {after}"
        found = await _found(connection, names, ("received_at", *columns), following, _OLDEST, limit)
        told = await _looked_up(connection, names, [row[1:] for row in found])
        if told or len(found) < limit:
            return told
        received_at, seq, _, _, id_high, _ = found[-1]  # nothing but repetitions
        after = (-seq, received_at, id_high)


async def arrivals(connection: Connection, types: Mapping[str, int]) -> list[Arrival]:
    """When the newest events happened and came, the newest first; one that a retry stored twice may be among them twice."""
    if not types:
        return []
    columns = Arrival._fields
    return [Arrival(*row) for row in await _newest(connection, types.values(), columns, LOOKED_AT)]


async def _newest(connection: Connection, types: Any, columns: Sequence[str], limit: int) -> Sequence[Row]:
    for seconds in LATELY:
        lately = f"seq < {seconds * 10**9} - toUnixTimestamp64Nano(now64(9))"
        found = await _found(connection, types, columns, lately, _NEWEST, limit)
        if len(found) == limit:
            return found
    return await _found(connection, types, columns, "1", _NEWEST, limit)


async def _found(
    connection: Connection, types: Any, columns: Sequence[str], condition: str, order: str, limit: int
) -> Sequence[Row]:
    own = ", ".join(map(str, sorted(types)))
    statement = f"""
        SELECT {", ".join(columns)} FROM events WHERE type_key IN ({own}) AND {condition}
        ORDER BY {order} LIMIT {limit}"""  # noqa: S608 - our own names, and numbers
    return await connection.query(statement, dialect.LOOKING_UP)


async def _looked_up(connection: Connection, names: Mapping[int, str], found: Sequence[Row]) -> list[StoredEvent]:
    """Of rows (seq and key) those that count, whole, in the order of their places."""
    if not found:
        return []
    keys = ", ".join(str(tuple(row[1:])) for row in found)
    statement = f"""
        SELECT seq, type_key, user_key, id_high, id_low, received_at, event_id, user_id, occurred_at, experiment_id, properties
        FROM events WHERE ({", ".join(_KEY)}) IN ({keys})"""  # noqa: S608 - our own names, and numbers
    wanted = {tuple(row) for row in found}
    told = [
        StoredEvent(
            (-seq, received_at, id_high), event_id, user_id, names[type_key], occurred_at, received_at, experiment_id, properties
        )
        for seq, type_key, user_key, id_high, id_low, received_at, event_id, user_id, occurred_at, experiment_id, properties
        in await connection.query(statement)
        if (seq, type_key, user_key, id_high, id_low) in wanted
    ]  # fmt: skip
    return sorted(told)
