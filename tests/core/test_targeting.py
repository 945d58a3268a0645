"""What targeting rules mean: the golden vectors, the properties behind them, and the cost of regular expressions."""

import dataclasses
import doctest
import gc
import json
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot import targeting
from upshot.errors import Fault, Invalid
from upshot.targeting import OPERATORS, Limit, Operator, Rule, dump, matches, parse

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "targeting.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = VECTORS["cases"]
CODES = {f"invalid_{fault}" for fault in ("text", "number", "version", "pattern")} | {"empty", "length", "type"}
CODES |= {f"unknown_{fault}" for fault in ("key", "operator")} | {"duplicate", "too_many", "too_deep"}
CODES |= {f"{fault}_pattern" for fault in ("unsupported", "costly")}

# semver.org 2.0.0, items 9 and 11, in order
PRECEDENCE = [
    *("0.0.0-0", "0.0.0", "0.0.9", "0.1.0", "0.9.0", "0.10.0", "1.0.0-0.3.7", "1.0.0-1", "1.0.0-2", "1.0.0-10"),
    *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"),
    *("1.0.0-rc.1", "1.0.0-x.7.z.92", "1.0.0-x-y-z.4", "1.0.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0"),
]

# The slowest that a random search found among 20,000 accepted patterns near the limit: at most 9 ms.
SLOW = [r"a*(a?a??)c", r"aa+a?aa?$c", r"a*([ab])?aa[bc]d", r"(\w+a??)a{3}[bc]d", r"a*?(aa)?$c", "^a*a*[bc]"]
SLOW += [".{1,40}a{0,3}[ab]{40}[^c]a[bc]d", "a?" * 9 + "c", "(a|aa)" * 6 + "c", r"^a*?\w*?[bc]"]
TEXTS = ["a" * 512, "ab" * 256, "a" * 511 + "c", "aab" * 170, "b" * 512, "a" * 256 + "b" * 256]
PATIENCE = 0.25  # seconds; much more than 9 ms, for busy machines, and much less than a pattern that hangs takes


def condition(operator: str, value: object, attribute: str = "a") -> dict[str, object]:
    """Write one condition."""
    return {"attribute": attribute, "operator": operator, "value": value}


def refusal(raw: object) -> Fault | None:
    """Return why a rule is refused, or None when it is accepted."""
    try:
        parse(raw)
    except Invalid as refused:
        return refused.faults[0]
    return None


def is_as_expected(case: dict[str, Any]) -> bool:
    """Compare the answer to a vector with the one that it gives."""
    if refused := refusal(case["rule"]):
        return (refused.code, refused.pointer) == (case.get("error"), case.get("pointer"))
    return "matches" in case and matches(parse(case["rule"]), case["context"]) is case["matches"]


def seconds(rule: Rule, text: str) -> float:
    """Measure one match: what other threads do meanwhile, or the collector of what other tests left, is not of it."""
    gc.disable()
    try:
        started = time.thread_time()
        matches(rule, {"a": text})
        return time.thread_time() - started
    finally:
        gc.enable()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
names = st.sampled_from(["a", "country", "app_version"])
numbers = st.integers(-9, 9) | st.floats(-9, 9)
scalars = st.sampled_from(["5", "5.0", "true", "1.2.3", "ios"]) | texts | numbers | st.booleans()
versions = st.sampled_from(PRECEDENCE)
lists = st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: (isinstance(v, str), isinstance(v, bool), v))
operands: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("eq", "ne"), scalars),
    **dict.fromkeys(("in", "not_in"), lists),
    **dict.fromkeys(("lt", "lte", "gt", "gte"), numbers),
    **dict.fromkeys(("semver_eq", "semver_lt", "semver_lte", "semver_gt", "semver_gte"), versions),
    **dict.fromkeys(("prefix", "suffix", "contains"), texts),
    "regex": st.sampled_from(["^1", "s$", "^[a-z]+$", r"\d", "(a|b)?c"]),
    "exists": st.booleans(),
}


