"""Writing the definition of a metric: what `define` reads."""

from typing import Any

from upshot import targeting
from upshot.metrics.durations import written
from upshot.metrics.model import LOOKBACK, Kind, Metric, Source, Unit


def describe(metric: Metric) -> dict[str, Any]:
    """The definition of a metric, without what is at its default: `define(describe(metric)) == metric` but for its version."""
    found: dict[str, Any] = {"key": metric.key, "kind": str(metric.kind)}
    if metric.kind is Kind.FUNNEL:
        found["steps"] = [_describe_source(step) for step in metric.steps]
    elif metric.kind is Kind.RATIO and metric.denominator is not None:
        found["numerator"] = {"of": str(metric.of), **_describe_source(metric.source)}
        found["denominator"] = {"of": str(metric.denominator.fold), **_describe_source(metric.denominator.source)}
    else:
        found |= _describe_source(metric.source)
    if metric.kind is Kind.THRESHOLD:
        found |= {"of": str(metric.of), "at_least": metric.amount}
    if metric.kind is Kind.QUANTILE:
        found |= {"level": metric.amount, "per": str(metric.unit)}
        found |= {"of": str(metric.of)} if metric.unit is Unit.USER else {}
    if metric.winsorising is not None:
        cut = metric.winsorising
        found["winsorize"] = {"lower": cut.lower, "upper": cut.upper, "ignore_zeros": cut.ignore_zeros}
    blank = Metric(metric.key, metric.kind)
    plain = {
        "delay": written(metric.delay) if metric.delay else None,
        "window": written(metric.window) if metric.window else None,
        "complete_windows": True if metric.complete and metric.kind is not Kind.RETENTION else None,
        "covariate": metric.covariate,
        "lookback": written(metric.lookback) if metric.lookback != LOOKBACK else None,
        "direction": str(metric.direction) if metric.direction is not blank.direction else None,
        "role": None if metric.role is None else str(metric.role),
        "minimum_effect": metric.minimum_effect,
        "margin": metric.margin or None,
        "name": metric.name or None,
        "description": metric.description or None,
    }
    return found | {name: value for name, value in plain.items() if value is not None}


def _describe_source(source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {"event_types": list(source.event_types)}
    if len(source.event_types) == 1:
        found = {"event_type": source.event_types[0]}
    if source.where is not None:
        found["where"] = targeting.dump(source.where)
    if source.value is not None:
        found["value"] = source.value
    return found
