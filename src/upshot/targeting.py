"""Targeting: does a user's context match the rule of an experiment?

Owns the form, checks and meaning of rules, shared with every SDK by `vectors/targeting.json`; no clock, no I/O.
`parse` refuses all that is wrong with a rule, so that `matches` never raises.

Rule: an object whose keys must all hold; `{}` matches everybody. See `OPERATORS` and `Limit`.
  {"attribute": a, "operator": o, "value": v}  one condition, alone or beside the other keys
  {"all": [...]}, {"any": [...]}, {"not": {...}}  rules, none of them `{}`
  {"countries": ["US"]}  top level only: `country` is in the list, A-Z being the same as a-z
  {"min_version": "2.0.0"}  top level only: `app_version` is `semver_gte` this
Context: strings, booleans, finite numbers (doubles) are values; all else, even null, is missing. A list is the values
among its first 100 elements (`regex`: the first 10 of them). An operator holds when it does for any value, `ne` and
`not_in` when `eq` and `in` do for none. So a missing attribute satisfies only `ne`, `not_in` and `exists: false`. A
value that an operator does not take (a number, for `prefix`) fails.
Equality: of strings by code point, of numbers as doubles. A string equals a number when it is a JSON number that reads
as it, a boolean when it is `true` or `false` in any case. A boolean equals no number. So "5" and "5.0" are 5, but not
each other; "True" is true; true is not 1. `lt lte gt gte` read strings in the same way.
Version: a string of up to 256 characters; semver.org 2.0.0, optional `v` or `V`, missing minor or patch 0, `+…` ignored.
Regex: the syntax of `patterns.py`; a group is repeated by `?` only. It searches anywhere, heeds case, and `\\d \\w \\s \\b`
are ASCII. Text of over 512 characters or with LF, CR, U+2028 or U+2029 fails, so that `.` and `$` mean one thing in
all engines. The patterns of a rule may together cost `Limit.STEPS` of its `steps`.

>>> rule = parse({"countries": ["US", "CA"], "min_version": "2.0.0"})
>>> matches(rule, {"country": "us", "app_version": "2.1"}), matches(rule, {"country": "us"})
(True, False)
"""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from upshot.errors import Fault, Invalid
from upshot.patterns import is_portable, steps

Scalar = str | bool | float
Check = Callable[[Any, str], Any]  # a rule's value and its pointer -> the operand
Test = Callable[[Mapping[str, object]], bool]


class Limit:
    """What a rule may have, and what is read of a context; text is counted in code points."""

    DEPTH: Final = 10  # groups around a condition
    CONDITIONS: Final = 100  # in the whole rule, shorthands included
    VALUES: Final = 1_000  # in one list
    TEXT: Final = 256  # also of attribute names, patterns and versions
    NUMBER: Final = 2**53  # a longer identifier is only exact as a string
    ELEMENTS: Final = 100
    SEARCHED_ELEMENTS: Final = 10
    SEARCHED_TEXT: Final = 512
    REMEMBERED: Final = 256  # answers of one condition: most attributes have few values
    REMEMBERED_TEXT: Final = 64  # the longest text whose answer is remembered
    STEPS: Final = 12_000_000  # under 10 ms of `re` for the slowest patterns that a random search found


def _require(held: object, at: str, code: str, message: str) -> None:
    if not held:
        raise Invalid.of(Fault(at, code, message))


_LARGEST: Final = math.nextafter(math.inf, 0)  # a longer integer has no double
_FOLD: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LABEL: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    r"[vV]?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?"
    rf"(?:-({_LABEL}(?:\.{_LABEL})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_SEARCHED: Final = re.compile(f"[^\n\r\u2028\u2029]{{0,{Limit.SEARCHED_TEXT}}}")


def _values(found: object) -> Sequence[Scalar]:
    items = found[: Limit.ELEMENTS] if isinstance(found, list | tuple) else (found,)
    usable = (x for x in items if isinstance(x, str) or (isinstance(x, int | float) and abs(x) <= _LARGEST))
    return [x if isinstance(x, str | bool) else float(x) for x in usable]


def _only(kind: type, value: Scalar) -> Any:
    return value if isinstance(value, kind) else None


def number(value: Scalar) -> float | None:
    """Return the number that a value is, or is written as in JSON; finite as a double."""
    if isinstance(value, bool) or (isinstance(value, str) and not _JSON_NUMBER.fullmatch(value)):
        return None
    return found if math.isfinite(found := float(value)) else None


def _meaning(value: Scalar) -> str | float | None:
    """Return the boolean (as `true` or `false`) or the number that a value is or is written as."""
    text = str(value).translate(_FOLD)
    return text if text in {"true", "false"} else number(value)


