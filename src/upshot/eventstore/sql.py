"""From an aggregation plan to SQL: the one expression of which events count, compiled for every engine.

An event counts for a user when it happened at or after that user's exposure, inside the window, and, where a metric says so,
inside that metric's own window after the exposure. It is joined to the exposures by the user's key, folded to one row per user,
and only then to moments per variant: so an active user weighs as much as a quiet one, and a store never hands rows to the
statistics. Where covariates are read, the same quantities are folded over the time before the exposure in the same pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Double,
    FromClause,
    Integer,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)

from upshot.aggregation import AggregationPlan
from upshot.events import LATE
from upshot.eventstore import filters
from upshot.eventstore.forms import Forms
from upshot.metrics import Fold, Kind, Metric, Quantity, Source, Unit

Column = ColumnElement[Any]


class Caps(NamedTuple):
    """Where a number is cut off; None where it is not."""

    lower: float | None = None
    upper: float | None = None

    def cut(self, value: float) -> float:
        """The value within the caps."""
        low = value if self.lower is None else max(value, self.lower)
        return low if self.upper is None else min(low, self.upper)

    def expression(self, value: Column) -> Column:
        """The same in SQL; null stays null."""
        pairs: list[tuple[Column, Column]] = []
        if self.lower is not None:
            pairs.append((value < self.lower, cast(literal(self.lower), Double())))
        if self.upper is not None:
            pairs.append((value > self.upper, cast(literal(self.upper), Double())))
        return case(*pairs, else_=value) if pairs else value


UNCUT = Caps()


@dataclass(frozen=True, slots=True)
class Question:
    """A plan with the client and the event types translated to keys; types that were never seen have none.

    `texts` are the different texts of attributes that filters have to see, by source and attribute; `caps` those of each
    metric's quantities and covariates, by key and column. Both are found before the question can be asked in full.
    """

    plan: AggregationPlan
    client_key: int
    type_keys: Mapping[str, int]
    forms: Forms
    texts: Mapping[tuple[Source, str], Sequence[str]] = field(default_factory=dict)
    caps: Mapping[tuple[str, str], Caps] = field(default_factory=dict)

    def keys_of(self, source: Metric | Source) -> tuple[int, ...]:
        """The keys of the event types of a source, all known ones when it has none; sorted, so that the SQL is stable."""
        names = source.event_types or self.type_keys
        return tuple(sorted(self.type_keys[name] for name in names if name in self.type_keys))

    @property
    def needed(self) -> tuple[int, ...]:
        """The keys that any metric needs."""
        sources = [source for metric in self.plan.metrics for source in metric.sources]
        return tuple(sorted({key for source in sources for key in self.keys_of(source)}))

    def only(self, *metrics: Metric) -> "Question":
        """The same question about some of the metrics."""
        return replace(self, plan=replace(self.plan, metrics=metrics))

    def is_of(self, source: Source, events: FromClause | None = None) -> list[Column]:
        """The conditions on an event to be one of a source. Without `events`, those that hold of every event which
        `per_user` reads are left out."""
        columns, keys, found = (self.forms.events if events is None else events).c, self.keys_of(source), list[Column]()
        if not keys:
            return [literal(0, Integer) == 1]
        if events is not None or keys != self.needed:
            found.append(columns.type_key.in_(keys))
        if source.where is not None:
            seen = {name: self.texts[source, name] for name in filters.attributes_to_see(source.where)}
            found.append(filters.holds(source.where, columns.properties, self.forms, seen.__getitem__))
        return found

    def value_of(self, source: Source) -> Column:
        """The value of an event; null where it has none."""
        events = self.forms.events.c
        if source.value is None:
            return events.value
        return filters.number_of(events.properties, source.value, self.forms)


def folded(plan: AggregationPlan) -> tuple[tuple[int, Metric], ...]:
    """The metrics that one pass over the events answers, with their places; funnels, and quantiles of events, have their own."""
    return tuple((place, metric) for place, metric in enumerate(plan.metrics) if metric.is_folded)


def is_joint(plan: AggregationPlan, metric: Metric) -> bool:
    """Whether more than one number per user is needed, and how they vary together."""
    return metric.is_ratio or plan.adjusts(metric)


# Users


def exposed(question: Question) -> Select[Any]:
    """Users per cell, with the first exposure: variant, phase, [period,] [segments,] users, first; and for metric i that
    counts complete windows only, eligible_i."""
    plan, found = question.plan, _exposed(question)
    cells = [found.c[name] for name in _cells_of_users(plan)]
    query = select(*cells)
    if plan.periods:
        periods = question.forms.periods(plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(found.c.exposed_at >= periods.c.starts, found.c.exposed_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    whole = [
        func.sum(case((_over(metric, found.c.exposed_at, plan), 1), else_=0)).label(f"eligible_{place}")
        for place, metric in enumerate(plan.metrics)
        if metric.complete
    ]
    counted = query.add_columns(func.count().label("users"), func.min(found.c.exposed_at).label("first"), *whole)
    return counted.group_by(*cells).order_by(*cells)


def crossovers(question: Question) -> Select[Any]:
    """How many users have more than one exposure, and so perhaps more than one variant."""
    found = _exposed(question)
    return select(func.count() - func.count(func.distinct(found.c.user_key)))


def _exposed(question: Question, *, context: bool = False) -> Subquery:
    """The experiment's exposed users; of those who are in another experiment, too, where that is asked for."""
    plan, table = question.plan, question.forms.exposures
    if plan.entry:
        return _entered(question)
    columns: list[Column] = [table.c.user_key, table.c.variant, table.c.phase, table.c.exposed_at]
    if context:
        columns += [table.c.user_id, table.c.context]
    columns += [
        question.forms.attribute(table.c.context, name).label(f"segment_{place}")
        for place, name in enumerate(plan.segments)
    ]
    columns += [
        filters.number_of(table.c.context, metric.covariate, question.forms).label(f"covariate_{place}")
        for place, metric in folded(plan)
        if metric.covariate and plan.adjusts(metric)
    ]
    query = select(*columns).where(table.c.client_key == question.client_key, table.c.experiment == plan.experiment)
    if plan.beside is not None:
        other = question.forms.exposures.alias("other")
        query = query.add_columns(other.c.variant.label("beside")).join(other, other.c.user_key == table.c.user_key)
        query = query.where(other.c.client_key == question.client_key, other.c.experiment == plan.beside)
    return query.where(table.c.exposed_at < plan.end).subquery("exposed")


