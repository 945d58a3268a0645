"""Metrics: what is measured per user.

Every event type is a metric with no definition at all. A reference is a text or an object:

    "purchase"             share of users with at least one such event          (conversion)
    "purchase:count"       events per user                                      (count)
    "purchase:sum"         sum of the events' values per user                   (sum)
    "revenue"              sum of the values of the primary metric's events, of all events where there is no primary
    "conversion_rate"      the conversion of the primary metric, of any event where there is no primary
    {"key": "spend", "kind": "sum", "event_type": "order"}     the same with a name of its own

Users without an event count as zero. Which events count at all is said once, in `results.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from upshot import identifiers
from upshot.errors import Fault, Invalid
from upshot.experiments import Experiment

METRICS = 50


class Kind(StrEnum):
    """How a user's events become the one number of that user."""

    CONVERSION = "conversion"
    COUNT = "count"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per user, from the events of some types; no types means every type."""

    key: str
    kind: Kind
    event_types: tuple[str, ...]


def parse(reference: Any, main: tuple[str, ...], pointer: str = "/metrics") -> Metric:
    """The metric that a reference stands for; `main` are the event types of the experiment's primary metric.

    Raises:
        Invalid: the reference is neither a usable text nor a usable object.
    """
    if isinstance(reference, str):
        return _of_text(reference, main, pointer)
    if not isinstance(reference, Mapping):
        raise _invalid(pointer, "bad_metric", "must be a text or an object")
    unknown = sorted(set(reference) - {"key", "kind", "event_type", "event_types"})
    if unknown:
        raise _invalid(pointer, "unknown_field", "a metric has key, kind, event_type and event_types")
    types = _types(reference, pointer)
    try:
        kind = Kind(reference.get("kind", Kind.CONVERSION))
    except ValueError:
        raise _invalid(f"{pointer}/kind", "bad_kind", f"must be one of {', '.join(Kind)}") from None
    key = reference.get("key", types[0] if len(types) == 1 and kind is Kind.CONVERSION else None)
    if not isinstance(key, str):
        raise _invalid(f"{pointer}/key", "missing", "a metric needs a key")
    _check(key, f"{pointer}/key")
    return Metric(key, kind, types)


def parse_all(references: Sequence[Any], main: tuple[str, ...], pointer: str = "/metrics") -> tuple[Metric, ...]:
    """The metrics of several references, in order, each key once.

    Raises:
        Invalid: one of them is not usable, two share a key with different meanings, or there are more than 50.
    """
    if len(references) > METRICS:
        raise _invalid(pointer, "too_many", f"at most {METRICS} metrics")
    found: dict[str, Metric] = {}
    for index, reference in enumerate(references):
        metric = parse(reference, main, f"{pointer}/{index}")
        if found.setdefault(metric.key, metric) != metric:
            raise _invalid(f"{pointer}/{index}/key", "duplicate_key", "is the key of another metric")
    return tuple(found.values())


def of_experiment(experiment: Experiment) -> tuple[Metric, ...]:
    """The metrics that an experiment's result holds when nothing else is asked for: primary, others, guardrails, revenue."""
    return of_references(experiment.primary_metric, experiment.metrics, experiment.guardrails)


def of_references(primary: str | None, references: Sequence[Any], guardrails: Sequence[Any]) -> tuple[Metric, ...]:
    """The metrics of an experiment with these references, the primary one first.

    Raises:
        Invalid: one of the references is not usable.
    """
    main = _main_types(primary, references)
    named = {metric.key: metric for metric in parse_all(references, main)}
    leading = named.get(primary or "") or parse(primary or "conversion_rate", main, "/primary_metric")
    rest = [*named.values(), *parse_all(guardrails, main, "/guardrails")]
    if all(metric.kind is not Kind.SUM for metric in (leading, *rest)):
        rest.append(parse("revenue", main))  # out of the box, unless the experiment says what its money is
    metrics = {metric.key: metric for metric in reversed([leading, *rest])}
    return tuple(dict.fromkeys(metrics[metric.key] for metric in (leading, *rest)))


def asked_for(experiment: Experiment, names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that a request names; a name means the experiment's own metric of that key first.

    Raises:
        Invalid: a name is not usable as a metric.
    """
    own = {metric.key: metric for metric in of_experiment(experiment)}
    main = _main_types(experiment.primary_metric, experiment.metrics)
    return tuple(dict.fromkeys(own.get(name) or parse(name, main) for name in names))


def _of_text(text: str, main: tuple[str, ...], pointer: str) -> Metric:
    _check(text, pointer)
    if text == "revenue":
        return Metric(text, Kind.SUM, main)
    if text == "conversion_rate":
        return Metric(text, Kind.CONVERSION, main)
    name, _, kind = text.rpartition(":")
    if name and kind in set(Kind):
        return Metric(text, Kind(kind), (name,))
    return Metric(text, Kind.CONVERSION, (text,))


def _main_types(primary: str | None, references: Sequence[Any]) -> tuple[str, ...]:
    """The event types behind the primary metric's name; none means every type."""
    for reference in references:
        if primary and isinstance(reference, Mapping) and reference.get("key") == primary:
            return parse(reference, ()).event_types
    if primary is None or primary in {"revenue", "conversion_rate"}:
        return ()
    return _of_text(primary, (), "/primary_metric").event_types


def _types(reference: Mapping[str, Any], pointer: str) -> tuple[str, ...]:
    types = reference.get("event_types", [reference["event_type"]] if "event_type" in reference else [])
    if not isinstance(types, list) or not types or not all(isinstance(name, str) for name in types):
        raise _invalid(f"{pointer}/event_type", "missing", "a metric needs the event type that it counts")
    for name in types:
        _check(name, f"{pointer}/event_type")
    return tuple(sorted(set(types)))


def _check(text: str, pointer: str) -> None:
    found = identifiers.fault_of_text(text, identifiers.EVENT_TYPE_LENGTH)
    if found:
        raise Invalid.of(Fault(pointer, *found))


def _invalid(pointer: str, code: str, message: str) -> Invalid:
    return Invalid.of(Fault(pointer, code, message))
