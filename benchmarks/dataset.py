"""Many events at once: written by DuckDB's own SQL into the event store's file, with the product's tables.

User keys are hashes of the user's number, and so are the identities; the index of identities is not filled. Event types are
equally frequent; events come in the order of time, evenly over `DAYS`; users enter during the first half of it, so that some
events lie before their user's exposure and do not count.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from upshot import eventstore
from upshot.events import micros

DAYS = 28
BEGIN = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
TYPES = tuple(f"type-{number}" for number in range(10))

_CONTEXT = """'{"country":"' || ['DE','FR','IT','US','JP'][1 + (hash(u + 17) % 5)::INT]
    || '","device":"' || ['mobile','desktop','tablet'][1 + (hash(u + 29) % 3)::INT] || '"}'"""


def url(folder: Path) -> str:
    """The event store of a data folder, as the settings name it."""
    return f"duckdb:///{folder.absolute() / 'events.db'}"


def create(folder: Path, client: str) -> None:
    """An empty store that knows one client and its event types."""
    asyncio.run(_open_and_close(url(folder)))
    with duckdb.connect(folder / "events.db") as connection:
        connection.execute("INSERT INTO clients VALUES (1, $1)", [client])
        connection.executemany("INSERT INTO event_types VALUES ($1, 1, $2)", [[k, n] for k, n in enumerate(TYPES, 1)])


def add_events(folder: Path, first: int, count: int, users: int) -> None:
    """Add events with the sequence numbers from `first`."""
    step = DAYS * 86_400_000_000 // count
    with duckdb.connect(folder / "events.db") as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"""
            INSERT INTO events (seq, type_key, user_key, occurred_at, received_at, value, flags, id_high, id_low, fingerprint,
                                user_id, event_id, experiment_id, properties)
            SELECT i, 1 + (hash(i) % {len(TYPES)})::INTEGER, (hash(u) // 2)::BIGINT, happened, happened + 40000, value, 0,
                   (hash(i + 1) // 2)::BIGINT, (hash(i + 2) // 2)::BIGINT, (hash(i + 3) % 4294967296)::BIGINT,
                   'user-' || u, 'event-' || i, NULL, '{{"value":' || value || '}}'
            FROM (SELECT i, (hash(i + 4) % {users})::BIGINT AS u, {micros(BEGIN)} + (i - {first}) * {step} AS happened,
                         ((hash(i + 5) % 10000) / 100)::DOUBLE AS value FROM range({first}, {first + count}) AS t(i))
            """)  # noqa: S608 - our own numbers


def add_exposures(folder: Path, first: int, users: int, experiment: int) -> None:
    """Expose every user once, to one of three variants."""
    spread = DAYS // 2 * 86_400_000_000
    with duckdb.connect(folder / "events.db") as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"""
            INSERT INTO exposures (seq, client_key, experiment, user_key, variant, phase, exposed_at, id_high, id_low, user_id,
                                   context)
            SELECT {first} + u, 1, {experiment}, (hash(u) // 2)::BIGINT, (hash(u + 7) % 3)::SMALLINT, 1,
                   {micros(BEGIN)} + (hash(u + 11) % {spread})::BIGINT, -(hash(u + 1) // 2)::BIGINT, (hash(u + 2) // 2)::BIGINT,
                   'user-' || u, {_CONTEXT}
            FROM range(0, {users}) AS t(u)
            """)  # noqa: S608 - our own numbers


async def _open_and_close(place: str) -> None:
    await (await eventstore.connect(place)).close()
