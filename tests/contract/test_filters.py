"""A row filter selects, on every engine, the events that targeting selects; broken filters are told from the right one."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Double, Select, Text, case, func, literal, select
from sqlalchemy.util import greenlet_spawn
from tests.contract.test_eventstore import FILES, START, fresh, store

from upshot import eventstore, targeting
from upshot.errors import Invalid
from upshot.events import Event
from upshot.eventstore import EventStore, filters
from upshot.eventstore.clickhouse.connection import fetching
from upshot.eventstore.clickhouse.dialect import ClickHouseForms
from upshot.eventstore.clickhouse.store import ClickHouseStore
from upshot.eventstore.embedded import duck
from upshot.eventstore.embedded.store import EmbeddedStore
from upshot.eventstore.filters import MOST_TEXTS, attributes_to_see, distinct_texts, holds, number_of, scalars
from upshot.eventstore.forms import Forms
from upshot.eventstore.relational.forms import FORMS
from upshot.eventstore.relational.store import RelationalStore

__all__ = ["fresh", "store"]

# fmt: off
NAMES = ["a", "b", "$", "$.a", "a.b", "a/b", "a~1b", 'a"b', "it's", "back\\slash", "\\", "é", "😀", "%", "_", " a ", "x\ny", "0",
         "[0]", "#", "*", "A", "a\\'b", "country", "app_version"]
WORDS = ["", " ", "a", "a ", " a", "A", "á", "a\u0301", "é", "É", "ab", "abc", "cab", "ABC", "a%b", "a_b", "axb", "%", "_", "\\",
         "a\\b", "\\'", "'", '"', "it's", "\\' OR 1=1 --", "'; --", "\n", "a\n", "\t", "😀", "a😀b", "\uffff", "ſ", "K", "k",
         "\u212a", "İ", "us", "US", "Us", "uſ", "DE", "true", "TRUE", "True", "true ", "false", "falſe", "null", "[1]", "{}",
         "$1", ":a", "%s"]
TOO_LARGE = 2**1024 - 2**970  # the least integer that has no double
WRITTEN = ["5", "5.0", "05", "007", "-0", "0", "+5", "0x5", "5 ", " 5", "5\n", "٥", "1e400", "-1e400", "1e-400", "-1e-400", "1e5",
           "1E5", "1e+5", "1e-5", "100000", ".5", "5.", "1_0", "1e", "-", "NaN", "Infinity", "inf", "1.7976931348623157e308",
           "17976931348623157e292", "1.797693134862315807e308", "0.00017976931348623158e312", "1.7976931348623159e308",
           "17.976931348623158e308", str(TOO_LARGE), str(TOO_LARGE - 1), f"-{TOO_LARGE - 1}.9", "9" * 400,
           "0." + "0" * 400 + "1", "0." + "0" * 400 + "1e401", "1" + "0" * 400 + "e-400", "0e999999999999", "5e-324",
           "2.4e-324", "1e99999999999999999999", "1e-99999999999999999999", "1e9223372036854775807", "0.1",
           "0.30000000000000004", "9007199254740993", "9007199254740993.0000000000000000000001"]
RELEASES = ["1.2.3", "v2", "2.0.0-rc.1", "1.10.0", "2", "2.0.0+b", "02", "10", "1." + "9" * 254, "1." + "9" * 255]
LONG = ["x" * 512, "x" * 513, "é" * 512, "y" * 1_500 + "1", "y" * 1_500 + "2", "x" * 8_192, "9" * 8_000 + "e-7999"]
NUMBERS = [0, -0.0, 1, 5, 5.0, -5, 0.1, 0.30000000000000004, 1e5, 1e22, 1e30, 1e300, 1.7976931348623157e308, 5e-324, 2.5,
           2**53 - 1, 1 - 2**53, 2**63 - 1, -(2**63), 9007199254740993.0, 123.456, -1e-7]
OTHERS = [True, False, None, [], ["a"], [5], [True], {}, {"a": 5}, {"x": "a"}, [None], [[1]]]
VALUES: list[Any] = [*WORDS, *WRITTEN, *RELEASES, *LONG, *NUMBERS, *OTHERS]

TEXTS = [text for text in [*WORDS, *WRITTEN[:30], *RELEASES[:4]] if text]
SCALARS: list[Any] = [*TEXTS, *(x for x in NUMBERS if abs(x) <= 2**53), True, False, "1e300", "9007199254740993"]
BOUNDS = [0, 5, "5.0", -5.5, 0.1, "0.30000000000000004", "1e300", "-1e5", "1.7976931348623157e308", 2**53, "5e-324"]
PARTS = ["a", "A", "á", "é", "a ", " ", "%", "_", "a%", "a_", "\\", "'", '"', "\n", "b\n", "😀", "😀b", "5", "xy", "y1", "K",
         "\u212a", "tr", "\uffff", "\u0301", "ab", "cab", "e-", "x" * 256]
PATTERNS = ["^a", "b$", r"^\d+$", "^.$", r"\w", "^(a|b)?c", r"\\", "'", "^x{512}$", "a.b", r"^\s?$", "[%_]", "é"]
# fmt: on
SINGLE: dict[str, Sequence[Any]] = {
    "eq": SCALARS,
    "ne": SCALARS[::4],
    **dict.fromkeys(("lt", "lte", "gt", "gte"), BOUNDS),
    **dict.fromkeys((f"semver_{name}" for name in ("eq", "lt", "lte", "gt", "gte")), RELEASES[:4]),
    **dict.fromkeys(("prefix", "suffix", "contains"), PARTS),
    "regex": PATTERNS,
    "exists": [True, False],
}
LISTED = {"in": SCALARS, "not_in": SCALARS}


def condition(name: str, value: object, attribute: str = "a") -> dict[str, Any]:
    """Write one condition."""
    return {"attribute": attribute, "operator": name, "value": value}


def listed(chance: random.Random, most: int = 6) -> list[Any]:
    """Some different values."""
    found = {(type(value) is bool, isinstance(value, str), value): value for value in chance.choices(SCALARS, k=most)}
    return list(found.values())


class Rules:
    """Random rules about the values of the events."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def condition(self) -> dict[str, Any]:
        """Any operator, about an attribute that many events have or one with a strange name."""
        chance = self._chance
        name = chance.choice([*SINGLE, *LISTED])
        value = listed(chance) if name in LISTED else chance.choice(SINGLE[name])
        return condition(name, value, chance.choice([*NAMES, "a", "a", "missing"]))

    def rule(self, depth: int = 0) -> dict[str, Any]:
        """Groups of up to four levels, sometimes beside a shorthand."""
        chance, found = self._chance, dict[str, Any]()
        kind = chance.choice(["all", "any", "not", "one", "one"]) if depth < 4 else "one"
        if kind == "one":
            found = self.condition()
        elif kind == "not":
            found = {"not": self.rule(depth + 1)}
        else:
            parts = {json.dumps(part): part for part in (self.rule(depth + 1) for _ in range(chance.randrange(1, 4)))}
            found = {kind: list(parts.values())}
        if depth == 0 and chance.random() < 0.2:
            found |= chance.choice([{"countries": ["us", "DE", "K", "é"]}, {"min_version": "1.10.0"}])
        return found