def _entered(question: Question) -> Subquery:
    """Those who caused an event of the plan's entry, as if they had been exposed by it."""
    plan, events = question.plan, question.forms.events.alias("entries")
    keys = question.keys_of(Source(plan.entry))
    first = func.min(events.c.occurred_at).label("exposed_at")
    query = select(events.c.user_key, literal(0, Integer).label("variant"), literal(1, Integer).label("phase"), first)
    query = query.where(events.c.type_key.in_(keys) if keys else literal(0, Integer) == 1)
    query = query.where(events.c.occurred_at < plan.end)
    if plan.start is not None:
        query = query.where(events.c.occurred_at >= plan.start)
    return query.group_by(events.c.user_key).subquery("exposed")


def _cells_of_users(plan: AggregationPlan) -> list[str]:
    """The columns of `_exposed` that say where a user belongs."""
    segments = [f"segment_{place}" for place in range(len(plan.segments))]
    return ["variant", "phase", *segments, *(["beside"] if plan.beside is not None else [])]


def _cell_names(plan: AggregationPlan) -> list[str]:
    return [*_cells_of_users(plan), *(["period"] if plan.periods else [])]


# Metrics


def moments(question: Question) -> Select[Any]:
    """Per cell and metric: users with events, events, mean and population variance over those users; late events.

    Columns: variant, phase, [period,] [segments,] late and rows (users with any event), then for each folded metric i:
    users_i, events_i, unless it is a share total_i, mean_i and variance_i, and where several numbers are needed mean_i_j and
    product_i_j_k, the population covariance over all rows; then count_k for every needed type k.
    """
    plan, users = question.plan, per_user(question)
    cells = [users.c[name] for name in _cell_names(plan)]
    columns: list[Column] = [func.coalesce(func.sum(users.c.late), 0).label("late"), func.count().label("rows")]
    for place, metric in folded(plan):
        columns += _moments_of(question, metric, place, users)
    columns += [func.coalesce(func.sum(users.c[f"type_{key}"]), 0).label(f"count_{key}") for key in question.needed]
    return select(*cells, *columns).group_by(*cells).order_by(*cells)


