"""From the rows of the aggregation queries to `Aggregates`; the same for every SQL engine.

What a question needs to know first is asked first: the texts that filters have to see, and where numbers are cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from upshot.aggregation import Aggregates, Cell, Delivery, Measured, Ordered
from upshot.eventstore import filters, pilot, rollups, sql
from upshot.eventstore.rollups import Fetch
from upshot.eventstore.sql import Caps, Question, sampling
from upshot.eventstore.tables import repeats
from upshot.metrics import Kind, Metric, Source, Unit, Winsorising
from upshot.statistics import quantile
from upshot.statistics.comoments import Comoments
from upshot.statistics.moments import Moments
from upshot.statistics.skewness import ThirdMoments

Row = Mapping[str, Any]
Found = dict[tuple[Cell, str], Measured]


def read_aggregates(question: Question, fetch: Fetch) -> Aggregates:
    """Ask the questions of a plan, through `fetch`, and put the answers together."""
    question = prepared(question, fetch)
    exposed = fetch(sql.exposed(question))
    if question.plan.cumulative:
        return _cumulative(question, exposed, fetch)
    users = sum(row["users"] for row in exposed)
    question = pilot.worthwhile(question, users, lambda asked: _by_cell(asked, fetch(sql.moments(asked))))
    measured, counts, late = _measured(question, fetch) if question.needed else ({}, {}, 0)
    doubles, conflicts = _repeats(question, fetch)
    return Aggregates(
        exposed={_cell(row): row["users"] for row in exposed},
        eligible={
            (_cell(row), metric.key): int(row[f"eligible_{place}"])
            for row in exposed
            for place, metric in enumerate(question.plan.metrics)
            if metric.complete
        },
        measured=measured,
        unadjusted=question.plan.unadjusted,
        delivery=_delivery(question, users, fetch),
        event_counts=counts,
        first_exposure=min((row["first"] for row in exposed), default=None),
        withdrawn=sql.left_out(question, fetch),
        late_events=late,
        duplicates=doubles,
        conflicts=conflicts,
    )


def _cumulative(question: Question, exposed: rollups.Rows, fetch: Fetch) -> Aggregates:
    """Users, and their numbers up to then, at the end of every period."""
    plan = question.plan
    grown: dict[Cell, Row] = {_cell(row): row for row in fetch(sql.increments(question))} if question.needed else {}
    came = {_cell(row): row["users"] for row in exposed}
    users: dict[Cell, int] = {}
    found: Found = {}
    for group in {cell._replace(period=None) for cell in came}:
        number, sums = 0, {metric.key: _Sums(len(plan.numbers_of(metric))) for metric in plan.accumulated}
        for period in range(len(plan.periods)):
            cell = group._replace(period=period)
            number += came.get(cell, 0)
            users[cell] = number
            for place, metric in enumerate(plan.metrics):
                if metric in plan.accumulated:
                    sums[metric.key].grow(grown.get(cell), place)
                    silent = tuple(caps.cut(0.0) for caps in sql.caps_of(question, metric))
                    joint = sums[metric.key].comoments(number, silent)
                    found[cell, metric.key] = Measured(
                        sums[metric.key].active,
                        0,
                        number * joint.means[0],
                        joint.marginal(0),
                        silent,
                        joint if metric.is_ratio else None,
                    )
    return Aggregates(exposed=users, measured=found)


class _Sums:
    """Running sums of a metric's numbers and their products, as far as they differ from those of users without events."""

    def __init__(self, dimensions: int) -> None:
        self.active = 0
        self._totals = [0.0] * dimensions
        self._products = {(i, j): 0.0 for i in range(dimensions) for j in range(i, dimensions)}

    def grow(self, row: Row | None, place: int) -> None:
        """Add what a period brought."""
        if row is not None:
            self.active += int(row[f"active_{place}"])
            for index in range(len(self._totals)):
                self._totals[index] += float(row[f"step_{place}_{index}"] or 0.0)
            for i, j in self._products:
                self._products[i, j] += float(row[f"product_{place}_{i}_{j}"] or 0.0)

    def comoments(self, n: int, silent: Sequence[float]) -> Comoments:
        """The comoments of n users, of whom those without events have the silent numbers."""
        if n == 0:
            return Comoments.empty(len(self._totals))
        means = [quiet + total / n for quiet, total in zip(silent, self._totals, strict=True)]
        m2 = {
            (i, j): n * silent[i] * silent[j] + product - n * means[i] * means[j]
            for (i, j), product in self._products.items()
        }
        size = range(len(means))
        # Sums of squares lose digits where a mean is large beside the spread: what is left below zero is rounding.
        rows = [[max(m2[i, i], 0.0) if i == j else m2[min(i, j), max(i, j)] for j in size] for i in size]
        return Comoments(n, tuple(means), tuple(map(tuple, rows)))