def several(rules: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """List different rules."""
    return st.lists(rules, min_size=1, max_size=3, unique_by=lambda rule: json.dumps(rule, sort_keys=True))


conditions = st.sampled_from(sorted(operands)).flatmap(lambda x: st.builds(condition, st.just(x), operands[x], names))
groups = st.recursive(
    conditions,
    lambda inner: st.sampled_from(["all", "any", "not"]).flatmap(
        lambda key: st.fixed_dictionaries({key: inner if key == "not" else several(inner)})
    ),
    max_leaves=6,
)
shorthands = st.fixed_dictionaries({}, optional={"countries": st.just(["US", "ca"]), "min_version": versions})
rules = st.builds(lambda first, second: {**first, **second}, groups, shorthands)
junk = st.sampled_from([10**400, -(10**400), b"x", object(), {1}, 1j, "x" * 600, "\ud800"])
anything = st.recursive(
    scalars | st.none() | st.floats() | junk,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
contexts = st.dictionaries(names | texts, anything, max_size=5)
keys = st.sampled_from(["attribute", "operator", "value", "all", "any", "not", "countries", "min_version"])
wild = st.text(st.characters(), max_size=5) | st.sampled_from(sorted(OPERATORS))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | wild,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | wild, inner, max_size=4) | groups,
    max_leaves=20,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case)[:90])
def test_a_golden_vector_holds(case: dict[str, Any]) -> None:
    """Every SDK answers each vector like this."""
    assert is_as_expected(case)


def test_the_vectors_cover_every_operator_and_every_error() -> None:
    """Each operator is seen to hold and to fail, each code to be raised."""
    written = [case for case in CASES if isinstance(case["rule"], dict)]
    held, failed = ({c["rule"].get("operator") for c in written if c.get("matches") is x} for x in (True, False))

    assert VECTORS["spec_version"] == 1
    assert held == failed == {None, *OPERATORS}
    assert {case["error"] for case in CASES if "error" in case} == CODES


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_a_missing_attribute_satisfies_only_the_negative_operators(name: str) -> None:
    """Absent, null, an empty list and an object are the same: missing."""
    value = {"in": ["x"], "not_in": ["x"], "exists": True}.get(name, "1.0.0" if "semver" in name else "5")
    missing: list[dict[str, object]] = [{}, {"a": None}, {"a": []}, {"a": [None]}, {"a": {}}]

    answers = {matches(parse(condition(name, value)), context) for context in missing}

    assert answers == {name in {"ne", "not_in"}}
    assert all(matches(parse(condition("exists", value=False)), context) for context in missing)


@pytest.mark.parametrize(
    ("name", "value", "holding", "failing"),
    [
        ("eq", 5, [5, 5.0, "5", "5.0", [1, "5"]], [True, "05", "5 ", "", [], {}, None, "٥"]),
        ("eq", True, [True, "true", "TRUE"], [1, "1", "yes", False]),
        ("ne", 5, [True, "05", None, [4, 6]], [5, "5", [4, 5]]),
        ("in", ["x", 5], ["x", "5", 5, ["y", "x"]], ["X", True, None, "y"]),
        ("not_in", ["x", 5], ["X", True, None, "y"], ["x", "5", 5, ["y", "x"]]),
        ("lt", 5, [4, "4", -1e300, "-1e3"], [5, "5", False, "four", None, float("nan")]),
        ("lte", 5, [5, "5"], [6, True, None, "", float("-inf")]),
        ("gt", 5, [6, "6", "10"], [5, "5", True, None, "1_0", float("inf"), 10**400]),
        ("gte", "5", [5, "5"], [4, True, None, "0x9"]),
        ("semver_eq", "2", ["2", "2.0.0", "v2.0+b"], [2, 2.0, True, "2.0.0-a", "02"]),
        ("semver_lt", "2", ["2-a", "1.99"], ["2", 1, None, "", "x", "1." + "9" * 300]),
        ("semver_lte", "2", ["2", "1"], ["2.0.1", 1]),
        ("semver_gt", "2", ["10", "2.0.1-0"], ["2", 10, None]),
        ("semver_gte", "2", ["2", "10.0"], ["2-rc", 10, None]),
        ("prefix", "ab", ["ab", "abc", ["x", "aby"]], ["Abc", "xab", 5, None]),
        ("suffix", "ab", ["ab", "cab"], ["abc", True]),
        ("contains", "1", ["212", ["2", "31"]], [1, "2", None]),
        ("regex", "^a.c$", ["abc", ["x", "axc"]], ["abc\n", "xabc", "ABC", 5, "a\rc"]),
        ("exists", True, ["", 0, False, ["x"]], [None, [], {}, float("nan")]),
    ],
)
def test_an_operator_holds_for_these_values(
    name: str, value: object, holding: list[object], failing: list[object]
) -> None:
    """Strings from query parameters, typed values, lists, missing and unusable values, per operator."""
    rule = parse(condition(name, value))

    assert [found for found in holding if not matches(rule, {"a": found})] == []
    assert [found for found in failing if matches(rule, {"a": found})] == []