def _version(value: Scalar) -> tuple[object, ...] | None:
    """Return a key that sorts as item 11 of semver.org 2.0.0 says."""
    found = _VERSION.fullmatch(value) if isinstance(value, str) and len(value) <= Limit.TEXT else None
    if found is None:
        return None
    *core, label = found.groups()
    ranks = [(0, int(x), "") if x.isdigit() else (1, 0, x) for x in label.split(".")] if label else []
    return (*(int(number or 0) for number in core), not ranks, tuple(ranks))


def _text(raw: Any, at: str) -> str:
    _require(isinstance(raw, str), at, "type", "must be a string")
    _require(0 < len(raw) <= Limit.TEXT, at, "length", f"must have 1 to {Limit.TEXT} characters")
    _require(not re.search("[\0\ud800-\udfff]", raw), at, "invalid_text", "must not hold NUL or half a surrogate pair")
    return str(raw)


def _scalar(raw: Any, at: str) -> Scalar:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return raw if isinstance(raw, bool) else _text(raw, at)
    _require(abs(raw) <= Limit.NUMBER, at, "invalid_number", "must be within ±2^53; or use a string")
    return float(raw)


def _readable(raw: object, at: str, read: Callable[[Scalar], object], code: str, message: str) -> object:
    operand = read(_scalar(raw, at))
    _require(operand is not None, at, code, message)
    return operand


def _distinct(raw: Any, at: str, read: Check = _scalar) -> list[Any]:
    _require(isinstance(raw, list), at, "type", "must be a list")
    _require(0 < len(raw) <= Limit.VALUES, at, "length", f"must have 1 to {Limit.VALUES} elements")
    seen: dict[object, object] = {}
    for index, item in enumerate(raw):
        value = read(item, f"{at}/{index}")
        _require((type(value), value) not in seen, f"{at}/{index}", "duplicate", "must not be listed twice")
        seen[type(value), value] = value
    return list(seen.values())


class Wanted(NamedTuple):
    """The values that `eq` and `in` compare with: texts, what the others mean, and what any of them means."""

    texts: frozenset[str]
    others: frozenset[str | float | None]
    meanings: frozenset[str | float | None]


def _wanted(raw: object, at: str, read: Check = _scalar) -> Wanted:
    found = read(raw, at)
    values = found if isinstance(found, list) else [found]
    texts = frozenset(value for value in values if isinstance(value, str))
    others = frozenset(_meaning(value) for value in values if not isinstance(value, str))
    return Wanted(texts, others, others.union(map(_meaning, texts)))


def _equal(value: Scalar, wanted: Wanted) -> bool:
    texts, others, meanings = wanted
    if isinstance(value, str):
        return value in texts or (bool(others) and _meaning(value) in others)
    return _meaning(value) in meanings


def _pattern(raw: Any, at: str) -> re.Pattern[str]:
    _require(is_portable(_text(raw, at)), at, "unsupported_pattern", "must use only what regex engines share")
    try:
        return re.compile(raw, re.ASCII)
    except (re.error, RecursionError) as error:
        raise Invalid.of(Fault(at, "invalid_pattern", f"is no regular expression: {error}")) from None


class Operator(NamedTuple):
    """Makes an operand of its value in a rule, and says whether the values of an attribute satisfy that."""

    check: Check
    holds: Callable[[Sequence[Scalar], Any], bool]


def _some(relation: Callable[..., bool], read: Callable[[Scalar], Any], most: int | None = None) -> Any:
    return lambda found, wanted: any((x := read(v)) is not None and relation(x, wanted) for v in found[:most])


def _found(text: str, pattern: re.Pattern[str]) -> bool:
    return bool(_SEARCHED.fullmatch(text) and pattern.search(text))