def prepared(question: Question, fetch: Fetch) -> Question:
    """The question with what it needs to be asked: who is one user, the texts, and the caps."""
    question = sql.identified(question, fetch)
    sources = {source for metric in question.plan.metrics for source in metric.sources}
    texts = {
        (source, name): _texts(question, source, name, fetch)
        for source in sorted(sources, key=repr)
        for name in (filters.attributes_to_see(source.where) if source.where else ())
    }
    question = replace(question, texts=texts)
    caps = {
        (metric.key, column): _caps(question, metric, metric.winsorising, column, fetch)
        for metric in question.plan.metrics
        if metric.winsorising and question.keys_of(metric)
        for column in ("value", *(["before"] if question.plan.adjusts(metric) else []))
    }
    return replace(question, caps=caps)


def _texts(question: Question, source: Source, name: str, fetch: Fetch) -> Sequence[str]:
    events = question.forms.events
    conditions = [events.c.type_key.in_(question.keys_of(source)), events.c.occurred_at < question.plan.end]
    if question.plan.start is not None and not question.plan.covariates:
        conditions.append(events.c.occurred_at >= question.plan.start)
    query = filters.distinct_texts(events, conditions, name, question.forms, filters.MOST_TEXTS)
    return [next(iter(row.values())) for row in fetch(query)]


def _caps(question: Question, metric: Metric, cut: Winsorising, column: str, fetch: Fetch) -> Caps:
    """Where the numbers of a metric are cut off: percentiles over the users of all arms, over the whole window.

    Users without events have no row to rank: their zeros lie between the negative numbers and the others.
    """
    whole = replace(question, plan=replace(question.plan, periods=(), segments=()))
    [spread] = fetch(sql.spread(whole, metric, column))
    name = "eligible_0" if metric.complete else "users"
    users = sum(int(row[name]) for row in fetch(sql.exposed(whole.only(metric))))
    number, negative, zero = (int(spread[name]) for name in ("number", "negative", "zero"))
    silent = 0 if cut.ignore_zeros else users - number
    ranked = number - zero if cut.ignore_zeros else users

    def at(percent: float | None) -> float | None:
        place = None if percent is None else quantile.type7_ranks(ranked, percent)
        if place is None:
            return None
        low, high, fraction = place
        ranks = {rank: rank if rank <= negative else rank - silent for rank in (low, high)}
        asked = [own for rank, own in ranks.items() if not negative < rank <= negative + silent]
        rows = fetch(sql.at_ranks(whole, metric, column, asked, zeros=not cut.ignore_zeros)) if asked else []
        found = {int(row["position"]): float(row["number"]) for row in rows}
        lower, upper = (0.0 if negative < rank <= negative + silent else found[ranks[rank]] for rank in (low, high))
        return quantile.interpolate(lower, upper, fraction)

    return Caps(at(cut.lower), at(cut.upper))


def _measured(question: Question, fetch: Fetch) -> tuple[Found, dict[tuple[Cell, str], int], int]:
    """Metrics and event counts by cell, and the late events."""
    found = rollups.moments(question, fetch)
    names = {key: name for name, key in question.type_keys.items()}
    measured = _by_cell(question, found)
    counts = {(_cell(row), names[key]): int(row[f"count_{key}"]) for row in found for key in question.needed}
    for metric in question.plan.metrics:
        if metric.kind is Kind.FUNNEL:
            measured |= _funnel(question, metric, fetch)
        if metric.kind is Kind.QUANTILE and not question.plan.is_broken_down:
            for key, ordered in _ordered(question, metric, fetch).items():
                measured[key] = replace(
                    measured.get(key, Measured(ordered.users, ordered.values, 0.0, Moments())), ordered=ordered
                )
    return measured, counts, sum(int(row["late"]) for row in found)


def _by_cell(question: Question, rows: Sequence[Row]) -> Found:
    """The folded metrics."""
    return {
        (_cell(row), metric.key): _of_row(question, row, place, metric)
        for row in rows
        for place, metric in sql.folded(question.plan)
    }


def _cell(row: Row) -> Cell:
    segments = tuple(row[f"segment_{place}"] for place in range(sum(name.startswith("segment_") for name in row)))
    return Cell(row["variant"], row["phase"], row.get("period"), segments, row.get("beside"))


