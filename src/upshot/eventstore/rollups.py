"""Rollups: what each UTC hour and day gave, per experiment, variant, phase and event type, kept instead of counted again.

A rolled-up period is the answer of the ordinary aggregation (sql.moments) for that period, stored. It is used only while it is
known to be what would be counted now: whatever is appended leaves a mark on the period that it touches, in the same commit.

    event      marks (its type, its hour) and (its type, its day)
    exposure   marks its experiment from its hour on, and from its day on: earlier events of the user may begin to count
    link       marks what the events of the user mark, under any id; so does a withdrawal (linking.py)

A result takes periods without a mark from the rollups and counts the others, so that it is always complete. `refresh` takes the
marks of periods that are over, counts those periods, and removes the marks with the same commit. A mark that comes while it
counts stays, and the period is counted again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Select, func, or_, select

from upshot.aggregation import AggregationPlan, Period
from upshot.eventstore import sql
from upshot.eventstore.forms import Forms
from upshot.metrics import Kind, Metric

HOUR = 3_600_000_000
DAY = 24 * HOUR
GRAINS = (HOUR, DAY)
MARGIN = 300_000_000  # clocks of several machines differ
PERIODS = 400  # how many are counted with one query

Rows = Sequence[Mapping[str, Any]]
Fetch = Callable[[Select[Any] | CompoundSelect[Any]], Rows]


class Mark(NamedTuple):
    """A period that was touched: by events of a type, or (type 0) from there on by exposures of an experiment."""

    client_key: int
    type_key: int
    experiment: int
    grain: int
    starts: int


class Marker:
    """Which marks an append leaves. A period that is not over needs one mark of a process, however much it appends."""

    def __init__(self) -> None:
        self._standing: set[Mark] = set()

    def marks(self, events: Iterable[tuple[int, int, int]], exposed: Iterable[tuple[int, int, int]]) -> list[Mark]:
        """The marks of events (client key, type key, µs) and of exposures (client key, experiment, µs)."""
        now = _now()
        self._standing = {mark for mark in self._standing if _open(mark, now)}
        touched = {Mark(client, kind, 0, grain, at - at % grain) for client, kind, at in events for grain in GRAINS}
        touched |= {
            Mark(client, 0, number, grain, at - at % grain) for client, number, at in exposed for grain in GRAINS
        }
        return sorted(touched - self._standing)

    def committed(self, left: Iterable[Mark]) -> None:
        """These stand in the store now; nobody takes them before their periods are over."""
        now = _now()
        self._standing |= {mark for mark in left if _open(mark, now)}


def _open(mark: Mark, now: int) -> bool:
    return mark.starts + mark.grain > now


def _now() -> int:
    return time.time_ns() // 1_000


# Reading


def moments(question: sql.Question, fetch: Fetch) -> list[Mapping[str, Any]]:
    """The rows of `sql.moments`: of periods that are rolled up from there, of all others counted now."""
    plan = question.plan
    plain = all(metric.is_plain for metric in plan.metrics) and not (plan.segments or plan.covariates)
    kept = _kept(question, fetch) if plan.periods and plain and plan.beside is None else {}
    others = [index for index in range(len(plan.periods)) if index not in kept]
    rows = list(_read(question, fetch, kept)) if kept else []
    if not plan.periods:
        return list(fetch(sql.moments(question)))
    if others:
        counted = replace(question, plan=_only(plan, tuple(plan.periods[index] for index in others)))
        rows += [{**row, "period": others[row["period"]]} for row in fetch(sql.moments(counted))]
    return rows


def _only(plan: AggregationPlan, periods: tuple[Period, ...]) -> AggregationPlan:
    """The plan for some of its periods, bounded by them: events outside need not be read."""
    start = periods[0].start if plan.start is None else max(plan.start, periods[0].start)
    return replace(plan, start=start, end=min(plan.end, periods[-1].end), periods=periods)


def _kept(question: sql.Question, fetch: Fetch) -> dict[int, int]:
    """Which periods can be had from the rollups: their index in the plan, and where they start."""
    plan = question.plan
    grain = plan.periods[0].end - plan.periods[0].start
    if grain not in GRAINS or any(len(question.keys_of(metric)) > 1 for metric in plan.metrics):
        return {}
    columns = question.forms.marks.c
    touched = or_(columns.type_key.in_(question.needed), columns.experiment == plan.experiment)
    query = select(columns.experiment, columns.starts).distinct()
    found = fetch(query.where(columns.client_key == question.client_key, columns.grain == grain, touched))
    dirty = {row["starts"] for row in found if not row["experiment"]}
    dirty_from = min((row["starts"] for row in found if row["experiment"]), default=None)
    return {
        index: part.start
        for index, part in enumerate(plan.periods)
        if part.end - part.start == grain
        and part.start % grain == 0
        and (plan.start is None or plan.start <= part.start)
        and part.end <= plan.end
        and part.start not in dirty
        and (dirty_from is None or part.start < dirty_from)
    }


def _read(question: sql.Question, fetch: Fetch, kept: Mapping[int, int]) -> Iterator[Mapping[str, Any]]:
    """Rolled-up cells in the shape of the rows of `sql.moments`."""
    plan, columns = question.plan, question.forms.rollups.c
    index_of = {starts: index for index, starts in kept.items()}
    query = select(question.forms.rollups).where(
        columns.client_key == question.client_key,
        columns.experiment == plan.experiment,
        columns.grain == plan.periods[0].end - plan.periods[0].start,
        columns.type_key.in_(question.needed),
        columns.starts.between(min(index_of), max(index_of)),
    )
    cells: dict[tuple[int, int, int], dict[int, Mapping[str, Any]]] = {}
    for row in fetch(query):
        if row["starts"] in index_of and row["users"]:  # nobody is in a cell that all have left
            cells.setdefault((row["variant"], row["phase"], index_of[row["starts"]]), {})[row["type_key"]] = row
    for (variant, phase, period), of_type in cells.items():
        found: dict[str, Any] = {"variant": variant, "phase": phase, "period": period}
        found["late"] = sum(row["late"] for row in of_type.values())
        found |= {f"count_{key}": of_type[key]["events"] if key in of_type else 0 for key in question.needed}
        for place, metric in enumerate(plan.metrics):
            keys = question.keys_of(metric)
            found |= _metric(place, metric.kind, of_type.get(keys[0]) if keys else None)
        yield found


def _metric(place: int, kind: Kind, row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {f"users_{place}": 0, f"events_{place}": 0}
    found = {f"users_{place}": row["users"], f"events_{place}": row["events"]}
    if kind is Kind.SUM:
        return found | {f"{name}_{place}": row[name] for name in ("total", "mean", "variance")}
    if kind is Kind.COUNT:
        found[f"total_{place}"] = float(row["events"])
        found |= {f"mean_{place}": row["count_mean"], f"variance_{place}": row["count_variance"]}
    return found


# Refreshing


@dataclass(frozen=True, slots=True)
class Recounted:
    """Periods of an experiment and an event type that were counted again: what is kept of them makes room for the rows.

    Cells that are kept may have no row any more where users `left` them: ids were linked, or users withdrawn.
    """

    client_key: int
    experiment: int
    type_key: int
    grain: int
    starts: tuple[int, ...]
    rows: list[dict[str, Any]]
    left: bool = False


def due(found: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the marks that can be taken: their periods are over on every clock."""
    horizon = _now() - MARGIN
    return [mark for mark in found if mark["starts"] + mark["grain"] <= horizon]