def _moments_of(question: Question, metric: Metric, place: int, users: Subquery) -> Iterator[Column]:
    number, value = users.c[f"events_{place}"], users.c.get(f"value_{place}")
    reached = case((_reached(metric, place, users.c), number)) if metric.kind is Kind.THRESHOLD else number
    yield func.count(reached).label(f"users_{place}")
    yield func.coalesce(func.sum(number), 0).label(f"events_{place}")
    if value is not None and not metric.is_share:
        # Centred inside the engine: raw sums of squares lose everything when the mean is large beside the spread.
        cut = question.caps.get((metric.key, "value"), UNCUT).expression(value)
        yield func.coalesce(func.sum(value), 0.0).label(f"total_{place}")
        yield func.avg(cut).label(f"mean_{place}")
        yield func.var_pop(cut).label(f"variance_{place}")
    if is_joint(question.plan, metric):
        numbers = _numbers(question, metric, place, users)
        for first, one in enumerate(numbers):
            yield func.avg(one).label(f"mean_{place}_{first}")
            for second, another in enumerate(numbers[first:], first):
                product = func.var_pop(one) if first == second else question.forms.covariance(one, another)
                yield product.label(f"product_{place}_{first}_{second}")


def _numbers(question: Question, metric: Metric, place: int, users: Subquery) -> list[Column]:
    """A user's numbers in a metric, cut off, with a number for every user."""
    found = list[Column]()
    for name in question.plan.numbers_of(metric):
        column = f"{name}_{place}"
        if name == "value" and metric.is_share:
            found.append(case((_reached(metric, place, users.c), 1.0), else_=0.0))
            continue
        filled = func.coalesce(users.c[column], cast(literal(0), Double()))
        found.append(filled)
    return [caps.expression(number) for caps, number in zip(caps_of(question, metric), found, strict=True)]


def _reached(metric: Metric, place: int, columns: Any) -> ColumnElement[bool]:
    """Whether a user's number is 1, where it is 0 or 1."""
    value: Column
    if metric.kind is Kind.THRESHOLD:
        value = columns[f"value_{place}"]
        return value >= metric.amount
    value = columns[f"events_{place}"]
    return value > 0


def caps_of(question: Question, metric: Metric) -> list[Caps]:
    """Where each of a user's numbers is cut off."""
    return [question.caps.get((metric.key, name), UNCUT) for name in question.plan.numbers_of(metric)]


def increments(question: Question) -> Select[Any]:
    """Per cell and period, by how much the numbers of all users, and the products of these, grew: step_i_j, product_i_j_k;
    and how many more users have a number other than zero: active_i.

    A user's number at the end of a period is made of all events up to then. Summed up to a period these are the sums and sums of
    products over all users.
    """
    plan, users = question.plan, per_user(question)
    sums = {
        name: func.sum(func.coalesce(users.c[name], cast(literal(0), Double()))).over(
            partition_by=users.c.user_key, order_by=users.c.period
        )
        for name in _summed(plan)
    }
    cells = _cell_names(plan)
    grown = select(
        *(users.c[name] for name in cells),
        *(total.label(name) for name, total in sums.items()),
        *(
            (total - func.coalesce(users.c[name], cast(literal(0), Double()))).label(f"was_{name}")
            for name, total in sums.items()
        ),
    ).subquery("grown")
    was = {name: grown.c[f"was_{name}"] for name in sums}
    columns: list[Column] = []
    for place, metric in enumerate(plan.metrics):
        if metric in plan.accumulated:
            after, before = (_numbers_of(question, metric, place, found) for found in (grown.c, was))
            columns += [
                func.sum(a - b).label(f"step_{place}_{n}") for n, (a, b) in enumerate(zip(after, before, strict=True))
            ]
            columns.append(
                func.sum(case((after[0] != 0, 1), else_=0) - case((before[0] != 0, 1), else_=0)).label(
                    f"active_{place}"
                )
            )
            columns += [
                func.sum(after[one] * after[other] - before[one] * before[other]).label(
                    f"product_{place}_{one}_{other}"
                )
                for one in range(len(after))
                for other in range(one, len(after))
            ]
    own = [grown.c[name] for name in cells]
    return select(*own, *columns).group_by(*own).order_by(*own)


def _summed(plan: AggregationPlan) -> list[str]:
    """The columns of `per_user` that a user's numbers are made of."""
    found = []
    for place, metric in enumerate(plan.metrics):
        if metric in plan.accumulated:
            counted = metric.is_share and metric.kind is not Kind.THRESHOLD
            found += [f"events_{place}"] if counted else [f"{name}_{place}" for name in plan.numbers_of(metric)]
    return found