def _of_row(question: Question, row: Row, place: int, metric: Metric) -> Measured:
    users, events = row[f"users_{place}"], int(row[f"events_{place}"])
    joint = _joint(question, row, place, metric) if sql.is_joint(question.plan, metric) else None
    silent = tuple(caps.cut(0.0) for caps in sql.caps_of(question, metric))
    if metric.is_share or not users:
        return Measured(users, events, float(users), Moments.binomial(users, users), silent, joint)
    moments = Moments(users, float(row[f"mean_{place}"]), float(row[f"variance_{place}"]) * users)
    third = row.get(f"third_{place}")
    skewed = None if third is None else ThirdMoments(moments, float(third) * users)
    return Measured(users, events, float(row[f"total_{place}"]), moments, silent, joint, third=skewed)


def _joint(question: Question, row: Row, place: int, metric: Metric) -> Comoments:
    return comoments(row, row["rows"], len(question.plan.numbers_of(metric)), f"_{place}")


def comoments(row: Row, users: int, dimensions: int, ending: str = "") -> Comoments:
    """The comoments in a row's columns mean_j and product_j_k."""
    products = {
        (first, second): float(row[f"product{ending}_{first}_{second}"] or 0.0) * users
        for first in range(dimensions)
        for second in range(first, dimensions)
    }
    return Comoments(
        users,
        tuple(float(row[f"mean{ending}_{place}"] or 0.0) for place in range(dimensions)),
        tuple(
            tuple(products[min(one, other), max(one, other)] for other in range(dimensions))
            for one in range(dimensions)
        ),
    )


def _funnel(question: Question, metric: Metric, fetch: Fetch) -> Found:
    reached: dict[Cell, dict[int, int]] = {}
    for row in fetch(sql.funnel(question, metric)):
        reached.setdefault(_cell(row), {})[row["step"]] = row["users"]
    found: Found = {}
    for cell, users in reached.items():
        steps = tuple(users.get(step, 0) for step in range(len(metric.steps)))
        last = steps[-1]
        found[cell, metric.key] = Measured(last, last, float(last), Moments.binomial(last, last), steps=steps)
    return found


def _ordered(question: Question, metric: Metric, fetch: Fetch) -> dict[tuple[Cell, str], Ordered]:
    """The order statistics of a quantile in each variant and phase that has enough values."""
    numbers: dict[tuple[int, int], tuple[int, int, tuple[int, int, int]]] = {}
    for row in fetch(sql.values_counted(question, metric)):
        ranks = quantile.ranks(row["number"], metric.amount)
        if ranks is not None:
            numbers[row["variant"], row["phase"]] = (row["number"], row["users"], ranks)
    if not numbers:
        return {}
    wanted = sorted({rank for _, _, ranks in numbers.values() for rank in ranks})
    at = {
        (row["variant"], row["phase"], row["position"]): float(row["number"])
        for row in fetch(sql.values_at_ranks(question, metric, wanted))
    }
    values = {
        cell: (at[*cell, low], at[*cell, middle], at[*cell, high])
        for cell, (_, _, (low, middle, high)) in numbers.items()
    }
    below: dict[tuple[int, int], Comoments] = {}
    if metric.unit is Unit.EVENT:
        bounds = {cell: found[1] for cell, found in values.items()}
        for row in fetch(sql.values_below(question, metric, bounds)):
            below[row["variant"], row["phase"]] = comoments(row, row["users"], 2)
    return {
        (Cell(*cell), metric.key): Ordered(number, users, ranks, values[cell], below.get(cell))
        for cell, (number, users, ranks) in numbers.items()
    }


def _delivery(question: Question, users: int, fetch: Fetch) -> dict[Cell, Delivery]:
    """What was lost of numbered events, in each variant and phase, by all exposed users or a sample of them."""
    plan = question.plan
    if not plan.delivery or plan.is_broken_down or plan.entry:
        return {}
    if not any(value is not None for row in fetch(question.forms.numbered()) for value in row.values()):
        return {}
    types = question.forms.event_types.c
    owned = fetch(select(types.type_key).where(types.client_key == question.client_key))
    step = sampling.one_in(users)
    sample = replace(question, plan=replace(plan, one_in=step))
    found = fetch(sql.delivery(sample, [row["type_key"] for row in owned])) if owned else []
    return {_cell(row): Delivery(comoments(row, row["users"], 2), int(row["losing"]), step) for row in found}


def _repeats(question: Question, fetch: Fetch) -> tuple[int, int]:
    if not question.needed:
        return 0, 0
    query = select(func.sum(repeats.c.duplicates).label("duplicates"), func.sum(repeats.c.conflicts).label("conflicts"))
    row = fetch(query.where(repeats.c.type_key.in_(question.needed)))[0]
    return int(row["duplicates"] or 0), int(row["conflicts"] or 0)
