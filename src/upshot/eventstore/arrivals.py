"""The newest events, and how exposures and events come together: what a diagnosis asks of any SQL engine."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, func, select, tuple_

from upshot.aggregation import AggregationPlan
from upshot.diagnosis import Arrival, Joined
from upshot.eventstore import Place, StoredEvent, Volume, sql
from upshot.eventstore.forms import Forms
from upshot.eventstore.rollups import Fetch, Rows
from upshot.eventstore.sql import Question
from upshot.metrics import Kind, Metric

LOOKED_AT = 2_000
"""Of the newest events so many say how far off clocks are."""

_FIELDS = ("event_id", "user_id", "occurred_at", "received_at", "experiment_id", "properties")
_PLACES = ("first", "second", "third")


def plan_of(experiment: int, event_types: Sequence[str], start: int, end: int) -> AggregationPlan:
    """The plan that a diagnosis is asked by: of events of these types in a window."""
    return AggregationPlan(experiment, (Metric("awaited", Kind.COUNT, tuple(event_types)),), start, end)


def read_arrivals(forms: Forms, types: Mapping[str, int], fetch: Fetch) -> list[Arrival]:
    """When the newest events happened and came, the newest first; `types` are the keys of the client's event types."""
    if not types:
        return []
    events = forms.events.c
    query = select(events.occurred_at, events.received_at, events.flags).where(forms.owned(types.values()))
    return [Arrival(**row) for row in _page(query, forms, fetch, LOOKED_AT, newest=True)]


def read_volumes(
    forms: Forms, types: Mapping[str, int], fetch: Fetch, start: int, end: int, width: int
) -> list[Volume]:
    """How many events of each type happened in each period that begins `width` after the one before."""
    if not types:
        return []
    names = {key: name for name, key in types.items()}
    events = forms.events.c
    starts = (events.occurred_at - (events.occurred_at - start) % width).label("starts")
    happened = (
        select(events.type_key, starts)
        .where(events.type_key.in_(sorted(names)), events.occurred_at >= start, events.occurred_at < end)
        .subquery("happened")
    )
    columns = happened.c.type_key, happened.c.starts
    rows = fetch(select(*columns, func.count().label("number")).group_by(*columns))
    return sorted(Volume(names[row["type_key"]], int(row["starts"]), int(row["number"])) for row in rows)


def read_joined(question: Question, newest: Sequence[Arrival], fetch: Fetch) -> Joined:
    """Ask the questions of a diagnosis through `fetch`, beside what is known of the newest events."""
    question = sql.identified(question, fetch)
    [exposed] = fetch(sql.exposed_last(question))
    [found] = fetch(sql.joined(question)) if question.needed else [{}]
    return Joined(
        exposed_users=int(exposed["users"]),
        last_exposure=None if not exposed["users"] else int(exposed["last"]),
        joined_users=int(found.get("joined") or 0),
        events_before=int(found.get("before") or 0),
        users_before=int(found.get("users_before") or 0),
        unknown_events=int(found.get("unknown") or 0),
        unknown_users=int(found.get("users_unknown") or 0),
        arrivals=newest,
    )


def read_recent(
    forms: Forms, types: Mapping[str, int], fetch: Fetch, limit: int, after: Place | None
) -> list[StoredEvent]:
    """The newest events, the newest one last, or the first ones after a place; `types` as above."""
    if not types:
        return []
    names = {key: name for name, key in types.items()}
    events, order = forms.events.c, forms.arrival
    columns = [events.type_key, *(events[name] for name in _FIELDS)]
    columns += [part.label(place) for part, place in zip(order, _PLACES, strict=False)]
    query = select(*columns).where(forms.owned(names))
    if after is None:
        rows = _page(query, forms, fetch, limit, newest=True)[::-1]
    else:
        bounds = after[: len(order)]
        # Of rows of columns not every engine makes a range of an index; of the first column it does.
        following = and_(order[0] >= bounds[0], tuple_(*order) > bounds) if len(order) > 1 else order[0] > bounds[0]
        rows = _page(query.where(following), forms, fetch, limit, newest=False)
    return [_stored(row, names) for row in rows]


def _page(query: Select[Any], forms: Forms, fetch: Fetch, limit: int, *, newest: bool) -> Rows:
    """The first rows of a query by their places, or the last ones, the last one first.

    Where several columns make the order, an index knows the first one: that says how far to read, so that no more is sorted than
    a page and what came at the same moment.
    """
    order = [part.desc() for part in forms.arrival] if newest else list(forms.arrival)
    first = forms.arrival[0]
    if len(order) > 1:
        last = query.with_only_columns(first.label("last")).order_by(order[0]).limit(1).offset(limit - 1)
        for row in fetch(last):
            query = query.where(first >= row["last"] if newest else first <= row["last"])
    return fetch(query.order_by(*order).limit(limit))


def _stored(row: Mapping[str, Any], names: Mapping[int, str]) -> StoredEvent:
    first, second, third = (int(row.get(place, 0)) for place in _PLACES)
    return StoredEvent(
        (first, second, third), row["event_id"], row["user_id"], names[row["type_key"]], row["occurred_at"],
        row["received_at"], row["experiment_id"], row["properties"],
    )  # fmt: skip
