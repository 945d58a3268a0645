"""Metric definitions: every kind is read and written without loss, and every fault is named with its place."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot.errors import Invalid
from upshot.metrics import Direction, Fold, Kind, Metric, Quantity, Role, Source, Unit, Winsorising, define, describe
from upshot.metrics.model import LOOKBACK
from upshot.targeting import parse

DAY = 86_400_000_000
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
US: dict[str, Any] = {"attribute": "country", "operator": "eq", "value": "US"}
CLICKS: dict[str, Any] = {"of": "count", "event_type": "click"}
VIEWS: dict[str, Any] = {"of": "count", "event_type": "view"}
STEPS: list[dict[str, Any]] = [{"event_type": "view"}, {"event_type": "cart"}]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"event_type": "order"}, Metric("order", Kind.CONVERSION, ("order",))),
        ({"key": "us", "event_type": "order", "where": US}, Metric("us", Kind.CONVERSION, ("order",), parse(US))),
        ({"key": "any", "event_types": ["b", "a", "b"]}, Metric("any", Kind.CONVERSION, ("a", "b"))),
        ({"key": "n", "kind": "count", "event_type": "order"}, Metric("n", Kind.COUNT, ("order",))),
        (
            {"key": "s", "kind": "sum", "event_type": "order", "value": "total", "winsorize": {"upper": 99}},
            Metric("s", Kind.SUM, ("order",), value="total", winsorising=Winsorising(None, 99.0)),
        ),
        (
            {"key": "aov", "kind": "mean", "event_type": "order", "value": "price", "lookback": "30d"},
            Metric("aov", Kind.MEAN, ("order",), value="price", lookback=30 * DAY),
        ),
        (
            {"key": "ctr", "kind": "ratio", "numerator": CLICKS, "denominator": {"of": "sum", "event_type": "view"}},
            Metric("ctr", Kind.RATIO, ("click",), of=Fold.COUNT, denominator=Quantity(Fold.SUM, Source(("view",)))),
        ),
        (
            {"key": "p90", "kind": "quantile", "event_type": "load", "value": "ms", "level": 0.9, "direction": "decrease"},
            Metric("p90", Kind.QUANTILE, ("load",), value="ms", amount=0.9, direction=Direction.DECREASE),
        ),
        (
            {"key": "m", "kind": "quantile", "event_type": "order", "level": 0.5, "per": "user", "of": "count"},
            Metric("m", Kind.QUANTILE, ("order",), amount=0.5, unit=Unit.USER, of=Fold.COUNT),
        ),
        (
            {"key": "day7", "kind": "retention", "event_type": "visit", "delay": "7d", "window": "24h"},
            Metric("day7", Kind.RETENTION, ("visit",), delay=7 * DAY, window=DAY, complete=True),
        ),
        (
            {"key": "f", "kind": "funnel", "steps": [*STEPS, {"event_types": ["b", "a"], "where": US}], "window": "1d"},
            Metric(
                "f", Kind.FUNNEL, window=DAY,
                steps=(Source(("view",)), Source(("cart",)), Source(("a", "b"), parse(US))),
            ),
        ),
        (
            {"key": "big", "kind": "threshold", "of": "sum", "event_type": "order", "at_least": 100},
            Metric("big", Kind.THRESHOLD, ("order",), of=Fold.SUM, amount=100.0),
        ),
        (
            {"key": "often", "kind": "threshold", "event_type": "order", "at_least": 3},
            Metric("often", Kind.THRESHOLD, ("order",), of=Fold.COUNT, amount=3.0),
        ),
        (
            {"event_type": "order", "role": "guardrail", "margin": 0.02, "minimum_effect": 0.1, "covariate": "age",
             "name": "Orders", "description": "d", "window": "90s", "complete_windows": True},
            Metric(
                "order", Kind.CONVERSION, ("order",), role=Role.GUARDRAIL, margin=0.02, minimum_effect=0.1,
                covariate="age", name="Orders", description="d", window=90_000_000, complete=True,
            ),
        ),
    ],
)  # fmt: skip
def test_a_definition_is_read(definition: dict[str, Any], expected: Metric) -> None:
    """Each kind with its own fields, and what goes without saying."""
    assert define(definition) == expected


def test_null_is_as_nothing() -> None:
    """A field that may be absent may be null."""
    empty = dict.fromkeys(
        ["where", "value", "delay", "window", "winsorize", "covariate", "lookback", "direction", "role", "minimum_effect",
         "margin", "name", "description"]
    )  # fmt: skip

    assert define({"key": "n", "kind": "count", "event_type": "a", **empty}) == Metric("n", Kind.COUNT, ("a",))


def test_what_is_at_its_default_is_not_written() -> None:
    """A description says what somebody decided, and nothing else."""
    definition = {"key": "order", "kind": "conversion", "event_type": "order"}

    assert describe(define({**definition, "direction": "increase", "lookback": "14d", "where": {}})) == definition


_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
_conditions = st.builds(
    lambda attribute, operator, value: {"attribute": attribute, "operator": operator, "value": value},
    _texts,
    st.sampled_from(["eq", "ne", "gte", "lt"]),
    st.integers(-(10**6), 10**6),
)
_durations = st.builds(lambda n, unit: f"{n}{unit}", st.integers(1, 400), st.sampled_from("smhd"))
_numbers = st.floats(1e-9, 1e9)


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


_filtered = _some(where=st.one_of(_conditions, st.builds(lambda rule: {"not": rule}, _conditions)))
_steps = st.builds(
    lambda types, rest: types | rest,
    st.one_of(
        st.builds(lambda name: {"event_type": name}, _texts),
        st.builds(lambda names: {"event_types": names}, st.lists(_texts, min_size=1, max_size=4)),
    ),
    _filtered,
)
_sources = st.builds(lambda step, rest: step | rest, _steps, _some(value=_texts))
_quantities = st.builds(
    lambda source, rest: source | rest, _sources, _some(of=st.sampled_from(["conversion", "count", "sum"]))
)
_cuts = st.one_of(
    st.builds(lambda upper: {"upper": upper}, st.floats(50, 99.9)),
    st.builds(lambda lower: {"lower": lower}, st.floats(0.1, 49)),
    st.builds(
        lambda lower, upper, zeros: {"lower": lower, "upper": upper, "ignore_zeros": zeros},
        st.floats(0.1, 49),
        st.floats(50, 99.9),
        st.booleans(),
    ),
)
_folds = st.sampled_from(["count", "sum"])
_looking_back = _some(lookback=_durations)
_adjustable = _some(lookback=_durations, covariate=_texts)
_OWN: dict[str, list[st.SearchStrategy[dict[str, Any]]]] = {
    "conversion": [_sources, _adjustable],
    "count": [_sources, _adjustable, _some(winsorize=_cuts)],
    "sum": [_sources, _adjustable, _some(winsorize=_cuts)],
    "mean": [_sources, _looking_back],
    "ratio": [st.fixed_dictionaries({"numerator": _quantities, "denominator": _quantities}), _looking_back],
    "quantile": [
        _sources,
        st.fixed_dictionaries({"level": st.floats(0.001, 0.999)}),
        st.one_of(st.just({}), st.builds(lambda of: {"per": "user"} | of, _some(of=_folds))),
    ],
    "retention": [_sources, _adjustable, st.fixed_dictionaries({"delay": _durations, "window": _durations})],
    "funnel": [st.fixed_dictionaries({"steps": st.lists(_steps, min_size=2, max_size=10)})],
    "threshold": [_sources, st.fixed_dictionaries({"at_least": _numbers}), _some(of=_folds)],
}
_timing = st.one_of(
    _some(delay=_durations),
    st.builds(
        lambda window, rest: {"window": window} | rest,
        _durations,
        _some(delay=_durations, complete_windows=st.booleans()),
    ),
)
_purpose = _some(
    direction=st.sampled_from(list(Direction)),
    role=st.sampled_from(list(Role)),
    minimum_effect=st.floats(1e-6, 10),
    margin=st.floats(1e-6, 1),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    description=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A definition of any kind, with any of the fields that its kind has."""
    kind = draw(st.sampled_from(sorted(_OWN)))
    found: dict[str, Any] = {"key": draw(_texts), "kind": kind} | draw(_purpose)
    for part in _OWN[kind]:
        found |= draw(part)
    return found if kind == "retention" else found | draw(_timing)