def plain_rules() -> Iterator[dict[str, Any]]:
    """Every operator with every operand, about one attribute; then groups, shorthands and strange names."""
    chance = random.Random(7)
    for name, operands in SINGLE.items():
        yield from (condition(name, operand) for operand in operands)
    for name in LISTED:
        yield from (condition(name, listed(chance, size)) for size in (1, 2, 5, 20, 60))
    for attribute in NAMES:
        yield from ({"not": condition("exists", value=True, attribute=attribute)}, condition("eq", "yes", attribute))
        yield condition("regex", "^y.s$", attribute)
    yield from ({}, {"countries": ["US", "de"]}, {"countries": ["k", "é"]}, {"min_version": "1.10"})
    yield {"countries": ["us"], "min_version": "2", "not": condition("eq", "x"), **condition("ne", 5)}
    yield {"not": {"not": {"all": [condition("eq", "a"), {"any": [condition("gt", 4), condition("prefix", "a")]}]}}}


def largest_rule() -> dict[str, Any]:
    """As many conditions, in as many groups, with as many values as there may be."""
    values = [f"t{number}" for number in range(499)] + list(range(500))
    found: dict[str, Any] = {"any": [condition("in", [*values, f"only {number}"], "b") for number in range(50)]}
    found["any"] += [condition("eq", number) for number in range(100, 120)]
    found["any"] += [condition("contains", f"t{number}") for number in range(20)]
    found["any"] += [condition("gt", 1e15 + number) for number in range(10)]
    for _ in range(8):
        found = {"not": found}
    return found


