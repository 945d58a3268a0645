"""Store assignments that were made without the store: while it was away, or elsewhere. Those of linked ids are the user's."""

from collections.abc import Sequence
from dataclasses import replace

from upshot.assignment import Assignment
from upshot.control import ControlStore


async def assign(
    control: ControlStore, client: str, assignments: Sequence[Assignment]
) -> list[tuple[Assignment, bool]]:
    """Store each, or nothing where the user has one; returns the stored one and whether it is new.

    Raises:
        Unavailable: too many writes are waiting.
    """
    stored = await control.assign(client, assignments)
    places = [place for place, (kept, _) in enumerate(stored) if kept.user_id != assignments[place].user_id]
    if places:
        moved = [replace(assignments[place], user_id=stored[place][0].user_id) for place in places]
        for place, found in zip(places, await control.assign(client, moved), strict=True):
            stored[place] = found
    return stored