def test_versions_have_the_precedence_of_semver_org() -> None:
    """Every pair of the ordered list compares as the list says, and each version equals itself alone."""
    for index, low in enumerate(PRECEDENCE):
        assert matches(parse(condition("semver_eq", low)), {"a": f"v{low}+build.1"})
        for high in PRECEDENCE[index + 1 :]:
            assert matches(parse(condition("semver_lt", high)), {"a": low}), (low, high)
            assert not matches(parse(condition("semver_eq", high)), {"a": low}), (low, high)
            assert not matches(parse({"min_version": high}), {"app_version": low}), (low, high)


MUTANTS: dict[str, tuple[str, Any]] = {
    "versions as text": ("semver_lt", lambda values, wanted: any(str(v) < wanted for v in values)),
    "no pre-release": ("semver_gt", OPERATORS["semver_gte"]),
    "equal as text": ("eq", lambda values, wanted: any(str(v) == str(wanted) for v in values)),
    "booleans as numbers": ("eq", lambda values, wanted: wanted in values),
    "`ne` of any element": ("ne", lambda values, wanted: any(v != wanted for v in values)),
    "`not_in` of the missing": ("not_in", lambda values, wanted: bool(values) and values[0] not in wanted),
    "numbers as text": ("gte", lambda values, wanted: any(str(v) >= str(wanted) for v in values)),
    "`lte` without equality": ("lte", OPERATORS["lt"]),
    "`prefix` anywhere": ("prefix", OPERATORS["contains"]),
    "null exists": ("exists", lambda values, wanted: bool(wanted or values)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_operator_fails_the_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors are worth something: none of these mistakes gives the right answers about matching."""
    broken, mutant = MUTANTS[name]
    row = mutant if isinstance(mutant, Operator) else Operator(lambda raw, _at: raw, mutant)
    monkeypatch.setitem(cast("MutableMapping[str, Operator]", OPERATORS), broken, row)

    assert not all(is_as_expected(case) for case in CASES if "matches" in case)


@settings(deadline=None)
@given(rules, contexts)
def test_matching_answers_whatever_the_context_holds(rule: dict[str, object], context: dict[str, object]) -> None:
    """A context comes from outside: no value in it raises."""
    assert matches(parse(rule), context) in {True, False}


@settings(deadline=None)
@given(several(groups), contexts)
def test_not_all_and_any_are_those_of_logic(parts: list[dict[str, object]], context: dict[str, object]) -> None:
    """`not` is the complement, also about missing attributes, and De Morgan's laws hold."""
    each = [matches(parse(part), context) for part in parts]
    negations = [{"not": part} for part in parts]

    assert [matches(parse(negation), context) for negation in negations] == [not held for held in each]
    assert matches(parse({"all": parts}), context) == all(each)
    assert matches(parse({"any": parts}), context) == any(each)
    assert matches(parse({"not": {"all": parts}}), context) == matches(parse({"any": negations}), context)
    assert matches(parse({"not": {"any": parts}}), context) == matches(parse({"all": negations}), context)


@settings(deadline=None)
@given(rules)
def test_a_dumped_rule_is_the_rule_that_was_written(rule: dict[str, object]) -> None:
    """Shorthands stay shorthands, values keep their types, and parsing again gives an equal rule."""
    parsed = parse(rule)

    assert json.dumps(dump(parsed)) == json.dumps(rule, sort_keys=True)
    assert {parse(dump(parsed))} == {parsed}


def test_rules_that_differ_in_a_type_are_different() -> None:
    """Python's `True == 1` does not make two rules one; a rule cannot be changed."""
    one = parse(condition("eq", 1))

    assert one not in {parse(condition("eq", value)) for value in (True, "1")}
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.canonical = "{}"  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_a_rule_is_parsed_or_refused_and_nothing_else(raw: object) -> None:
    """Any JSON value gives a rule or Invalid, whose words can be written as UTF-8."""
    refused = refusal(raw) or Fault("", "type", "is accepted")

    assert refused.code in CODES
    assert (refused.pointer + refused.message).encode()


def test_what_is_no_json_is_refused_and_limits_are_inclusive() -> None:
    """Odd keys, tuples and objects are errors like others; the vectors hold the rules just beyond a limit."""
    hundred = {"countries": ["US"], "all": [condition("eq", n) for n in range(Limit.CONDITIONS - 1)]}
    long = condition("eq", "x" * Limit.TEXT, "y" * Limit.TEXT)
    nested = condition("regex", "(" * 127 + "a" + ")" * 127)

    assert all(refusal(raw) for raw in ({1: 2}, {None: []}, {"\ud800/~": 1}, {"all": ({},)}, object()))
    assert not any(map(refusal, (hundred, long, nested, condition("in", list(range(Limit.VALUES))))))


@pytest.mark.parametrize("pattern", SLOW)
def test_the_slowest_accepted_patterns_are_fast(pattern: str) -> None:
    """The worst that the limit lets through holds a server up for milliseconds."""
    assert max(seconds(parse(condition("regex", pattern)), text) for text in TEXTS) < PATIENCE


parts = st.sampled_from(["a", "b", ".", "[ab]", r"\w", "aaaa", "(a|aa)", "(?:ab|a)", "(a)?", "(a|b*)?", r"\b"])
repeats = st.sampled_from(["", "", "*", "+", "?", "*?", "{2,9}", "{1,40}", "{40}", "{3,}"])
patterns = st.lists(st.builds(str.__add__, parts, repeats), min_size=1, max_size=9).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["", "^"]), patterns, st.sampled_from(TEXTS))
def test_no_accepted_pattern_hangs(anchor: str, pattern: str, text: str) -> None:
    """What the limit lets through, `re` finishes at once, however adversarial the text is."""
    raw = condition("regex", f"{anchor}{pattern}[bc]d")

    assert refusal(raw) or seconds(parse(raw), text) < PATIENCE


def test_only_patterns_that_can_hang_are_costly() -> None:
    """Catastrophic backtracking is refused; what people write for addresses, devices and codes is not."""
    hanging = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "a*a*c", "^a*a*a*c", "(.*)(.*)x", "a?" * 30 + "c"]
    ordinary = [r"@example\.com$", "^[a-z]+-[a-z]+$", r".+@example\.(com|org)$", r"^(ios|ipados)( \d+)?$"]

    assert [pattern for pattern in hanging + ordinary if refusal(condition("regex", pattern))] == hanging


def test_the_example_in_the_module_is_true() -> None:
    """The module's docstring is run."""
    assert doctest.testmod(targeting).failed == 0
