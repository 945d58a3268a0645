"""What is particular to events in a server's database."""

import psycopg
import pytest
from tests.contract.databases import Fresh, fresh

from upshot import eventstore
from upshot.errors import Unavailable
from upshot.events import Event
from upshot.eventstore import Verdict

__all__ = ["fresh"]


@pytest.mark.slow
async def test_a_right_that_was_taken_is_an_outage_not_a_fault_of_the_events(fresh: Fresh) -> None:
    """Whoever appends is told to come again, and the same events are stored when the database is mended."""
    url = fresh("postgresql")
    store = await eventstore.connect(url)
    event = Event("id", "u", "buy", 0, 0, 1.0, "{}", None, 0, 7)
    await store.append("one", [event])

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE repeats RENAME TO elsewhere")
        with pytest.raises(Unavailable):
            await store.append("one", [event])
        connection.execute("ALTER TABLE elsewhere RENAME TO repeats")

    assert await store.append("one", [event, event._replace(event_id="new")]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]
    await store.close()