BATCH = 10
RULES = [targeting.parse(raw) for raw in plain_rules()]
RANDOM_RULES = [targeting.parse(Rules(seed).rule()) for seed in range(150)]


def world() -> list[dict[str, Any]]:
    """Properties of events: every value under `a`, every name with a value of its own, and random ones."""
    chance = random.Random(5)
    found: list[dict[str, Any]] = [{"a": value, "b": chance.choice(VALUES)} for value in VALUES]
    found += [{name: value} for name in NAMES for value in ("yes", "no")]
    found += [{"country": value, "app_version": chance.choice(RELEASES)} for value in (*WORDS, None, 5, ["us"])]
    found += [{name: chance.choice(VALUES) for name in chance.sample(NAMES, 4)} for _ in range(40)]
    return [{}, *found]


WORLD = world()


async def fill(store: EventStore, properties: Sequence[dict[str, Any]]) -> None:
    """Append one event for each."""
    events = [
        Event(str(n), "u", "buy", START, START, None, json.dumps(each, ensure_ascii=False), None, 0, n)
        for n, each in enumerate(properties)
    ]
    await store.append("one", events)


def forms_of(store: EventStore) -> Forms:
    """How the engine of a store writes."""
    if isinstance(store, RelationalStore):
        return FORMS[store._database.dialect]
    return ClickHouseForms() if isinstance(store, ClickHouseStore) else duck.DuckForms()


async def fetch(store: EventStore, query: Select[Any]) -> list[tuple[Any, ...]]:
    """The rows of a query, asked of the engine of a store."""
    if isinstance(store, RelationalStore):
        return await store._read(lambda connection: [tuple(row) for row in connection.execute(query)])
    if isinstance(store, ClickHouseStore):
        return [tuple(row.values()) for row in await greenlet_spawn(fetching(store._connection), query)]
    assert isinstance(store, EmbeddedStore)
    return [tuple(row.values()) for row in await store._read(lambda cursor: duck.fetch(cursor, query))]


class Asked:
    """A store that is asked through filters, with an engine's own forms or broken ones."""

    def __init__(self, store: EventStore, forms: Forms | None = None) -> None:
        self.store = store
        self.forms = forms or forms_of(store)
        self._texts: dict[str, list[str]] = {}

    async def holds(self, rule: targeting.Rule) -> ColumnElement[bool]:
        """A filter, the texts that it needs having been asked for."""
        events = self.forms.events
        for name in attributes_to_see(rule):
            if name not in self._texts:
                query = distinct_texts(events, [events.c.user_id == "u"], name, self.forms, MOST_TEXTS)
                self._texts[name] = [text for (text,) in await fetch(self.store, query)]
        return holds(rule, events.c.properties, self.forms, self._texts.__getitem__)

    async def selected(self, rules: Sequence[targeting.Rule]) -> list[set[int]]:
        """The numbers of the events for which each of some rules holds."""
        columns = [case((await self.holds(rule), 1), else_=0).label(f"n{n}") for n, rule in enumerate(rules)]
        rows = await fetch(self.store, select(self.forms.events.c.event_id, *columns))
        return [{int(row[0]) for row in rows if row[place]} for place in range(1, len(rules) + 1)]


