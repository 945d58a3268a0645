"""The rules of attribution a second time, as plain Python over lists: what every event store is measured against."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from upshot import targeting
from upshot.aggregation import AggregationPlan, Cell, Delivery, Measured, Ordered
from upshot.diagnosis import Joined
from upshot.events import IDENTITY_CONFLICT, SEQUENCES, Event, Exposure, Withdrawal
from upshot.eventstore.filters import scalars
from upshot.eventstore.keys import Keys, integers
from upshot.metrics import Fold, Kind, Metric, Quantity, Source, Unit
from upshot.statistics import Moments, ThirdMoments, quantile
from upshot.statistics.comoments import Comoments

Rule = Callable[[Event, Exposure], bool]
Contexts = Mapping[str, Mapping[str, Any]]


class Expected(NamedTuple):
    """What a plan should find: users, those whose window is over, and metrics, per cell; and who is left out, by reason."""

    exposed: dict[Cell, int]
    eligible: dict[tuple[Cell, str], int]
    measured: dict[tuple[Cell, str], Measured]
    withdrawn: Mapping[str, int] = {}


class Identities(NamedTuple):
    """Links as (client, alias, user), and withdrawals with their clients, as they were told."""

    links: Sequence[tuple[str, str, str]] = ()
    withdrawals: Sequence[tuple[str, Withdrawal]] = ()

    def user(self, client: str, own: str) -> str:
        """Whose an id is."""
        return next((user for owner, alias, user in self.links if (owner, alias) == (client, own)), own)

    def reason(self, client: str, experiment: int, user: str) -> str | None:
        """Why a user was withdrawn from an experiment: the first reason of each of the ids, the least of these."""
        found: dict[str, str] = {}
        for owner, (number, own, reason) in self.withdrawals:
            if (owner, number) == (client, experiment) and self.user(client, own) == user:
                found.setdefault(own, reason)
        return min(found.values(), default=None)


NOTHING = Identities()


def at_or_after(event: Event, exposure: Exposure) -> bool:
    """The attribution rule."""
    return event.occurred_at >= exposure.exposed_at


def aggregate(
    client: str,
    plan: AggregationPlan,
    exposures: Sequence[Exposure],
    events: Iterable[tuple[str, Event]],
    contexts: Contexts,
    counts: Rule = at_or_after,
    identities: Identities = NOTHING,
) -> Expected:
    """Aggregate by looking at every event; `counts` is the attribution rule, for mutants to replace."""
    users = _users(client, plan, exposures, events, contexts, identities)
    exposed: dict[Cell, int] = {}
    eligible: dict[tuple[Cell, str], int] = {}
    for user in users:
        for cell in user.cells(plan, user.exposure.exposed_at):
            exposed[cell] = exposed.get(cell, 0) + 1
            for metric in plan.metrics:
                if metric.complete:
                    eligible[cell, metric.key] = eligible.get((cell, metric.key), 0) + _over(metric, user, plan)
    measured: dict[tuple[Cell, str], Measured] = {}
    for metric in plan.metrics:
        measured |= {(cell, metric.key): found for cell, found in _metric(metric, users, plan, counts).items()}
    return Expected(exposed, eligible, measured, {} if plan.entry else _left_out(client, plan, exposures, identities))


def delivery(
    client: str,
    plan: AggregationPlan,
    exposures: Sequence[Exposure],
    events: Iterable[tuple[str, Event]],
    counts: Rule = at_or_after,
    *,
    from_the_start: bool = False,
    one_session: bool = False,
    identities: Identities = NOTHING,
) -> dict[Cell, Delivery]:
    """What was lost of numbered events, and sent; broken where a session's numbers from before the exposure are forgotten
    (`from_the_start`), or all of a user's sessions are taken for one (`one_session`)."""
    numbers: dict[Cell, list[tuple[int, int]]] = {}
    for user in _users(client, plan, exposures, events, {}, identities):
        sessions: dict[int, list[tuple[int, bool]]] = {}
        for event in user.events:
            if event.ordinal is not None:
                session, sequence = divmod(event.ordinal, SEQUENCES)
                place = (sequence, counts(event, user.exposure))
                sessions.setdefault(0 if one_session else session, []).append(place)
        pairs = []
        for places in sessions.values():
            received = [sequence for sequence, after in places if after]
            before = [] if from_the_start else [sequence for sequence, after in places if not after]
            if received:
                sent = max(0, max(received) - max(before, default=0))
                pairs.append((max(0, sent - len(received)), sent))
        if pairs:
            lost, sent = map(sum, zip(*pairs, strict=True))
            for cell in user.cells(plan, user.exposure.exposed_at):
                numbers.setdefault(cell, []).append((lost, sent))
    return {cell: Delivery(Comoments.of(rows), sum(lost > 0 for lost, _ in rows)) for cell, rows in numbers.items()}