@given(definitions())
def test_a_definition_is_written_as_it_was_read(definition: dict[str, Any]) -> None:
    """`define(describe(metric))` is the metric, through JSON, too; and what is written once is written so again."""
    metric = define(definition)

    written = json.loads(json.dumps(describe(metric)))

    assert define(written) == metric
    assert describe(define(written)) == written


def test_the_version_is_no_part_of_the_definition() -> None:
    """It is the store's; the same definition may be that of several versions."""
    metric = define({"event_type": "a"})

    assert describe(replace(metric, version=7)) == describe(metric)


def test_every_kind_is_generated() -> None:
    """The property above leaves none out."""
    assert set(_OWN) == {str(kind) for kind in Kind}


A: dict[str, Any] = {"key": "a", "event_type": "a"}


@pytest.mark.parametrize(
    ("definition", "pointer", "code"),
    [
        ([], "", "bad_metric"),
        (5, "", "bad_metric"),
        (A | {"kind": "median"}, "/kind", "bad_kind"),
        (A | {"kind": None}, "/kind", "bad_kind"),
        (A | {"kind": []}, "/kind", "bad_kind"),
        (A | {"sql": "x"}, "", "unknown_field"),
        (A | {"winsorize": {"upper": 99}}, "", "unknown_field"),
        (A | {"kind": "mean", "covariate": "age"}, "", "unknown_field"),
        (A | {"kind": "funnel", "steps": STEPS}, "", "unknown_field"),
        ({"kind": "count", "event_type": "a"}, "/key", "missing"),
        ({"event_types": ["a", "b"]}, "/key", "missing"),
        (A | {"key": 5}, "/key", "missing"),
        (A | {"key": ""}, "/key", "empty"),
        (A | {"key": "x" * 201}, "/key", "too_long"),
        (A | {"key": " a"}, "/key", "outer_white_space"),
        (A | {"key": "a\nb"}, "/key", "control_character"),
        ({"key": "a"}, "/event_type", "missing"),
        ({"key": "a", "event_types": []}, "/event_type", "missing"),
        ({"key": "a", "event_types": "a"}, "/event_type", "missing"),
        ({"key": "a", "event_types": ["a", 5]}, "/event_type", "missing"),
        ({"key": "a", "event_type": ""}, "/event_type", "empty"),
        (A | {"value": ""}, "/value", "empty"),
        (A | {"value": 5}, "/value", "type"),
        (A | {"where": []}, "/where", "type"),
        (A | {"where": {"attribute": "a", "operator": "like", "value": 1}}, "/where/operator", "unknown_operator"),
        (A | {"where": {"all": [US, {"x": 1}]}}, "/where/all/1/x", "unknown_key"),
        ({"key": "a", "kind": "ratio"}, "/numerator", "missing"),
        ({"key": "a", "kind": "ratio", "numerator": CLICKS}, "/denominator", "missing"),
        ({"key": "a", "kind": "ratio", "numerator": "click", "denominator": VIEWS}, "/numerator", "missing"),
        ({"key": "a", "kind": "ratio", "numerator": {"of": "count"}, "denominator": VIEWS}, "/numerator/event_type", "missing"),
        ({"key": "a", "kind": "ratio", "numerator": CLICKS | {"of": "max"}, "denominator": VIEWS}, "/numerator/of", "bad_fold"),
        ({"key": "a", "kind": "ratio", "numerator": CLICKS, "denominator": VIEWS | {"x": 1}}, "/denominator", "unknown_field"),
        ({"key": "a", "kind": "ratio", "numerator": CLICKS, "denominator": VIEWS | {"value": 1}}, "/denominator/value", "type"),
        ({"key": "a", "kind": "ratio", "numerator": CLICKS, "denominator": VIEWS | {"where": 1}}, "/denominator/where", "type"),
        ({"key": "a", "kind": "funnel"}, "/steps", "bad_steps"),
        ({"key": "a", "kind": "funnel", "steps": STEPS[:1]}, "/steps", "bad_steps"),
        ({"key": "a", "kind": "funnel", "steps": STEPS * 6}, "/steps", "bad_steps"),
        ({"key": "a", "kind": "funnel", "steps": [*STEPS, "order"]}, "/steps/2", "type"),
        ({"key": "a", "kind": "funnel", "steps": [*STEPS, {}]}, "/steps/2/event_type", "missing"),
        ({"key": "a", "kind": "funnel", "steps": [{"event_type": "x", "value": "p"}, *STEPS]}, "/steps/0", "unknown_field"),
        (A | {"kind": "threshold"}, "/at_least", "missing"),
        (A | {"kind": "threshold", "at_least": 0}, "/at_least", "out_of_range"),
        (A | {"kind": "threshold", "at_least": -1}, "/at_least", "out_of_range"),
        (A | {"kind": "threshold", "at_least": "1"}, "/at_least", "type"),
        (A | {"kind": "threshold", "at_least": True}, "/at_least", "type"),
        (A | {"kind": "threshold", "at_least": float("nan")}, "/at_least", "type"),
        (A | {"kind": "threshold", "at_least": 1, "of": "mean"}, "/of", "bad_fold"),
        (A | {"kind": "quantile"}, "/level", "missing"),
        (A | {"kind": "quantile", "level": 0}, "/level", "out_of_range"),
        (A | {"kind": "quantile", "level": 1}, "/level", "out_of_range"),
        (A | {"kind": "quantile", "level": 0.5, "per": "day"}, "/per", "bad_unit"),
        (A | {"kind": "quantile", "level": 0.5, "of": "sum"}, "/of", "unknown_field"),
        (A | {"kind": "quantile", "level": 0.5, "per": "user", "of": "conversion"}, "/of", "bad_fold"),
        (A | {"kind": "count", "winsorize": 99}, "/winsorize", "type"),
        (A | {"kind": "count", "winsorize": {}}, "/winsorize", "out_of_range"),
        (A | {"kind": "count", "winsorize": {"lower": 90, "upper": 10}}, "/winsorize", "out_of_range"),
        (A | {"kind": "count", "winsorize": {"most": 10}}, "/winsorize", "unknown_field"),
        (A | {"kind": "count", "winsorize": {"upper": 100}}, "/winsorize/upper", "out_of_range"),
        (A | {"kind": "count", "winsorize": {"lower": 0}}, "/winsorize/lower", "out_of_range"),
        (A | {"kind": "count", "winsorize": {"upper": "99"}}, "/winsorize/upper", "type"),
        (A | {"kind": "count", "winsorize": {"upper": 99, "ignore_zeros": 1}}, "/winsorize/ignore_zeros", "type"),
        (A | {"kind": "retention"}, "/delay", "missing"),
        (A | {"kind": "retention", "delay": "7d"}, "/window", "missing"),
        (A | {"kind": "retention", "window": "7d"}, "/delay", "missing"),
        (A | {"kind": "retention", "delay": "7d", "window": "1d", "complete_windows": True}, "", "unknown_field"),
        (A | {"delay": "soon"}, "/delay", "bad_duration"),
        (A | {"delay": 7}, "/delay", "bad_duration"),
        (A | {"window": "0d"}, "/window", "bad_duration"),
        (A | {"window": "401d"}, "/window", "bad_duration"),
        (A | {"window": "1w"}, "/window", "bad_duration"),
        (A | {"window": "٣d"}, "/window", "bad_duration"),
        (A | {"complete_windows": True}, "/complete_windows", "no_window"),
        (A | {"window": "1d", "complete_windows": 1}, "/complete_windows", "type"),
        (A | {"lookback": "14 days"}, "/lookback", "bad_duration"),
        (A | {"covariate": 5}, "/covariate", "type"),
        (A | {"covariate": ""}, "/covariate", "empty"),
        (A | {"direction": "up"}, "/direction", "bad_direction"),
        (A | {"role": "main"}, "/role", "bad_role"),
        (A | {"minimum_effect": 0}, "/minimum_effect", "out_of_range"),
        (A | {"minimum_effect": 11}, "/minimum_effect", "out_of_range"),
        (A | {"minimum_effect": "2%"}, "/minimum_effect", "type"),
        (A | {"margin": 1.5}, "/margin", "out_of_range"),
        (A | {"margin": True}, "/margin", "type"),
        (A | {"name": 5}, "/name", "bad_text"),
        (A | {"name": "x" * 2_001}, "/name", "bad_text"),
        (A | {"name": "a\0"}, "/name", "bad_text"),
        (A | {"description": "\ud800"}, "/description", "bad_text"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(definition: Any, pointer: str, code: str) -> None:
    """And with where the definition itself stands; the value that was sent is not repeated."""
    with pytest.raises(Invalid) as error:
        define(definition, "/metrics/3")

    [fault] = error.value.faults
    assert (fault.pointer, fault.code) == (f"/metrics/3{pointer}", code)


def test_the_default_lookback_is_two_weeks() -> None:
    """As the page says."""
    assert LOOKBACK == 14 * DAY


EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_page_are_definitions(example: str) -> None:
    """Each can be copied as it stands, and nothing in it goes without effect."""
    definition = json.loads(example)

    metric = define(definition)

    assert describe(metric).keys() >= definition.keys()


def test_the_page_shows_every_kind() -> None:
    """With an example of it."""
    assert {define(json.loads(example)).kind for example in EXAMPLES} == set(Kind)