_STRING: Final = partial(_only, str)
_BOUND: Final = partial(_readable, read=number, code="invalid_number", message="must be a number, or a string of one")
_RELEASE: Final = partial(_readable, read=_version, code="invalid_version", message="must be like 2.1.0-rc.1")
_TRUTH: Final = partial(_readable, read=partial(_only, bool), code="type", message="must be a boolean")
_COUNTRIES: Final = partial(_distinct, read=lambda raw, at: _text(raw, at).translate(_FOLD))
_SAME: Final = _some(_equal, lambda value: value)
OPERATORS: Final[Mapping[str, Operator]] = {
    "eq": Operator(_wanted, _SAME),
    "ne": Operator(_wanted, lambda values, wanted: not _SAME(values, wanted)),
    "in": Operator(partial(_wanted, read=_distinct), _SAME),
    "not_in": Operator(partial(_wanted, read=_distinct), lambda values, wanted: not _SAME(values, wanted)),
    "lt": Operator(_BOUND, _some(operator.lt, number)),
    "lte": Operator(_BOUND, _some(operator.le, number)),
    "gt": Operator(_BOUND, _some(operator.gt, number)),
    "gte": Operator(_BOUND, _some(operator.ge, number)),
    "semver_eq": Operator(_RELEASE, _some(operator.eq, _version)),
    "semver_lt": Operator(_RELEASE, _some(operator.lt, _version)),
    "semver_lte": Operator(_RELEASE, _some(operator.le, _version)),
    "semver_gt": Operator(_RELEASE, _some(operator.gt, _version)),
    "semver_gte": Operator(_RELEASE, _some(operator.ge, _version)),
    "prefix": Operator(_text, _some(str.startswith, _STRING)),
    "suffix": Operator(_text, _some(str.endswith, _STRING)),
    "contains": Operator(_text, _some(operator.contains, _STRING)),
    "regex": Operator(_pattern, _some(_found, _STRING, Limit.SEARCHED_ELEMENTS)),
    "exists": Operator(_TRUTH, lambda values, wanted: bool(values) is wanted),
}
SHORTHANDS: Final[Mapping[str, tuple[str, Operator]]] = {  # the attribute of each, and its operator
    "countries": ("country", Operator(_COUNTRIES, _some(lambda x, low: x.translate(_FOLD) in low, _STRING))),
    "min_version": ("app_version", OPERATORS["semver_gte"]),
}
_CONDITION: Final = ("attribute", "operator", "value")
_GROUPS: Final[Mapping[str, Callable[[list["Rule"], Mapping[str, object]], bool]]] = {
    "all": lambda rules, context: all(matches(rule, context) for rule in rules),
    "any": lambda rules, context: any(matches(rule, context) for rule in rules),
    "not": lambda rules, context: not matches(rules[0], context),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What `parse` accepted: as canonical JSON, by which rules are equal, and compiled."""

    canonical: str
    tests: Sequence[Test] = field(compare=False, repr=False)


EVERYBODY: Final = Rule("{}", ())


def parse(raw: object, at: str = "") -> Rule:
    """Check and compile a rule, or raise Invalid with the first fault; `at` is its pointer in what holds it."""
    return _rule(raw, at, 0, {"conditions": 0, "steps": 0})


def matches(rule: Rule, context: Mapping[str, object]) -> bool:
    """Say whether the rule holds for the context, whatever that contains."""
    for test in rule.tests:  # noqa: SIM110 - a generator costs more than most tests
        if not test(context):
            return False
    return True


def dump(rule: Rule) -> dict[str, object]:
    """Return the rule as it was written, with sorted keys: `parse(dump(rule)) == rule`."""
    return dict(json.loads(rule.canonical))


def _rule(raw: Any, at: str, depth: int, spent: dict[str, int]) -> Rule:
    _require(isinstance(raw, dict), at, "type", "must be an object")
    _require(depth <= Limit.DEPTH, at, "too_deep", f"must be in at most {Limit.DEPTH} groups")
    _require(raw or depth == 0, at, "empty", "must not be empty")
    nested = partial(_rule, depth=depth + 1, spent=spent)
    tests: list[Test] = []
    for key, value in raw.items():
        # Whatever the key is, an error must be writable as UTF-8.
        place = f"{at}/" + str(key).encode("utf-8", "replace").decode().replace("~", "~0").replace("/", "~1")
        if key in _GROUPS:
            rules = [nested(value, place)] if key == "not" else _distinct(value, place, nested)
            tests.append(partial(_GROUPS[key], rules))
        elif key in SHORTHANDS and depth == 0:
            tests.append(_condition(*SHORTHANDS[key], value, place, spent))
        else:
            _require(key in _CONDITION, place, "unknown_key", "is no key of a rule here")
    if not raw.keys().isdisjoint(_CONDITION):
        attribute, name = (_text(raw.get(key), f"{at}/{key}") for key in _CONDITION[:2])
        _require(name in OPERATORS, f"{at}/operator", "unknown_operator", "is none of " + " ".join(OPERATORS))
        tests.append(_condition(attribute, OPERATORS[name], raw.get("value"), f"{at}/value", spent))
    return Rule(json.dumps(raw, sort_keys=True), tests)


def _condition(attribute: str, row: Operator, value: object, at: str, spent: dict[str, int]) -> Test:
    operand = row.check(value, at)
    spent["conditions"] += 1
    spent["steps"] += steps(operand.pattern, Limit.SEARCHED_TEXT) if isinstance(operand, re.Pattern) else 0
    _require(spent["conditions"] <= Limit.CONDITIONS, at, "too_many", "is one condition too many")
    _require(spent["steps"] <= Limit.STEPS, at, "costly_pattern", "can be slow: start with ^, repeat less")
    seen: dict[object, bool] = {}  # of texts only; nothing else equals one

    def test(context: Mapping[str, object]) -> bool:
        found = context.get(attribute)
        try:
            return seen[found] if found in seen else first(found)
        except TypeError:  # a list
            return first(found)

    def first(found: object) -> bool:
        answer = row.holds(_values(found), operand)
        if type(found) is str and len(found) <= Limit.REMEMBERED_TEXT:
            if len(seen) >= Limit.REMEMBERED:
                seen.clear()
            seen[found] = answer
        return answer

    return test