def _numbers_of(question: Question, metric: Metric, place: int, sums: Any) -> list[Column]:
    """A user's numbers from sums over time."""
    if metric.is_share:
        return [case((_reached(metric, place, sums), 1.0), else_=0.0)]
    values = [sums[f"{name}_{place}"] for name in question.plan.numbers_of(metric)]
    return [caps.expression(value) for caps, value in zip(caps_of(question, metric), values, strict=True)]


def per_user(question: Question) -> Subquery:
    """One row per user (and period) with at least one event that counts, or that came before where covariates are read.

    With a covariate from the context there is a row for every exposed user.
    """
    plan, found, events = question.plan, _exposed(question), question.forms.events
    everybody = any(metric.covariate and plan.adjusts(metric) for _, metric in folded(plan)) and not plan.periods
    earlier = [metric.lookback for metric in plan.metrics if plan.adjusts(metric) and not metric.covariate]
    lookback = 0 if plan.periods else max(earlier, default=0)
    after = events.c.occurred_at >= found.c.exposed_at
    window = [after] if plan.start is None else [after, events.c.occurred_at >= plan.start]
    read = and_(*window)
    if lookback:
        read = or_(read, and_(~after, events.c.occurred_at >= found.c.exposed_at - lookback))
    joined = and_(
        events.c.user_key == found.c.user_key,
        events.c.type_key.in_(question.needed),
        events.c.occurred_at < plan.end,
        read,
    )
    cells: list[Column] = [found.c[name] for name in _cells_of_users(plan)]
    query = select(*cells)
    query = (
        query.join_from(found, events, joined, isouter=True) if everybody else query.join_from(events, found, joined)
    )
    if plan.periods:
        periods = question.forms.periods(plan.periods)
        query = query.add_columns(periods.c.period).join(
            periods, and_(events.c.occurred_at >= periods.c.starts, events.c.occurred_at < periods.c.ends)
        )
        cells.append(periods.c.period)
    columns = list(_folded(question, found, window if lookback or everybody else []))
    return query.add_columns(found.c.user_key, *columns).group_by(*cells, found.c.user_key).subquery("per_user")


def _folded(question: Question, found: Subquery, counts: list[Column]) -> Iterator[Column]:
    """A user's numbers: events and value of each metric (null without such events), events of each type, late ones.

    `counts` are the conditions under which an event counts at all, where others are read as well.
    """
    plan, events, one = question.plan, question.forms.events.c, literal(1, Integer)
    yield func.coalesce(func.sum(_when([*counts, events.flags >= LATE], one)), 0).label("late")
    for key in question.needed:
        of_type = [events.type_key == key] if question.needed != (key,) else []
        yield func.sum(_when([*counts, *of_type], one)).label(f"type_{key}")
    for place, metric in folded(plan):
        own = [*counts, *_timing(question, metric, found.c.exposed_at)]
        first, *others = metric.quantities
        yield func.sum(_when([*own, *_having(question, first)], one)).label(f"events_{place}")
        names = dict(zip(("value", "other"), (first, *others), strict=False))
        for name, quantity in names.items():
            if quantity.fold is not Fold.ANY or metric.is_ratio:
                yield _fold(question, quantity, own).label(f"{name}_{place}")
        if plan.adjusts(metric):
            yield from _before(question, metric, place, found)


def _before(question: Question, metric: Metric, place: int, found: Subquery) -> Iterator[Column]:
    """The covariates of a metric: a number of the context, or its quantities before the exposure."""
    if metric.covariate:
        yield func.max(found.c[f"covariate_{place}"]).label(f"before_{place}")
        return
    moment, exposed_at = question.forms.events.c.occurred_at, found.c.exposed_at
    earlier = [moment < exposed_at, moment >= exposed_at - metric.lookback]
    for name, quantity in zip(("before", "before_other"), metric.quantities, strict=False):
        yield _fold(question, quantity, earlier).label(f"{name}_{place}")


def _fold(question: Question, quantity: Quantity, conditions: list[Column]) -> Column:
    """The number of a user: null without such events."""
    one = literal(1, Integer)
    kept = [*conditions, *_having(question, quantity)]
    if quantity.fold is Fold.SUM:
        return func.sum(_when(kept, func.coalesce(question.value_of(quantity.source), cast(literal(0), Double()))))
    return cast((func.max if quantity.fold is Fold.ANY else func.sum)(_when(kept, one)), Double())


def _having(question: Question, quantity: Quantity) -> list[Column]:
    """The conditions on an event to belong to a quantity."""
    conditions = question.is_of(quantity.source)
    if quantity.fold is Fold.VALUES:
        conditions.append(question.value_of(quantity.source).is_not(None))
    return conditions


