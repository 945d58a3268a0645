"""A plan as a store asks it: with the client and the event types as keys, and what has to be known before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Double, FromClause, Integer, case, cast, literal

from upshot.aggregation import AggregationPlan
from upshot.eventstore import filters
from upshot.eventstore.forms import Forms
from upshot.metrics import Metric, Source

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


class Identities(NamedTuple):
    """What has to be known of ids: whether any of the client's are linked, and whether users were withdrawn from the plan's
    experiments."""

    linked: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A plan with the client and the event types translated to keys; types that were never seen have none.

    `texts` are the different texts of attributes that filters have to see, by source and attribute; `caps` those of each
    metric's quantities and covariates, by key and column; `identities` say who is one user. All are found before the question
    can be asked in full.
    """

    plan: AggregationPlan
    client_key: int
    type_keys: Mapping[str, int]
    forms: Forms
    texts: Mapping[tuple[Source, str], Sequence[str]] = field(default_factory=dict)
    caps: Mapping[tuple[str, str], Caps] = field(default_factory=dict)
    identities: Identities | None = None

    @property
    def linked(self) -> bool:
        """Whether ids of the client are linked."""
        return self.identities is not None and self.identities.linked

    @property
    def withdrawn(self) -> bool:
        """Whether users were withdrawn from the plan's experiments."""
        return self.identities is not None and self.identities.withdrawn

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


def caps_of(question: Question, metric: Metric) -> list[Caps]:
    """Where each of a user's numbers is cut off."""
    return [question.caps.get((metric.key, name), UNCUT) for name in question.plan.numbers_of(metric)]
