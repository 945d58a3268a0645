"""What a reference to a metric stands for. A reference is a text or a definition:

    "purchase"             share of users with at least one such event          (conversion)
    "purchase:count"       events per user                                      (count)
    "purchase:sum"         sum of the events' values per user                   (sum)
    "revenue"              sum of the values of the primary metric's events, of all events where there is no primary
    "conversion_rate"      the conversion of the primary metric, of any event where there is no primary
    "checkout"             the metric definition of that key, where the client has one: it goes before an event type
    {"key": "spend", "kind": "sum", "event_type": "order"}     a definition of the experiment's own

Every event type is a metric with no definition at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from upshot import identifiers
from upshot.errors import Fault, Invalid
from upshot.experiments import Experiment
from upshot.metrics.definition import define
from upshot.metrics.model import Kind, Metric

METRICS = 50
Definitions = Mapping[str, Metric]
"""The metric definitions of a client, by key."""

_NONE: Definitions = {}


def parse(reference: Any, main: tuple[str, ...], pointer: str = "/metrics", definitions: Definitions = _NONE) -> Metric:
    """The metric that a reference stands for; `main` are the event types of the experiment's primary metric.

    Raises:
        Invalid: the reference is neither a usable text nor a usable definition.
    """
    if not isinstance(reference, str):
        return define(reference, pointer)
    found = identifiers.fault_of_text(reference, identifiers.EVENT_TYPE_LENGTH)
    if found:
        raise Invalid.of(Fault(pointer, *found))
    return definitions.get(reference) or _of_text(reference, main)


def parse_all(
    references: Sequence[Any], main: tuple[str, ...], pointer: str = "/metrics", definitions: Definitions = _NONE
) -> tuple[Metric, ...]:
    """The metrics of several references, in order, each key once.

    Raises:
        Invalid: one of them is not usable, two share a key with different meanings, or there are more than 50.
    """
    if len(references) > METRICS:
        raise Invalid.of(Fault(pointer, "too_many", f"at most {METRICS} metrics"))
    found: dict[str, Metric] = {}
    for index, reference in enumerate(references):
        metric = parse(reference, main, f"{pointer}/{index}", definitions)
        if found.setdefault(metric.key, metric) != metric:
            raise Invalid.of(Fault(f"{pointer}/{index}/key", "duplicate_key", "is the key of another metric"))
    return tuple(found.values())


def of_experiment(experiment: Experiment, definitions: Definitions = _NONE) -> tuple[Metric, ...]:
    """The metrics that an experiment's result holds when nothing else is asked for: primary, others, guardrails, revenue.

    Raises:
        Invalid: one of the references is not usable.
    """
    main = _main_types(experiment.primary_metric, experiment.metrics, definitions)
    named = {metric.key: metric for metric in parse_all(experiment.metrics, main, definitions=definitions)}
    primary = experiment.primary_metric
    leading = named.get(primary or "") or parse(primary or "conversion_rate", main, "/primary_metric", definitions)
    guardrails = parse_all(experiment.guardrails, main, "/guardrails", definitions)
    rest = [*named.values(), *guardrails]
    if all(metric.kind is not Kind.SUM for metric in (leading, *rest)):
        rest.append(parse("revenue", main))  # out of the box, unless the experiment says what its money is
    metrics = {metric.key: metric for metric in reversed([leading, *rest])}
    return tuple(dict.fromkeys(metrics[metric.key] for metric in (leading, *rest)))


def guardrails_of(experiment: Experiment, definitions: Definitions = _NONE) -> tuple[Metric, ...]:
    """The metrics that must not get worse."""
    main = _main_types(experiment.primary_metric, experiment.metrics, definitions)
    return parse_all(experiment.guardrails, main, "/guardrails", definitions)


def asked_for(experiment: Experiment, names: Sequence[str], definitions: Definitions = _NONE) -> tuple[Metric, ...]:
    """The metrics that a request names; a name means the experiment's own metric of that key first.

    Raises:
        Invalid: a name is not usable as a metric.
    """
    own = {metric.key: metric for metric in of_experiment(experiment, definitions)}
    main = _main_types(experiment.primary_metric, experiment.metrics, definitions)
    return tuple(dict.fromkeys(own.get(name) or parse(name, main, definitions=definitions) for name in names))


def _of_text(text: str, main: tuple[str, ...]) -> Metric:
    if text == "revenue":
        return Metric(text, Kind.SUM, main)
    if text == "conversion_rate":
        return Metric(text, Kind.CONVERSION, main)
    name, _, kind = text.rpartition(":")
    if name and kind in {Kind.CONVERSION, Kind.COUNT, Kind.SUM}:
        return Metric(text, Kind(kind), (name,))
    return Metric(text, Kind.CONVERSION, (text,))


def _main_types(primary: str | None, references: Sequence[Any], definitions: Definitions) -> tuple[str, ...]:
    """The event types behind the primary metric's name; none means every type."""
    for reference in references:
        if primary and isinstance(reference, Mapping) and reference.get("key") == primary:
            return _types_of(define(reference))
    if primary is None or primary in {"revenue", "conversion_rate"}:
        return ()
    return _types_of(parse(primary, (), "/primary_metric", definitions))


def _types_of(metric: Metric) -> tuple[str, ...]:
    """The event types that a metric is about: of a funnel those of its last step."""
    return metric.sources[-1].event_types if metric.kind is Kind.FUNNEL else metric.event_types