def _timing(question: Question, metric: Metric, exposed_at: Column) -> list[Column]:
    """The conditions that a metric's own window makes on the moment of an event."""
    moment, found = question.forms.events.c.occurred_at, []
    if metric.delay:
        found.append(moment >= exposed_at + metric.delay)
    if metric.window is not None:
        found.append(moment < exposed_at + (metric.delay + metric.window))
    if metric.complete:
        found.append(_over(metric, exposed_at, question.plan))
    return found


def _when(conditions: Sequence[Column], value: Column) -> Column:
    """`value` where all conditions hold, else null; no test where there is none."""
    return case((and_(*conditions), value)) if conditions else value


def _over(metric: Metric, exposed_at: Column, plan: AggregationPlan) -> Column:
    """Whether a user's window is over."""
    return exposed_at <= plan.end - metric.delay - (metric.window or 0)


# Exports


def rows(question: Question) -> Select[Any]:
    """One row per exposed user, whether or not it has events: what an export streams; the numbers of
    `plan.exported`, null for a user whose window is not over."""
    plan, found, users = question.plan, _exposed(question, context=True), per_user(question)
    measured: list[Column] = []
    joined: Any = found.outerjoin(users, found.c.user_key == users.c.user_key)
    for place, metric in enumerate(plan.metrics):
        numbers: list[Column] = []
        if metric.kind is Kind.FUNNEL:
            last = _steps(question, metric, f"step_{place}")[-1]
            joined = joined.outerjoin(last, found.c.user_key == last.c.user_key)
            numbers = [case((last.c.user_key.is_not(None), 1), else_=0)]
        elif metric.is_folded:
            numbers = _numbers(question, metric, place, users)
        over = [_over(metric, found.c.exposed_at, plan)] if metric.complete else []
        measured += [_when(over, number).label(f"metric_{place}_{index}") for index, number in enumerate(numbers)]
    return select(
        found.c.user_id, found.c.variant, found.c.phase, found.c.exposed_at, found.c.context, *measured
    ).select_from(joined)


# Order


def spread(question: Question, metric: Metric, column: str) -> Select[Any]:
    """How many users of all arms together have a number in a column of `per_user`, how many of these are below zero, and how
    many are zero: number, negative, zero."""
    users = per_user(question.only(metric))
    value = users.c[f"{column}_0"]
    return select(
        func.count(value).label("number"),
        func.coalesce(func.sum(case((value < 0, 1), else_=0)), 0).label("negative"),
        func.coalesce(func.sum(case((value == 0, 1), else_=0)), 0).label("zero"),
    )


def at_ranks(question: Question, metric: Metric, column: str, ranks: Sequence[int], *, zeros: bool) -> Select[Any]:
    """The numbers at some ranks (1-based) among those of all arms together: position, number."""
    users = per_user(question.only(metric))
    value = users.c[f"{column}_0"]
    ranked = select(value.label("number"), func.row_number().over(order_by=value).label("position"))
    ranked = ranked.where(value.is_not(None)) if zeros else ranked.where(value != 0)
    found = ranked.subquery("ranked")
    return select(found.c.position, found.c.number).where(found.c.position.in_(sorted(set(ranks))))


def values_counted(question: Question, metric: Metric) -> Select[Any]:
    """How many values there are to rank, and of how many users: variant, phase, number, users."""
    values = _values(question, metric)
    cells = (values.c.variant, values.c.phase)
    users = func.count(func.distinct(values.c.user_key)).label("users")
    return select(*cells, func.count().label("number"), users).group_by(*cells).order_by(*cells)


def values_at_ranks(question: Question, metric: Metric, ranks: Sequence[int]) -> Select[Any]:
    """The values at some ranks (1-based) within each variant and phase: variant, phase, position, number."""
    values = _values(question, metric)
    position = func.row_number().over(partition_by=(values.c.variant, values.c.phase), order_by=values.c.number)
    ranked = select(values.c.variant, values.c.phase, values.c.number, position.label("position")).subquery("ranked")
    return select(ranked).where(ranked.c.position.in_(sorted(set(ranks))))


