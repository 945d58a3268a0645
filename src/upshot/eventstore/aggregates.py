"""From the rows of the aggregation queries to `Aggregates`; the same for every SQL engine."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from upshot.aggregation import Aggregates, Cell, Measured
from upshot.eventstore import rollups, sql
from upshot.eventstore.rollups import Fetch
from upshot.eventstore.tables import repeats
from upshot.metrics import Kind
from upshot.statistics.moments import Moments


def read_aggregates(question: sql.Question, fetch: Fetch) -> Aggregates:
    """Ask the questions of a plan, through `fetch`, and put the answers together."""
    exposed = fetch(sql.exposed(question))
    found = rollups.moments(question, fetch) if question.needed else []
    names = {key: name for name, key in question.type_keys.items()}
    measured: dict[tuple[Cell, str], Measured] = {}
    counts: dict[tuple[Cell, str], int] = {}
    for row in found:
        cell = _cell(row)
        for index, metric in enumerate(question.plan.metrics):
            measured[cell, metric.key] = _measured(row, index, metric.kind)
        counts |= {(cell, names[key]): int(row[f"count_{key}"]) for key in question.needed}
    doubles, conflicts = _repeats(question, fetch)
    crossing = fetch(sql.crossovers(question))
    return Aggregates(
        exposed={_cell(row): row["users"] for row in exposed},
        measured=measured,
        event_counts=counts,
        first_exposure=min((row["first"] for row in exposed), default=None),
        crossovers=int(next(iter(crossing[0].values()))) if crossing else 0,
        late_events=sum(int(row["late"]) for row in found),
        duplicates=doubles,
        conflicts=conflicts,
    )


def _cell(row: Mapping[str, Any]) -> Cell:
    return Cell(row["variant"], row["phase"], row.get("period"), row.get("segment"))


def _measured(row: Mapping[str, Any], index: int, kind: Kind) -> Measured:
    users, events = row[f"users_{index}"], int(row[f"events_{index}"])
    if kind is Kind.CONVERSION or not users:
        return Measured(users, events, float(users), Moments.binomial(users, users))
    moments = Moments(users, float(row[f"mean_{index}"]), float(row[f"variance_{index}"]) * users)
    return Measured(users, events, float(row[f"total_{index}"]), moments)


def _repeats(question: sql.Question, fetch: Fetch) -> tuple[int, int]:
    if not question.needed:
        return 0, 0
    query = select(func.sum(repeats.c.duplicates).label("duplicates"), func.sum(repeats.c.conflicts).label("conflicts"))
    row = fetch(query.where(repeats.c.type_key.in_(question.needed)))[0]
    return int(row["duplicates"] or 0), int(row["conflicts"] or 0)
