"""Reading the definition of a metric: a JSON object, checked to the last field.

    {"kind": "conversion", "event_type": "order", "where": {"attribute": "country", "operator": "eq", "value": "US"}}
    {"kind": "mean", "event_type": "order", "value": "price"}
    {"kind": "ratio", "numerator": {"of": "count", "event_type": "click"}, "denominator": {"event_type": "view"}}
    {"kind": "quantile", "event_type": "load", "value": "ms", "level": 0.9, "per": "event", "direction": "decrease"}
    {"kind": "retention", "event_type": "visit", "delay": "7d", "window": "1d"}
    {"kind": "funnel", "steps": [{"event_type": "view"}, {"event_type": "cart"}, {"event_type": "order"}]}
    {"kind": "threshold", "of": "sum", "event_type": "order", "at_least": 100}

Each with a `key`; docs/metrics.md says what every field means.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from upshot import identifiers, targeting
from upshot.errors import Fault, Invalid
from upshot.metrics.durations import micros_of
from upshot.metrics.model import (
    Direction,
    Fold,
    Kind,
    Metric,
    Quantity,
    Role,
    Source,
    Unit,
    Winsorising,
)

STEPS = 10
TEXT = 2_000

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

_SOURCE = frozenset({"event_type", "event_types", "where", "value"})
_ALWAYS = frozenset(
    {"key", "kind", "name", "description", "delay", "window", "direction", "role", "minimum_effect", "margin"}
)
_ADJUSTABLE = frozenset({"covariate", "lookback"})
_LOOKING_BACK = frozenset({"lookback"})
_FIELDS: Mapping[Kind, frozenset[str]] = {
    Kind.CONVERSION: _SOURCE | _ADJUSTABLE | {"complete_windows"},
    Kind.RETENTION: _SOURCE | _ADJUSTABLE,
    Kind.THRESHOLD: _SOURCE | {"of", "at_least", "complete_windows"},
    Kind.FUNNEL: frozenset({"steps", "complete_windows"}),
    Kind.COUNT: _SOURCE | _ADJUSTABLE | {"winsorize", "complete_windows"},
    Kind.SUM: _SOURCE | _ADJUSTABLE | {"winsorize", "complete_windows"},
    Kind.MEAN: _SOURCE | _LOOKING_BACK | {"complete_windows"},
    Kind.RATIO: frozenset({"numerator", "denominator", "complete_windows"}) | _LOOKING_BACK,
    Kind.QUANTILE: _SOURCE | {"level", "per", "of", "complete_windows"},
}
Word = TypeVar("Word", bound=str)


def define(raw: Any, pointer: str = "") -> Metric:
    """The metric of a definition.

    Raises:
        Invalid: a field is unknown, missing, or breaks its rule; the fault points at it.
    """
    if not isinstance(raw, Mapping):
        raise _invalid(pointer, "bad_metric", "must be a text or an object")
    kind = _word(Kind, raw.get("kind", Kind.CONVERSION), f"{pointer}/kind", "bad_kind")
    _known(raw, _ALWAYS | _FIELDS[kind], pointer)
    fields: dict[str, Any] = _source_fields(raw, pointer) if _FIELDS[kind] >= _SOURCE else {}
    fields |= _of_kind(kind, raw, pointer)
    fields |= _timing(kind, raw, pointer)
    fields |= _purpose(raw, pointer)
    types = fields.get("event_types", ())
    key = raw.get("key", types[0] if len(types) == 1 and kind is Kind.CONVERSION else None)
    if not isinstance(key, str):
        raise _invalid(f"{pointer}/key", "missing", "a metric needs a key")
    _check(key, f"{pointer}/key")
    return Metric(key=key, kind=kind, **fields)


def _of_kind(kind: Kind, raw: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    """The fields that only some kinds have."""
    found: dict[str, Any] = {}
    if kind is Kind.RATIO:
        numerator = _quantity(raw.get("numerator"), f"{pointer}/numerator")
        found |= {
            "event_types": numerator.source.event_types,
            "where": numerator.source.where,
            "value": numerator.source.value,
            "of": numerator.fold,
            "denominator": _quantity(raw.get("denominator"), f"{pointer}/denominator"),
        }
    if kind is Kind.FUNNEL:
        found["steps"] = _steps(raw.get("steps"), f"{pointer}/steps")
    if kind is Kind.THRESHOLD:
        found["of"] = _fold(raw.get("of", Fold.COUNT), f"{pointer}/of", {Fold.COUNT, Fold.SUM})
        found["amount"] = _number(raw.get("at_least"), f"{pointer}/at_least")
        if found["amount"] <= 0:
            raise _invalid(f"{pointer}/at_least", "out_of_range", "must be more than 0: users without events have 0")
    if kind is Kind.QUANTILE:
        found["amount"] = _number(raw.get("level"), f"{pointer}/level")
        if not 0 < found["amount"] < 1:
            raise _invalid(f"{pointer}/level", "out_of_range", "must lie between 0 and 1, such as 0.9")
        found["unit"] = _word(Unit, raw.get("per", Unit.EVENT), f"{pointer}/per", "bad_unit")
        if "of" in raw and found["unit"] is Unit.EVENT:
            raise _invalid(f"{pointer}/of", "unknown_field", "a quantile per event is of the events' values")
        found["of"] = _fold(raw.get("of", Fold.SUM), f"{pointer}/of", {Fold.COUNT, Fold.SUM})
    if raw.get("winsorize") is not None:
        found["winsorising"] = _winsorising(raw["winsorize"], f"{pointer}/winsorize")
    return found


def _timing(kind: Kind, raw: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    """Delay and window after the exposure, and how long before it the covariate is read."""
    found: dict[str, Any] = {}
    if raw.get("delay") is not None:
        found["delay"] = _duration(raw["delay"], f"{pointer}/delay")
    if raw.get("window") is not None:
        found["window"] = _duration(raw["window"], f"{pointer}/window")
    if kind is Kind.RETENTION and len(found) < 2:
        missing = "window" if "delay" in found else "delay"
        raise _invalid(f"{pointer}/{missing}", "missing", "retention needs a delay and a window, such as 7d and 1d")
    complete = raw.get("complete_windows", kind is Kind.RETENTION)
    if not isinstance(complete, bool):
        raise _invalid(f"{pointer}/complete_windows", "type", "must be true or false")
    if complete and "window" not in found:
        raise _invalid(f"{pointer}/complete_windows", "no_window", "needs a window that can be complete")
    if raw.get("lookback") is not None:
        found["lookback"] = _duration(raw["lookback"], f"{pointer}/lookback")
    return found | {"complete": complete}


def _purpose(raw: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    """What the metric is for, and its words."""
    found: dict[str, Any] = {}
    if raw.get("covariate") is not None:
        found["covariate"] = raw["covariate"]
        _check(raw["covariate"], f"{pointer}/covariate")
    if raw.get("direction") is not None:
        found["direction"] = _word(Direction, raw["direction"], f"{pointer}/direction", "bad_direction")
    if raw.get("role") is not None:
        found["role"] = _word(Role, raw["role"], f"{pointer}/role", "bad_role")
    for name, most in (("minimum_effect", 10.0), ("margin", 1.0)):
        if raw.get(name) is not None:
            found[name] = _number(raw[name], f"{pointer}/{name}")
            if not 0 < found[name] <= most:
                raise _invalid(
                    f"{pointer}/{name}", "out_of_range", f"is a share of control's value, above 0, to {most}"
                )
    for name in ("name", "description"):
        if raw.get(name) is not None:
            if not isinstance(raw[name], str) or len(raw[name]) > TEXT or _UNSTORABLE.search(raw[name]):
                raise _invalid(f"{pointer}/{name}", "bad_text", f"must be a text of at most {TEXT} characters")
            found[name] = raw[name]
    return found


def _source_fields(raw: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    source = _source(raw, pointer)
    return {"event_types": source.event_types, "where": source.where, "value": source.value}


def _source(raw: Mapping[str, Any], pointer: str) -> Source:
    where, value = raw.get("where"), raw.get("value")
    if value is not None:
        _check(value, f"{pointer}/value")
    rule = None if where in (None, {}) else targeting.parse(where, f"{pointer}/where")
    return Source(_types(raw, pointer), rule, value)


def _quantity(raw: Any, pointer: str) -> Quantity:
    if not isinstance(raw, Mapping):
        raise _invalid(pointer, "missing", 'must be an object such as {"of": "count", "event_type": "click"}')
    _known(raw, _SOURCE | {"of"}, pointer)
    fold = _fold(raw.get("of", Fold.COUNT), f"{pointer}/of", {Fold.ANY, Fold.COUNT, Fold.SUM})
    return Quantity(fold, _source(raw, pointer))


def _steps(raw: Any, pointer: str) -> tuple[Source, ...]:
    if not isinstance(raw, list) or not 2 <= len(raw) <= STEPS:
        raise _invalid(pointer, "bad_steps", f"a funnel has 2 to {STEPS} steps")
    found = []
    for index, step in enumerate(raw):
        place = f"{pointer}/{index}"
        if not isinstance(step, Mapping):
            raise _invalid(place, "type", 'must be an object such as {"event_type": "view"}')
        _known(step, {"event_type", "event_types", "where"}, place)
        found.append(_source(step, place))
    return tuple(found)


def _winsorising(raw: Any, pointer: str) -> Winsorising:
    if not isinstance(raw, Mapping):
        raise _invalid(pointer, "type", 'must be an object such as {"upper": 99}')
    _known(raw, {"lower", "upper", "ignore_zeros"}, pointer)
    lower, upper = (_percentile(raw.get(name), f"{pointer}/{name}") for name in ("lower", "upper"))
    if (lower, upper) == (None, None) or (lower is not None and upper is not None and lower >= upper):
        raise _invalid(pointer, "out_of_range", "needs a lower percentile, an upper one, or both in that order")
    zeros = raw.get("ignore_zeros", False)
    if not isinstance(zeros, bool):
        raise _invalid(f"{pointer}/ignore_zeros", "type", "must be true or false")
    return Winsorising(lower, upper, zeros)


def _percentile(raw: Any, pointer: str) -> float | None:
    percent = None if raw is None else _number(raw, pointer)
    if percent is not None and not 0 < percent < 100:
        raise _invalid(pointer, "out_of_range", "is a percentile between 0 and 100, such as 99")
    return percent


def _types(raw: Mapping[str, Any], pointer: str) -> tuple[str, ...]:
    if "event_type" in raw and "event_types" in raw:
        raise _invalid(f"{pointer}/event_types", "ambiguous", "is another name of event_type: give one of them")
    types = raw.get("event_types", [raw["event_type"]] if "event_type" in raw else [])
    if not isinstance(types, list) or not types or not all(isinstance(name, str) for name in types):
        raise _invalid(f"{pointer}/event_type", "missing", "a metric needs the event type that it counts")
    for name in types:
        _check(name, f"{pointer}/event_type")
    return tuple(sorted(set(types)))


def _duration(raw: Any, pointer: str) -> int:
    found = micros_of(raw)
    if found is None:
        raise _invalid(pointer, "bad_duration", "must be like 30m, 12h or 7d, and at most 400 days")
    return found


def _number(raw: Any, pointer: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise _invalid(pointer, "missing" if raw is None else "type", "must be a number")
    return float(raw)


def _word(words: type[Word], raw: Any, pointer: str, code: str) -> Word:
    try:
        return words(raw)
    except ValueError:
        raise _invalid(pointer, code, f"must be one of {', '.join(words)}") from None  # type: ignore[arg-type]


def _fold(raw: Any, pointer: str, allowed: Collection[Fold]) -> Fold:
    if not isinstance(raw, str) or raw not in allowed:
        raise _invalid(pointer, "bad_fold", f"must be one of {', '.join(sorted(allowed))}")
    return Fold(raw)


def _known(raw: Mapping[str, Any], allowed: Collection[str], pointer: str) -> None:
    if set(raw) - set(allowed):
        raise _invalid(pointer, "unknown_field", f"it may have: {', '.join(sorted(allowed))}")


def _check(text: Any, pointer: str) -> None:
    found = (
        identifiers.fault_of_text(text, identifiers.EVENT_TYPE_LENGTH)
        if isinstance(text, str)
        else ("type", "must be a text")
    )
    if found:
        raise Invalid.of(Fault(pointer, *found))


def _invalid(pointer: str, code: str, message: str) -> Invalid:
    return Invalid.of(Fault(pointer, code, message))