def values_below(question: Question, metric: Metric, bounds: Mapping[tuple[int, int], float]) -> Select[Any]:
    """Per variant and phase the moments, over users, of how many values are at most the bound of the cell and how many there
    are: variant, phase, users, mean_0, mean_1, product_0_0, product_0_1, product_1_1."""
    values = _values(question, metric)
    bound = case(
        *(
            (and_(values.c.variant == variant, values.c.phase == phase), cast(literal(value), Double()))
            for (variant, phase), value in bounds.items()
        )
    )
    cells = (values.c.variant, values.c.phase)
    below: Column = cast(func.sum(case((values.c.number <= bound, 1), else_=0)), Double()).label("below")
    number: Column = cast(func.count(), Double()).label("number")
    users = select(*cells, below, number).group_by(*cells, values.c.user_key).subquery("users")
    return (
        select(
            users.c.variant,
            users.c.phase,
            func.count().label("users"),
            func.avg(users.c.below).label("mean_0"),
            func.avg(users.c.number).label("mean_1"),
            func.var_pop(users.c.below).label("product_0_0"),
            question.forms.covariance(users.c.below, users.c.number).label("product_0_1"),
            func.var_pop(users.c.number).label("product_1_1"),
        )
        .group_by(users.c.variant, users.c.phase)
        .order_by(users.c.variant, users.c.phase)
    )


def _values(question: Question, metric: Metric) -> Subquery:
    """What a quantile is taken of, each with its variant, phase and user: the values of events, or a number per user."""
    alone = question.only(metric)
    if metric.unit is Unit.USER:
        users = per_user(alone)
        return (
            select(users.c.variant, users.c.phase, users.c.user_key, users.c.value_0.label("number"))
            .where(users.c.value_0.is_not(None))
            .subquery("numbers")
        )
    found, events = _exposed(alone), question.forms.events
    value = alone.value_of(metric.source)
    conditions = [
        *_read(alone, events, found),
        *alone.is_of(metric.source),
        *_timing(alone, metric, found.c.exposed_at),
    ]
    query = select(found.c.variant, found.c.phase, found.c.user_key, value.label("number")).join_from(
        events, found, events.c.user_key == found.c.user_key
    )
    return query.where(value.is_not(None), *conditions).subquery("numbers")


def _read(question: Question, events: FromClause, found: Subquery) -> list[Column]:
    """The conditions on an event to count at all."""
    plan = question.plan
    conditions = [
        events.c.type_key.in_(question.needed),
        events.c.occurred_at >= found.c.exposed_at,
        events.c.occurred_at < plan.end,
    ]
    return conditions if plan.start is None else [*conditions, events.c.occurred_at >= plan.start]


# Funnels


def funnel(question: Question, metric: Metric) -> CompoundSelect[Any]:
    """How many users came to each step, and for the last one, by cell: variant, phase, [period,] [segments,] step, users."""
    plan, counted = question.plan, []
    periods = question.forms.periods(plan.periods) if plan.periods else None
    for step, reached in enumerate(_steps(question, metric)):
        cells = [reached.c[name] for name in _cells_of_users(plan)]
        query = select(*cells, literal(step, Integer).label("step"), func.count().label("users"))
        if periods is not None:
            within = and_(reached.c.at >= periods.c.starts, reached.c.at < periods.c.ends)
            query = query.add_columns(periods.c.period).join(periods, within)
            cells.append(periods.c.period)
        counted.append(query.group_by(*cells))
    return union_all(*counted)


def _steps(question: Question, metric: Metric, prefix: str = "step") -> list[CTE]:
    """Of each step of a funnel the users who came to it, and when: the first event of the step at or after the step before.

    Two steps in a row that share an event type take two events, one after the other.
    """
    plan, found, steps = question.plan, _exposed(question.only(metric)), list[CTE]()
    names = ["user_key", *_cells_of_users(plan), "exposed_at"]
    before: FromClause = found
    at: Column = found.c.exposed_at + metric.delay
    for number, source in enumerate(metric.steps):
        events, keys = question.forms.events.alias(f"events_{number}"), question.keys_of(source)
        moment = events.c.occurred_at
        again = number > 0 and set(keys) & set(question.keys_of(metric.steps[number - 1]))
        conditions = [*question.is_of(source, events), moment < plan.end, moment > at if again else moment >= at]
        if plan.start is not None:
            conditions.append(moment >= plan.start)
        if metric.window is not None:
            conditions.append(moment < before.c.exposed_at + (metric.delay + metric.window))
        if metric.complete:
            conditions.append(_over(metric, before.c.exposed_at, plan))
        columns = [before.c[name] for name in names]
        query = select(*columns, func.min(moment).label("at"))
        query = query.join_from(events, before, and_(events.c.user_key == before.c.user_key, *conditions))
        before = query.group_by(*columns).cte(f"{prefix}_{number}")
        at = before.c.at
        steps.append(before)
    return steps