def volumes(
    client: str, events: Iterable[tuple[str, Event]], start: int, end: int, width: int
) -> list[tuple[str, int, int]]:
    """How many events of each type happened in each period: type, beginning, number."""
    distinct: dict[str, Event] = {}
    for _, event in (item for item in events if item[0] == client):
        distinct.setdefault(event.event_id, event)
    found = Counter(
        (event.event_type, start + (event.occurred_at - start) // width * width)
        for event in distinct.values()
        if start <= event.occurred_at < end
    )
    return sorted((*key, number) for key, number in found.items())


def joined(
    client: str,
    plan: AggregationPlan,
    exposures: Sequence[Exposure],
    events: Iterable[tuple[str, Event]],
    counts: Rule = at_or_after,
    identities: Identities = NOTHING,
) -> Joined:
    """How exposures and the events of the plan's metrics come together, but for the newest arrivals."""
    everyone: dict[str, tuple[Exposure, bool]] = {}
    for first, user, reason in _by_user(client, exposures, identities):
        if first.experiment == plan.experiment:
            everyone[user] = first, reason is None and first.exposed_at < plan.end
    sources = [source for metric in plan.metrics for source in metric.sources]
    distinct: dict[str, Event] = {}
    for _, event in (item for item in events if item[0] == client):
        distinct.setdefault(event.event_id, event)
    found: dict[str, Counter[str]] = {name: Counter() for name in ("after", "before", "unknown")}
    for event in distinct.values():
        if (plan.start or 0) <= event.occurred_at < plan.end and any(_is_of(source, event) for source in sources):
            user = identities.user(client, event.user_id)
            if user not in everyone:
                found["unknown"][user] += 1
            elif everyone[user][1]:
                found["after" if counts(event, everyone[user][0]) else "before"][user] += 1
    counted = [first for first, counted in everyone.values() if counted]
    return Joined(
        exposed_users=len(counted),
        last_exposure=max((first.exposed_at for first in counted), default=None),
        joined_users=len(found["after"]),
        events_before=found["before"].total(),
        users_before=len(found["before"]),
        unknown_events=found["unknown"].total(),
        unknown_users=len(found["unknown"]),
    )


def _users(
    client: str,
    plan: AggregationPlan,
    exposures: Sequence[Exposure],
    events: Iterable[tuple[str, Event]],
    contexts: Contexts,
    identities: Identities,
) -> "list[_User]":
    own = [event for owner, event in events if owner == client]
    events = [(client, event._replace(user_id=identities.user(client, event.user_id))) for event in own]
    if plan.entry:
        exposures = [*_entered(client, plan, events)]
    else:
        kept = [(first, user) for first, user, reason in _by_user(client, exposures, identities) if reason is None]
        of_plan = {user: contexts.get(first.user_id, {}) for first, user in kept if first.experiment == plan.experiment}
        contexts, exposures = {**contexts, **of_plan}, [replace(first, user_id=user) for first, user in kept]
    first: dict[str, Exposure] = {}
    beside: dict[str, int] = {}
    for exposure in exposures:
        if exposure.client == client and exposure.experiment == plan.experiment and exposure.exposed_at < plan.end:
            first.setdefault(exposure.user_id, exposure)
        if exposure.client == client and exposure.experiment == plan.beside:
            beside.setdefault(exposure.user_id, exposure.variant)
    if plan.beside is not None:
        first = {user: exposure for user, exposure in first.items() if user in beside}
    distinct: dict[str, Event] = {}
    for _, event in (item for item in events if item[0] == client):
        distinct.setdefault(event.event_id, event)
    of_user: dict[str, list[Event]] = {user: [] for user in first}
    for event in sorted(distinct.values(), key=lambda event: event.occurred_at):
        if event.user_id in of_user and event.occurred_at < plan.end:
            of_user[event.user_id].append(event)
    return [
        _User(exposure, of_user[user], contexts.get(user, {}), beside.get(user)) for user, exposure in first.items()
    ]


def _by_user(
    client: str, exposures: Sequence[Exposure], identities: Identities
) -> Iterator[tuple[Exposure, str, str | None]]:
    """The first exposure of each user in each experiment, under whichever id, whose it is, and why it does not count."""
    found: dict[tuple[int, str], dict[str, Exposure]] = {}
    for exposure in exposures:
        if exposure.client == client:
            user = identities.user(client, exposure.user_id)
            found.setdefault((exposure.experiment, user), {}).setdefault(exposure.user_id, exposure)
    for (experiment, user), own in found.items():
        reason = identities.reason(client, experiment, user)
        if reason is None and len({exposure.variant for exposure in own.values()}) > 1:
            reason = IDENTITY_CONFLICT
        yield min(own.values(), key=lambda exposure: (exposure.exposed_at, _identity(exposure))), user, reason


def _identity(exposure: Exposure) -> tuple[int, int]:
    """What tells exposures of one moment apart."""
    high, low = integers([Keys(exposure.client).exposure(exposure.experiment, exposure.user_id)])[0].tolist()
    return high, low


def _left_out(
    client: str, plan: AggregationPlan, exposures: Sequence[Exposure], identities: Identities
) -> dict[str, int]:
    found = Counter(
        reason
        for exposure, _, reason in _by_user(client, exposures, identities)
        if reason is not None and exposure.experiment == plan.experiment and exposure.exposed_at < plan.end
    )
    return dict(found)


def _entered(client: str, plan: AggregationPlan, events: Iterable[tuple[str, Event]]) -> Iterator[Exposure]:
    """Whoever caused an event of the entry, as if exposed at the first of them."""
    entries = [
        event
        for owner, event in events
        if owner == client
        and event.event_type in plan.entry
        and (plan.start or event.occurred_at) <= event.occurred_at < plan.end
    ]
    for event in sorted(entries, key=lambda event: event.occurred_at):
        yield Exposure(client, plan.experiment, event.user_id, 0, 1, event.occurred_at, "{}")


class _User(NamedTuple):
    exposure: Exposure
    events: list[Event]
    context: Mapping[str, Any]
    beside: int | None

    def cells(self, plan: AggregationPlan, moment: int) -> Iterator[Cell]:
        """Where something of the user at that moment belongs."""
        values = [self.context.get(name) for name in plan.segments]
        segments = tuple(None if value is None else str(value) for value in values)
        if not plan.periods:
            yield Cell(self.exposure.variant, self.exposure.phase, None, segments, self.beside)
        for index, period in enumerate(plan.periods):
            if period.start <= moment < period.end:
                yield Cell(self.exposure.variant, self.exposure.phase, index, segments, self.beside)


class _Numbers(NamedTuple):
    """A user's numbers in a metric: events, numerator, denominator, the same before; None without such events."""

    events: int
    value: float | None
    other: float | None
    before: tuple[float, ...]


def _metric(metric: Metric, users: Sequence[_User], plan: AggregationPlan, counts: Rule) -> dict[Cell, Measured]:
    if metric.kind is Kind.FUNNEL:
        return _funnel(metric, users, plan, counts)
    whole = replace(plan, periods=(), segments=())
    cut = _caps(
        metric, [numbers.value for user in users for _, numbers in _numbers(metric, user, whole, counts)], users, plan
    )
    befores = [
        numbers.before[0] for user in users for _, numbers in _numbers(metric, user, whole, counts) if numbers.before
    ]
    cut_before = _caps(metric, [value or None for value in befores], users, plan) if befores else lambda value: value
    found: dict[Cell, list[tuple[int, _Numbers]]] = {}
    for place, user in enumerate(users):
        for cell, numbers in _numbers(metric, user, plan, counts):
            found.setdefault(cell, []).append((place, numbers))
    measured = {cell: _measured(metric, listed, plan, cut, cut_before) for cell, listed in found.items()}
    measured = {cell: part for cell, part in measured.items() if part.events or part.joint}
    if metric.kind is Kind.QUANTILE:
        ordered = {} if plan.is_broken_down else _quantiles(metric, users, plan, counts)
        return ordered if metric.unit is Unit.EVENT else measured | ordered
    return measured


def _numbers(metric: Metric, user: _User, plan: AggregationPlan, counts: Rule) -> Iterator[tuple[Cell, _Numbers]]:
    """The user's numbers in every cell in which there are any, or anything before the exposure."""
    by_cell: dict[Cell, list[Event]] = {}
    for event in user.events:
        if _counts(event, metric, user, plan, counts):
            for cell in user.cells(plan, event.occurred_at):
                by_cell.setdefault(cell, []).append(event)
    before: tuple[float, ...] = ()
    if plan.adjusts(metric):
        before = tuple(_before(metric, user, plan))
        for cell in user.cells(replace(plan, periods=()), 0):
            by_cell.setdefault(cell, [])
    for cell, events in by_cell.items():
        own = [event for event in events if _is_of(metric.source, event)]
        folded = [_folded(quantity, events) for quantity in metric.quantities]
        value = folded[0]
        if metric.kind is Kind.THRESHOLD and value is not None and value < metric.amount:
            value = None
        yield cell, _Numbers(len(own), value, folded[1] if metric.is_ratio else None, before)


def _counts(event: Event, metric: Metric, user: _User, plan: AggregationPlan, counts: Rule) -> bool:
    moment, exposed_at = event.occurred_at, user.exposure.exposed_at
    return (
        (
            counts(event, user.exposure)
            and (plan.start is None or moment >= plan.start)
            and moment >= exposed_at + metric.delay * (metric.delay > 0)
            and (metric.window is None or moment < exposed_at + metric.delay + metric.window)
            and (not metric.complete or _over(metric, user, plan))
        )
        if metric.delay or metric.window or metric.complete
        else (counts(event, user.exposure) and (plan.start is None or moment >= plan.start))
    )


def _over(metric: Metric, user: _User, plan: AggregationPlan) -> bool:
    return user.exposure.exposed_at + metric.delay + (metric.window or 0) <= plan.end


def _before(metric: Metric, user: _User, plan: AggregationPlan) -> Iterator[float]:
    if metric.covariate:
        number = user.context.get(metric.covariate)
        yield float(number) if isinstance(number, int | float) and not isinstance(number, bool) else 0.0
        return
    exposed_at = user.exposure.exposed_at
    earlier = [e for e in user.events if exposed_at - metric.lookback <= e.occurred_at < exposed_at]
    for quantity in metric.quantities:
        yield _folded(quantity, earlier) or 0.0


def _is_of(source: Source, event: Event) -> bool:
    if source.event_types and event.event_type not in source.event_types:
        return False
    return source.where is None or targeting.matches(source.where, scalars(json.loads(event.properties)))


def _value(source: Source, event: Event) -> float | None:
    if source.value is None:
        return event.value
    found = json.loads(event.properties).get(source.value)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _folded(quantity: Quantity, events: Sequence[Event]) -> float | None:
    own = [event for event in events if _is_of(quantity.source, event)]
    values = [_value(quantity.source, event) for event in own]
    if quantity.fold is Fold.VALUES:
        known = [value for value in values if value is not None]
        return float(len(known)) if known else None
    if not own:
        return None
    return {Fold.ANY: 1.0, Fold.COUNT: float(len(own)), Fold.SUM: sum(value or 0.0 for value in values)}[quantity.fold]


def _caps(
    metric: Metric, values: Sequence[float | None], users: Sequence[_User], plan: AggregationPlan
) -> Callable[[float], float]:
    """Where numbers are cut off: NumPy's percentiles over the users of all arms."""
    cut = metric.winsorising
    if cut is None:
        return lambda value: value
    known = [value for value in values if value is not None]
    everybody = sum(_over(metric, user, plan) for user in users) if metric.complete else len(users)
    sample = [v for v in known if v] if cut.ignore_zeros else known + [0.0] * (everybody - len(known))
    low = float(np.percentile(sample, cut.lower)) if cut.lower is not None and sample else -np.inf
    high = float(np.percentile(sample, cut.upper)) if cut.upper is not None and sample else np.inf
    return lambda value: min(max(value, low), high)


def _measured(
    metric: Metric,
    listed: Sequence[tuple[int, _Numbers]],
    plan: AggregationPlan,
    cut: Callable[[float], float],
    cut_before: Callable[[float], float],
) -> Measured:
    active = [
        numbers
        for _, numbers in listed
        if (numbers.value is not None if metric.kind is Kind.THRESHOLD else numbers.events)
    ]
    values = [1.0 if metric.is_share else numbers.value or 0.0 for numbers in active]
    moments = Moments.of([value if metric.is_share else cut(value) for value in values])
    events = sum(numbers.events for _, numbers in listed)
    joint = None
    if metric.is_ratio or plan.adjusts(metric):
        rows = []
        for _, numbers in listed:
            own = (1.0 if numbers.events else 0.0) if metric.is_share else cut(numbers.value or 0.0)
            before = (cut_before(numbers.before[0]), *numbers.before[1:]) if numbers.before else ()
            rows.append((own, *((numbers.other or 0.0,) if metric.is_ratio else ()), *before))
        joint = Comoments.of(rows)
    silent = [0.0 if metric.is_share else cut(0.0), *([0.0] if metric.is_ratio else [])]
    if plan.adjusts(metric):
        silent += [cut_before(0.0), *([0.0] if metric.is_ratio else [])]
    third = ThirdMoments.of(map(cut, values)) if values and metric.is_average and not plan.is_broken_down else None
    return Measured(len(active), events, sum(values), moments, tuple(silent), joint, third=third)


def _funnel(metric: Metric, users: Sequence[_User], plan: AggregationPlan, counts: Rule) -> dict[Cell, Measured]:
    reached: dict[Cell, list[int]] = {}
    for user in users:
        at, last = user.exposure.exposed_at + metric.delay, None
        for step, source in enumerate(metric.steps):
            later = [
                event for event in user.events
                if _is_of(source, event) and _counts(event, metric, user, plan, counts)
                and event.occurred_at >= at + bool(last and set(last.event_types) & set(source.event_types))
            ]  # fmt: skip
            if not later:
                break
            at, last = later[0].occurred_at, source
            for cell in user.cells(plan, at):
                reached.setdefault(cell, [0] * len(metric.steps))[step] += 1
    return {
        cell: Measured(
            steps[-1], steps[-1], float(steps[-1]), Moments.binomial(steps[-1], steps[-1]), steps=tuple(steps)
        )
        for cell, steps in reached.items()
    }


def _quantiles(metric: Metric, users: Sequence[_User], plan: AggregationPlan, counts: Rule) -> dict[Cell, Measured]:
    values: dict[Cell, dict[int, list[float]]] = {}
    for place, user in enumerate(users):
        for cell, numbers in _numbers(metric, user, plan, counts):
            if metric.unit is Unit.USER:
                own = [] if numbers.value is None else [numbers.value]
            else:
                events = [e for e in user.events if _counts(e, metric, user, plan, counts) and _is_of(metric.source, e)]
                own = [value for e in events if (value := _value(metric.source, e)) is not None]
            if own:
                values.setdefault(cell, {})[place] = own
    measured: dict[Cell, Measured] = {}
    for cell, of_users in values.items():
        ordered = sorted(value for own in of_users.values() for value in own)
        ranks = quantile.ranks(len(ordered), metric.amount)
        if ranks is None:
            continue
        at = tuple(ordered[rank - 1] for rank in ranks)
        below = Comoments.of([(float(bisect_right(sorted(own), at[1])), float(len(own))) for own in of_users.values()])
        order = Ordered(
            len(ordered), len(of_users), ranks, (at[0], at[1], at[2]), below if metric.unit is Unit.EVENT else None
        )
        moments = Measured(len(of_users), len(ordered), 0.0, Moments())
        if metric.unit is Unit.USER:
            mine = [(0, n) for user in users for c, n in _numbers(metric, user, plan, counts) if c == cell]
            moments = _measured(metric, mine, plan, lambda value: value, lambda value: value)
        measured[cell] = replace(moments, ordered=order)
    return measured