def recount(taken: Sequence[Mapping[str, Any]], forms: Forms, fetch: Fetch) -> Iterator[Recounted]:
    """Count again what marks say was touched, experiment by experiment."""
    shown = forms.exposures.c
    clients = {mark["client_key"] for mark in taken}
    experiments = select(shown.client_key, shown.experiment, func.min(shown.exposed_at).label("first"))
    experiments = experiments.where(shown.client_key.in_(clients)).group_by(shown.client_key, shown.experiment)
    for row in fetch(experiments) if clients else []:
        plan = AggregationPlan(row["experiment"], (), None, 0)
        question = sql.identified(sql.Question(plan, row["client_key"], {}, forms), fetch)
        for grain in GRAINS:
            touched: dict[int, set[int]] = {}
            for key, start in _touched(taken, row, grain, forms, fetch):
                touched.setdefault(key, set()).add(start)
            for key, starts in touched.items():
                ordered = sorted(starts)
                for place in range(0, len(ordered), PERIODS):
                    part = tuple(ordered[place : place + PERIODS])
                    yield _recounted(question, key, grain, part, fetch)


def _touched(
    taken: Sequence[Mapping[str, Any]], experiment: Mapping[str, Any], grain: int, forms: Forms, fetch: Fetch
) -> set[tuple[int, int]]:
    """The (type, start) of an experiment's periods that marks speak of."""
    marked = [mark for mark in taken if mark["client_key"] == experiment["client_key"] and mark["grain"] == grain]
    found = {
        (mark["type_key"], mark["starts"])
        for mark in marked
        if not mark["experiment"] and mark["starts"] + grain > experiment["first"]
    }
    since = min((mark["starts"] for mark in marked if mark["experiment"] == experiment["experiment"]), default=None)
    if since is not None:
        events, types = forms.events.c, forms.event_types.c
        starts = (events.occurred_at - events.occurred_at % grain).label("starts")
        owned = select(types.type_key).where(types.client_key == experiment["client_key"])
        horizon = _now() - MARGIN
        query = select(events.type_key, starts).distinct()
        query = query.where(events.occurred_at >= since, events.type_key.in_(owned))
        found |= {(row["type_key"], row["starts"]) for row in fetch(query) if row["starts"] + grain <= horizon}
    return found


def _recounted(question: sql.Question, type_key: int, grain: int, starts: tuple[int, ...], fetch: Fetch) -> Recounted:
    metrics = tuple(Metric(kind, kind, ("it",)) for kind in (Kind.SUM, Kind.COUNT))
    periods = tuple(Period(start, start + grain) for start in starts)
    plan = replace(question.plan, metrics=metrics, start=starts[0], end=periods[-1].end, periods=periods)
    found = fetch(sql.moments(replace(question, plan=plan, type_keys={"it": type_key})))
    cell = {
        "client_key": question.client_key,
        "experiment": plan.experiment,
        "type_key": type_key,
        "grain": grain,
    }
    left = question.linked or question.withdrawn
    return Recounted(**cell, starts=starts, rows=[cell | _cell(row, starts) for row in found], left=left)


def _cell(row: Mapping[str, Any], starts: Sequence[int]) -> dict[str, Any]:
    """What is kept of a row of `sql.moments` whose metrics are the sum and the count of one type."""
    return {
        "starts": starts[row["period"]],
        "variant": row["variant"],
        "phase": row["phase"],
        "users": row["users_0"],
        "events": int(row["events_0"]),
        "late": int(row["late"]),
        "total": row["total_0"],
        "mean": row["mean_0"],
        "variance": row["variance_0"],
        "count_mean": row["mean_1"],
        "count_variance": row["variance_1"],
    }
