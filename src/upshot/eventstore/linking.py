"""Links and withdrawals as rows, and the periods that they touch; the same for every event store.

A link or a withdrawal changes what is counted in the hours in which the user has events, under whichever id, and in no others:
those are marked as if the events had been appended again (rollups.py). The rows are committed first and the marks after, from
what is stored by then: whatever is appended later leaves marks of its own, and is counted with the link or without the user. Who
stops in between repeats both.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select

from upshot.events import HOUR, Withdrawal
from upshot.eventstore.forms import Forms
from upshot.eventstore.keys import Keys, integers
from upshot.eventstore.rollups import Fetch

AT_ONCE = 1_000

Row = dict[str, Any]


def of_links(client_key: int, links: Sequence[tuple[str, str]], keys: Keys) -> list[Row]:
    """The rows of (alias, user) pairs: one for each alias, and one for each user, who is the own alias."""
    found: dict[int, Row] = {}
    for alias, user_id in links:
        alias_key, user_key = integers([keys.user(alias), keys.user(user_id)])[:, 0].tolist()
        for key in (alias_key, user_key):
            row = {"client_key": client_key, "alias_key": key, "user_key": user_key, "user_id": user_id}
            found.setdefault(key, row)
    return list(found.values())


def of_withdrawals(client_key: int, withdrawals: Sequence[Withdrawal], keys: Keys) -> list[Row]:
    """The rows of withdrawals, one for each user of an experiment."""
    found: dict[tuple[int, int], Row] = {}
    for experiment, user_id, reason in withdrawals:
        [user_key] = integers([keys.user(user_id)])[:, 0].tolist()
        row = {"client_key": client_key, "experiment": experiment, "user_key": user_key, "reason": reason}
        found.setdefault((experiment, user_key), row)
    return list(found.values())


def touched(client_key: int, users: Collection[int], forms: Forms, fetch: Fetch) -> list[tuple[int, int, int]]:
    """The hours in which users have events, under any of their ids: (client key, type key, start in µs)."""
    types, events = forms.event_types.c, forms.events.c
    owned = [row["type_key"] for row in fetch(select(types.type_key).where(types.client_key == client_key))]
    starts = (events.occurred_at - events.occurred_at % HOUR).label("starts")
    hours = select(events.type_key, starts).distinct().where(events.type_key.in_(owned))
    ids = sorted(_ids(client_key, users, forms, fetch)) if owned else []
    return [
        (client_key, row["type_key"], row["starts"])
        for place in range(0, len(ids), AT_ONCE)
        for row in fetch(hours.where(events.user_key.in_(ids[place : place + AT_ONCE])))
    ]


def _ids(client_key: int, users: Collection[int], forms: Forms, fetch: Fetch) -> set[int]:
    """All ids of the users who have these."""
    aliases, listed = forms.aliases.c, sorted(users)
    own = select(aliases.alias_key, aliases.user_key).where(aliases.client_key == client_key)
    found = set(listed)
    for place in range(0, len(listed), AT_ONCE):
        found |= {row["user_key"] for row in fetch(own.where(aliases.alias_key.in_(listed[place : place + AT_ONCE])))}
    whole = sorted(found)
    for place in range(0, len(whole), AT_ONCE):
        found |= {row["alias_key"] for row in fetch(own.where(aliases.user_key.in_(whole[place : place + AT_ONCE])))}
    return found