def expected(rule: targeting.Rule) -> set[int]:
    """The same by targeting itself, about what a filter sees of the events."""
    return {number for number, properties in enumerate(WORLD) if targeting.matches(rule, scalars(properties))}


async def wrong(asked: Asked, rules: Sequence[targeting.Rule]) -> dict[str, list[object]]:
    """The rules for which the answer is another one, each with the properties about which it is."""
    found: dict[str, set[int]] = {}
    for place in range(0, len(rules), BATCH):
        some = rules[place : place + BATCH]
        for rule, numbers in zip(some, await asked.selected(some), strict=True):
            found[rule.canonical] = numbers ^ expected(rule)
    return {name: [WORLD[number] for number in sorted(numbers)] for name, numbers in found.items() if numbers}


async def test_every_operator_selects_what_targeting_selects(store: EventStore) -> None:
    """Awkward operands, values and names; alone and in groups."""
    await fill(store, WORLD)

    assert await wrong(Asked(store), RULES) == {}


async def test_random_rules_select_what_targeting_selects(store: EventStore) -> None:
    """Nested groups of any conditions, about any attributes."""
    await fill(store, WORLD)

    assert await wrong(Asked(store), RANDOM_RULES) == {}


async def test_a_filter_is_true_or_false_wherever_it_stands(store: EventStore) -> None:
    """As the condition of a sum and of a join, several at once, the complement of each being its negation."""
    await fill(store, WORLD)
    asked, events = Asked(store), forms_of(store).events
    rules = RANDOM_RULES[:12]
    conditions = [await asked.holds(rule) for rule in rules]

    sums = [func.sum(case((held, 1), else_=0)) for held in conditions]
    negations = [func.sum(case((~held, 1), else_=0)) for held in conditions]
    columns = [each.label(f"n{n}") for n, each in enumerate([*sums, *negations])]
    [row] = await fetch(store, select(*columns).select_from(events))
    other = events.alias("other")
    joined = select(func.count().label("n")).join_from(
        events, other, (events.c.id_low == other.c.id_low) & conditions[0]
    )

    numbers = [len(expected(rule)) for rule in rules]
    assert [int(number) for number in row] == numbers + [len(WORLD) - number for number in numbers]
    assert await fetch(store, joined) == [(numbers[0],)]


def as_number(value: object) -> float | None:
    """A number as a double; nothing else is one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


async def test_the_value_of_a_property_is_its_number(store: EventStore) -> None:
    """Numbers are read to the last digit; written as text they are no numbers, nor are booleans."""
    await fill(store, WORLD)
    asked, events = Asked(store), forms_of(store).events

    for name in ("a", 'a"b'):
        query = select(events.c.event_id, number_of(events.c.properties, name, asked.forms).label("number"))
        found = {int(event): number for event, number in await fetch(store, query)}
        assert found == {number: as_number(properties.get(name)) for number, properties in enumerate(WORLD)}


async def test_texts_are_seen_once_each_and_not_too_many(store: EventStore) -> None:
    """Differing in case, in spaces behind or far behind; none that is no text, and one more than the most at most."""
    await fill(store, WORLD)
    asked, events = Asked(store), forms_of(store).events
    texts = {x for each in WORLD if isinstance(x := each.get("a"), str) and len(x) <= targeting.Limit.SEARCHED_TEXT}

    def query(most: int) -> Select[Any]:
        return distinct_texts(events, [events.c.event_id != "x"], "a", asked.forms, most)

    found = [text for (text,) in await fetch(store, query(MOST_TEXTS))]
    assert len(found) == len(set(found))
    assert texts <= set(found)
    assert len(await fetch(store, query(20))) == 21


async def test_as_many_texts_as_may_be_are_listed(store: EventStore) -> None:
    """Ten thousand of them fit into a statement, more than once; one more is refused, with the place in the rule."""
    await fill(store, [{"a": "t7"}, {"a": "t"}, {"a": "t10000"}])
    events, forms = forms_of(store).events, forms_of(store)
    rule = targeting.parse({"all": [condition("regex", r"^t\d"), {"not": condition("regex", "^t.{9}$", "b")}]})
    texts = [f"t{number}" for number in range(MOST_TEXTS)]

    held = holds(rule, events.c.properties, forms, lambda _: texts)
    query = select(events.c.event_id).where(held, ~(~held))
    assert await fetch(store, query) == [("0",)]

    with pytest.raises(Invalid) as refused:
        holds(rule, events.c.properties, forms, lambda _: [*texts, "another"])
    [fault] = refused.value.faults
    assert (fault.pointer, fault.code) == ("/all/0/value", "too_many_values")


@pytest.mark.slow
async def test_the_largest_rule_is_answered(store: EventStore) -> None:
    """No engine finds it too deep or too long."""
    await fill(store, WORLD)

    assert await wrong(Asked(store), [targeting.parse(largest_rule())]) == {}


def test_only_what_sql_cannot_say_alike_needs_texts() -> None:
    """Regular expressions and versions, wherever they are in a rule; a shorthand is one of them."""
    rule = {
        "not": {"any": [condition("regex", "x", "r"), condition("eq", "x", "e")]},
        "min_version": "1",
        "countries": ["US"],
    }

    assert attributes_to_see(targeting.parse(rule)) == ("app_version", "r")
    assert attributes_to_see(targeting.parse(condition("semver_lt", "2", "é"))) == ("é",)
    assert attributes_to_see(targeting.parse({})) == ()


class CaseBlind(duck.DuckForms):
    """Compares texts whatever their case."""

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The text in small letters."""
        return func.lower(super().text(properties, name), type_=Text)


