"""What a metric is, in one sentence."""

from upshot import targeting
from upshot.dashboard import figures
from upshot.metrics import Kind, Metric, Source
from upshot.metrics.durations import written
from upshot.metrics.model import Fold, Quantity, Unit


def in_words(metric: Metric) -> str:
    """The definition of a metric as a sentence or two."""
    said = [f"{_number(metric)[0].upper()}{_number(metric)[1:]}{_when(metric)}."]
    if metric.winsorising is not None:
        ends = (("below", metric.winsorising.lower), ("above", metric.winsorising.upper))
        cut = " and ".join(f"{side} the {end:g}th percentile" for side, end in ends if end is not None)
        said.append(f"Numbers of users {cut} are cut off there.")
    if metric.direction == "decrease":
        said.append("Lower is better.")
    if metric.minimum_effect is not None:
        said.append(f"A lift of {figures.percent(metric.minimum_effect)} is the smallest of interest.")
    if metric.margin:
        said.append(f"A loss of {figures.percent(metric.margin)} is acceptable.")
    return " ".join([metric.description, *said] if metric.description else said)


def _number(metric: Metric) -> str:
    source = _source(metric.source)
    match metric.kind:
        case Kind.CONVERSION | Kind.RETENTION:
            return f"the share of users with at least one {source}"
        case Kind.COUNT:
            return f"{source}s per user"
        case Kind.SUM:
            return f"the sum of {_value(metric.source)} of {source}s per user"
        case Kind.MEAN:
            return f"the mean {_value(metric.source)} per {source}"
        case Kind.THRESHOLD:
            what = f"{source}s" if metric.of is Fold.COUNT else f"{_value(metric.source)} in {source}s"
            return f"the share of users who reach {metric.amount:g} {what}"
        case Kind.FUNNEL:
            steps = ", then ".join(_source(step) for step in metric.steps)
            return f"the share of users who do all of: {steps}"
        case Kind.QUANTILE:
            per = "events" if metric.unit is Unit.EVENT else "users"
            return f"the {100 * metric.amount:g} % quantile of {_value(metric.source)} of {source}s, over {per}"
        case Kind.RATIO:
            below = metric.denominator or Quantity(Fold.COUNT, metric.source)
            return f"{_quantity(Quantity(metric.of, metric.source))} per {_quantity(below)}"


def _quantity(quantity: Quantity) -> str:
    source = _source(quantity.source)
    return f"{_value(quantity.source)} of {source}s" if quantity.fold is Fold.SUM else f"{source}s"


def _value(source: Source) -> str:
    return source.value or "value"


def _source(source: Source) -> str:
    named = " or ".join(source.event_types) or "any"
    kept = "" if source.where is None else f" where {targeting.dump(source.where)}"
    return f"{named} event{kept}"


def _when(metric: Metric) -> str:
    if metric.window is None:
        return f", from {written(metric.delay)} after the exposure on" if metric.delay else ", after the exposure"
    start = f"beginning {written(metric.delay)} after" if metric.delay else "from"
    return f", within {written(metric.window)} {start} the exposure" + (
        "; only users whose window is over" if metric.complete else ""
    )