class Padded(duck.DuckForms):
    """Compares texts whatever spaces are behind them."""

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """The text without them."""
        return func.rtrim(super().text(properties, name), " ", type_=Text)


class Listing(duck.DuckForms):
    """Takes a list for a text."""

    def text(self, properties: ColumnElement[Any], name: str) -> ColumnElement[str]:
        """Either of both."""
        found = self.kind(properties, name).in_([*self.texts, "ARRAY"])
        return case((found, self.content(properties, name)))


class Unread(duck.DuckForms):
    """Does not read numbers that are texts."""

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """None."""
        return text.op("||", return_type=Double())(None)


class Lenient(duck.DuckForms):
    """Reads whatever the engine takes for a number."""

    def written(self, text: ColumnElement[str]) -> ColumnElement[float]:
        """By conversion alone."""
        return self.double(text)


class Infinite(duck.DuckForms):
    """Reads numbers that are too large."""

    def double(self, number: ColumnElement[str]) -> ColumnElement[float]:
        """As infinite."""
        return func.coalesce(super().double(number), literal(float("inf")))


class Patterns(duck.DuckForms):
    """Takes % and _ for wildcards."""

    def position(self, text: ColumnElement[str], part: str) -> ColumnElement[int]:
        """By LIKE."""
        return case((text.like(f"{part}%"), 1), (text.like(f"%{part}%"), 2), else_=0)


MUTANTS = [CaseBlind, Padded, Listing, Unread, Lenient, Infinite, Patterns]


async def caught(asked: Asked) -> bool:
    """Whether there is a rule for which the answer is another one."""
    for place in range(0, len(RULES), BATCH):
        if await wrong(asked, RULES[place : place + BATCH]):
            return True
    return False


@pytest.mark.parametrize("forms", MUTANTS)
async def test_broken_forms_are_told_from_the_right_ones(forms: type[Forms], tmp_path: Path) -> None:
    """The comparison catches each mistake that an engine could make."""
    opened = await eventstore.connect(FILES["duckdb"].format(folder=tmp_path))
    await fill(opened, WORLD)
    found = await caught(Asked(opened, forms()))
    await opened.close()

    assert found


async def test_a_filter_that_is_neither_true_nor_false_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the step that makes nulls false, the negations are wrong."""
    opened = await eventstore.connect(FILES["duckdb"].format(folder=tmp_path))
    await fill(opened, WORLD)
    monkeypatch.setattr(filters, "_certain", lambda held: held)
    found = await caught(Asked(opened))
    await opened.close()

    assert found
